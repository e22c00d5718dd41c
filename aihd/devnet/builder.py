"""A block in the making, over the state before it."""

from __future__ import annotations

from collections.abc import Mapping

from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import Transaction, TxId, UnsignedInput, UnsignedTransaction

from aihd.devnet.ledger import Ledger
from aihd.devnet.views import BoxView, TxView, view_box, view_transaction
from aihd.protocol.trees import FEE_TREE, GENERATOR, parse_tree, reward_tree

REWARD_TREE = reward_tree(GENERATOR)


class Builder:
    """Collects valid transactions and answers for the boxes as they leave them.

    `room`, `budget`: bytes and block cost units that are left.
    """

    def __init__(self, ledger: Ledger, room: int, budget: int) -> None:
        self.transactions: list[TxView] = []
        self.room, self.budget = room, budget
        self._ledger = ledger
        self._made: dict[str, BoxView] = {}
        self._spent: set[str] = set()

    def has_room_for(self, view: TxView, cost: int) -> bool:
        """Whether a transaction of this cost fits."""
        return view.size <= self.room and cost <= self.budget

    def add(self, view: TxView, cost: int = 0) -> None:
        """Puts a valid transaction into the block."""
        self.transactions.append(view)
        self.room -= view.size
        self.budget -= cost
        self._spent.update(view.inputs)
        self._made.update((box.box_id, box) for box in view.outputs)

    def readable(self, box_id: str) -> BoxView | None:
        """A box that may be a data input: one that the block itself spends counts still."""
        return self._made.get(box_id) or self._ledger.utxo_view(box_id)

    def unspent(self, box_id: str) -> BoxView | None:
        """A box that may be an input."""
        return None if box_id in self._spent else self.readable(box_id)

    def fee_collection(self, height: int) -> TxView | None:
        """The transaction that moves this block's fees to its miner; the fee guard's only spending path."""
        fees = [box for box in self._made.values() if box.tree == FEE_TREE.hex() and box.box_id not in self._spent]
        if not fees:
            return None
        reward = ErgoBoxCandidate(
            value=sum(box.value for box in fees), script=parse_tree(REWARD_TREE), creation_height=height
        )
        unsigned = UnsignedTransaction([UnsignedInput(box.box.box_id) for box in fees], [], [reward])
        return view_transaction(Transaction.from_unsigned_tx(unsigned, [b""] * len(fees)))


def collects_fees(view: TxView) -> bool:
    """Whether it is the transaction that a miner adds for itself."""
    return view.fee == 0 and len(view.outputs) == 1 and view.outputs[0].tree == REWARD_TREE.hex()


def genesis_boxes(allocation: Mapping[str, int]) -> list[BoxView]:
    """The boxes that exist before any transaction: nanoERG by tree (hex)."""
    return [_genesis_box(index, tree, value) for index, (tree, value) in enumerate(allocation.items())]


def _genesis_box(index: int, tree: str, value: int) -> BoxView:
    candidate = ErgoBoxCandidate(value=value, script=parse_tree(bytes.fromhex(tree)), creation_height=0)
    return view_box(ErgoBox.from_box_candidate(candidate, TxId("00" * 32), index))
