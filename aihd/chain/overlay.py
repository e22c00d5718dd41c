"""What our own unconfirmed transactions change: boxes they spend are gone for us, boxes they make can be chained on."""

from __future__ import annotations

from collections.abc import Iterable

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol.trees import script_of


class Overlay:
    """The effect of transactions, in the order in which they were signed, on a set of confirmed boxes."""

    def __init__(self, transactions: Iterable[Transaction]) -> None:
        self.spent: set[str] = set()
        self.created: dict[str, ErgoBox] = {}
        for tx in transactions:
            self.spent.update(str(i.box_id) for i in tx.inputs)
            self.created.update((str(box.box_id), box) for box in tx.outputs)

    def apply(self, confirmed: Iterable[ErgoBox], tree: bytes) -> list[ErgoBox]:
        """The boxes under `tree` that are unspent once the transactions are mined: confirmed ones first."""
        known = {str(box.box_id): box for box in confirmed}
        known.update((key, box) for key, box in self.created.items() if script_of(box) == tree)
        return [box for key, box in known.items() if key not in self.spent]
