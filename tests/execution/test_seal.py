"""Sealed bytes: whole for the one reader, and every change, cut and reordering noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest
from holder import Holder
from hypothesis import given, settings
from hypothesis import strategies as st

from aihd.execution import seal
from aihd.execution.seal import CHUNK, HEADER_SIZE, SEALED_CHUNK, Sealer, SealError, derived_key, sealed_size, unseal

CONTEXT = seal.input_context(b"t" * 32)


READER, STRANGER = Holder(7), Holder(8)


async def stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def sealed(plain: bytes, context: bytes = CONTEXT) -> bytes:
    return b"".join([piece async for piece in seal.seal(READER.public_key, context, stream([plain]))])


async def opened(data: bytes, reader: Holder = READER, context: bytes = CONTEXT, step: int = 50_000) -> bytes:
    pieces = stream(data[at : at + step] for at in range(0, len(data), step))
    return b"".join([piece async for piece in unseal(reader.agree, reader.public_key, context, pieces)])


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
async def test_seal__when__opened_by_its_reader__then__the_same_bytes_and_the_promised_size(size: int) -> None:
    plain = bytes(range(256)) * (size // 256 + 1)
    data = await sealed(plain[:size])
    assert len(data) == sealed_size(size)
    assert await opened(data) == plain[:size]
    assert await opened(data, step=1 if size < 2 else 7777) == plain[:size]
    assert plain[:20] not in data or size < 20


@pytest.mark.asyncio
async def test_seal__when__the_key_or_the_purpose_is_another__then__seal_error() -> None:
    data = await sealed(b"secret")
    with pytest.raises(SealError, match="chunk 0 is changed"):
        await opened(data, STRANGER)
    for context in (seal.input_context(b"u" * 32), seal.output_context(b"t" * 32, b"o" * 32)):
        with pytest.raises(SealError, match="not for this key and purpose"):
            await opened(data, context=context)


@pytest.mark.asyncio
async def test_seal__when__cut_anywhere__then__seal_error() -> None:
    data = await sealed(bytes(2 * CHUNK + 100))
    cuts = [0, 4, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 5, HEADER_SIZE + SEALED_CHUNK, len(data) - 1]
    for cut in (*cuts, HEADER_SIZE + 2 * SEALED_CHUNK):
        with pytest.raises(SealError, match="sealed: "):
            await opened(data[:cut])
    with pytest.raises(SealError):
        await opened(data + b"x")


@pytest.mark.asyncio
async def test_seal__when__chunks_change_places_or_come_twice__then__seal_error() -> None:
    data = await sealed(bytes(3 * CHUNK))
    head, chunks = data[:HEADER_SIZE], [data[HEADER_SIZE + i * SEALED_CHUNK :][:SEALED_CHUNK] for i in range(3)]
    for order in ([1, 0, 2], [0, 0, 2], [0, 2], [0, 1, 2, 2], [2]):
        with pytest.raises(SealError):
            await opened(head + b"".join(chunks[i] for i in order))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, sealed_size(1000) - 1), st.integers(1, 255))
def test_seal__when__any_byte_is_changed__then__seal_error(at: int, flip: int) -> None:
    import asyncio

    async def attempt() -> None:
        data = bytearray(await sealed(bytes(1000)))
        data[at] ^= flip
        with pytest.raises(SealError):
            await opened(bytes(data))

    asyncio.run(attempt())


@pytest.mark.asyncio
@pytest.mark.parametrize("key", [b"", b"\2" * 32, b"\4" + b"\1" * 32, b"\2" + b"\xff" * 32, b"\0" * 33])
async def test_seal__when__the_reader_is_no_key__then__seal_error(key: bytes) -> None:
    with pytest.raises(SealError, match="is no compressed secp256k1 key"):
        [piece async for piece in seal.seal(key, CONTEXT, stream([b"x"]))]


def test_derived_key__when__asked_again__then__the_same_and_another_for_every_reader_and_purpose() -> None:
    def made(holder: Holder, reader: Holder, context: bytes) -> bytes:
        ephemeral = derived_key(holder.public_key, holder.agree, reader.public_key, context)
        return Sealer(seal.seal_key(reader.public_key, context, ephemeral)).header

    first = made(READER, STRANGER, CONTEXT)
    assert made(READER, STRANGER, CONTEXT) == first
    others = [made(READER, READER, CONTEXT), made(STRANGER, STRANGER, CONTEXT), made(READER, STRANGER, b"other")]
    assert len({first, *others}) == 4
