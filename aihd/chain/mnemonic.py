"""The mnemonic on disk: plain words in a file that only its owner can read, or encrypted with a password from a second file.

Encryption is scrypt and ChaCha20-Poly1305 of the `cryptography` package. Nothing of words or password is ever part of an error.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from ergo_lib_python.wallet import MnemonicGenerator

from aihd.errors import ConfigError
from aihd.ops.secret_file import read_secret

WORDS: Final = (12, 15, 18, 21, 24)
FORMAT: Final = "aihd-mnemonic-1"
# 128 MiB and about half a second for each guess.
SCRYPT: Final = {"n": 2**17, "r": 8, "p": 1}
KEY: Final = "wallet.mnemonic_file"


def new_mnemonic() -> str:
    """24 fresh words."""
    return str(MnemonicGenerator("english", 256).generate())


def read_mnemonic(path: Path, password_file: Path | None) -> str:
    """The words in a file, decrypted if need be. ConfigError names the file and what is wrong with it, never what is in it."""
    text = read_secret(path, KEY)
    if text.startswith("{"):
        if password_file is None:
            raise ConfigError(f"{KEY} = {path} is encrypted: name the file with its password in wallet.password_file")
        text = _decrypt(path, text, read_secret(password_file, "wallet.password_file"))
    elif password_file is not None:
        raise ConfigError(f"{KEY} = {path} is not encrypted, but wallet.password_file is set: run aihd wallet encrypt")
    words = text.split()
    if len(words) not in WORDS:
        raise ConfigError(f"{KEY} = {path} holds {len(words)} words, a mnemonic has {', '.join(map(str, WORDS))}")
    return " ".join(words)


def write_mnemonic(path: Path, words: str, password: str | None) -> None:
    """Write a new file of mode 0600, encrypted if a password is given; ConfigError when there is one already."""
    text = words if password is None else json.dumps(_encrypt(words, password), indent=1)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{path} cannot be created: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(handle)


def _encrypt(words: str, password: str) -> dict[str, Any]:
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    key = Scrypt(salt=salt, length=32, **SCRYPT).derive(password.encode())
    sealed = ChaCha20Poly1305(key).encrypt(nonce, words.encode(), FORMAT.encode())
    return {"format": FORMAT, **SCRYPT, "salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}


def _decrypt(path: Path, text: str, password: str) -> str:
    try:
        record = json.loads(text)
        if record["format"] != FORMAT:
            raise ConfigError(f"{KEY} = {path} is of format {str(record['format'])[:40]!r}, expected {FORMAT}")
        cost = {name: int(record[name]) for name in SCRYPT}
        if cost != SCRYPT:
            raise ConfigError(f"{KEY} = {path} asks for scrypt with {cost}, expected {SCRYPT}")
        key = Scrypt(salt=bytes.fromhex(record["salt"]), length=32, **cost).derive(password.encode())
        sealed, nonce = bytes.fromhex(record["sealed"]), bytes.fromhex(record["nonce"])
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, FORMAT.encode()).decode()
    except InvalidTag:
        raise ConfigError(f"{KEY} = {path} does not open with the password in wallet.password_file") from None
    except (ValueError, KeyError, TypeError):
        # The cause is left out: its text could hold a piece of the file.
        raise ConfigError(f"{KEY} = {path} is not an encrypted mnemonic that this version can read") from None
