"""An output is hashed and written as it comes, whole or with an error."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aihd.client.download import BLOCK, take
from aihd.errors import TemporaryError

SIZES = [[], [0], [1], [BLOCK - 1, 1, 1], [BLOCK // 3] * 10, [3 * BLOCK, 5]]


async def pieces(data: list[bytes], end: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    if end is not None:
        raise end


@pytest.mark.asyncio
@pytest.mark.parametrize("sizes", SIZES, ids=str)
async def test_take__when__pieces_have_any_size__then__all_of_them_in_order_and_their_hash(
    tmp_path: Path, sizes: list[int]
) -> None:
    data = [os.urandom(size) for size in sizes]
    digest = await take(pieces(data), tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == b"".join(data)
    assert digest == hashlib.sha3_256(b"".join(data)).digest()


@pytest.mark.asyncio
async def test_take__when__the_source_breaks_off__then__its_error(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError, match="it broke off"):
        await take(pieces([os.urandom(2 * BLOCK)], TemporaryError("it broke off")), tmp_path / "output")


@pytest.mark.asyncio
async def test_take__when__the_disk_takes_nothing__then__the_disk_s_error_and_not_a_hash() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        await take(pieces([os.urandom(BLOCK)] * 3), Path("/dev/full"))
