"""The HTTP slot: the input is the body of one POST, the output is the body of its answer, both streamed.

An output is only what the service declared to be whole: status 200, with a length or in chunks, received to its end.
Redirects are errors. A port may accept before the service behind it listens, as Docker's proxy does, and break off: so the input is sent
again, as long as not a byte of an answer has come and the time to connect lasts. What breaks off later is a crash of the service.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import aiohttp
from yarl import URL

from aihd.errors import one_line
from aihd.execution.errors import BadAnswer, NotListening, TooLarge, TooSlow

Body = Path | bytes | AsyncIterable[bytes]
PIECE = 1 << 16  # bytes handed to the sink at a time, at most
FILE_PIECE = 1 << 20  # bytes read from a file at a time
CONNECT_ONCE = 3.0  # seconds for one attempt: a guest that still boots swallows packets
PAUSE = 0.05  # seconds between attempts
HEADERS = {
    # The bytes that are hashed are the bytes that the service made.
    "Accept-Encoding": "identity",
    # A port may belong to another instance next time.
    "Connection": "close",
}


class Endpoint(Protocol):
    """Where a slot listens."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Sink(Protocol):
    """What takes the output."""

    def write(self, chunk: bytes) -> object: ...


async def run_http(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    path: str,
    body: Body,
    *,
    connect_for: float,
    timeout: float,
    limit: int,
    sink: Sink,
    content_type: str = "application/octet-stream",
) -> int:
    """POST `body` to http://endpoint/path and stream the answer to `sink`; the number of its bytes.

    Tries for `connect_for` seconds to get the first byte of an answer (nodo starts an instance before it listens); `timeout` in seconds
    bounds everything, `limit` the output in bytes. NotListening, BadAnswer, TooLarge or TooSlow when there is no whole output;
    what the sink has by then is to be thrown away.
    """
    url = URL.build(scheme="http", host=endpoint.host, port=endpoint.port, path=path)
    try:
        async with asyncio.timeout(timeout):
            with _source(body) as source:
                async with await _connected(session, url, source, connect_for, content_type) as response:
                    return await _receive(response, limit, sink)
    except TimeoutError:
        raise TooSlow(f"the service at {url} did not end its answer within {timeout:g} s") from None
    except aiohttp.ClientError as error:
        raise BadAnswer(f"the service at {url} broke off: {one_line(error)}") from error


async def _connected(
    session: aiohttp.ClientSession,
    url: URL,
    source: BinaryIO | AsyncIterable[bytes],
    connect_for: float,
    content_type: str,
) -> aiohttp.ClientResponse:
    """The answer's head. Tried again until something is answered or the time is over; a stream can be sent only once."""
    deadline = time.monotonic() + connect_for
    once = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_ONCE)
    headers = {**HEADERS, "Content-Type": content_type}
    data = source
    while True:
        if not isinstance(source, AsyncIterable):
            # The file itself would be closed by aiohttp after the first attempt.
            headers["Content-Length"], data = str(source.seek(0, io.SEEK_END)), _pieces(source)
        try:
            return await session.post(url, data=data, headers=headers, allow_redirects=False, timeout=once)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            if time.monotonic() >= deadline:
                raise NotListening(f"nobody listens at {url} after {connect_for:g} s: {one_line(error)}") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if _answered(error) or time.monotonic() >= deadline or isinstance(source, AsyncIterable):
                raise
        await asyncio.sleep(PAUSE)


def _answered(error: aiohttp.ClientError) -> bool:
    """Whether a byte of an answer had come when the connection broke off: aiohttp then keeps what it has of the answer's head."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


@contextmanager
def _source(body: Body) -> Iterator[BinaryIO | AsyncIterable[bytes]]:
    if isinstance(body, AsyncIterable):
        yield body
        return
    with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as file:
        yield file


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    file.seek(0)
    while piece := await asyncio.to_thread(file.read, FILE_PIECE):
        yield piece


async def _receive(response: aiohttp.ClientResponse, limit: int, sink: Sink) -> int:
    if response.status != 200:
        text = (await response.content.read(1200)).decode("utf-8", "replace")
        raise BadAnswer(f"the service answered {response.status}: {one_line(Exception(text))}", response.status)
    if response.content_length is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
        raise BadAnswer(
            "the answer has neither Content-Length nor chunks, so a cut could not be told from its end", 200
        )
    size = 0
    async for chunk in response.content.iter_chunked(PIECE):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the service answered with more than {limit} bytes")
        sink.write(chunk)
    return size
