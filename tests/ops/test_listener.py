"""Strangers at a listener: each uses up his own place, and whoever comes to do something gets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from aihd.ops import listener as module
from aihd.ops.listener import Bounds, Listener, listen, served

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def shop(bounds: Bounds) -> AsyncIterator[tuple[Listener, int]]:
    """Answers "yes" at /, and gives megabytes at /large to who reads them."""
    listener = Listener(bounds)

    async def yes(_: web.Request) -> web.Response:
        return web.Response(text="yes")

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(bytes(1 << 16))
            listener.peer_of(request).moved(1 << 16)
        return response

    async def swallow(request: web.Request) -> web.Response:
        async for _ in request.content.iter_chunked(1 << 16):
            pass
        return web.Response(text="all")

    async def ours(request: web.Request) -> web.Response:
        with listener.peer_of(request).ours():
            await asyncio.sleep(3)
        return web.Response(text="at last")

    app = web.Application(middlewares=[listener.middleware()])
    app.router.add_get("/", yes)
    app.router.add_get("/large", large)
    app.router.add_get("/ours", ours)
    app.router.add_put("/", swallow)
    sockets = await listen("127.0.0.1", 0, "test")
    async with served(app, sockets, listener):
        yield listener, sockets[0].getsockname()[1]
        for writer in _writers:
            writer.close()
        _writers.clear()


_writers: list[asyncio.StreamWriter] = []


async def come(port: int, said: bytes = b"", address: str = "127.0.0.1") -> Stream:
    """A peer that says something, if anything, and stays until the end of the test."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    _writers.append(writer)
    writer.write(said)
    return reader, writer


async def ended(stream: Stream, patience: float) -> float:
    """Seconds until the other side hung up."""
    begun = time.monotonic()
    async with asyncio.timeout(patience):
        try:
            while await stream[0].read(1 << 16):
                pass
        except ConnectionError:
            pass
    return time.monotonic() - begun


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP", 0.05)


@pytest.mark.asyncio
async def test_listener__when__a_request_does_not_come__then__hung_up_on_in_time() -> None:
    async with shop(Bounds(head=0.5)) as (listener, port):
        silent, half = await come(port), await come(port, GET[:-2])
        assert 0.3 < await ended(silent, 3) < 2
        await ended(half, 3)
        assert (listener.closed, len(listener)) == (2, 0)


@pytest.mark.asyncio
async def test_listener__when__head_bytes_dribble__then__hung_up_on_all_the_same() -> None:
    async with shop(Bounds(head=0.5)) as (_, port):
        reader, writer = await come(port, GET[:4])
        begun = time.monotonic()
        while not reader.at_eof() and time.monotonic() - begun < 5:
            writer.write(b"X")
            await asyncio.sleep(0.05)
            if reader.exception() is not None:
                break
        assert time.monotonic() - begun < 3


@pytest.mark.asyncio
async def test_listener__when__a_body_or_a_reader_is_too_slow__then__hung_up_on_and_a_steady_one_is_not() -> None:
    async with shop(Bounds(head=2, window=0.6, rate=10_000)) as (listener, port):
        slow = await come(port, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
        await come(port, GET.replace(b"/ ", b"/large "))
        waits = await come(port, GET.replace(b"/ ", b"/ours "))
        steady = await come(port, b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n")
        for _ in range(20):
            steady[1].write(bytes(5000))
            await asyncio.sleep(0.1)
        assert b"200 OK" in await asyncio.wait_for(steady[0].readline(), 3)
        await ended(slow, 3)
        while listener.closed < 2:
            await asyncio.sleep(0.05)
        assert b"200 OK" in await asyncio.wait_for(waits[0].readline(), 5)


@pytest.mark.asyncio
async def test_listener__when__one_address_takes_all_it_can__then__others_get_in() -> None:
    async with shop(Bounds(connections=20, per_address=5)) as (listener, port):
        [await come(port, GET.replace(b"/ ", b"/large "), "127.0.0.2") for _ in range(12)]
        await asyncio.sleep(0.3)
        assert (len(listener), listener.refused) == (5, 7)
        reader, _writer = await come(port, GET)
        assert b"200 OK" in await asyncio.wait_for(reader.readline(), 3)


@pytest.mark.asyncio
async def test_listener__when__all_places_are_taken_by_the_silent__then__who_asks_gets_an_answer() -> None:
    async with shop(Bounds(connections=10, per_address=10)) as (listener, port):
        [await come(port, b"", f"127.0.0.{2 + number % 9}") for number in range(100)]
        await asyncio.sleep(0.2)
        assert len(listener) <= 10
        for _ in range(20):
            reader, writer = await come(port, GET)
            assert b"200 OK" in await asyncio.wait_for(reader.readline(), 3)
            writer.close()


@pytest.mark.asyncio
async def test_listener__when__descriptors_run_out__then__it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with shop(Bounds()) as (_, port):
        loop = asyncio.get_running_loop()
        accept, failures = loop.sock_accept, iter([24, 23, 12, 103])

        async def failing(sock: object) -> object:
            if (number := next(failures, None)) is not None:
                raise OSError(number, "no more")
            return await accept(sock)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "sock_accept", failing)
        for _ in range(3):
            reader, writer = await come(port, GET)
            assert b"200 OK" in await asyncio.wait_for(reader.readline(), 3)
            writer.close()
