"""Reading a secret from its file, the only way in that a secret has.

Promise: a file that strangers can read is refused, and no error or log shows what is in it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from aihd.errors import ConfigError

MAX_BYTES = 4096


def read_secret(path: Path, key: str) -> str:
    """The text of the file without white space around it; `key` is the setting that named it.

    ConfigError when it is missing, empty, not text, longer than MAX_BYTES, or open to others. Its group may read it:
    systemd's credentials show the mask of their access list there.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"{key} = {path} cannot be read ({error.strerror}): name a file with the secret in it"
        ) from error
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise ConfigError(f"{key} = {path} has mode {stat.S_IMODE(mode):04o}, open to others: chmod 600 {path}")
    text = _text(content)
    if not text or len(content) > MAX_BYTES:
        raise ConfigError(f"{key} = {path} should hold one secret as UTF-8 text of at most {MAX_BYTES} bytes")
    return text


def _text(content: bytes) -> str:
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        return ""
