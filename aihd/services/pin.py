"""Gives the full receipts of released tasks to an IPFS node, so that their CIDs resolve without us."""

from __future__ import annotations

from pathlib import Path

import structlog

from aihd.core.task import RELEASED
from aihd.execution.pin import Pinner
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Pin(Service):
    """Each receipt once in a run; a restart gives those of open tasks again, which changes nothing at the other end."""

    name = "pin"
    commands = frozenset()

    def __init__(self, engine: Engine, pinner: Pinner) -> None:
        super().__init__(engine)
        self._pinner = pinner
        self._pinned: set[bytes] = set()

    async def step(self) -> None:
        for task in self.engine.journal.open_tasks():
            cid = task.receipt_cid
            if cid is None or task.where not in RELEASED or cid in self._pinned:
                continue
            document: Path = self.engine.receipts / cid.hex()
            text = await self._pinner.pin(document.read_bytes())
            self._pinned.add(cid)
            log.info("receipt pinned", task=task.id.hex(), cid=text)
