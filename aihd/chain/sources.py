"""Who is asked about the chain: who lists boxes, who knows what became of one, who confirms, who submits.

Three set-ups are each enough by themselves: a node with the extra index; a plain node and an explorer; explorers held against each other
and any node. A node confirms and takes transactions in all of them. Nothing that ends a task for us is believed without the block that
did it, so a finder that forgets, hides or makes up costs time and no money.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeVar

import stamina

from aihd.chain.explorer import Explorer
from aihd.chain.finder import Finder, Issued
from aihd.chain.http import SourceError
from aihd.chain.node import Node
from aihd.core.life import Sighting
from aihd.protocol.blocks import Mined
from aihd.protocol.box import Box, Odd

T = TypeVar("T")

REMEMBERED: Final = 2_000
"""Transactions that were proved and are kept, a kilobyte or two each."""
STEPS: Final = 64
"""Boxes of one task: claimed, receipt, and a rating that changes a few times. No chain of more is one task's."""


class SetUp(StrEnum):
    """Which sources there are, as the nodes said when they were last asked."""

    INDEX = "a node with the extra index"
    EXPLORER = "a plain node, and an explorer"
    EXPLORERS = "a plain node, and explorers held against each other"
    NOTHING = "a plain node, and no explorer"


BLIND: Final = {
    SetUp.INDEX: "what the index of the only node lacks is not missed by anybody: name an explorer or a second node",
    SetUp.EXPLORER: "what the explorer hides at a start is not missed by anybody; the market's history is not read",
    SetUp.EXPLORERS: "the market's history is not read: that needs a node with the extra index",
    SetUp.NOTHING: "nothing lists boxes: set ergo.node.extraIndex = true, or name an explorer in chain.explorer_urls",
}
"""What each set-up cannot see."""


class UnprovedError(SourceError):
    """No source shows what became of a box, or none that is borne out by a block."""


@dataclass(frozen=True, slots=True)
class Spending:
    """The transaction that spent a box, as a block of the best chain holds it."""

    height: int
    block: bytes
    tx: Mined


