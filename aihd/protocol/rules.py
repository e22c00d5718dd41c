"""The rules of the chain that do not need a script: sizes, heights, sums, tokens.

`violations` says what a node would say about a transaction, in its words, before a proof exists or a script runs.
ergo-lib's own checks are weaker than the chain's (its dust limit is about half), hence this module. Rule numbers in the
comments are the node's. Scripts and proofs, cost limits and storage rent are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import Transaction, UnsignedTransaction

from aihd.protocol.trees import FEE_TREE, lacks_size_bit, tree_version

MIN_FEE = 1_000_000  # nanoERG, a node's default policy
MAX_TX_SIZE = 98_304  # bytes, policy
MAX_BOX_SIZE = 4096  # bytes; the proposition alone may have as many
MAX_COUNT = 32_767  # inputs, data inputs, outputs
MAX_TOKENS_PER_BOX = 255
MAX_LONG = 2**63 - 1
MAX_TREE_VERSION = 2  # version 3 is legal since Sigma 6.0, but neither ergo-lib 0.28 nor the Explorer can read it


class Rule(StrEnum):
    """What a transaction can break; the value is a stable code for records and metrics."""

    COUNTS = "counts"
    DUPLICATE_INPUT = "duplicate-input"
    MISSING_INPUT = "missing-input"
    MISSING_DATA_INPUT = "missing-data-input"
    OVERFLOW = "overflow"
    NEGATIVE_VALUE = "negative-value"
    DUST = "dust"
    BOX_SIZE = "box-size"
    PROPOSITION_SIZE = "proposition-size"
    TREE_VERSION = "tree-version"
    FUTURE_HEIGHT = "future-height"
    FALLING_HEIGHT = "falling-height"
    ASSET_AMOUNT = "token-amount"
    ASSET_COUNT = "token-count"
    ASSET_CONSERVATION = "token-conservation"
    ERG_CONSERVATION = "erg-conservation"
    MIN_FEE = "min-fee"
    TX_SIZE = "tx-size"


POLICY = frozenset({Rule.MIN_FEE, Rule.TX_SIZE})  # a mempool refuses these; a block may hold them


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: its code and the text a node answers with."""

    code: Rule
    text: str


def violations(
    tx: Transaction | UnsignedTransaction,
    inputs: Sequence[ErgoBox],
    *,
    height: int,
    parameters: Mapping[str, Any],
    data_inputs: Sequence[ErgoBox] = (),
) -> tuple[Violation, ...]:
    """Every rule that `tx` breaks in a block at `height` (blocks), in the order a node would notice; empty = none.

    `inputs`, `data_inputs`: the boxes it names, in any order; one that is absent counts as not in the UTXO set, and
    then sums are not compared. `parameters`: a node's `/info.parameters` (minValuePerByte in nanoERG).
    An unsigned transaction is measured with empty proofs: add 56 bytes for each signature to come.
    """
    known = {str(box.box_id): box for box in inputs}
    read = {str(box.box_id) for box in data_inputs}
    spent_ids = [str(i.box_id) for i in tx.inputs]
    outputs = tx.outputs
    found = [*_fee(outputs), *_counts(tx), *_per_output(outputs, height, parameters["minValuePerByte"]), *_size(tx)]
    if len(set(spent_ids)) < len(spent_ids):
        found.append(Violation(Rule.DUPLICATE_INPUT, "There should be no duplicate inputs. "))
    found += _missing(Rule.MISSING_INPUT, "input", spent_ids, known)
    found += _missing(Rule.MISSING_DATA_INPUT, "data input", [str(d.box_id) for d in tx.data_inputs], read)
    if all(box_id in known for box_id in spent_ids):
        found += _against_inputs([known[box_id] for box_id in spent_ids], outputs)
    return tuple(found)


def fee_of(outputs: Iterable[ErgoBox]) -> int:
    """The miner fee in nanoERG: what the outputs under the fee proposition hold."""
    return sum(box.value for box in outputs if bytes(box.ergo_tree) == FEE_TREE)


def token_totals(boxes: Iterable[ErgoBox | ErgoBoxCandidate]) -> Counter[str]:
    """Amount of each token id (hex) over the boxes."""
    totals: Counter[str] = Counter()
    for box in boxes:
        for token in box.tokens or ():
            totals[bytes(token.token_id).hex()] += token.amount
    return totals


def _counts(tx: Transaction | UnsignedTransaction) -> Iterator[Violation]:  # 100-104
    parts = (("inputs", tx.inputs, 1), ("outputs", tx.output_candidates, 1), ("data inputs", tx.data_inputs, 0))
    for name, items, least in parts:
        if len(items) < least:
            yield Violation(Rule.COUNTS, f"A transaction should have at least one {name[:-1]}. ")
        if len(items) > MAX_COUNT:
            yield Violation(Rule.COUNTS, f"A number of transaction {name} should not exceed {MAX_COUNT}. {len(items)}")


def _per_output(outputs: Sequence[ErgoBox], height: int, per_byte: int) -> Iterator[Violation]:
    for index, box in enumerate(outputs):
        yield from _tree(index, bytes(box.ergo_tree))
        yield from _box(index, box, per_byte)
        yield from _tokens(index, box)
        if box.creation_height > height:  # 112
            text = f"Transaction outputs should have creationHeight not exceeding block height. output {index}: "
            yield Violation(Rule.FUTURE_HEIGHT, f"{text}{box.creation_height} > {height}")


