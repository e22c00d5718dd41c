"""The node's public door, served in this process with the daemon's desk behind it, or behind a real line."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aihd.core.task import Task
from aihd.execution.cards import Clerk
from aihd.execution.desk import Desk, Keys, TaskBook, executed
from aihd.execution.exchange import Folders, exchange_app
from aihd.execution.exchange_process import Terms
from aihd.execution.inbox import Inbox
from aihd.execution.inputs import InputStore
from aihd.execution.line import MAX_CARD, MAX_QUESTION, DaemonEnd, ExchangeEnd
from aihd.ops.listener import Bounds, Listener, listen, served


@dataclass(frozen=True, slots=True)
class Shop:
    """What a door gives out and takes in."""

    book: TaskBook
    inputs: InputStore
    content: Path
    receipts: Path
    inbox: Path
    keys: Keys
    on_input: Callable[[bytes], None]
    may_serve: Callable[[Task], bool] = executed

    @classmethod
    def at(
        cls, folder: Path, book: TaskBook, inputs: InputStore, keys: Keys, on_input: Callable[[bytes], None]
    ) -> Shop:
        """With the folders that a daemon has in its own."""
        return cls(book, inputs, folder / "content", folder / "receipts", folder / "inbox", keys, on_input)

    def desk(self) -> Desk:
        return Desk(self.book, self.inputs, self.inbox, self.keys, self.on_input, may_serve=self.may_serve)


@asynccontextmanager
async def open_door(shop: Shop, clerk: Clerk | None = None, bounds: Bounds | None = None) -> AsyncIterator[int]:
    """The port of the door."""
    inbox = Inbox(shop.inbox, limit=shop.inputs.limit, quota=8 * shop.inputs.limit)
    folders = Folders(content=shop.content, receipts=shop.receipts)
    async with _served(clerk or shop.desk(), inbox, folders, shop.keys.genesis_id, bounds or Bounds()) as port:
        yield port


@asynccontextmanager
async def door_of(desk: Desk, terms: Terms) -> AsyncIterator[None]:
    """As a daemon's exchange serves it."""
    inbox = Inbox(Path(terms.inbox), limit=terms.max_input, quota=terms.quota)
    folders = Folders(content=Path(terms.content), receipts=Path(terms.receipts))
    async with _served(desk, inbox, folders, bytes.fromhex(terms.genesis_id), terms.bounds, terms.port):
        yield


@asynccontextmanager
async def _served(
    clerk: Clerk, inbox: Inbox, folders: Folders, genesis_id: bytes, bounds: Bounds, port: int = 0
) -> AsyncIterator[int]:
    listener, sockets = Listener(bounds), await listen("127.0.0.1", port, "exchange.listen")
    async with served(exchange_app(clerk, inbox, folders, genesis_id, listener), sockets, listener):
        yield int(sockets[0].getsockname()[1])


@asynccontextmanager
async def line(desk: Desk, tasks: Iterable[Task] = ()) -> AsyncIterator[tuple[DaemonEnd, ExchangeEnd]]:
    """Both ends of a line, which has been told of the tasks."""
    ours, theirs = socket.socketpair()
    daemon = DaemonEnd(desk, *await asyncio.open_unix_connection(sock=ours, limit=MAX_QUESTION), {}, lambda _: None)
    exchange = ExchangeEnd(*await asyncio.open_unix_connection(sock=theirs, limit=MAX_CARD))
    loops = [asyncio.create_task(daemon.run()), asyncio.create_task(exchange.run())]
    try:
        await daemon.greeted.wait()
        await daemon.synced(desk.cards(tasks))
        await exchange.synced.wait()
        yield daemon, exchange
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.wait(loops)
