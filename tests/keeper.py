"""Helper: the exchange of a daemon whose other parts are not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from offchain import signer

from aihd.execution.desk import Desk, Keys
from aihd.execution.exchange_process import Terms
from aihd.execution.inputs import InputStore
from aihd.ops.listener import listen
from aihd.services.engine import Engine
from aihd.services.exchange import Exchange
from aihd.store.journal import Journal


@asynccontextmanager
async def kept(folder: Path) -> AsyncIterator[tuple[Exchange, dict[str, str]]]:
    """An exchange at work for an empty journal, and where the daemon's health is said."""
    node, health = signer("node"), dict[str, str]()
    with Journal(folder / "aihd.sqlite") as journal:
        engine = cast(Engine, SimpleNamespace(journal=journal, health=health, sighted=[]))
        keys = Keys(node.public_key, node.agree, bytes(32))
        (folder / "inbox").mkdir()
        desk = Desk(journal, InputStore(folder / "inputs", 1000), folder / "inbox", keys, print)
        terms = Terms(
            host="127.0.0.1", port=0, inbox=str(folder / "inbox"), content=str(folder), receipts=str(folder),
            genesis_id="00" * 32, max_input=1000, quota=10_000, memory=300_000_000, connections=16, per_address=16,
        )  # fmt: skip
        exchange = Exchange(engine, desk, terms, await listen("127.0.0.1", 0, "exchange.listen"))
        running = asyncio.create_task(exchange.run())
        try:
            yield exchange, health
        finally:
            running.cancel()
            await asyncio.wait({running})
            for sock in exchange._sockets:
                sock.close()
