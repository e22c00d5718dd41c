"""One task after another on one chain, with one daemon that is killed at a chosen point and started again.

Two kinds of task: one that is delivered and rated, and one whose service refuses its configuration, so that the money goes back.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onchain import order as ordered

from aihd.core.task import State, Where
from aihd.demo.world import Daemon, World, world
from aihd.errors import AihdError, TemporaryError
from aihd.nodo.reputation import read_service_reputation
from aihd.ops.failpoints import AT, LOG
from aihd.protocol.constants import RATING_VALUE
from aihd.protocol.deployment import Guard
from aihd.protocol.guards import treasury_fee
from aihd.protocol.trees import tree_of
from aihd.store.journal import Journal

BLOCK_TIME: Final = 0.3
PAYMENT: Final = 2 * 10**8  # so that the client can pay for every point of the table
FEE: Final = 1_100_000
SERVICE: Final = "text-digest"


@dataclass(frozen=True, slots=True)
class Plot:
    """How a task goes. `earned`: nanoERG that it brings the node, by the fees of as many transactions and what it gets out of them.

    `ends_by`: the guard of the box that its end on the chain makes; `points`: rows that it adds to nodo's reputation table.
    """

    name: str
    config: Mapping[str, str]
    state: State
    earned: int
    ends_by: Guard
    points: int


# Claim, release, commit, reveal, settle; and claim, fail, settle, which gives the value of its rating back.
PAID: Final = Plot(
    *("paid", {}, State.PAID, PAYMENT - treasury_fee(PAYMENT) - 5 * FEE + RATING_VALUE, Guard.RECEIPT), points=1
)
REFUSED: Final = Plot("refused", {"DIGEST_ALGORITHM": "none"}, State.FAILED, -3 * FEE, Guard.FAILURE, points=0)
PLOTS: Final = {plot.name: plot for plot in (PAID, REFUSED)}


@dataclass(frozen=True, slots=True)
class Kill:
    """Where the daemon is killed, and where the one that was started after it is killed too; "" for nowhere."""

    at: str = ""
    then: str = ""

    def __str__(self) -> str:
        return f"{self.at}, then {self.then}" if self.then else self.at or "nowhere"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one task ended. `points` are the failpoints that the daemon reached, `after` those of the one that was started after it.

    `crashed`: whether it was killed where it was to be. `wrong` names every promise that was broken.
    """

    kill: Kill
    points: tuple[str, ...]
    after: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def crashed(self) -> bool:
        asked = ((self.kill.at, self.points), (self.kill.then, self.after))
        return all(reached[-1:] == (point,) for point, reached in asked if point)


@dataclass(frozen=True, slots=True)
class Stage:
    """The world with its one daemon, and the input of every task."""

    world: World
    daemon: Daemon
    input_path: Path

    async def run(self, plot: Plot, kill: Kill) -> Outcome:
        """One task, with the daemon killed on the way."""
        folder = self.daemon.config.parent
        logs = folder / "failpoints", folder / "failpoints-after"
        for log in logs:
            log.write_text("")
        before, rated = await self._balance(), self._ratings()
        await self.daemon.start({LOG: str(logs[0]), AT: kill.at})
        keeper = asyncio.create_task(self._restart_after_crash(logs[1], kill.then))
        try:
            async with asyncio.timeout(120):
                task_id = await self._play(plot)
            wrong = await self._broken_promises(plot, task_id, before, rated)
        except (AihdError, TimeoutError) as error:
            wrong = [f"the task did not end: {error!r}"]
        finally:
            keeper.cancel()
            await self.daemon.stop()
        points, after = (tuple(log.read_text().splitlines()) for log in logs)
        return Outcome(kill, points, after, tuple(wrong))

    async def _restart_after_crash(self, log: Path, then: str) -> None:
        await self.daemon.process.wait()
        await self.daemon.start({LOG: str(log), AT: then})
        await self.daemon.process.wait()
        await self.daemon.start()

    async def _play(self, plot: Plot) -> bytes:
        client = self.world.client.client
        order = ordered(
            self.world.services[SERVICE], payment=PAYMENT, holdback_bps=5_000, claim_window=60, exec_window=200
        )
        task_id = await client.post(order, self.input_path, plot.config)
        await client.wait_for(task_id, lambda now: now.where is not Where.OPEN)
        await self._deliver(task_id)
        if plot is PAID:
            await client.wait_for(task_id, lambda now: now.life.receipt is not None)
            await client.rate(task_id, 5)
        await self._until_closed(task_id)
        return task_id

    async def _deliver(self, task_id: bytes) -> None:
        """As often as it takes: the node may be down just now."""
        while (await self.world.client.view.life(task_id)).claimed_spent_by is None:
            try:
                await self.world.client.client.deliver(task_id)
                return
            except TemporaryError:
                await asyncio.sleep(0.2)

    async def _until_closed(self, task_id: bytes) -> None:
        while True:
            with Journal(self._database, read_only=True) as journal:
                task = journal.find(task_id)
            if task is not None and task.final:
                return
            await asyncio.sleep(0.2)

    @property
    def _database(self) -> Path:
        return self.daemon.config.parent / "data" / "aihd.sqlite"

    async def _balance(self) -> int:
        address = self.world.wallets[self.daemon.name]
        view = self.world.client.view
        return sum(box.value for box in await view.unspent(tree_of(address, view.prefix)))

    def _ratings(self) -> int:
        row = read_service_reputation(self.world.gateway.database, self.world.services[SERVICE].hex())
        return row[1] if row else 0

    async def _broken_promises(self, plot: Plot, task_id: bytes, before: int, rated: int) -> list[str]:
        """`before`: what the wallet held, in nanoERG; `rated`: how many points nodo had for the service."""
        wrong = []
        earned = await self._balance() - before
        with Journal(self._database, read_only=True) as journal:
            state = journal.task(task_id).state
            pending = [tx.kind for tx in journal.live() if tx.task_id == task_id and tx.height is None]
        if state is not plot.state:
            wrong.append(f"the task is {state}")
        if pending:
            wrong.append(f"transactions are still under way: {pending}")
        if earned != plot.earned:
            wrong.append(f"it earned {earned} nanoERG, an undisturbed task {plot.earned}")
        made = await self.world.client.view.explorer.by_token(task_id)
        for guard in (Guard.CLAIMED, plot.ends_by):
            count = sum(1 for s in made if self.world.deployment.guard_of(s.box) is guard)
            if count != 1:
                wrong.append(f"{count} boxes of {guard}")
        if self._ratings() != rated + plot.points:
            wrong.append(f"the reputation was written {self._ratings() - rated} times")
        if self._instances():
            wrong.append(f"{self._instances()} instances still run")
        return wrong

    def _instances(self) -> int:
        with sqlite3.connect(f"file:{self.world.gateway.database}?mode=ro", uri=True) as nodo:
            (count,) = nodo.execute("SELECT count(*) FROM local_instances").fetchone()
        nodo.close()
        return int(count)


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    async with world(folder, block_time=BLOCK_TIME, max_input=10**6, names=("node-a",), start=False) as made:
        input_path = folder / "input.txt"
        input_path.write_text("a small text\n")
        yield Stage(made, made.daemons[0], input_path)
