"""Serves HTTP to strangers: how many may be connected, and how long each may take, is settled before a byte of theirs is read.

Promise: never more than `Bounds.connections` at a time, nor more than `per_address` of one address; a connection whose request does not
come, and one that moves too few bytes, is closed; when all places are taken, a new peer gets the place of the one that does least with
it. So whoever is slow or silent uses up his own place and nobody else's, and the process keeps its descriptors and memory.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from aihd.errors import ConfigError, TemporaryError, one_line

BACKLOG: Final = 1024  # who waits here waits a moment; who does not fit tries again after seconds
AT_ONCE: Final = 64  # taken in before anything else is done
SWEEP: Final = 1.0  # seconds between two looks at the connections
_OUT_OF_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SERVER: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,  # a small body may be a large one inside
    "max_line_size": 4096,
    "max_field_size": 4096,
    "max_headers": 64,
    "keepalive_timeout": 15.0,
    "lingering_time": 2.0,  # what is left of a body that nobody wants
    "shutdown_timeout": 1.0,  # who reads slowly must not hold the process back when it stops
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What strangers may take. Times are seconds; `rate` is bytes a second, on average over `window`.

    An address is one of IPv4, or a network of 64 bits of IPv6, which is what one customer gets.
    """

    connections: int = 64
    per_address: int = 64
    head: float = 10.0
    window: float = 30.0
    rate: int = 1024
    grace: float = 5.0  # for which a request keeps its place, however little it moves


