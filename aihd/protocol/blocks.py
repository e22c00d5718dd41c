"""A block's transactions, proved from their own bytes: each id is the hash of a transaction's bytes, and all ids hang on the header's root.

So a node can keep a block from us, but it cannot leave a transaction out of one, add one, or change what one spends and makes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aihd.protocol.box import Box, Odd, box_of_json, fields_of
from aihd.protocol.hashes import blake2b256
from aihd.protocol.headers import Head, WorkError
from aihd.protocol.shapes import ShapeError, hexed, hexed_any, listed, mapped, mapped_in
from aihd.protocol.wire import vlq

MAX_TRANSACTIONS: Final = 20_000  # some 60 bytes each: more do not fit a block


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction of a block: its id, the ids of the boxes that it spends, and those of its outputs that are of interest.

    `proved` says that its bytes are those of its id. A stranger can make one that cannot be written the way it was; its outputs are still
    what their own ids say.
    """

    id: str
    inputs: tuple[str, ...]
    outputs: tuple[Box | Odd, ...]
    proved: bool = True


def transactions_of_json(raw: Any, head: Head, trees: Mapping[str, bytes]) -> tuple[Mined, ...]:
    """The transactions of a node's block, with the outputs that stand under one of `trees` (by hex).

    ShapeError where it is no block, WorkError where the transactions are not those that the header binds, ForgedError where an output
    is not what it says.
    """
    transactions = [mapped(item) for item in listed(mapped(raw), "transactions")]
    if len(transactions) > MAX_TRANSACTIONS:
        raise ShapeError(f"{len(transactions)} transactions are more than fit a block")
    ids = [hexed(tx, "id", 32) for tx in transactions]
    # A real chain binds the proofs, too; a simpler one may bind the ids alone. Neither root can be taken for the other.
    if head.transactions_root not in (merkle_root(ids + [_witness(tx) for tx in transactions]), merkle_root(ids)):
        raise WorkError(f"block {head.id.hex()} does not hold the transactions that its header binds")
    return tuple(_mined(tx, tx_id, trees) for tx, tx_id in zip(transactions, ids, strict=True))


def transaction_of_json(raw: Any, trees: Mapping[str, bytes]) -> Mined:
    """A transaction of a node's JSON, with the outputs that stand under one of `trees` (by hex); errors as above, for it alone."""
    tx = mapped(raw)
    return _mined(tx, hexed(tx, "id", 32), trees)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of a node's Merkle tree, in which what has no neighbour is hashed alone; 32 zero bytes for no leaves."""
    level = [blake2b256(b"\x00", leaf) for leaf in leaves] or [bytes(32)]
    while len(level) > 1:
        level = [blake2b256(b"\x01", *level[n : n + 2]) for n in range(0, len(level), 2)]
    return blake2b256(b"\x01", level[0]) if len(leaves) == 1 else level[0]


def _witness(tx: Mapping[str, Any]) -> bytes:
    """What a block binds of a transaction's proofs."""
    return blake2b256(*(hexed_any(_proof(mapped(item)), "proofBytes") for item in listed(tx, "inputs")))[1:]


def _proof(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapped_in(item, "spendingProof")


def _mined(tx: Mapping[str, Any], tx_id: bytes, trees: Mapping[str, bytes]) -> Mined:
    inputs = tuple(hexed(mapped(item), "boxId", 32) for item in listed(tx, "inputs"))
    outputs = [mapped(item) for item in listed(tx, "outputs")]
    found: list[Box | Odd] = []
    for number, output in enumerate(outputs):
        tree = output.get("ergoTree")
        if isinstance(tree, str) and tree in trees:
            found.append(box_of_json({**output, "transactionId": tx_id.hex(), "index": number}, (trees[tree],)))
    proved = any(blake2b256(unsigned) == tx_id for unsigned in _unsigned(tx, inputs, outputs))
    return Mined(tx_id.hex(), tuple(box_id.hex() for box_id in inputs), tuple(found), proved)


def _unsigned(
    tx: Mapping[str, Any], inputs: Collection[bytes], outputs: Collection[Mapping[str, Any]]
) -> Iterable[bytes]:
    """The serialized transaction without its proofs. JSON does not tell the order of context variables for sure: both orders."""
    extensions = [mapped(_proof(mapped(item)).get("extension", {})) for item in listed(tx, "inputs")]
    data_inputs = [hexed(mapped(item), "boxId", 32) for item in listed(tx, "dataInputs")]
    rest = vlq(len(data_inputs)) + b"".join(data_inputs) + _outputs(outputs)
    for order in (list, sorted):
        spent = (b + b"\x00" + _extension(e, order(e)) for b, e in zip(inputs, extensions, strict=True))
        yield vlq(len(inputs)) + b"".join(spent) + rest


def _extension(extension: Mapping[str, Any], names: Iterable[str]) -> bytes:
    items = [(name, hexed_any(extension, name)) for name in names]
    if not all(name.isascii() and name.isdecimal() and len(name) <= 3 and int(name) < 256 for name, _ in items):
        raise ShapeError("a context variable's name is no number up to 255")
    return bytes([len(items) & 0xFF]) + b"".join(bytes([int(name)]) + value for name, value in items)


def _outputs(outputs: Collection[Mapping[str, Any]]) -> bytes:
    fields = [fields_of(output) for output in outputs]
    table: dict[bytes, int] = {}
    for _, _, _, tokens, _ in fields:
        for token, _ in tokens:
            table.setdefault(token, len(table))
    made = [vlq(len(table)), *table, vlq(len(outputs))]
    for value, tree, height, tokens, registers in fields:
        held = b"".join(vlq(table[token]) + vlq(amount) for token, amount in tokens)
        made += [vlq(value), tree, vlq(height), bytes([len(tokens) & 0xFF]), held]
        made += [bytes([len(registers) & 0xFF]), *registers]
    return b"".join(made)
