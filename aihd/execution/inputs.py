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
from collections.abc import AsyncIterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aihd.errors import UsageError
from aihd.execution.files import save, sweep, sync_folder
from aihd.protocol import envelope
from aihd.protocol.hashes import INPUT_PREFIX

DATA_LOCATOR: Final = "data:application/octet-stream;base64,"
_INPUT, _CONFIG = "input", "config.json"


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input that matched its commitment: a file of input bytes, and the configuration (environment) of the run."""

    path: Path
    config: dict[str, str]


class InputStore:
    """A folder with one sub-folder for each task; opening it clears what a crash left half received."""

    def __init__(self, root: Path, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._partial = root / "partial"
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

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
        """Keep an upload; UsageError, and nothing kept, when it is too large, malformed or not what was committed to."""
        work = Path(tempfile.mkdtemp(dir=self._partial))
        try:
            await self._write(work, commitment, chunks)
            final = self._root / task_id.hex()
            if not final.exists():
                work.rename(final)
                sync_folder(self._root)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        stored = self.get(task_id)
        assert stored is not None
        return stored

    async def _write(self, work: Path, commitment: bytes, chunks: AsyncIterable[bytes]) -> None:
        digest = hashlib.blake2b(INPUT_PREFIX, digest_size=32)
        head = bytearray()
        config: bytes | None = None
        size = 0
        with (work / _INPUT).open("wb") as file:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if size > self._limit + envelope.MAX_CONFIG:
                    raise UsageError(f"input: it is larger than the {self._limit} bytes that this node takes")
                if config is None:
                    head += chunk
                    config, rest = _split(bytes(head))
                    file.write(rest)
                else:
                    file.write(chunk)
            file.flush()
            # On the disk before the journal may say that it is here; off the loop, since it may be 100 MB.
            await asyncio.to_thread(os.fsync, file.fileno())
        if config is None:
            raise UsageError(f"input: {size} bytes end before its configuration does")
        if digest.digest() != commitment:
            raise UsageError(f"input: its commitment is {digest.hexdigest()}, the task asks for {commitment.hex()}")
        envelope.decode_config(config)
        save(work / _CONFIG, config)


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
