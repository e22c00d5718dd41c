"""The game: clients post, daemons race, the explorer fails, blocks are replaced, one daemon is away for a while; then all is well."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from chaos.gateway import TROUBLES
from chaos.people import Job
from chaos.promises import STREAK, Promises
from chaos.rig import Daemon
from chaos.world import ERG, FINAL_DEPTH, World

from aihd.core.task import Where
from aihd.execution.exchange import PREFIX

from .books import Account, End, accounts, balance, end_of, total

NAMES: Final = ("node-a", "node-b", "node-c")
TASKS: Final = 200
IN_FLIGHT: Final = 16
REORG: Final = 0.16  # chance per block: with 1 to 6 blocks each time, about three blocks in ten are replaced
DEEPEST: Final = 6
EXPLORER: Final = ("lag", "frozen-cache", "half-pages", "unordered", "html-errors", "twice", "forged", "down")
FAULT: Final = 0.1  # chance per block that the explorer begins to fail, or stops
AWAY_FROM: Final = 30  # block of the game from which on the first daemon goes down, in the middle of its work
AWAY_FOR: Final = 55  # blocks: longer than a window
PATIENCE: Final = 600

MARKS = (1, 3, 4, 5, 5, 5, 5)  # with more bad ones than that, nobody has the score that the next task asks for


@dataclass(slots=True)
class Seat:
    """A daemon at the table, with the heights of its good turns."""

    daemon: Daemon
    key: bytes
    door: int
    promises: Promises
    good: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Game:
    """One market from its first post to its last closed task."""

    world: World
    session: aiohttp.ClientSession
    chance: random.Random
    tasks: int = TASKS
    seats: list[Seat] = field(default_factory=list)
    payments: dict[bytes, int] = field(default_factory=dict)
    before: dict[bytes, int] = field(default_factory=dict)
    supply: int = 0
    old: frozenset[str] = frozenset()
    mined: int = 0
    replaced: int = 0
    met: Counter[str] = field(default_factory=Counter)
    left: int | None = None  # block at which the first daemon went down

    async def play(self) -> None:
        """All of it; AssertionError where a promise is broken."""
        self._set_up()
        for number in range(PATIENCE):
            if len(self.payments) >= self.tasks:
                break
            self._weather()
            self._post()
            await self._round(away=self._is_away(number))
            self._block()
        self.world.front.calm()
        self.world.gateway.trouble(None)
        for _ in range(PATIENCE):
            await self._round()
            if self._over():
                break
            self._block()
        for seat in self.seats:
            await seat.daemon.stop()

    def _set_up(self) -> None:
        world, ground = self.world, self.world.ground
        daemons = world.again()
        for daemon, place in zip(daemons, world.places, strict=True):
            key = place.signer.public_key
            self.seats.append(Seat(daemon, key, place.door, Promises(ground, key, FINAL_DEPTH)))
        trees = [place.signer.tree for place in world.places] + [world.treasury.tree, world.client.signer.tree]
        self.before = {tree: balance(ground, tree) for tree in trees}
        self.before |= {bond.content.node: bond.value for bond in ground.bonds()}
        self.supply = total(ground)
        self.old = frozenset(world.chain.ledger.transactions)

    # -- what happens

    def _weather(self) -> None:
        world = self.world
        if self.chance.random() < FAULT:
            world.front.calm()
            world.front.switch("explorer", name := self.chance.choice(EXPLORER))
            self.met[name] += 1
        elif self.chance.random() < 2 * FAULT:
            world.front.calm()
        if self.chance.random() < FAULT / 5:
            world.gateway.trouble(self.chance.choice(TROUBLES))
        elif self.chance.random() < 3 * FAULT:
            world.gateway.trouble(None)

    def _post(self) -> None:
        world = self.world
        running = [job for job in world.client.jobs if self._at_work(job)]
        for _ in range(min(4, IN_FLIGHT - len(running), self.tasks - len(self.payments))):
            payment = self.chance.choice((ERG // 100, ERG // 20, ERG // 10))
            inline, share = self.chance.random() < 0.7, self.chance.choice((0, 5_000, 10_000))
            job = world.client.post(world.service, payment, inline=inline, holdback_bps=share)
            if job is not None:
                job.lazy = self.chance.random() < 0.1
                job.mark = self.chance.choice(MARKS)
                self.payments[job.id] = payment

    def _at_work(self, job: Job) -> bool:
        life, ledger = self.world.ground.life(job.id), self.world.chain.ledger
        spent = ledger.spender(job.id.hex()) if life.claimed is None else life.claimed_spent_by
        return spent is None

    def _is_away(self, number: int) -> bool:
        """It leaves with two tasks claimed, so that a reorg does not easily take both from it."""
        lives = [self.world.ground.life(job.id) for job in self.world.client.jobs]
        claimed = [life.claimed for life in lives if life.claimed is not None and life.claimed_spent_by is None]
        held = sum(on.content.node == self.seats[0].key for on in claimed)
        if self.left is None and number >= AWAY_FROM and held >= 2:
            self.left = number
        return self.left is not None and number < self.left + AWAY_FOR

    async def _round(self, *, away: bool = False) -> None:
        """Everybody's turn."""
        if away and self.seats[0].daemon.up:
            await self.seats[0].daemon.crash()
        seats = self.seats[1:] if away else self.seats
        for seat in self.chance.sample(seats, len(seats)):
            if await seat.daemon.turn():
                seat.good.append(self.world.chain.height)
            assert not seat.daemon.deaths
            if seat.daemon.up:
                seeds, excuses = (
                    self.world.gateway.instances.seeds,
                    seat.daemon.starts + sum(self.world.gateway.met.values()),
                )
                seat.promises.check(seat.daemon.journal, seeds, excuses)
        for job in self.world.client.jobs:
            await self._client(job)

    async def _client(self, job: Job) -> None:
        world = self.world
        world.client.post_again(job)
        world.client.time_out(job.id)
        world.client.rate(job)
        life = world.ground.life(job.id)
        if life.claimed is None and world.ground.escrow(job.id) is not None and self._expired(job):
            world.client.take_back(job)
        if life.claimed is not None and life.claimed_spent_by is None and not (job.inline or job.lazy):
            await self._deliver(job, life.claimed.content.node)

    def _expired(self, job: Job) -> bool:
        escrow = self.world.ground.escrow(job.id)
        return escrow is not None and self.world.chain.height > escrow.content.claim_deadline

    async def _deliver(self, job: Job, node: bytes) -> None:
        door = next(seat.door for seat in self.seats if seat.key == node)
        url = f"http://127.0.0.1:{door}{PREFIX}/tasks/{job.id.hex()}/input"
        body, headers = await self.world.client.sealed(job, node)
        try:
            async with self.session.put(url, data=body, headers=headers) as response:
                if response.status not in (200, 201):
                    self.met[f"upload refused: {response.status}"] += 1
        except aiohttp.ClientError:
            self.met["door closed"] += 1

    def _mine(self) -> None:
        self.world.chain.mine()
        self.mined += 1

    def _block(self) -> None:
        self._mine()
        if self.chance.random() < REORG:
            depth = self.chance.randint(1, DEEPEST)
            self.world.chain.reorg(depth, lose=self.chance.random() < 0.2)
            self.mined += depth + 1
            self.replaced += depth

    # -- how it ended

    def _over(self) -> bool:
        if any(not seat.daemon.up or seat.daemon.journal.open_tasks() for seat in self.seats):
            return False
        return all(end.where not in (Where.OPEN, Where.CLAIMED) for end in self.ends().values())

    def ends(self) -> Mapping[bytes, End]:
        """How each task ended that is on the chain."""
        jobs = [job for job in self.world.client.jobs if not self._vanished(job)]
        return {job.id: end_of(self.world.ground, job, self.payments[job.id]) for job in jobs}

    @property
    def vanished(self) -> int:
        """Posts that a reorg took, and that could not be repeated: another transaction of the client has their coins now."""
        return sum(map(self._vanished, self.world.client.jobs))

    def _vanished(self, job: Job) -> bool:
        return job.id.hex() not in self.world.chain.ledger.boxes

    def unexplained(self) -> list[str]:
        """Deadlines that a daemon lost though it had its turns."""
        found = []
        for task_id, end in self.ends().items():
            claimed = self.world.ground.life(task_id).claimed
            if end.where is not Where.TIMED_OUT or claimed is None:
                continue
            window = range(claimed.content.claim_height, claimed.content.exec_deadline)
            seat = next(seat for seat in self.seats if seat.key == end.node)
            good = {height for height in seat.good if height in window}
            if len(good) > 2 * STREAK:
                found.append(f"task {task_id.hex()} timed out after {len(good)} good turns in its window")
        return found

    def accounts(self) -> list[Account]:
        """Every wallet with what should be in it."""
        ledger, client = self.world.chain.ledger, self.world.client.signer
        mined = [row.view for tx_id, row in ledger.transactions.items() if tx_id not in self.old]
        fees = {seat.key: sum(v.fee for v in mined if v.tx_id in seat.promises.sent) for seat in self.seats}
        mine = [v for v in mined if any(ledger.boxes[i].view.tree == client.tree.hex() for i in v.inputs)]
        fees[client.public_key] = sum(view.fee for view in mine)
        return accounts(self.world, self.before, self.ends().values(), fees)

    @property
    def difference(self) -> int:
        """nanoERG that came into being or vanished."""
        return total(self.world.ground) - self.supply
