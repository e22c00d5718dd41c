"""Sixty-four tasks in flight, SIGKILL, a new start.

One bond holds 48 open tasks. So 16 tasks have failed, and their refund is not final yet, and 48 are claimed and wait for their input.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import made
from onchain import order

from aihd.chain.submitter import Intent
from aihd.core.task import AT_WORK, State, Task
from aihd.demo.world import Daemon, World, world
from aihd.errors import TemporaryError
from aihd.execution.inputs import data_locator
from aihd.protocol import envelope, hashes, plans
from aihd.protocol.funding import Funds, Plan
from aihd.store.journal import Journal

BLOCK_TIME: Final = 2.0
FAILED: Final = 16
CLAIMED: Final = 48
PAYMENT: Final = 10**8
WINDOW: Final = 2000  # blocks: nothing runs out of time here
DEPTH: Final = 700  # blocks: nothing is final before the kill
PATIENCE: Final = 600.0


@dataclass(slots=True)
class Load:
    """The world with one daemon, and the tasks that were posted."""

    world: World
    daemon: Daemon
    source: Path
    failing: list[bytes] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)

    def states(self) -> Counter[State]:
        """What the daemon's journal says of all tasks."""
        return Counter(task.state for task in self._tasks())

    def _tasks(self) -> list[Task]:
        with Journal(self.daemon.config.parent / "data" / "aihd.sqlite", read_only=True) as journal:
            return journal.tasks()

    async def fill(self) -> None:
        """Bring the daemon's hands full."""
        for number in range(FAILED):
            self.failing.append(await self._post_bad(number))
        await self._until(lambda states: states[State.ADMITTED] == FAILED)
        service = self.world.services["text-digest"]
        for _ in range(CLAIMED):
            wanted = order(service, payment=PAYMENT, claim_window=WINDOW, exec_window=WINDOW)
            self.waiting.append(await self.world.client.client.post(wanted, self.source, {}))
        await self._until(lambda states: states[State.AWAITING_INPUT] == CLAIMED)

    async def kill(self) -> float:
        """SIGKILL and a new start; seconds until it says that it is ready."""
        self.daemon.process.send_signal(signal.SIGKILL)
        await self.daemon.process.wait()
        begin = time.monotonic()
        await self.daemon.start()
        async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE):
            while not await _ready(session, f"{self.daemon.ops_url}/readyz"):
                await asyncio.sleep(0.02)
        return time.monotonic() - begin

    async def finish(self) -> Counter[State]:
        """Bring every input; the states once nothing is at work any more."""
        for task_id in self.waiting:
            await self._deliver(task_id)
        await self._until(lambda states: not any(states[state] for state in AT_WORK))
        return self.states()

    async def _deliver(self, task_id: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.world.client.client.deliver(task_id)
                    return
                except TemporaryError:
                    await asyncio.sleep(0.1)

    async def _post_bad(self, number: int) -> bytes:
        """A task with a configuration that its service does not take."""
        client, salt = self.world.client, number.to_bytes(32, "big")
        body = b"".join(envelope.encode({"DIGEST_ALGORITHM": "none"}, [b"input"]))
        commitment = hashes.input_commitment(salt, [body])
        service, key = self.world.services["text-digest"], client.signer.public_key
        locator = data_locator(salt + body)

        def plan(market: plans.Market, funds: Funds) -> Plan:
            terms = made.escrow(
                service_hash=service,
                input_commitment=commitment,
                payment=PAYMENT,
                claim_deadline=market.height + WINDOW,
                exec_window=WINDOW,
                client=key,
                locator=locator,
            )
            return plans.post(market, terms, funds)

        record = await client.submitter.transact(Intent("post", commitment), lambda s: plan(s.market, s.funds))
        assert record is not None
        return bytes.fromhex(record.id)

    async def _until(self, reached: Callable[[Counter[State]], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not reached(self.states()):
                await self.world.client.submitter.follow(await self.world.client.view.tip())
                await asyncio.sleep(0.3)


async def _ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def load(folder: Path) -> AsyncIterator[Load]:
    """A daemon that is at work and takes as many tasks as its bond holds."""
    async with world(folder, block_time=BLOCK_TIME, max_input=10_000, names=("node",), start=False) as made:
        (daemon,) = made.daemons
        text = daemon.config.read_text().replace("[policy]", "[policy]\nmax_open_tasks = 48")
        daemon.config.write_text(text.replace("final_depth = 10", f"final_depth = {DEPTH}"))
        source = folder / "input.txt"
        source.write_text("one two\n")
        await daemon.start()
        await daemon.ready()
        yield Load(made, daemon, source)
