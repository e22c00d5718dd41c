"""Takes an output in: what is here is hashed and written in a thread while the next piece is on its way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Final

BLOCK: Final = 1 << 20  # bytes handed to the thread at a time: enough that the hand-over costs nothing beside the hash


async def take(pieces: AsyncIterable[bytes], target: Path) -> bytes:
    """Write the pieces to `target`; their SHA3-256. After an error the file holds a part of them."""
    digest, loop = hashlib.sha3_256(), asyncio.get_running_loop()
    with target.open("wb") as file:

        def keep(block: bytes) -> None:
            digest.update(block)
            file.write(block)

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
