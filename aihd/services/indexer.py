"""Keeps the market's history and the scores that follow from it, and gives nodo the final ones.

Works like every reader of the chain: takes back what a reorg undid, walks on to the tip, and asks next to nothing when nothing moved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import structlog

from aihd.chain.history import HistoryReader
from aihd.client.ranking import READ_UPTO
from aihd.core.task import Command
from aihd.nodo.opinion_of import ChainScore, write_scores
from aihd.protocol.trees import address_of, p2pk_tree
from aihd.reputation.engine import Engine as Scores
from aihd.reputation.history import Role
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Indexer(Service):
    """Chain to store to scores. `standing` answers by the final part of what is known."""

    name = "index"
    commands = frozenset[Command]()

    def __init__(self, engine: Engine, target: Path | None = None, public: Collection[bytes] = ()) -> None:
        """`target` is the file of scores for nodo, if one is wanted; `public` names sources of money that fund everybody."""
        super().__init__(engine)
        self._store = engine.journal.history
        self._reader = HistoryReader(engine.view, self._store)
        self._target = target
        self._public = frozenset(public)
        self._scores: Scores | None = None
        self._folded = 0  # number of the last ended task that is in the scores
        self._looked_at = ""
        self._written: dict[str, tuple[int, int]] | None = None

    async def step(self) -> None:
        tip = self.engine.tip
        if tip.info.header_id == self._looked_at or not self.engine.view.node.indexed:
            return  # without a node's extra index the history cannot be read; the status says so
        await self._read()
        await self._fold(tip.height)
        await self._write(tip.height)
        self._looked_at = tip.info.header_id

    def standing(self, key: bytes, role: Role) -> int:
        """Value times confidence of a key (33 bytes), in units of 10^-9; 0 for one that nothing is known of, and before the first look."""
        return 0 if self._scores is None else self._scores.score(key, role).standing

    async def _read(self) -> None:
        """Bring the store to the tip. A reorg takes from the scores what it takes from the store, at the same moment."""
        fork = await self._reader.take_back()
        if fork is not None:
            if self._scores is not None:
                self._scores.rollback(fork)
            self._folded = min(self._folded, self._store.last())
        await self._reader.extend({bond.id for bond in await self.engine.view.bonds()})
        await self._reader.fund()

    async def _fold(self, height: int) -> None:
        last, records = self._store.last(), self._store.records(self._folded, self._public)
        if self._scores is None:
            # Beside the loop: a long history takes seconds, and nobody asks for a score before it is there.
            scores = Scores(self.engine.limits.final_depth)
            await asyncio.to_thread(scores.fold, records)
            self._scores = scores
            self.engine.scores[:] = [scores]
        else:
            self._scores.fold(records)
        self._folded = last
        self.engine.journal.remember(READ_UPTO, str(height))
        if height > self._scores.height:
            self._scores.advance(height)

    async def _write(self, height: int) -> None:
        """Give nodo the scores of all nodes, when one of them is another than before."""
        if self._target is None or self._scores is None:
            return
        scores = {key: self._scores.score(key) for key in self._scores.known(Role.NODE)}
        now = {self._address(key): (score.value, score.confidence) for key, score in scores.items()}
        if now != self._written:
            rows = [ChainScore(address, *numbers, height) for address, numbers in sorted(now.items())]
            await asyncio.to_thread(write_scores, self._target, rows)
            self._written = now
            log.info("scores written", nodes=len(rows), height=height)

    def _address(self, key: bytes) -> str:
        return address_of(p2pk_tree(key), self.engine.view.prefix)
