"""Files on disk under the SHA3-256 of their bytes.

What is under a digest is whole and is on the disk: it is written aside, synced, and moved into place in one step. What
was being received when a process died is gone at the next start. Memory use does not depend on the size.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from aihd.errors import InvariantError, UsageError
from aihd.execution.errors import TooLarge
from aihd.execution.files import new_file, on_disk, private_folder, sweep, sync_folder

DIGEST_BYTES = 32


class Sink:
    """Takes the bytes of one file in order; made by `ContentStore.receive`."""

    def __init__(self, store: ContentStore, file: IO[bytes], limit: int) -> None:
        self._store = store
        self._file = file
        self._limit = limit
        self._hash = hashlib.sha3_256()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, chunk: bytes) -> None:
        """Append; TooLarge when the file would pass its limit, DiskError when the disk takes no more."""
        self._size += len(chunk)
        if self._size > self._limit:
            raise TooLarge(f"content of more than {self._limit} bytes")
        self._hash.update(chunk)
        with on_disk("output"):
            self._file.write(chunk)

    async def commit(self) -> tuple[bytes, int]:
        """Keep the file: (digest, size in bytes). On return it is safe on the disk; nothing can be written after."""
        if self._file.closed:
            raise InvariantError("commit of a sink that was committed or left before")
        digest = self._hash.digest()
        await asyncio.to_thread(self._keep, self._store.path(digest))
        return digest, self._size

    def _keep(self, target: Path) -> None:
        with on_disk("output"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            Path(self._file.name).replace(target)
            sync_folder(target.parent)


class ContentStore:
    """A folder of files named by their digest in hex. One process may hold it at a time: opening clears leftovers."""

    def __init__(self, root: Path) -> None:
        self._root = private_folder(root)
        self._partial = private_folder(root / "partial")
        for left in self._partial.iterdir():
            with suppress(OSError):
                left.unlink()

    @asynccontextmanager
    async def receive(self, limit_bytes: int) -> AsyncIterator[Sink]:
        """A sink for one file of at most `limit_bytes`; without a `commit` nothing stays."""
        # Not deleted by its handle: a commit has moved it away.
        with on_disk("output"):
            file = new_file(self._partial)
        try:
            yield Sink(self, file, limit_bytes)
        finally:
            _clear(file)

    def path(self, digest: bytes) -> Path:
        """Where the file with this digest is, or would be."""
        if len(digest) != DIGEST_BYTES:
            raise UsageError(f"digest has {len(digest)} bytes, a SHA3-256 digest has {DIGEST_BYTES}")
        return self._root / digest.hex()

    def has(self, digest: bytes) -> bool:
        """Whether the file is here."""
        return self.path(digest).is_file()

    def open(self, digest: bytes) -> BinaryIO:
        """The file, to read; FileNotFoundError when it is not here. The caller closes it."""
        return self.path(digest).open("rb")

    def sweep(self, needed: Set[bytes], grace: float) -> int:
        """Delete all files whose digest is not `needed`, but for those written in the last `grace` seconds: the note that one is
        needed comes after it. How many were deleted."""
        return sweep(self._root, needed, grace)

    def delete(self, digest: bytes) -> None:
        """Forget the file; nothing happens when it is not here."""
        self.path(digest).unlink(missing_ok=True)


def _clear(file: IO[bytes]) -> None:
    with suppress(OSError):  # what a full disk did not take is thrown away all the same
        file.close()
    with suppress(OSError):
        Path(file.name).unlink(missing_ok=True)
