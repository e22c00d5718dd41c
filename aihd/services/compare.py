"""Holds what we know of the market against an explorer, beside everything else: a silent or slow one keeps nobody waiting."""

from __future__ import annotations

import structlog

from aihd.chain.http import SourceError
from aihd.errors import one_line
from aihd.services.engine import Service

log = structlog.get_logger()


class Compare(Service):
    """The status names explorers that rest, and why; that none answers is no trouble of ours."""

    name = "compare"
    commands = frozenset()

    async def step(self) -> None:
        try:
            await self.engine.view.compare()
        except SourceError as error:
            log.warning("no explorer to compare with", error=one_line(error))
