"""Leaving: nothing new is taken, and what was claimed is brought into a block before the daemon goes.

Promise: a finished result is published before anything else, always. Where the time for leaving is used up before all is done, what is at
risk, and until when, is said, and the exit code is 75.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aihd.config_values import SECONDS_PER_BLOCK
from aihd.core.task import Task, Where
from aihd.core.verdict import parting
from aihd.ops.notify import Notifier
from aihd.services.engine import Engine, guarded
from aihd.services.settle import Settle
from aihd.services.watch import claim_intent

log = structlog.get_logger()

UNLIMITED: Final = "drain"  # meta key: the operator said `aihd drain`, which waits as long as it takes
LOOK: Final = 0.2  # seconds between two looks whether all is done
LAST_TRY: Final = 10.0  # seconds for what is finished when the daemon is told to leave at once
EXTENSION: Final = 30.0  # seconds that the service manager is asked for again and again


class Drain:
    """Waits until nothing is owed any more."""

    def __init__(self, engine: Engine, settle: Settle, notifier: Notifier, budget: float) -> None:
        """`budget` is seconds that TERM may take; `aihd drain` takes as long as the tasks do."""
        self._engine = engine
        self._settle = settle
        self._notifier = notifier
        self._budget = budget

    def obliged(self) -> list[Task]:
        """Tasks that are claimed, or may still be by a claim of ours, and neither released nor failed in a block."""
        busy = self._engine.submitter.busy
        return [
            task
            for task in self._engine.journal.open_tasks()
            if task.where is Where.CLAIMED or (task.where is Where.OPEN and busy(claim_intent(task.id)))
        ]

    async def done(self) -> None:
        """Return when nothing is owed, or when the time is used up."""
        loop = asyncio.get_running_loop()
        begun, asked = loop.time(), 0.0
        while tasks := self.obliged():
            now = loop.time()
            if UNLIMITED not in self._engine.journal.meta() and now - begun > self._budget:
                log.warning("the time for leaving is used up", tasks=[task.id.hex() for task in tasks])
                return
            if now >= asked:
                self._notifier.extend(EXTENSION)
                self._notifier.status(f"draining: {self.parting() or 'waits for a claim'}")
                asked = now + EXTENSION / 2
            await asyncio.sleep(LOOK)

    async def last_try(self) -> None:
        """Publish what is finished, though there is no time to see it in a block."""
        if any(task.where is Where.CLAIMED for task in self.obliged()):
            await guarded(self._engine, self._settle.name, asyncio.wait_for(self._settle.step(), LAST_TRY))

    def parting(self) -> str:
        """What is at risk until when; empty when nothing is."""
        engine = self._engine
        tasks = [task for task in self.obliged() if task.where is Where.CLAIMED]
        seconds = SECONDS_PER_BLOCK[engine.view.deployment.network]
        return parting(tasks, engine.tip.height, seconds) if tasks else ""
