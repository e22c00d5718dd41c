"""The boxes of the wallet that a transaction may spend now, and our bond as it is found."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from ergo_lib_python.chain import ErgoBox

from aihd.chain.intent import Funding, Intent
from aihd.chain.overlay import successor
from aihd.chain.pending import Pending
from aihd.chain.view import ChainView, Situation, Tip
from aihd.errors import AihdError, one_line
from aihd.protocol.box import Box
from aihd.protocol.boxes import Bond, On
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import Guard
from aihd.store.journal import Journal

log = structlog.get_logger()


class Purse:
    """The wallet under a tree, with what waits to change it."""

    def __init__(self, view: ChainView, journal: Journal, pending: Pending, tree: bytes, final_depth: int) -> None:
        self._view = view
        self._journal = journal
        self._pending = pending
        self._tree = tree
        self._final_depth = final_depth

    async def newest(self, bond: On[Bond]) -> On[Bond]:
        """Our bond as transactions of others in the mempool leave it: who waited for a block would find it spent again."""
        deployment, ours = self._view.deployment, {record.id for record in self._journal.live()}

        def is_same(box: Box) -> bool:
            try:
                return deployment.read(Bond, box).content.node == bond.content.node
            except BoxError:
                return False

        try:
            waiting = await self._view.node.waiting(deployment.trees[Guard.BOND])
        except AihdError as error:  # an old node, or one that does not answer: then it is built on what is in a block
            log.debug("mempool not read", error=one_line(error))
            return bond
        box = successor(bond.id, [tx for tx in waiting if tx.id not in ours], is_same)
        return bond if box is None else deployment.read(Bond, box)

    async def boxes(self, intent: Intent, seen: Situation, line: Collection[str]) -> list[ErgoBox]:
        """The boxes of the wallet that an intent may spend."""
        if intent.funding is Funding.NONE:
            return []
        if intent.funding is Funding.ANY:
            return list(seen.funds.boxes)
        spent = self._pending.spent(line)
        settled = await self._settled(seen.tip)
        return [box for box in seen.funds.boxes if str(box.box_id) in settled and str(box.box_id) not in spent]

    async def _settled(self, tip: Tip) -> set[str]:
        """Ids of the wallet's boxes that no reorg can take away."""
        return await self._view.settled(self._tree, tip.next_height - self._final_depth)
