"""Writes what the chain has settled for good into the reputation tables of nodo's database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from aihd.core.task import Command, Task
from aihd.nodo.reputation import write_reputation
from aihd.ops.failpoints import reach
from aihd.protocol import guards
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Bridge(Service):
    """One row for each task that was rated by its client: the service's score moves by what the rating added to our bond."""

    name = "bridge"
    commands = frozenset({Command.BRIDGE})

    def __init__(self, engine: Engine, database: Path) -> None:
        super().__init__(engine)
        self._database = database

    async def handle(self, task: Task, command: Command) -> None:
        if task.client_mark:
            delta = (task.client_mark - 3) * guards.weight(task.payment)
            # The task id is the key: written once, however often we get here.
            reach("reputation: before")
            result = await asyncio.to_thread(
                write_reputation, self._database, "service", task.service_hash.hex(), delta, key=task.id.hex()
            )
            reach("reputation: after")
            log.info("bridged", task=task.id.hex(), service=task.service_hash.hex(), delta=delta, result=result.value)
        self.engine.journal.update(task.id, "bridged", bridged=True)
