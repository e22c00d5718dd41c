"""The content store against a bare loop that hashes and writes the same bytes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from aihd.execution.content import ContentStore
from benchmarks.result import Result

PIECE = os.urandom(1 << 16)
PIECES = 4096  # 256 MiB


async def content_store(folder: Path) -> Result:
    store = ContentStore(folder / "store")
    ours, floor = [], []
    for _ in range(3):
        start = time.perf_counter()
        async with store.receive(len(PIECE) * PIECES) as sink:
            for _ in range(PIECES):
                sink.write(PIECE)
            digest, _ = await sink.commit()
        ours.append(time.perf_counter() - start)
        store.delete(digest)
        start = time.perf_counter()
        _bare(folder / "bare")
        floor.append(time.perf_counter() - start)
    return Result("store an output of 256 MiB", min(ours), min(floor), "sha3_256 and write in a loop, one fsync")


def _bare(path: Path) -> None:
    digest = hashlib.sha3_256()
    with path.open("wb") as file:
        for _ in range(PIECES):
            digest.update(PIECE)
            file.write(PIECE)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
