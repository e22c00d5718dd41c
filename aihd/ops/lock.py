"""One process per data folder.

Promise: the lock is the kernel's, so it ends with its holder however that dies; the number in the file is only for the
message to whoever comes second.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aihd.errors import ConfigError, TemporaryError


@contextmanager
def process_lock(path: Path) -> Iterator[None]:
    """Hold the lock file while the block runs, making its folder if there is none.

    TemporaryError names the process that holds it; ConfigError when the file cannot be written. The file stays behind: to
    remove it would let a third process lock a new file of the same name.
    """
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TemporaryError(
                f"{path} is held by {_holder(descriptor)}: stop it, or use another ops.data_dir"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise TemporaryError(f"{path} cannot be written: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file now."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be opened ({error.strerror}): ops.data_dir should be a folder we may write"
        ) from error


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return f"process {pid}" if pid.isdecimal() else "another process"
