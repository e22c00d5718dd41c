"""The HTTP slot against raw socket servers, which answer what no HTTP library would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from aihd.execution.errors import BadAnswer, ExecutionError, NotListening, TooLarge, TooSlow
from aihd.execution.failures import Failure
from aihd.execution.http import Body, run_http
from aihd.nodo.gateway import Endpoint

Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Collected:
    """A sink in memory."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, chunk: bytes) -> None:
        self.data += chunk


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of one request, chunks undone."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower()
    if b"chunked" in lines:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return head + body
    length = int(lines.split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


@asynccontextmanager
async def slot(serve: Serve, port: int = 0) -> AsyncIterator[Endpoint]:
    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(await read_request(reader), writer)
            await writer.drain()
        finally:
            writer.close()

    async with await asyncio.start_server(connection, "127.0.0.1", port) as server:
        yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])


def answer(raw: bytes) -> Serve:
    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return serve


async def run(
    endpoint: Endpoint, body: Body = b"in", *, connect_for: float = 5, timeout: float = 10, limit: int = 100
) -> bytes:
    sink = Collected()
    async with aiohttp.ClientSession() as session:
        size = await run_http(
            session, endpoint, "/run", body, connect_for=connect_for, timeout=timeout, limit=limit, sink=sink
        )
    assert size == len(sink.data)
    return sink.data


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nout",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nout",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n2\r\nut\r\n0\r\n\r\n",
    ],
    ids=["length", "http 1.0", "chunks"],
)
@pytest.mark.asyncio
async def test_run_http__when__answer_is_whole__then__its_bytes(raw: bytes) -> None:
    async with slot(answer(raw)) as endpoint:
        assert await run(endpoint) == b"out"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nout",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nout\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nout",
        b"HTTP/1.1 200 OK\r\n\r\nout",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"",
        b"SSH-2.0-x\r\n\r\n",
    ],
    ids=["length", "no last chunk", "inside a chunk", "no length at all", "head", "nothing", "no http"],
)
@pytest.mark.asyncio
async def test_run_http__when__answer_is_cut_short_or_cannot_show_its_end__then__bad_answer(raw: bytes) -> None:
    async with slot(answer(raw)) as endpoint:
        with pytest.raises(BadAnswer):
            await run(endpoint, connect_for=0)


@pytest.mark.parametrize("status", [204, 302, 422, 500])
@pytest.mark.asyncio
async def test_run_http__when__status_is_not_200__then__error_with_status_and_short_text(status: int) -> None:
    raw = b"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 5000\r\n\r\nsorry:\n %s" % (
        status,
        b"x" * 4992,
    )
    async with slot(answer(raw if status != 204 else b"HTTP/1.1 204 X\r\n\r\n")) as endpoint:
        with pytest.raises(BadAnswer, match=f"the service answered {status}") as caught:
            await run(endpoint)
    assert caught.value.status == status
    assert len(str(caught.value)) < 400


@pytest.mark.asyncio
async def test_run_http__when__slot_begins_to_listen_later__then__waits_and_sends_the_input_once(
    tmp_path: Path,
) -> None:
    requests: list[bytes] = []

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nout")

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    body = tmp_path / "input"
    body.write_bytes(b"the input")
    running = asyncio.create_task(run(Endpoint("127.0.0.1", port), body))
    await asyncio.sleep(0.4)
    async with slot(serve, port):
        assert await running == b"out"
    assert len(requests) == 1
    assert requests[0].startswith(b"POST /run HTTP/1.1\r\n")
    assert b"\r\nContent-Length: 9\r\n" in requests[0]
    assert requests[0].endswith(b"\r\n\r\nthe input")


@pytest.mark.asyncio
async def test_run_http__when__nobody_ever_listens__then__not_listening() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(NotListening, match=r"nobody listens at .* after 0\.2 s"):
            await run(Endpoint("127.0.0.1", held.getsockname()[1]), connect_for=0.2)


@pytest.mark.asyncio
async def test_run_http__when__body_is_a_stream__then__arrives_in_chunks() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one ", b"two ", b"three"):
            yield piece

    async def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
        body = request.partition(b"\r\n\r\n")[2]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with slot(echo) as endpoint:
        assert await run(endpoint, pieces()) == b"one two three"


@pytest.mark.asyncio
async def test_run_http__when__answer_passes_the_limit__then__too_large() -> None:
    async def endless(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"5\r\nabcde\r\n")
            await asyncio.sleep(0)

    async with slot(endless) as endpoint:
        with pytest.raises(TooLarge, match="more than 100 bytes"):
            await run(endpoint)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no"])
@pytest.mark.asyncio
async def test_run_http__when__answer_does_not_end_in_time__then__too_slow(first: bytes) -> None:
    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        await asyncio.sleep(0.6)

    async with slot(slow) as endpoint:
        with pytest.raises(TooSlow, match=r"within 0\.3 s"):
            await run(endpoint, timeout=0.3)


@pytest.mark.parametrize("size", [9, 20 << 20])
@pytest.mark.parametrize("reads", [False, True], ids=["accepts only", "reads some"])
@pytest.mark.asyncio
async def test_run_http__when__a_port_accepts_before_the_service_listens__then__the_input_is_sent_again_whole(
    tmp_path: Path, size: int, reads: bool
) -> None:
    connections = 0

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections < 4:
            if reads:
                await reader.read(1000)
            writer.transport.abort()
            return
        request = await read_request(reader)
        length = len(request.partition(b"\r\n\r\n")[2])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d" % (len(str(length)), length))
        await writer.drain()
        writer.close()

    body = tmp_path / "input"
    body.write_bytes(bytes(size))
    async with await asyncio.start_server(early, "127.0.0.1", 0, limit=64 << 20) as server:
        assert await run(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]), body) == b"%d" % size
    assert connections == 4


@pytest.mark.parametrize(
    "raw", [b"H", b"HTTP/1.1 200 OK\r\nContent-Len", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no"]
)
@pytest.mark.asyncio
async def test_run_http__when__a_byte_of_an_answer_has_come__then__never_sent_again(raw: bytes) -> None:
    requests = 0

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        writer.write(raw)

    async with slot(serve) as endpoint:
        with pytest.raises(BadAnswer, match="broke off"):
            await run(endpoint, connect_for=1)
    assert requests == 1


@pytest.mark.asyncio
async def test_run_http__when__the_service_breaks_off_after_the_time_to_connect__then__a_crash_and_no_second_try() -> (
    None
):
    requests = 0

    async def crash(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await asyncio.sleep(0.3)

    async with slot(crash) as endpoint:
        with pytest.raises(BadAnswer, match="broke off") as caught:
            await run(endpoint, connect_for=0.1)
    assert (requests, caught.value.kind) == (1, Failure.CRASHED)


@pytest.mark.asyncio
async def test_run_http__when__a_stream_was_begun_and_broke_off__then__not_sent_again_as_it_is_gone() -> None:
    connections = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(10)
        writer.transport.abort()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield bytes(1 << 16)

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        with pytest.raises(ExecutionError, match="broke off"):
            await run(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]), pieces())
    assert connections == 1