class Peer:
    """One connection, as far as it is measured: what the peer moved, and whether he or we are to move next."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.trusted = False  # he has proved who he is
        self._asked = False  # a request of his is under way: its head has come, its answer has not gone
        self._begun = self._since = time.monotonic()
        self._moved = self._before = 0
        self._ours = 0

    def moved(self, count: int) -> None:
        """He took or sent so many bytes."""
        self._moved += count

    @contextmanager
    def request(self) -> Iterator[None]:
        """One request, from its head to its answer."""
        self._turn(asked=True)
        try:
            yield
        finally:
            self._turn(asked=False)

    def _turn(self, *, asked: bool) -> None:
        self._asked, self.trusted = asked, False
        self._begun = self._since = time.monotonic()
        self._moved = self._before = 0

    @contextmanager
    def ours(self) -> Iterator[None]:
        """While the block runs he waits for us, which is not his fault."""
        self._ours += 1
        try:
            yield
        finally:
            self._ours -= 1
            self._since, self._before = time.monotonic(), self._moved

    def too_slow(self, bounds: Bounds, now: float) -> bool:
        """Whether his time is over."""
        if not self._asked:
            return now - self._begun > bounds.head
        if self._ours or now - self._since < bounds.window:
            return False
        slow = self._moved - self._before < bounds.rate * (now - self._since)
        self._since, self._before = now, self._moved
        return slow

    def worth(self, now: float) -> tuple[bool, bool, float]:
        """Greater for a place that is better used: who proved himself, then who moves most, and last who has been silent for longest."""
        age = now - self._begun
        return self.trusted, self._asked, self._moved / max(1.0, age) if self._asked else -age

    def spared(self, bounds: Bounds, now: float) -> bool:
        """Whether he is in the middle of something, and it is too early to tell how fast he is."""
        return self._asked and (self._ours > 0 or now - self._begun < bounds.grace)


class _Connection(asyncio.Protocol):
    """Passes on to aiohttp what comes, and counts it."""

    def __init__(self, listener: Listener, peer: Peer, inner: Any) -> None:
        self.peer = peer
        self.inner = inner
        self.transport: asyncio.Transport | None = None
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.peer.moved(len(data))
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        answer: bool | None = self.inner.eof_received()
        return answer

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.forget(self)
        self.inner.connection_lost(exc)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Listener:
    """The connections of one application. `refused` and `closed` count those that were not let in, and those that were too slow."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.refused = self.closed = 0
        self._open: dict[Any, _Connection] = {}  # by aiohttp's side of the connection
        self._addresses: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def peer_of(self, request: web.BaseRequest) -> Peer:
        """The peer that sent a request; one that nobody measures where it came another way."""
        found = self._open.get(request.protocol)
        return found.peer if found is not None else Peer("")

    def middleware(self) -> Any:
        """To stand before all others: it notes when a request begins and ends. What is large has to be written by the handler."""

        @web.middleware
        async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
            with self.peer_of(request).request():
                return await handler(request)

        return measured

    def forget(self, connection: _Connection) -> None:
        """It is closed."""
        if self._open.pop(connection.inner, None) is not None:
            self._addresses[connection.peer.address] -= 1
            self._addresses += Counter()  # forgets those at zero

    async def accept(self, server: web.Server, listening: socket.socket) -> None:
        """Forever: take in whoever comes and may."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                arrived = [await loop.sock_accept(listening), *_waiting(listening)]
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    log.warning("no room for another connection", error=one_line(error))
                    self._make_room(time.monotonic())
                await asyncio.sleep(0.1)
                continue
            for sock, address in arrived:
                await self._take(server, sock, _network(address))

    async def _take(self, server: web.Server, sock: socket.socket, address: str) -> None:
        bounds = self.bounds
        full = len(self._open) >= bounds.connections and not self._make_room(time.monotonic())
        if full or self._addresses[address] >= bounds.per_address:
            self.refused += 1
            sock.close()
            return
        connection = _Connection(self, Peer(address), server())
        self._open[connection.inner] = connection
        self._addresses[address] += 1
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except OSError:
            self.forget(connection)
            sock.close()

    def _make_room(self, now: float) -> bool:
        """Close the connection that does least with its place; False when each of them does something, or is too new to tell."""
        able = [connection for connection in self._open.values() if not connection.peer.spared(self.bounds, now)]
        worst = min(able, key=lambda connection: connection.peer.worth(now), default=None)
        if worst is None or worst.peer.worth(now) >= (False, True, 8.0 * self.bounds.rate):
            return False
        self._close(worst)
        return True

    def _close(self, connection: _Connection) -> None:
        self.closed += 1
        self.forget(connection)
        connection.abort()

    async def sweep(self) -> None:
        """Forever: close the connections whose time is over."""
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for connection in [c for c in self._open.values() if c.peer.too_slow(self.bounds, now)]:
                self._close(connection)


@asynccontextmanager
async def served(app: web.Application, listening: list[socket.socket], listener: Listener) -> AsyncIterator[None]:
    """Serve `app` on sockets that listen already, while the block runs; they are closed after it.

    The application's first middleware has to be `listener.middleware()`.
    """
    runner = web.AppRunner(app, **_SERVER)
    await runner.setup()
    assert runner.server is not None
    server = runner.server
    for sock in listening:
        sock.setblocking(False)
    loops = [asyncio.create_task(listener.accept(server, sock)) for sock in listening]
    loops.append(asyncio.create_task(listener.sweep()))
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
        for sock in listening:
            sock.close()
        await runner.cleanup()


async def listen(host: str, port: int, key: str) -> list[socket.socket]:
    """Sockets that listen on an address (port 0 picks a free one); `key` is the setting that named it.

    TemporaryError when the port is in use, ConfigError when the address cannot be listened on at all.
    """
    sockets: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, address in dict.fromkeys((info[0], info[4]) for info in found):
            sockets.append(_bound(family, address))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _refused(error, host, port, key) from error
    return sockets


def _bound(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _waiting(listening: socket.socket) -> Iterator[tuple[socket.socket, Any]]:
    """Who else is waiting to be let in: a loop that has much to do would take one of them a turn."""
    with suppress(OSError):
        for _ in range(AT_ONCE):
            sock, address = listening.accept()
            sock.setblocking(False)
            yield sock, address


def _network(address: Any) -> str:
    """What one customer has: an address of IPv4, a network of 64 bits of IPv6."""
    with suppress(ValueError, IndexError, TypeError):
        found = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if isinstance(found, ipaddress.IPv6Address):
            return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))
        return str(found)
    return ""


def _refused(error: OSError, host: str, port: int, key: str) -> TemporaryError | ConfigError:
    if error.errno == errno.EADDRINUSE:
        return TemporaryError(
            f"port {port} of {host} is in use: stop the process that holds it, or set {key} to another port"
        )
    return ConfigError(
        f"{key} = {host}:{port} cannot be listened on ({one_line(error)}): name an address of this machine"
    )
