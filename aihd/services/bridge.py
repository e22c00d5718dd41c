"""Brings what the chain has settled for good into the reputation tables of nodo's database: by writing them, or through nodo's own process.

From outside (`nodo.bridge = "database"`) all points that wait go in with one short transaction, at most once a minute, in a moment when
nodo is done with its file. From inside (`"plug-in"`) they are put on offer, and the payment process in nodo counts them
(aihd/nodo/ratings.py). Each way counts a rating once, and so do both together.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import structlog

from aihd.core.task import Command, Task, decide
from aihd.errors import TemporaryError
from aihd.nodo.ratings import Ledger, Outbox, Taken, ledger_of
from aihd.nodo.reputation import Guarantee, Rating, WriteResult, find_peer, guarantee, overwritten, write_ratings
from aihd.ops.failpoints import reach
from aihd.protocol import guards
from aihd.protocol.trees import address_of, p2pk_tree
from aihd.services.engine import Engine, Service

log = structlog.get_logger()

NEUTRAL: Final = 3  # the mark that says nothing
PACE: Final[Mapping[str, float]] = {"mainnet": 60.0, "testnet": 60.0, "devnet": 0.5}
"""Seconds between two writes from outside, by network: blocks of a devnet come faster."""
ABANDONED: Final = 60.0  # seconds after which nodo's process is at a rating no more
UNKNOWN: Final = "unknown"  # a crash came between note and write, and nodo's tables cannot tell
WATCHED: Final = "bridge watched"  # journal: ratings written last, which nodo may still overwrite
REWRITTEN: Final = "bridge rewritten"  # journal: how many ratings nodo overwrote and got again


def note_of(rating: Rating) -> str:
    """The journal's word for an attempt that nodo's tables would not remember."""
    return f"bridging {rating.kind} {rating.key}"


class Bridge(Service):
    """What a task's rating moves in nodo: the service, by what its client said of it; and the client, where it is a peer, by what we said.

    Exactly once where nodo keeps events, at most once where it does not (aihd/nodo/reputation.py): then a note in the journal goes
    before the write, and a note that is found again means that the write may have happened, so it is not repeated.
    """

    name = "bridge"
    commands = frozenset({Command.BRIDGE})

    def __init__(
        self,
        engine: Engine,
        database: Path,
        named: Mapping[str, str] | None = None,
        *,
        outbox: Outbox | None = None,
        inside: bool = False,
        pace: float = 0.0,
    ) -> None:
        """`named` are nodo's peer ids by Ergo address, as the operator knows them. `inside`: through nodo's own process, by way of the
        outbox. `pace`: seconds between two writes from outside.
        """
        super().__init__(engine)
        self._database = database
        self._named = dict(named or {})
        self._outbox = outbox
        self._inside = inside
        self._pace = pace
        self._not_before = 0.0
        self._begun_since: dict[str, float] = {}

    @property
    def rewritten(self) -> int:
        """How many ratings nodo has overwritten and got again."""
        return int(self.engine.journal.meta().get(REWRITTEN, "0"))

    async def step(self) -> None:
        tasks = [task for task in self.engine.journal.open_tasks() if self._command(task) is Command.BRIDGE]
        if self._inside:
            await self._offer(tasks)
        elif time.monotonic() >= self._not_before:
            await self._write_all(tasks)

    async def handle(self, task: Task, command: Command) -> None:
        """Bring one task's points in, whatever the pace."""
        await (self._offer([task]) if self._inside else self._write_all([task]))

    def _command(self, task: Task) -> Command | None:
        return decide(task, self.engine.tip.next_height, self.engine.limits)

    def _ratings(self, task: Task) -> list[Rating]:
        return list(self._points(task))

    def _points(self, task: Task) -> Iterator[Rating]:
        weight, key = guards.weight(task.worth), task.id.hex()
        if task.client_mark:
            yield Rating(
                kind="service", subject=task.service_hash.hex(), delta=(task.client_mark - NEUTRAL) * weight, key=key
            )
        if task.mark:
            address = address_of(p2pk_tree(task.client), self.engine.view.prefix)
            peer = find_peer(self._database, address, self._named)
            if peer is not None:
                yield Rating(kind="peer", subject=peer, delta=(task.mark - NEUTRAL) * weight, key=key)

    # From outside.

    async def _write_all(self, tasks: Sequence[Task]) -> None:
        by_task = {task.id: await asyncio.to_thread(self._ratings, task) for task in tasks}
        ratings = [rating for every in by_task.values() for rating in every]
        again = await asyncio.to_thread(overwritten, self._database, self._watched())
        if ratings or again:
            await self._write(await self._withdrawn(ratings), again)
            self._not_before = time.monotonic() + self._pace
        else:
            self.engine.journal.forget(WATCHED)
        for task_id in by_task:
            self._bridged(task_id, by_task[task_id])

    async def _write(self, ratings: Sequence[Rating], again: Sequence[Rating]) -> None:
        """One transaction for all; where nodo's tables would not remember a rating, our journal does before."""
        journal = self.engine.journal
        unkeyed = [rating for rating in ratings if await self._promise(rating) is Guarantee.AT_MOST_ONCE]
        known = journal.meta()
        unknown = [rating for rating in unkeyed if note_of(rating) in known]
        fresh = [rating for rating in ratings if rating not in unknown]
        for rating in unkeyed:
            journal.remember(note_of(rating), rating.subject)
        reach("reputation: before")
        try:
            results = await asyncio.to_thread(write_ratings, self._database, fresh, noted=True, again=again)
        except TemporaryError:
            for rating in unkeyed:
                if rating not in unknown:
                    journal.forget(note_of(rating))  # nothing was written
            raise
        reach("reputation: after")
        written = [rating for rating, result in zip(fresh, results, strict=True) if result is WriteResult.WRITTEN]
        journal.remember(WATCHED, json.dumps([asdict(rating) for rating in (*written, *again)]))
        if again:
            journal.remember(REWRITTEN, str(self.rewritten + len(again)))
            log.warning("nodo had overwritten points, they are written again", count=len(again))
        told = {
            **dict.fromkeys(unknown, UNKNOWN),
            **dict(zip(fresh, [result.value for result in results], strict=True)),
        }
        for rating, result in told.items():
            log.info(
                "bridged", task=rating.key, kind=rating.kind, subject=rating.subject, delta=rating.delta, result=result
            )

    def _watched(self) -> list[Rating]:
        return [Rating(**row) for row in json.loads(self.engine.journal.meta().get(WATCHED, "[]"))]

    async def _promise(self, rating: Rating) -> Guarantee:
        return await asyncio.to_thread(guarantee, self._database, rating.kind)

    async def _withdrawn(self, ratings: Sequence[Rating]) -> list[Rating]:
        """Take back what was on offer to nodo's process; the ratings that it has not counted. TemporaryError while it is at one of them."""
        if self._outbox is None:
            return list(ratings)
        await asyncio.to_thread(self._outbox.withdraw, ratings)
        left: list[Rating] = []
        for rating in ratings:
            state = await asyncio.to_thread(self._ledger.state, rating)
            if state is None or (state is Taken.BEGUN and await self._is_abandoned(rating)):
                left.append(rating)
        return left

    async def _is_abandoned(self, rating: Rating) -> bool:
        """Whether nodo's process has left a rating half done, which nodo's events then tell; without events it is never counted again."""
        since = self._begun_since.setdefault(note_of(rating), time.monotonic())
        if time.monotonic() < since + ABANDONED:
            raise TemporaryError("nodo's own process has begun to count a rating, and has not said yet how that ended")
        return await self._promise(rating) is Guarantee.EXACTLY_ONCE

    # From inside.

    @property
    def _ledger(self) -> Ledger:
        return ledger_of(self._database)

    async def _offer(self, tasks: Sequence[Task]) -> None:
        """Put ratings on offer; a task is bridged once nodo's process says what became of each of its ratings."""
        if self._outbox is None:
            raise TypeError("a bridge through nodo's process needs an outbox")
        known = self.engine.journal.meta()
        for task in tasks:
            ratings = await asyncio.to_thread(self._ratings, task)
            # A note says that a write from outside may have happened, and that nodo's tables cannot tell.
            open_ones = [rating for rating in ratings if note_of(rating) not in known]
            states = [await asyncio.to_thread(self._ledger.state, rating) for rating in open_ones]
            waiting = [rating for rating, state in zip(open_ones, states, strict=True) if state in (None, Taken.BEGUN)]
            if waiting:
                await asyncio.to_thread(self._outbox.offer, waiting)
                continue
            await asyncio.to_thread(self._outbox.withdraw, open_ones)
            self._bridged(task.id, ratings)
            log.info("bridged", task=task.id.hex(), result=sorted({str(state) for state in states}))

    def _bridged(self, task_id: bytes, ratings: Sequence[Rating]) -> None:
        journal = self.engine.journal
        journal.update(task_id, "bridged", bridged=True)
        for note in {note_of(rating) for rating in ratings} & set(journal.meta()):
            journal.forget(note)  # the task itself remembers now
