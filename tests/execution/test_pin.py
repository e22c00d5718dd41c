"""Pinning against a server that takes a block as IPFS does, and computes its CID itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from aihd.errors import DependencyError, TemporaryError
from aihd.execution.pin import Pinner
from aihd.ops.web import serve
from aihd.protocol.hashes import cid_text, receipt_cid

DOCUMENT = b'{"task_id":"00"}'


def cid_of(block: bytes) -> str:
    """CIDv1, raw, blake2b-256, written down from the specification and not by the code under test."""
    raw = b"\x01\x55" + b"\xa0\xe4\x02\x20" + hashlib.blake2b(block, digest_size=32).digest()
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")


@asynccontextmanager
async def ipfs(status: int = 200, answer: Callable[[bytes], str] = cid_of) -> AsyncIterator[tuple[Pinner, list[bytes]]]:
    stored: list[bytes] = []

    async def block_put(request: web.Request) -> web.Response:
        wanted = {"cid-codec": "raw", "mhtype": "blake2b-256", "mhlen": "32", "pin": "true"}
        if dict(request.query) != wanted or request.content_type != "multipart/form-data":
            return web.Response(status=400, text=f"{request.query} {request.content_type}")
        part = await (await request.multipart()).next()
        assert isinstance(part, aiohttp.BodyPartReader)
        if part.filename is None or part.name != "data":
            return web.Response(status=400, text="no file")
        block = bytes(await part.read())
        stored.append(block)
        if status == 0:
            await asyncio.sleep(2)
        return web.json_response({"Key": answer(block), "Size": len(block)}, status=status or 200)

    app = web.Application()
    app.router.add_post("/api/v0/block/put", block_put)
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        yield Pinner(session, f"http://127.0.0.1:{port}/", timeout=1), stored


@pytest.mark.asyncio
async def test_pin__when__the_node_takes_it__then__it_is_under_the_cid_of_the_receipt_box() -> None:
    async with ipfs() as (pinner, stored):
        assert await pinner.pin(DOCUMENT) == cid_of(DOCUMENT) == cid_text(receipt_cid(DOCUMENT))
    assert stored == [DOCUMENT]


@pytest.mark.asyncio
async def test_pin__when__the_node_has_another_cid__then__dependency_error() -> None:
    async with ipfs(answer=lambda block: cid_of(block + b"x")) as (pinner, _):
        with pytest.raises(DependencyError, match="stored the receipt as 'b"):
            await pinner.pin(DOCUMENT)


@pytest.mark.asyncio
async def test_pin__when__the_node_fails_or_is_away_or_slow__then__temporary_error() -> None:
    async with ipfs(status=500) as (pinner, _):
        with pytest.raises(TemporaryError, match="answers 500"):
            await pinner.pin(DOCUMENT)
    with pytest.raises(TemporaryError, match="does not answer"):
        async with aiohttp.ClientSession() as session:
            await Pinner(session, "http://127.0.0.1:1").pin(DOCUMENT)
    async with ipfs(status=0) as (pinner, _):
        with pytest.raises(TemporaryError, match="does not answer"):
            await pinner.pin(DOCUMENT)
