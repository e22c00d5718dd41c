"""What unconfirmed transactions change: boxes that ours spend are gone for us, boxes that they make can be chained on.

A box that others may spend too, a bond, is what their waiting transactions leave of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol.blocks import Mined
from aihd.protocol.box import Box, box_of

LONGEST_CHAIN: Final = 8  # waiting transactions that one of ours is built on


class Overlay:
    """The effect of transactions, in the order in which they were signed, on a set of confirmed boxes."""

    def __init__(self, transactions: Iterable[Transaction]) -> None:
        self.spent: set[str] = set()
        self.created: dict[str, Box] = {}
        for tx in transactions:
            self.spent.update(str(i.box_id) for i in tx.inputs)
            self.created.update((str(box.box_id), _ours(box)) for box in tx.outputs)

    def apply(self, confirmed: Iterable[Box], tree: bytes) -> list[Box]:
        """The boxes under `tree` that are unspent once the transactions are mined: confirmed ones first."""
        known = {box.id: box for box in confirmed}
        known.update((key, box) for key, box in self.created.items() if box.tree == tree)
        return [box for key, box in known.items() if key not in self.spent]


def successor(box_id: str, waiting: Iterable[Mined], is_same: Callable[[Box], bool]) -> Box | None:
    """What waiting transactions, one after the other, make of a box; None when none spends it.

    Only a short chain is followed: the longer it is, the sooner a link of it is replaced.
    """
    spenders = {box: tx for tx in waiting for box in tx.inputs}
    found: Box | None = None
    for _ in range(LONGEST_CHAIN):
        spender = spenders.get(box_id)
        made = () if spender is None else (box for box in spender.outputs if isinstance(box, Box))
        after = next((box for box in made if is_same(box)), None)
        if after is None:
            break
        found, box_id = after, after.id
    return found


_REMEMBERED = 4096
_made: dict[str, Box] = {}  # by box id


def _ours(box: ErgoBox) -> Box:
    """An output of a transaction of ours, read once: ergo-lib writes its script anew at every question."""
    key = str(box.box_id)
    found = _made.get(key)
    if found is None:
        if len(_made) >= _REMEMBERED:
            _made.clear()
        found = _made[key] = box_of(box)
    return found
