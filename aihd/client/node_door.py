"""The client's side of a node's door: asks for a task, brings an input, takes an output and a receipt.

The node wrote the address itself, into its bond, so it is not trusted: every address that it resolves to has to be a public one (unless
private ones are allowed), no redirect is followed, every answer has a limit, and a node that stops moving is given up.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from aihd.errors import DependencyError, TemporaryError, UsageError, one_line
from aihd.execution.exchange import PREFIX
from aihd.execution.locator import PublicResolver, refused_address

_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,255}")
MAX_ANSWER: Final = 1 << 16  # bytes of what the node says, and of a receipt
MAX_REFUSAL: Final = 2000  # bytes of an error
PIECE: Final = 1 << 18
SILENCE: Final = 60.0  # seconds in which something has to move
VERDICT: Final = 180.0  # seconds that a node may take to hash and keep what it got


@dataclass(frozen=True, slots=True)
class NodeWord:
    """What a node says of a task: its state there, the kind of a failure, and a note sealed for the client."""

    state: str
    code: str
    note: bytes


class NotYetError(TemporaryError):
    """The node has the output, and does not give it out before its payment is sure."""


def refusal_of(endpoint: str, *, private: bool) -> str | None:
    """Why an endpoint cannot be asked, as far as it tells by itself; None when it may be."""
    try:
        url = URL(endpoint)
        host, port = url.raw_host, url.port  # these are read late, and may be wrong by themselves
    except ValueError as error:
        return f"it is no address: {one_line(error, 80)}"
    if url.scheme not in ("http", "https") or not host or not _HOST.fullmatch(host) or port is None:
        return "expected http:// or https:// and a host"
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        return "it has to be an address without user, query and fragment"
    return None if private else refused_address(host)


@asynccontextmanager
async def node_door(endpoint: str, *, private: bool = False) -> AsyncIterator[NodeDoor]:
    """The door at a bond's endpoint; DependencyError when it is no address that may be asked."""
    if (reason := refusal_of(endpoint, private=private)) is not None:
        raise DependencyError(f"the node's endpoint {endpoint[:80]!r}: {reason}")
    resolver = ThreadedResolver() if private else PublicResolver()
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
        yield NodeDoor(session, endpoint.rstrip("/"))


class NodeDoor:
    """One node; TemporaryError when it cannot be reached, breaks off, stops or refuses."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._base = f"{endpoint}{PREFIX}"

    async def says(self, task_id: bytes) -> NodeWord:
        """The node's own account of a task."""
        url = f"{self._base}/tasks/{task_id.hex()}"
        async with self._request("GET", url) as (response, clock):
            text = await _limited(response, MAX_ANSWER, clock)
        try:
            answer: dict[str, Any] = json.loads(text)
            if response.status != 200:
                raise ValueError(text)
            return NodeWord(str(answer["state"]), str(answer.get("code") or ""), _bytes(answer.get("note")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise TemporaryError(f"{url} answered {response.status}: {_shown(text)}") from None

    async def bring(self, task_id: bytes, body: AsyncIterable[bytes], headers: Mapping[str, str]) -> None:
        """Upload an input; UsageError when the node says that it is not the one that was committed to."""
        url = f"{self._base}/tasks/{task_id.hex()}/input"
        async with self._request("PUT", url, body, headers) as (response, clock):
            text = await _limited(response, MAX_REFUSAL, clock)
        if response.status in (400, 413):
            raise UsageError(f"the node did not take the input: {_shown(text)}")
        if response.status not in (200, 201):
            raise TemporaryError(f"the node did not take the input: {_shown(text)}")

    @asynccontextmanager
    async def output(self, digest: bytes, task_id: bytes, limit: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """The sealed bytes of an output, at most `limit`."""
        url = f"{self._base}/outputs/{digest.hex()}?task={task_id.hex()}"
        async with self._request("GET", url) as (response, clock):
            if response.status != 200:
                text = await _limited(response, MAX_REFUSAL, clock)
                error = NotYetError if response.status == 409 else TemporaryError
                raise error(f"the node does not give the output: {_shown(text)}")
            yield _pieces(response, limit, clock)

    async def receipt(self, cid: bytes) -> bytes:
        """The document of a full receipt."""
        async with self._request("GET", f"{self._base}/receipts/{cid.hex()}") as (response, clock):
            document = await _limited(response, MAX_ANSWER, clock)
        if response.status != 200:
            raise TemporaryError(f"the node does not give the receipt: {_shown(document)}")
        return document

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, body: AsyncIterable[bytes] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
        """A request, with the clock that whoever sees something move has to wind."""
        named = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            async with asyncio.timeout(SILENCE) as clock:
                data = None if body is None else _watched(body, clock)
                async with self._session.request(
                    method, url, data=data, headers=named, allow_redirects=False
                ) as response:
                    yield response, clock
        except TimeoutError:
            raise TemporaryError(f"{url}: nothing moved for {SILENCE:.0f} s") from None
        except aiohttp.ClientError as error:
            raise TemporaryError(f"{url} cannot be reached: {one_line(error, 200)}") from error


def _wind(clock: asyncio.Timeout, seconds: float) -> None:
    clock.reschedule(asyncio.get_running_loop().time() + seconds)


async def _watched(body: AsyncIterable[bytes], clock: asyncio.Timeout) -> AsyncIterator[bytes]:
    async for piece in body:
        _wind(clock, SILENCE)
        yield piece
    _wind(clock, VERDICT)


async def _pieces(response: aiohttp.ClientResponse, limit: int, clock: asyncio.Timeout) -> AsyncIterator[bytes]:
    size = 0
    async for piece in response.content.iter_chunked(PIECE):
        size += len(piece)
        if size > limit:
            raise DependencyError(f"the node sends more than {limit} bytes: it is not listened to any more")
        _wind(clock, SILENCE)
        yield piece


async def _limited(response: aiohttp.ClientResponse, limit: int, clock: asyncio.Timeout) -> bytes:
    """The body, of which no more than `limit` bytes are read."""
    found = bytearray()
    async for piece in response.content.iter_chunked(4096):
        found += piece
        _wind(clock, SILENCE - len(found) / limit)  # bytes one by one do not keep us for ever
        if len(found) >= limit:
            break
    return bytes(found[:limit])


def _bytes(value: object) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""


def _shown(text: bytes) -> str:
    """What a node said, for people."""
    return repr(text.decode("utf-8", "replace")[:200])
