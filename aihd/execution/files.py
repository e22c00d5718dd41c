"""Small files written so that a crash leaves the old one or the new one, never half of it; and the end of files that nobody needs."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Set
from pathlib import Path
from typing import Final

_NAMED: Final = re.compile(r"[0-9a-f]{64}")


def save(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, force it to the disk, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(root: Path, needed: Set[bytes], grace: float) -> int:
    """Delete what lies in a folder under an id of 32 bytes in hex that is not `needed` and did not change for `grace` seconds; how many."""
    gone = 0
    for path in list(root.iterdir()):
        if not _NAMED.fullmatch(path.name) or bytes.fromhex(path.name) in needed:
            continue
        if time.time() - path.stat().st_mtime < grace:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        gone += 1
    return gone
