"""Inputs of tasks on disk: received as a stream, kept only if they match the commitment in the task box.

An upload is `salt ‖ envelope` (aihd/protocol/envelope.py). What stays is a folder with the input bytes and the configuration; it appears
whole, by one rename, or not at all.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from aihd.errors import UsageError
from aihd.execution.files import on_disk, private_file, private_folder, save, sweep, sync_folder
from aihd.protocol import envelope
from aihd.protocol.hashes import INPUT_PREFIX

DATA_LOCATOR: Final = "data:application/octet-stream;base64,"
PIECE: Final = 1 << 20
_INPUT, _CONFIG = "input", "config.json"


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input that matched its commitment: a file of input bytes, and the configuration (environment) of the run."""

    path: Path
    config: dict[str, str]


class InputStore:
    """A folder with one sub-folder for each task; opening it clears what a crash left half received."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = private_folder(root)
        self.limit = limit
        self._partial = root / "partial"
        shutil.rmtree(self._partial, ignore_errors=True)
        private_folder(self._partial)

    def get(self, task_id: bytes) -> StoredInput | None:
        folder = self._root / task_id.hex()
        if not folder.is_dir():
            return None
        return StoredInput(folder / _INPUT, json.loads((folder / _CONFIG).read_bytes()))

    def sweep(self, needed: Set[bytes], grace: float) -> int:
        """Delete the inputs of all tasks that are not `needed`, but for those that came in the last `grace` seconds; how many."""
        return sweep(self._root, needed, grace)

    def delete(self, task_id: bytes) -> None:
        shutil.rmtree(self._root / task_id.hex(), ignore_errors=True)

    async def receive(self, task_id: bytes, commitment: bytes, chunks: AsyncIterable[bytes]) -> StoredInput:
        """Keep an upload; UsageError, and nothing kept, when it is too large, malformed or not what was committed to; DiskError when there
        is no room for it."""
        with self._taker(commitment) as taker:
            async for chunk in chunks:
                taker.write(chunk)
            # On the disk before the journal may say that it is here; off the loop, since it may be 100 MB.
            await asyncio.to_thread(taker.finish)
            return self._keep(taker, task_id)

    async def copy(self, task_id: bytes, commitment: bytes, file: BinaryIO) -> StoredInput:
        """As `receive`, of a file that lies here already; all of it in a thread."""
        with self._taker(commitment) as taker:
            await asyncio.to_thread(_copy, file, taker)
            return self._keep(taker, task_id)

    @contextmanager
    def _taker(self, commitment: bytes) -> Iterator[_Taker]:
        """What it has not kept is gone afterwards."""
        with on_disk("input"):
            work = Path(tempfile.mkdtemp(dir=self._partial))
            work.chmod(0o700)
            taker = _Taker(work, commitment, self.limit)
        try:
            yield taker
        finally:
            taker.close()
            shutil.rmtree(work, ignore_errors=True)

    def _keep(self, taker: _Taker, task_id: bytes) -> StoredInput:
        final = self._root / task_id.hex()
        if not final.exists():
            with on_disk("input"):
                taker.folder.rename(final)
                sync_folder(self._root)
        stored = self.get(task_id)
        assert stored is not None
        return stored


class _Taker:
    """Takes the bytes of one upload, and says at the end whether they are what was committed to."""

    def __init__(self, folder: Path, commitment: bytes, limit: int) -> None:
        self.folder = folder
        self._commitment = commitment
        self._limit = limit
        self._file = private_file(folder / _INPUT)
        self._digest = hashlib.blake2b(INPUT_PREFIX, digest_size=32)
        self._head = bytearray()
        self._config: bytes | None = None
        self._size = 0

    def write(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._size += len(chunk)
        if self._size > self._limit + envelope.MAX_CONFIG:
            raise UsageError(f"input: it is larger than the {self._limit} bytes that this node takes")
        if self._config is None:
            self._head += chunk
            self._config, chunk = _split(bytes(self._head))
        with on_disk("input"):
            self._file.write(chunk)

    def finish(self) -> None:
        """UsageError when it is not right; else it is on the disk."""
        if self._config is None:
            raise UsageError(f"input: {self._size} bytes end before its configuration does")
        found = self._digest.digest()
        if found != self._commitment:
            raise UsageError(f"input: its commitment is {found.hex()}, the task asks for {self._commitment.hex()}")
        envelope.decode_config(self._config)
        with on_disk("input"):
            self._file.flush()
            os.fsync(self._file.fileno())
        save(self.folder / _CONFIG, self._config)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is thrown away
            self._file.close()


def _copy(file: BinaryIO, taker: _Taker) -> None:
    while chunk := file.read(PIECE):
        taker.write(chunk)
    taker.finish()


def _split(head: bytes) -> tuple[bytes | None, bytes]:
    """(configuration, first input bytes) once all of the configuration has arrived, else (None, nothing)."""
    if len(head) < envelope.HEADER_SIZE:
        return None, b""
    end = envelope.HEADER_SIZE + envelope.config_size(head[: envelope.HEADER_SIZE])
    if len(head) < end:
        return None, b""
    return head[envelope.HEADER_SIZE : end], head[end:]


def data_locator(upload: bytes) -> str:
    """A locator that carries a small upload (salt ‖ envelope) itself."""
    return DATA_LOCATOR + base64.b64encode(upload).decode()
