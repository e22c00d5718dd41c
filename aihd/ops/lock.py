"""One process per data folder.

Promise: the lock is the kernel's, so it ends with its holder however that dies; the number in the file is only for the
message to whoever comes second.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from aihd.errors import ConfigError, TemporaryError

RETRY: Final = 0.1  # seconds between two tries for a lock that another process holds for a moment


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
                f"this wallet is at work in {_holder(descriptor)} ({path}): wait until that has ended, or stop it"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise TemporaryError(f"{path} cannot be written: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


class Turns:
    """Processes on one wallet, each at its turn: the lock is held for as long as signing takes, and never while something is waited for."""

    def __init__(self, path: Path | None, patience: float = 30.0) -> None:
        """`path` is the lock file; None for one who holds the lock all the time. `patience` is seconds that a turn is waited for."""
        self._path = path
        self._patience = patience

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; TemporaryError as `process_lock` when none comes."""
        if self._path is None:
            yield
            return
        until = asyncio.get_running_loop().time() + self._patience
        with ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(process_lock(self._path))
                    break
                except TemporaryError:
                    if asyncio.get_running_loop().time() > until:
                        raise
                await asyncio.sleep(RETRY)
            yield

    def is_free(self) -> bool:
        """No other process is at work with the wallet now."""
        return self._path is None or not is_locked(self._path)


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
