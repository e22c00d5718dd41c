"""Transactions and boxes as bytes, written by hand: what ergo-lib would refuse to hold (a value below 0, a token of amount 0)
a node reads, and judges afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aihd.devnet.blocks import JsonObject, blake2b
from aihd.devnet.views import BoxView, TxView
from aihd.protocol.trees import FEE_TREE

_ID_BYTES = 32
Tokens = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """An input: the box it spends (hex), the proof, and context variables (number, serialized constant) in order."""

    box_id: str
    proof: bytes
    extension: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """An output. `value` in nanoERG, `tokens` pairs of id (hex) and amount, `registers` serialized constants from R4 on."""

    value: int
    tree: bytes
    creation_height: int
    tokens: Tokens
    registers: tuple[bytes, ...]


def transaction_view(inputs: Sequence[Spent], data_inputs: Sequence[str], outputs: Sequence[Made]) -> TxView:
    """The transaction of these parts. Its id is the hash of its bytes without proofs."""
    tx_id = blake2b(
        _transaction([Spent(each.box_id, b"", each.extension) for each in inputs], data_inputs, outputs)
    ).hex()
    return TxView(
        raw=_transaction(inputs, data_inputs, outputs),
        tx_id=tx_id,
        inputs=tuple(each.box_id for each in inputs),
        data_inputs=tuple(data_inputs),
        outputs=tuple(_box(made, tx_id, index) for index, made in enumerate(outputs)),
        fee=sum(made.value for made in outputs if made.tree == FEE_TREE),
    )


def plain_inputs(raw: bytes) -> tuple[list[Spent], bytes] | None:
    """The inputs of a transaction and the bytes that its proofs sign; None where an input has context variables, whose length only
    a reader of constants knows.
    """
    count, place = _number(raw, 0)
    inputs = []
    for _ in range(count):
        box_id, (size, start) = raw[place : place + _ID_BYTES].hex(), _number(raw, place + _ID_BYTES)
        inputs.append(Spent(box_id, raw[start : start + size]))
        place = start + size + 1
        if raw[place - 1]:
            return None
    unsigned = b"".join(_input(Spent(each.box_id, b"")) for each in inputs)
    return inputs, vlq(count) + unsigned + raw[place:]


def spending_proofs(view: TxView) -> list[JsonObject]:
    """Proof and context variables of each input, in a node's JSON."""
    plain = plain_inputs(view.raw)
    if plain is None:
        return [json.loads(spent.spending_proof.json()) for spent in view.tx.inputs]
    return [{"proofBytes": spent.proof.hex(), "extension": {}} for spent in plain[0]]


def _number(raw: bytes, place: int) -> tuple[int, int]:
    """A number of `vlq`, and the place after it."""
    value = shift = 0
    while raw[place] & 0x80:
        value |= (raw[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | raw[place] << shift, place + 1


def vlq(number: int) -> bytes:
    """A number as a node writes it: seven bits a byte, the lowest first; one below 0 as 64 bits."""
    rest = number & (1 << 64) - 1
    out = bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(out) + bytes([rest])


def _transaction(inputs: Sequence[Spent], data_inputs: Sequence[str], outputs: Sequence[Made]) -> bytes:
    ids = list(dict.fromkeys(token_id for made in outputs for token_id, _ in made.tokens))
    places = {token_id: vlq(place) for place, token_id in enumerate(ids)}
    return b"".join(
        (
            vlq(len(inputs)),
            *map(_input, inputs),
            vlq(len(data_inputs)),
            *(bytes.fromhex(box_id) for box_id in data_inputs),
            vlq(len(ids)),
            *(bytes.fromhex(token_id) for token_id in ids),
            vlq(len(outputs)),
            *(_candidate(made, places) for made in outputs),
        )
    )


def _input(spent: Spent) -> bytes:
    variables = b"".join(bytes([number & 0xFF]) + constant for number, constant in spent.extension)
    count = bytes([len(spent.extension) & 0xFF])
    return bytes.fromhex(spent.box_id) + vlq(len(spent.proof)) + spent.proof + count + variables


def _candidate(made: Made, places: dict[str, bytes] | None = None) -> bytes:
    """An output: in a transaction its tokens are named by their place in a common list, in a box by their ids."""
    named = places or {token_id: bytes.fromhex(token_id) for token_id, _ in made.tokens}
    return b"".join(
        (
            vlq(made.value),
            made.tree,
            vlq(made.creation_height),
            bytes([len(made.tokens) & 0xFF]),
            *(named[token_id] + vlq(amount) for token_id, amount in made.tokens),
            bytes([len(made.registers) & 0xFF]),
            *made.registers,
        )
    )


def _box(made: Made, tx_id: str, index: int) -> BoxView:
    raw = _candidate(made) + bytes.fromhex(tx_id) + vlq(index)
    return BoxView(
        raw=raw,
        box_id=blake2b(raw).hex(),
        tx_id=tx_id,
        index=index,
        tree=made.tree.hex(),
        value=made.value,
        creation_height=made.creation_height,
        tokens=made.tokens,
        registers=tuple(register.hex() for register in made.registers),
    )
