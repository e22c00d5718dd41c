"""What our own unconfirmed transactions change: boxes they spend are gone for us, boxes they make can be chained on."""

from __future__ import annotations

from collections.abc import Iterable

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol.box import Box, box_of


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
