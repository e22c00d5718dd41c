"""Files of the data folder: for nobody's eyes but ours, and written so that a crash leaves the old one or the new one, never half of it.

Whatever the umask and the folder say, a file that is made here is of mode 0600 and a folder of mode 0700. A disk that is full or fails is
a `DiskError`: what was being written is not there, and the same may go well later.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from aihd.errors import TemporaryError
from aihd.ops.failpoints import fail

_NAMED: Final = re.compile(r"[0-9a-f]{64}")
DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG, errno.ENFILE, errno.EMFILE})


class DiskError(TemporaryError):
    """The disk is full, its quota is used up, or it fails."""


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """Turn a disk's trouble in the block into a DiskError; `what` names the write, for the message and for the tests of failing disks."""
    try:
        fail(f"disk {what}")
        yield
    except OSError as error:
        if error.errno not in DISK:
            raise
        raise DiskError(f"{what}: the disk takes nothing now ({error.strerror})") from error


def private_folder(path: Path) -> Path:
    """Make a folder that only we may look into, or close one to others that is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if path.stat().st_mode & 0o777 != 0o700 and path.stat().st_uid == os.geteuid():
        path.chmod(0o700)
    return path


def new_file(folder: Path, prefix: str = "") -> IO[bytes]:
    """A new file in a folder, to be written and read by us alone."""
    file = tempfile.NamedTemporaryFile(prefix=prefix, dir=folder, delete=False)  # noqa: SIM115 - the caller closes it
    os.fchmod(file.fileno(), 0o600)  # a umask may have taken our own rights
    return file


def private_file(path: Path) -> IO[bytes]:
    """A new file of a name that is not taken, to be written by us alone."""
    file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115 - with an opener
    os.fchmod(file.fileno(), 0o600)
    return file


def save(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, force it to the disk, and rename it into place; DiskError, and the old file stays, when that fails."""
    private_folder(path.parent)
    with on_disk(f"write of {path.name[:20]}"):
        file = new_file(path.parent, ".partial-")
        try:
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(root: Path, needed: Set[bytes], grace: float) -> int:
    """Delete what lies in a folder under an id of 32 bytes in hex that is not `needed` and did not change for `grace` seconds; how many.

    DiskError at the end when some could not be deleted: the others are gone.
    """
    gone, stuck = 0, 0
    for path in list(root.iterdir()):
        if not _NAMED.fullmatch(path.name) or bytes.fromhex(path.name) in needed:
            continue
        try:
            fail("disk clean-up")
            gone += _old(path, grace) and _deleted(path)
        except OSError:
            stuck += 1
    if stuck:
        raise DiskError(f"{stuck} files of {root} that nobody needs cannot be deleted")
    return gone


def _old(path: Path, grace: float) -> bool:
    return time.time() - path.lstat().st_mtime >= grace


def _deleted(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    return True
