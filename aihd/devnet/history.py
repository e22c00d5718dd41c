"""One line of blocks from the first to a tip, and what they add up to.

The chain's main line is one; what an indexer has seen of it so far is another.
"""

from __future__ import annotations

from collections.abc import Sequence

from aihd.devnet.blocks import Block
from aihd.devnet.ledger import Ledger
from aihd.devnet.views import BoxView


class History:
    """Blocks and their ledger; the block of height h is at h - 1. `genesis` exists before any transaction."""

    def __init__(self, genesis: Sequence[BoxView]) -> None:
        self.blocks: list[Block] = []
        self.ledger = Ledger()
        self._genesis = list(genesis)

    @property
    def tip(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    @property
    def height(self) -> int:
        """Height of the newest block."""
        return len(self.blocks)

    def holds(self, block: Block) -> bool:
        """Whether a block is on this line."""
        return block.height <= self.height and self.blocks[block.height - 1] is block

    def append(self, block: Block) -> None:
        """Adds a block on top."""
        self.ledger.apply(block)
        self.blocks.append(block)
        if block.height == 1:
            self.ledger.add_genesis(self._genesis, block)

    def move(self, fork: int, above: Sequence[Block]) -> list[Block]:
        """Goes back to height `fork` (at least 1), adds the blocks `above`, and gives those undone, oldest first."""
        undone = self.blocks[fork:]
        for block in reversed(undone):
            self.ledger.undo(block)
        del self.blocks[fork:]
        for block in above:
            self.append(block)
        return undone

    def follow(self, blocks: Sequence[Block]) -> None:
        """Becomes the line of these blocks, which share at least the first one with it if it has any."""
        fork = min(self.height, len(blocks))
        while fork and self.blocks[fork - 1] is not blocks[fork - 1]:
            fork -= 1
        self.move(fork, blocks[fork:])
