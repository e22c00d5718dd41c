"""Forgets inputs and outputs that nobody may ask for any more."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aihd.execution.retention import sweep
from aihd.services.engine import Service

log = structlog.get_logger()

EVERY: Final = 30  # blocks


class Retain(Service):
    """Once in a while, all files against all tasks."""

    name = "retain"
    commands = frozenset()
    _swept = -EVERY

    async def step(self) -> None:
        engine, height = self.engine, self.engine.tip.height
        if height < self._swept + (1 if engine.short else EVERY):
            return
        outputs, inputs = await asyncio.to_thread(
            sweep, engine.journal.tasks(-1), height, engine.content, engine.inputs
        )
        self._swept = height
        if outputs or inputs:
            log.info("forgotten", outputs=outputs, inputs=inputs)
