"""Writes what the chain has settled for good into the reputation tables of nodo's database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from aihd.core.task import Command, Task
from aihd.errors import TemporaryError
from aihd.nodo.reputation import Guarantee, SubjectKind, find_peer, guarantee, write_reputation
from aihd.ops.failpoints import reach
from aihd.protocol import guards
from aihd.protocol.trees import address_of, p2pk_tree
from aihd.services.engine import Engine, Service

log = structlog.get_logger()

NEUTRAL: Final = 3  # the mark that says nothing
UNKNOWN: Final = "unknown"  # a crash came between note and write, and nodo's tables cannot tell


@dataclass(frozen=True, slots=True)
class Points:
    """What one task adds to one subject; `key` names both."""

    kind: SubjectKind
    subject: str
    delta: int
    key: str

    @property
    def note(self) -> str:
        """The journal's word for an attempt that nodo's tables would not remember."""
        return f"bridging {self.kind} {self.key}"


class Bridge(Service):
    """What a task's rating moves in nodo: the service, by what its client said of it; and the client, where it is a peer, by what we said.

    Exactly once where nodo keeps events, at most once where it does not (aihd/nodo/reputation.py): then a note in the journal goes
    before the write, and a note that is found again means that the write may have happened, so it is not repeated.
    """

    name = "bridge"
    commands = frozenset({Command.BRIDGE})

    def __init__(self, engine: Engine, database: Path, named: Mapping[str, str] | None = None) -> None:
        """`named` are nodo's peer ids by Ergo address, as the operator knows them."""
        super().__init__(engine)
        self._database = database
        self._named = dict(named or {})

    async def handle(self, task: Task, command: Command) -> None:
        every = await asyncio.to_thread(lambda: list(self._points(task)))
        for points in every:
            reach("reputation: before")
            result = await self._write(points)
            reach("reputation: after")
            log.info(
                "bridged",
                task=task.id.hex(),
                kind=points.kind,
                subject=points.subject,
                delta=points.delta,
                result=result,
            )
        self.engine.journal.update(task.id, "bridged", bridged=True)
        for note in {points.note for points in every} & set(self.engine.journal.meta()):
            self.engine.journal.forget(note)  # the task itself remembers now

    def _points(self, task: Task) -> Iterator[Points]:
        weight, key = guards.weight(task.worth), task.id.hex()
        if task.client_mark:
            yield Points("service", task.service_hash.hex(), (task.client_mark - NEUTRAL) * weight, key)
        if task.mark:
            address = address_of(p2pk_tree(task.client), self.engine.view.prefix)
            peer = find_peer(self._database, address, self._named)
            if peer is not None:
                yield Points("peer", peer, (task.mark - NEUTRAL) * weight, key)

    async def _write(self, points: Points) -> str:
        journal = self.engine.journal
        unkeyed = await asyncio.to_thread(guarantee, self._database, points.kind) is Guarantee.AT_MOST_ONCE
        if unkeyed:
            if points.note in journal.meta():
                return UNKNOWN
            journal.remember(points.note, points.subject)
        try:
            result = await asyncio.to_thread(
                write_reputation,
                self._database,
                points.kind,
                points.subject,
                points.delta,
                key=points.key,
                noted=unkeyed,
            )
        except TemporaryError:
            if unkeyed:
                journal.forget(points.note)  # nothing was written
            raise
        return result.value
