"""One file over HTTP, sealed on the way for one reader, whole or in part: nothing sealed is ever on the disk.

The sealed form of a file for a reader is always the same bytes (seal.derived_key), so a range of it can be asked for again after a break,
and the ETag says whether it still is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from aiohttp import web

from aihd.execution.seal import CHUNK, CONTENT_TYPE, HEADER_SIZE, SEALED_CHUNK, Sealer, chunks_of, sealed_size
from aihd.ops.listener import Peer

AT_ONCE: Final = (
    4  # chunks read and sealed in one turn of a thread: 256 KiB, which a reader that does not read keeps occupied
)
PIECE: Final = 1 << 16  # bytes written at a time: the smallest progress that is seen


async def give_sealed(request: web.Request, path: Path, sealer: Sealer, peer: Peer) -> web.StreamResponse:
    """Answer GET or HEAD: 200, 206 for one range that the file has, 416 for one that it has not. `peer` is told what was taken."""
    size = path.stat().st_size
    total, etag = sealed_size(size), f'"{sealer.header[-32:].hex()}"'
    headers = {"Content-Type": CONTENT_TYPE, "Accept-Ranges": "bytes", "ETag": etag, "Cache-Control": "no-transform"}
    start, end, status = 0, total, 200
    if "Range" in request.headers and request.headers.get("If-Range", etag) == etag:
        wanted = _range(request, total)
        if wanted is None:
            headers["Content-Range"] = f"bytes */{total}"
            raise web.HTTPRequestRangeNotSatisfiable(
                headers=headers, text=f"range {request.headers['Range'][:80]!r}: the sealed output has {total} bytes"
            )
        (start, end), status = wanted, 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = end - start
    await response.prepare(request)
    if request.method != "HEAD":
        with path.open("rb") as file, suppress(ConnectionError):  # who goes away in the middle is no news
            async for block in _pieces(file, size, sealer, start, end):
                for at in range(0, len(block), PIECE):
                    await response.write(block[at : at + PIECE])
                    peer.moved(PIECE)
    with suppress(ConnectionError):
        await response.write_eof()
    return response


def _range(request: web.Request, total: int) -> tuple[int, int] | None:
    """(first byte, byte after the last) of the one range that is asked for; None when there is none of it."""
    try:
        wanted = request.http_range
    except ValueError:
        return None
    start, end, _ = wanted.indices(total)
    return (start, end) if start < end else None


async def _pieces(file: BinaryIO, size: int, sealer: Sealer, start: int, end: int) -> AsyncIterator[bytes]:
    """Bytes `start` to `end` of the sealed form."""
    if start < HEADER_SIZE:
        yield sealer.header[start:end]
    first = max(0, start - HEADER_SIZE) // SEALED_CHUNK
    for number in range(first, chunks_of(size), AT_ONCE):
        begin = HEADER_SIZE + number * SEALED_CHUNK
        if begin >= end:
            return
        sealed = await asyncio.to_thread(_block, file, size, sealer, number)
        yield sealed[max(0, start - begin) : end - begin]


def _block(file: BinaryIO, size: int, sealer: Sealer, number: int) -> bytes:
    file.seek(number * CHUNK)
    plain, last = memoryview(file.read(AT_ONCE * CHUNK)), chunks_of(size) - 1
    numbers = range(number, min(number + AT_ONCE, last + 1))
    cut = ((i, bytes(plain[(i - number) * CHUNK : (i - number + 1) * CHUNK])) for i in numbers)
    return b"".join(sealer.chunk(i, piece, last=i == last) for i, piece in cut)
