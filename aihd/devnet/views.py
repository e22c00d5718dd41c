"""Boxes and transactions with the facts that the chain looks up often, read out of ergo-lib's values once."""

from __future__ import annotations

from dataclasses import dataclass

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol import rules


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box. `tree` is hex, `value` nanoERG, `tokens` pairs of id (hex) and amount, `index` that among outputs."""

    box: ErgoBox
    box_id: str
    tx_id: str
    index: int
    tree: str
    value: int
    creation_height: int
    tokens: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class TxView:
    """A transaction. `inputs` and `data_inputs` are box ids, `size` bytes, `fee` nanoERG."""

    tx: Transaction
    tx_id: str
    inputs: tuple[str, ...]
    data_inputs: tuple[str, ...]
    outputs: tuple[BoxView, ...]
    size: int
    fee: int


def view_box(box: ErgoBox) -> BoxView:
    """The view of a box."""
    return BoxView(
        box=box,
        box_id=str(box.box_id),
        tx_id=str(box.transaction_id),
        index=box.index,
        tree=bytes(box.ergo_tree).hex(),
        value=box.value,
        creation_height=box.creation_height,
        tokens=tuple((bytes(token.token_id).hex(), token.amount) for token in box.tokens or ()),
    )


def view_transaction(tx: Transaction) -> TxView:
    """The view of a signed transaction."""
    outputs = tx.outputs
    return TxView(
        tx=tx,
        tx_id=str(tx.id),
        inputs=tuple(str(i.box_id) for i in tx.inputs),
        data_inputs=tuple(str(d.box_id) for d in tx.data_inputs),
        outputs=tuple(view_box(box) for box in outputs),
        size=len(bytes(tx)),
        fee=rules.fee_of(outputs),
    )
