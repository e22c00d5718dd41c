"""Where the exchange puts what clients upload, until the daemon has taken it: whole, hashed, and under a quota.

Nothing that is here is promised to anybody: opening it clears what an earlier process left.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from aihd.execution.cards import RefusedError
from aihd.execution.files import DiskError, new_file, on_disk, private_folder
from aihd.protocol import envelope
from aihd.protocol.hashes import INPUT_PREFIX

MAX_UPLOADS: Final = 8  # at the same time, for one task
SHARE: Final = 2  # what the uploads for one task may hold together, in inputs of the largest size


class Inbox:
    """A folder of uploads; `limit` is the largest input, `quota` what all uploads may hold together, both in bytes."""

    def __init__(self, root: Path, *, limit: int, quota: int) -> None:
        self._root = root
        self.limit = limit + envelope.HEADER_SIZE + envelope.MAX_CONFIG
        self._quota = max(quota, self.limit)
        self._uploads: Counter[bytes] = Counter()
        self._held: Counter[bytes] = Counter()
        private_folder(root)
        for left in root.iterdir():
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    @property
    def held(self) -> int:
        """Bytes of all uploads that are here."""
        return self._held.total()

    @asynccontextmanager
    async def receive(self, task_id: bytes, commitment: bytes, chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
        """The name of the file in which an upload lies while the block runs.

        RefusedError when it is not what was committed to, or there is no room for it. Uploads race: one that dribbles, or replays the
        client's signature, must not keep the client's out.
        """
        if self._uploads[task_id] >= MAX_UPLOADS:
            raise RefusedError(409, f"{MAX_UPLOADS} other uploads for this task are under way")
        upload = _Upload(task_id)
        self._uploads[task_id] += 1
        try:
            with on_disk("upload"):
                upload.file = new_file(self._root, task_id.hex() + ".")
            await self._write(upload, commitment, chunks)
            yield upload.path.name
        except DiskError:
            raise RefusedError(507, "this node's disk takes nothing now: try again later") from None
        finally:
            upload.drop()
            self._uploads[task_id] -= 1
            self._held[task_id] -= upload.size
            self._uploads += Counter()  # forgets those at zero
            self._held += Counter()

    async def _write(self, upload: _Upload, commitment: bytes, chunks: AsyncIterable[bytes]) -> None:
        digest = hashlib.blake2b(INPUT_PREFIX, digest_size=32)
        async for chunk in chunks:
            self._reserve(upload, len(chunk))
            digest.update(chunk)
            with on_disk("upload"):
                upload.opened.write(chunk)
        with on_disk("upload"):
            upload.opened.flush()
        if digest.digest() != commitment:
            raise RefusedError(
                400, f"input: its commitment is {digest.hexdigest()}, the task asks for {commitment.hex()}"
            )

    def _reserve(self, upload: _Upload, more: int) -> None:
        """Count bytes before they are written, if there is room for them."""
        if upload.size + more > self.limit:
            raise RefusedError(413, f"input: it is larger than the {self.limit} bytes that this node takes")
        if self._held[upload.task_id] + more > SHARE * self.limit or self.held + more > self._quota:
            raise RefusedError(503, "other uploads take up the room that there is: try again later")
        upload.size += more
        self._held[upload.task_id] += more


@dataclass(slots=True)
class _Upload:
    """One file that is being received."""

    task_id: bytes
    file: IO[bytes] | None = None
    size: int = 0

    @property
    def opened(self) -> IO[bytes]:
        assert self.file is not None
        return self.file

    @property
    def path(self) -> Path:
        return Path(self.opened.name)

    def drop(self) -> None:
        """Close and delete it; what could not be written does not matter any more."""
        if self.file is None:
            return
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