class Sources:
    """The sources of one market, whose scripts are `trees`."""

    def __init__(self, node: Node, explorer: Explorer, trees: Collection[bytes]) -> None:
        self.node = node
        self.explorer = explorer
        self._trees = tuple(trees)
        self._placed: dict[str, Spending] = {}  # by transaction
        self._spenders: dict[str, str] = {}  # transactions by box

    @property
    def set_up(self) -> SetUp:
        if self.node.indexed:
            return SetUp.INDEX
        return (
            (SetUp.NOTHING, SetUp.EXPLORER)[len(self.explorer.servers)]
            if len(self.explorer.servers) < 2
            else SetUp.EXPLORERS
        )

    @property
    def blind(self) -> str:
        """What cannot be seen in this set-up; empty where nothing is known to be missed."""
        if self.set_up is SetUp.INDEX and (self.explorer.servers or len(self.node.servers) > 1):
            return ""
        return BLIND[self.set_up]

    async def finders(self) -> Sequence[Finder]:
        """Those that find boxes, in the order in which they are asked. SourceError while there is none."""
        if self.node.servers and not self.node.looked:
            await self.node.look()
        found: list[Finder] = [self.node] if self.node.indexed else []
        if self.explorer.servers:
            found.append(self.explorer)
        if not found:
            raise SourceError(f"{self.node.url}: {BLIND[SetUp.NOTHING]}", 404)
        return found

    async def first(self, work: Callable[[Finder], Awaitable[T]]) -> T:
        """What the first finder gives that does not fail."""
        errors: list[SourceError] = []
        for finder in await self.finders():
            try:
                return await work(finder)
            except SourceError as error:
                errors.append(error)
        raise errors[0]

    async def known(self, work: Callable[[Finder], Awaitable[T | None]]) -> T | None:
        """As `first`, passing over finders that do not know; None when all who answer do not."""
        answered = False
        errors: list[SourceError] = []
        for finder in await self.finders():
            try:
                found = await work(finder)
            except SourceError as error:
                errors.append(error)
                continue
            if found is not None:
                return found
            answered = True
        if not answered:
            raise errors[0]
        return None

    # -- questions

    async def found(self, box_id: str) -> Sighting | None:
        """A box that can be used, spent or not, as a finder shows it; None when none knows it."""
        found = await self.known(lambda finder: finder.found(box_id, self._trees))
        return found if isinstance(found, Sighting) else None

    async def placed(self, tx_id: str) -> tuple[int, str] | None:
        """(height, block id) of a transaction on the best chain, as a finder shows it; None when none knows it."""
        return await self.known(lambda finder: finder.placed(tx_id))

    async def by_token(self, token_id: bytes) -> list[Sighting]:
        """Every box on the best chain that holds or held a token, as a finder shows them."""
        return await self.first(lambda finder: finder.by_token(token_id))

    async def issued(self, token_id: bytes) -> Issued | None:
        """How much of a token was minted, and into which box."""
        return await self.known(lambda finder: finder.issued(token_id))

    # -- proofs

    # A block that comes between two answers makes them contradict each other for a moment.
    @stamina.retry(on=UnprovedError, attempts=4, timeout=5, wait_initial=0.1, wait_max=1)
    async def spending(self, box_id: str) -> Spending | None:
        """What spent a box, proved by a block of the best chain; None when a node shows it unspent. UnprovedError when neither is shown."""
        kept = self._spenders.get(box_id)
        if kept is not None and (known := await self._remembered(kept)) is not None:
            return known
        for finder in await self.finders():
            with suppress(SourceError):
                seen = await finder.found(box_id, self._trees)
                if isinstance(seen, Sighting) and seen.spent_by is not None:
                    spending = await self._in_block(finder, seen.spent_by)
                    if spending is not None and box_id in spending.tx.inputs:
                        self._spenders[box_id] = spending.tx.id
                        return spending
                elif await self.node.unspent(box_id) is not None:
                    return None
        if await self.node.unspent(box_id) is not None:
            return None
        raise UnprovedError(f"no source shows what became of box {box_id}")

    async def _in_block(self, finder: Finder, tx_id: str) -> Spending | None:
        """A transaction as the block holds it that a finder names; None when it names none, or none that holds it."""
        known = await self._remembered(tx_id)
        if known is not None:
            return known
        placed = await finder.placed(tx_id)
        if placed is None or not await self._is_on_chain(*placed):
            return None
        block = await self.node.block(placed[1], self._trees)
        tx = next((tx for tx in block.transactions if tx.id == tx_id), None)
        if tx is None:
            return None
        found = Spending(block.header.height, block.header.id, tx)
        self._keep(found)
        return found

    async def _remembered(self, tx_id: str) -> Spending | None:
        """A transaction that was proved before, if its block is still on the best chain."""
        kept = self._placed.get(tx_id)
        if kept is not None and await self._is_on_chain(kept.height, kept.block.hex()):
            return kept
        self._placed.pop(tx_id, None)
        return None

    async def _is_on_chain(self, height: int, block: str) -> bool:
        return await self.node.header_at(height) == block

    def _keep(self, found: Spending) -> None:
        if len(self._placed) >= REMEMBERED:
            self._placed.clear()
            self._spenders.clear()
        self._placed[found.tx.id] = found

    async def in_block(self, tx_id: str) -> Spending | None:
        """A transaction as a block of the best chain holds it; None while nothing shows and proves one."""
        return await self.known(lambda finder: self._in_block(finder, tx_id))

    async def mined_at(self, tx_id: str) -> int | None:
        """Height of the block of the best chain that holds a transaction; None while nothing shows and proves one."""
        found = await self.in_block(tx_id)
        return found.height if found else None

    async def life(self, task_id: bytes) -> list[Sighting]:
        """Every box of a task, its escrow first, each with the transaction that spent it in a block; empty when there is no such escrow.

        Read from one spending to the next, so no finder can leave a step out. UnprovedError when a step cannot be proved now.
        """
        escrow = await self.found(task_id.hex())
        if escrow is None or escrow.height is None:
            return []
        post = await self.in_block(escrow.box.transaction_id)
        if post is None:
            raise UnprovedError(f"no source shows the block of task {task_id.hex()}")
        waiting, found = [Sighting(escrow.box, post.height, post.block, None)], list[Sighting]()
        while waiting and len(found) < STEPS:
            seen = waiting.pop(0)
            spending = await self.spending(seen.box.id)
            if spending is None:
                found.append(seen)
                continue
            found.append(replace(seen, spent_by=spending.tx.id))
            waiting += [Sighting(box, spending.height, spending.block, None) for box in _held(spending.tx, task_id)]
        return found


def _held(tx: Mined, task_id: bytes) -> list[Box]:
    """The outputs of a transaction that carry the token of a task."""
    boxes = (output for output in tx.outputs if not isinstance(output, Odd))
    return [box for box in boxes if box.tokens and box.tokens[0][0] == task_id]
