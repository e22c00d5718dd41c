"""One sequence as it is played: a world, a daemon, what happened to it, and the promises that are checked on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from aihd.core.task import AT_WORK, FINAL, Task, Where
from aihd.devnet.faults import Api
from aihd.errors import AihdError
from aihd.execution.exchange import PREFIX
from aihd.store.journal import TxStatus

from .gateway import Trouble
from .logs import Heard
from .people import Job
from .promises import INPUT_TIME, BrokenPromise, Promises
from .rig import Daemon
from .world import FINAL_DEPTH, World

PATIENCE: Final = 160  # turns in which everything must end once all is well
STUMBLES: Final = 6  # turns in a row that may go wrong when all is well: a race lost, an unknown answer, a stale look
STEP: Final = 8  # blocks at a time while nothing can happen


@dataclass(slots=True)
class History:
    """`met` names what happened; each is a cause that an unhappy end may have."""

    world: World
    daemon: Daemon
    session: aiohttp.ClientSession
    heard: Heard
    promises: Promises = field(init=False)
    met: set[str] = field(default_factory=set)
    crashes: int = 0
    felt: Counter[str] = field(default_factory=Counter)
    _trouble: Trouble | None = None
    _full: bool = False

    def __post_init__(self) -> None:
        place = self.world.places[0]
        self.promises = Promises(self.world.ground, place.signer.public_key, FINAL_DEPTH)

    @property
    def jobs(self) -> list[Job]:
        return self.world.client.jobs

    @property
    def is_calm(self) -> bool:
        return self.world.front.is_calm and self._trouble is None

    # -- the daemon

    async def turn(self) -> bool:
        well = await self.turn_alone()
        self.check()
        return well

    async def turn_alone(self) -> bool:
        """A turn, nothing checked. A defect is one whatever the weather, but for a disk that is full."""
        well = await self.daemon.turn()
        self._defects()
        if not well:
            self.met.add("absent")
            self.felt.update(f"turn: {type(error).__name__}" for error in self.daemon.troubles)
            self.disturbed()
        return well

    def _defects(self) -> None:
        """BrokenPromise where the daemon ended by itself, or met an error that is not one of ours; a full disk excuses both."""
        for death in self.daemon.deaths:
            if not self._full:
                raise BrokenPromise(f"the daemon ended by itself: {death!r} {getattr(death, 'exceptions', '')}")
            self.crashes += 1
            self.felt["death by full disk"] += 1
        self.daemon.deaths.clear()
        defects = [] if self._full else [*self.heard.defects, *self._strange()]
        self.heard.defects.clear()
        self._full = False
        if defects:
            raise BrokenPromise(f"defect: {defects[0]}")

    def _strange(self) -> list[str]:
        return [repr(error) for error in self.daemon.troubles if not isinstance(error, AihdError)]

    def check(self) -> None:
        if self.daemon.up:
            excuses = self.daemon.starts - 1 + self.crashes + sum(self.world.gateway.met.values())
            self.promises.check(self.daemon.journal, self.world.gateway.instances.seeds, excuses)

    async def crash(self) -> None:
        self._crashed()
        await self.daemon.crash()

    async def crash_inside(self, requests: int, *, after: bool) -> None:
        self._crashed()
        if await self.daemon.turn_with_crash(requests, after=after):
            self.heard.defects.clear()  # the last words of one that was cut off
            self.daemon.troubles.clear()
        self._defects()
        self.check()

    def _crashed(self) -> None:
        self.crashes += 1
        self.met.add("absent")
        self.disturbed()

    async def restart(self) -> None:
        self._crashed()
        await self.daemon.stop()

    def disk_full(self) -> None:
        self._full = True
        self.met.add("disk full")
        self._crashed()

    # -- the world

    def mine(self) -> None:
        """A block after a turn; if all is well, a block that counts."""
        self.world.chain.mine()
        if self.daemon.up and self.is_calm:
            self.promises.calm_block(self.daemon.journal, self.jobs)

    def mine_unseen(self, count: int) -> None:
        self.met.add("absent")
        self.disturbed()
        self.world.chain.mine(count)

    def reorg(self, depth: int, *, lose: bool) -> None:
        self.met.add("absent")
        self.disturbed()
        self.world.chain.reorg(depth, lose=lose)

    def disturbed(self) -> None:
        self.promises.disturbed()

    def switch(self, api: Api, name: str) -> None:
        self.felt[f"{api} {name}"] += 1
        if api == "node":
            self.met.add("absent")
            self.disturbed()
        self.world.front.switch(api, name)

    def trouble(self, name: Trouble) -> None:
        self.met.add(name)
        self.disturbed()
        self._trouble = name
        self.world.gateway.trouble(name)

    def calm(self) -> None:
        self.disturbed()
        self._trouble = None
        self.world.gateway.trouble(None)
        self.world.front.calm()

    def clock(self, seconds: int) -> None:
        self.disturbed()
        self.world.clock.now += seconds * 1000
        self.daemon.shift_clock(seconds)

    def claim_height(self, job: Job) -> int | None:
        """Height of our claim while the task is claimed."""
        life = self.world.ground.life(job.id)
        ours = life.claimed is not None and life.claimed.content.node == self.promises.key
        return life.claim_height if ours and life.claimed_spent_by is None else None

    async def deliver(self, job: Job) -> bool:
        """Upload at the daemon's door; True when it took it."""
        url = f"http://127.0.0.1:{self.world.places[0].door}{PREFIX}/tasks/{job.id.hex()}/input"
        claimed = self.claim_height(job)
        body, headers = await self.world.client.sealed(job, self.promises.key)
        try:
            async with self.session.put(url, data=body, headers=headers) as response:
                taken = response.status in (200, 201)
        except aiohttp.ClientError:
            return False
        height = self.world.chain.height
        if taken and job.delivered is None:
            job.delivered = height
            job.in_time = claimed is not None and height < claimed + INPUT_TIME
        return taken

    # -- the end

    async def end(self) -> dict[bytes, Task]:
        """All is well from now on: every task must come to an end, and to a right one. The tasks that the daemon knew."""
        self.calm()
        stumbles = 0
        for _ in range(PATIENCE):
            well = await self.turn()
            stumbles = 0 if well else stumbles + 1
            if stumbles > STUMBLES:
                raise BrokenPromise(f"all is well, and the daemon is not: {self.daemon.troubles}")
            if self._all_over():
                return self._judged()
            await self._others_move()
            self._next_block()
        raise BrokenPromise(f"after {PATIENCE} calm turns there are {[str(t.state) for t in self._open()]}")

    def _open(self) -> list[Task]:
        return self.daemon.journal.open_tasks() if self.daemon.up else []

    def _all_over(self) -> bool:
        if not self.daemon.up or self._open():
            return False
        return all(self.promises.truth(job.id) not in (Where.OPEN, None) for job in self._posted())

    def _posted(self) -> list[Job]:
        """Jobs that a reorg has not taken out of the world."""
        chain = self.world.chain
        return [job for job in self.jobs if job.id.hex() in chain.ledger.boxes or chain.pool.output(job.id.hex())]

    async def _others_move(self) -> None:
        world = self.world
        for job in self.jobs:
            if not job.lazy:
                world.client.post_again(job)
                if not job.inline and job.delivered is None:
                    await self.deliver(job)
            world.client.rate(job)
            world.rival.fail(job.id)
            if not job.lazy:
                world.client.time_out(job.id)

    def _next_block(self) -> None:
        busy = any(task.state in AT_WORK and not self._waits_for_client(task) for task in self._open())
        due = any(self.promises.due(job) for job in self.jobs)
        if len(self.world.chain.pool) or busy or due or not self.daemon.up:
            self.mine()
        else:
            self.world.chain.mine(STEP)

    def _waits_for_client(self, task: Task) -> bool:
        return any(job.id == task.id and job.lazy and job.delivered is None for job in self.jobs)

    def _judged(self) -> dict[bytes, Task]:
        journal = self.daemon.journal
        tasks = {task.id: task for task in journal.tasks()}
        happened = self.met | {name for name, count in self.world.gateway.met.items() if count}
        for job in self.jobs:
            task = tasks.get(job.id)
            if task is None:
                continue
            if task.state not in FINAL:
                raise BrokenPromise(f"task {job.id.hex()} has not ended: {task.state}")
            self.promises.explained(task, job, happened)
        waiting = [record.intent for record in journal.live() if record.status is TxStatus.PENDING]
        if waiting:
            raise BrokenPromise(f"all tasks are over, and still under way are {waiting}")
        if running := self.world.gateway.running():
            raise BrokenPromise(f"all tasks are over, and {running} instances still run")
        return tasks
