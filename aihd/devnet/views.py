"""Boxes and transactions as plain facts, read out of ergo-lib's values once.

ergo-lib's own values are parsed again from the bytes when a script needs them: most of the boxes of a chain are never
spent while anybody looks, and a plain one is smaller and is read from a snapshot without being parsed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol import rules


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box. `tree` is hex, `value` nanoERG, `index` that among outputs, `raw` its bytes.

    `tokens` are pairs of id (hex) and amount, `registers` the serialized constants (hex) from R4 on.
    """

    raw: bytes
    box_id: str
    tx_id: str
    index: int
    tree: str
    value: int
    creation_height: int
    tokens: tuple[tuple[str, int], ...]
    registers: tuple[str, ...]

    @property
    def box(self) -> ErgoBox:
        """The box as ergo-lib's value."""
        return _parsed_box(self.raw)


@dataclass(frozen=True, slots=True)
class TxView:
    """A transaction. `inputs` and `data_inputs` are box ids, `fee` nanoERG, `raw` its bytes, proofs included."""

    raw: bytes
    tx_id: str
    inputs: tuple[str, ...]
    data_inputs: tuple[str, ...]
    outputs: tuple[BoxView, ...]
    fee: int

    @property
    def tx(self) -> Transaction:
        """The transaction as ergo-lib's value."""
        return _parsed_transaction(self.raw)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.raw)


def view_box(box: ErgoBox) -> BoxView:
    """The view of a box."""
    return BoxView(
        raw=bytes(box),
        box_id=str(box.box_id),
        tx_id=str(box.transaction_id),
        index=box.index,
        tree=bytes(box.ergo_tree).hex(),
        value=box.value,
        creation_height=box.creation_height,
        tokens=tuple((bytes(token.token_id).hex(), token.amount) for token in box.tokens or ()),
        registers=tuple(text for _, text in sorted(json.loads(box.json())["additionalRegisters"].items())),
    )


def view_transaction(tx: Transaction) -> TxView:
    """The view of a signed transaction."""
    outputs = tx.outputs
    return TxView(
        raw=bytes(tx),
        tx_id=str(tx.id),
        inputs=tuple(str(i.box_id) for i in tx.inputs),
        data_inputs=tuple(str(d.box_id) for d in tx.data_inputs),
        outputs=tuple(view_box(box) for box in outputs),
        fee=rules.fee_of(outputs),
    )


@lru_cache(maxsize=8192)
def _parsed_box(raw: bytes) -> ErgoBox:
    return ErgoBox.from_bytes(raw)


@lru_cache(maxsize=2048)
def _parsed_transaction(raw: bytes) -> Transaction:
    return Transaction.from_bytes(raw)