def _tree(index: int, tree: bytes) -> Iterator[Violation]:
    if tree_version(tree) > MAX_TREE_VERSION:
        text = f"output {index}: ErgoTree version {tree_version(tree)} is above {MAX_TREE_VERSION}"
        yield Violation(Rule.TREE_VERSION, text)
    elif lacks_size_bit(tree):  # 1012
        yield Violation(Rule.TREE_VERSION, f"output {index}: for tree version > 0, size bit should be set")
    if len(tree) > MAX_BOX_SIZE:  # 121
        text = f"Box proposition size should not exceed {MAX_BOX_SIZE}. output {index}: {len(tree)}"
        yield Violation(Rule.PROPOSITION_SIZE, text)


def _box(index: int, box: ErgoBox, per_byte: int) -> Iterator[Violation]:
    size = len(bytes(box))
    if box.value < 0:  # 105
        yield Violation(Rule.NEGATIVE_VALUE, f"Erg amount for a transaction output should not be negative. {box.value}")
    if size > MAX_BOX_SIZE:  # 120
        yield Violation(Rule.BOX_SIZE, f"Box size should not exceed {MAX_BOX_SIZE}. output {index}: {size}")
    if box.value < per_byte * size:  # 111
        text = "Every output of the transaction should contain at least <minValuePerByte * outputSize> nanoErgs. "
        yield Violation(Rule.DUST, f"{text}output {index}: {box.value} < {per_byte} * {size}")


def _tokens(index: int, box: ErgoBox) -> Iterator[Violation]:
    tokens = box.tokens or []
    if len(tokens) > MAX_TOKENS_PER_BOX:  # 109
        text = f"A number of tokens within a box should not exceed {MAX_TOKENS_PER_BOX}"
        yield Violation(Rule.ASSET_COUNT, f"{text} and sum of assets of one type should not exceed {MAX_LONG}. ")
    if any(token.amount < 1 for token in tokens):  # 108
        text = "All token amounts of transaction outputs should be positive."
        yield Violation(Rule.ASSET_AMOUNT, f"{text} output {index}")


def _size(tx: Transaction | UnsignedTransaction) -> Iterator[Violation]:
    signed = tx if isinstance(tx, Transaction) else Transaction.from_unsigned_tx(tx, [b""] * len(tx.inputs))
    size = len(bytes(signed))
    if size > MAX_TX_SIZE:
        yield Violation(Rule.TX_SIZE, f"Transaction {tx.id} has too large size {size}, max {MAX_TX_SIZE}")


def _missing(rule: Rule, name: str, ids: Sequence[str], known: Iterable[str]) -> Iterator[Violation]:  # 113, 114
    have = set(known)
    missing = [str(index) for index, box_id in enumerate(ids) if box_id not in have]
    if missing:
        text = f"Every {name} of the transaction should be in UTXO. Missing {name}s: {', '.join(missing)}"
        yield Violation(rule, text)


def _against_inputs(inputs: Sequence[ErgoBox], outputs: Sequence[ErgoBox]) -> Iterator[Violation]:
    spent, made = sum(box.value for box in inputs), sum(box.value for box in outputs)
    for name, total in (("input", spent), ("output", made)):  # 115, 106
        if total > MAX_LONG:
            yield Violation(Rule.OVERFLOW, f"Sum of transaction {name} values should not exceed {MAX_LONG}. {total}")
    if spent != made:  # 116
        text = "Amount of Ergs in inputs should be equal to amount of Erg in outputs."
        yield Violation(Rule.ERG_CONSERVATION, f"{text} {spent} != {made}")
    oldest = max(box.creation_height for box in inputs)
    for index, box in enumerate(outputs):  # 124
        if box.creation_height < oldest:
            text = f"Creation height of any output should be not less than  max creation height in inputs ({oldest}): "
            yield Violation(Rule.FALLING_HEIGHT, f"{text}output {index} has {box.creation_height}")
    yield from _token_sums(str(inputs[0].box_id), token_totals(inputs), token_totals(outputs))


def _token_sums(mintable: str, spent: Counter[str], made: Counter[str]) -> Iterator[Violation]:
    for token_id, amount in made.items():
        if amount > MAX_LONG:
            yield Violation(Rule.OVERFLOW, f"Sum of token {token_id} in outputs should not exceed {MAX_LONG}. {amount}")
        if amount > spent[token_id] and token_id != mintable:  # 117; a new id may only be the first input's box id
            text = "For every token, its amount in outputs should not exceed its amount in inputs."
            yield Violation(Rule.ASSET_CONSERVATION, f"{text} {token_id}: {amount} > {spent[token_id]}")


def _fee(outputs: Sequence[ErgoBox]) -> Iterator[Violation]:
    fee = fee_of(outputs)
    if fee < MIN_FEE:
        yield Violation(Rule.MIN_FEE, f"Min fee not met: {MIN_FEE / 1e9} ergs required, {fee / 1e9} given")
