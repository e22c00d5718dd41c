"""nodo's gateway with instances that live in this process: real gRPC, frames and rows, one HTTP server for all services."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, Literal

from aiohttp import web

from aihd.devnet.executor import Executor
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.errors import UsageError
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.ops.web import serve

Trouble = Literal["refuses", "silent", "slow", "broken"]
TROUBLES: Final[tuple[Trouble, ...]] = ("refuses", "silent", "slow", "broken")


class Instances(Executor):
    """What runs, by token. `seeds` counts the starts of each run: a run is told by the seed in its environment."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder, "127.0.0.1", lambda _: None)
        self._port = port
        self._tokens: set[str] = set()
        self.seeds: Counter[str] = Counter()
        self.refuses = False

    async def start(self, token: str, service: pb.Service, environment: Mapping[str, str]) -> dict[int, int]:
        if self.refuses:
            raise UsageError("no resources are left")
        self._tokens.add(token)
        self.seeds[environment["AIH_SEED"]] += 1
        return {slot.port: self._port for slot in service.api.slot}

    async def stop(self, token: str) -> bool:
        known = token in self._tokens
        self._tokens.discard(token)
        return known

    async def close(self) -> None:
        self._tokens.clear()


class Gateway(EmbeddedGateway):
    """A nodo with troubles that can be switched. `met` counts how often each was felt."""

    def __init__(self, storage: Path, slots: Slots) -> None:
        super().__init__(storage, credit=PLENTY)
        self._slots = slots
        self.instances = Instances(storage, slots.port)
        self._executor = self.instances
        self._silent = False
        self.met: Counter[str] = slots.met

    def trouble(self, name: Trouble | None) -> None:
        """One trouble, or none; whoever waits in the one before goes on."""
        self.instances.refuses = name == "refuses"
        self._silent = name == "silent"
        self._slots.switch(name)

    def forget(self) -> None:
        """As if nothing had ever run."""
        self.trouble(None)
        self.instances.seeds.clear()
        self.met.clear()
        with closing(sqlite3.connect(self.database, isolation_level=None)) as rows:
            for table in ("local_instances", "clients", "service_reputation", "reputation_events"):
                rows.execute(f"DELETE FROM {table}")

    def running(self) -> int:
        with closing(sqlite3.connect(self.database, isolation_level=None)) as rows:
            return int(rows.execute("SELECT count(*) FROM local_instances").fetchone()[0])

    @property
    def waiting(self) -> int:
        """Requests that a slow service holds."""
        return self._slots.waiting

    async def _start_service(self, frames: AsyncIterator[bytes]) -> AsyncIterator[Buffer]:
        self.met["refuses"] += self.instances.refuses
        # A real start takes its time; one that is over before the request was sent to its end would lose its answer.
        async for frame in super()._start_service(_again([frame async for frame in frames])):
            if self._silent and not frame.signal:
                self.met["silent"] += 1
                await asyncio.sleep(60)  # it has started; whoever asked gives up before he hears of it
            yield frame


async def _again(frames: list[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame


class Slots:
    """The HTTP slot of every instance: the output is a digest of the input, unless it is slow or broken."""

    def __init__(self) -> None:
        self.port = 0
        self.waiting = 0
        self.met: Counter[str] = Counter()
        self._trouble: Trouble | None = None
        self._changed = asyncio.Event()

    def switch(self, name: Trouble | None) -> None:
        self._trouble = name
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self._trouble == "slow":
            await self._dawdle()
        if self._trouble == "broken":
            self.met["broken"] += 1
            return web.Response(status=500, text="it broke")
        return web.Response(body=hashlib.sha256(body).hexdigest().encode())

    async def _dawdle(self) -> None:
        self.met["slow"] += 1
        self.waiting += 1
        try:
            while self._trouble == "slow":
                await self._changed.wait()
        finally:
            self.waiting -= 1


@asynccontextmanager
async def gateway(storage: Path) -> AsyncIterator[Gateway]:
    slots = Slots()
    app = web.Application(handler_args={"handler_cancellation": True})  # a client that leaves ends its request
    app.router.add_post("/run", slots.run)
    async with serve(app, "127.0.0.1", 0) as port:
        slots.port = port
        async with Gateway(storage, slots) as made:
            yield made
            made.trouble(None)
