"""Takes an output in: what is here is hashed and written in a thread while the next piece is on its way.

It goes where a user of a shell expects: `-` is the standard output, devices and pipes are written to, links are followed; a file is there
whole and checked, or it is the one that was there before.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from aihd.errors import TemporaryError, UsageError

BLOCK: Final = 1 << 20  # bytes handed to the thread at a time: enough that the hand-over costs nothing beside the hash
MAX_OUTPUT: Final = 10 * 10**9  # bytes that are taken of a node, unless the user says otherwise
STANDARD_OUTPUT: Final = Path("-")
# What a user can mend at once; all else may go well later.
_MENDED: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EINVAL,
    }
)


class LocalError(TemporaryError):
    """This machine's disk, and nobody else, is at fault."""


@dataclass(slots=True)
class Place:
    """Where an output goes: an open file, and what is to become of it once it is whole."""

    file: BinaryIO
    partial: Path | None = None
    target: Path | None = None

    def keep(self) -> None:
        """The output is whole and right."""
        with _local(self.target or STANDARD_OUTPUT):
            self.file.flush()
            if self.partial is not None and self.target is not None:
                self.partial.replace(self.target)
                self.partial = None


@contextmanager
def target_for(target: Path) -> Iterator[Place]:
    """A place for an output; what it has not kept is gone afterwards.

    UsageError when nothing can be written there, LocalError when the disk is full or fails.
    """
    with _local(target):
        place = _opened(target)
    try:
        yield place
    finally:
        with suppress(OSError):
            if target != STANDARD_OUTPUT:
                place.file.close()
            if place.partial is not None:
                place.partial.unlink(missing_ok=True)


def _opened(target: Path) -> Place:
    if target == STANDARD_OUTPUT:
        return Place(sys.stdout.buffer)
    target = Path(os.path.realpath(target))  # a link is followed
    mode = None
    with suppress(FileNotFoundError):
        mode = target.stat().st_mode
    if mode is not None and not stat.S_ISREG(mode):
        return Place(target.open("wb"), None, target)  # a folder says so itself
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
    partial = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.partial")
    file = partial.open("xb")
    if mode is not None:
        partial.chmod(stat.S_IMODE(mode))
    return Place(file, partial, target)


@contextmanager
def _local(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = UsageError if error.errno in _MENDED else LocalError
        raise kind(f"{target}: cannot be written ({error.strerror})") from None


async def take(pieces: AsyncIterable[bytes], place: Place) -> bytes:
    """Write the pieces to a place; their SHA3-256. LocalError when they cannot be written."""
    digest, loop = hashlib.sha3_256(), asyncio.get_running_loop()

    def keep(block: bytes) -> None:
        digest.update(block)
        with _local(place.target or STANDARD_OUTPUT):
            place.file.write(block)

    behind: asyncio.Future[None] | None = None
    try:
        async for block in _blocks(pieces):
            if behind is not None:
                await behind
            behind = loop.run_in_executor(None, keep, block)  # it begins now: a task would wait until we wait
    finally:
        if behind is not None:
            await asyncio.wait({behind})  # it uses the file
    if behind is not None:
        behind.result()
    return digest.digest()


def hash_of(path: Path) -> tuple[bytes, int]:
    """SHA3-256 and size (bytes) of a file that somebody has; UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha3_256").digest(), file.tell()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None


async def _blocks(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in blocks of at least BLOCK, the last one excepted."""
    waiting: list[bytes] = []
    size = 0
    async for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
