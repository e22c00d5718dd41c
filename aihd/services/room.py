"""Watches the disk: while it is short, no task is taken on, and what was taken on has the reserve."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from aihd.ops.room import Room
from aihd.services.engine import Engine

log = structlog.get_logger()

NAME: Final = "disk"
EVERY: Final = 10.0  # seconds between two looks
AGAIN: Final = 1.0  # seconds while it is short


class Space:
    """A loop like the other services."""

    name = NAME

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine = engine
        self._room = room

    async def run(self) -> None:
        """Forever."""
        while True:
            await self.look()
            await asyncio.sleep(AGAIN if self._engine.short else EVERY)

    async def look(self) -> None:
        """One look; a change wakes the others."""
        engine, reason = self._engine, await asyncio.to_thread(self._room.look)
        before, engine.short = engine.short, reason
        if reason:
            engine.health[NAME] = f"{reason}: no new task is taken"
        else:
            engine.health.pop(NAME, None)
        if bool(before) is not bool(reason):
            log.warning("the disk is short" if reason else "there is room on the disk again", reason=reason)
            engine.pulse.beat()
