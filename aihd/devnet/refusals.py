"""Refuses transactions as a node does before any script runs, in its order and its words (those of version 6.0.4).

Independent of `aihd.protocol.rules`, by which the daemon looks at its own transactions: what one of them gets wrong the other shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aihd.devnet.views import BoxView, TxView
from aihd.protocol.trees import lacks_size_bit, tree_version

MIN_FEE: Final = 1_000_000  # nanoERG, a node's default policy
MAX_TX_SIZE: Final = 98_304  # bytes, policy
MAX_BOX_SIZE: Final = 4096  # bytes; the proposition alone may have as many
MAX_COUNT: Final = 32_767  # inputs, data inputs, outputs
MAX_TOKENS: Final = 255  # in one box
MAX_LONG: Final = 2**63 - 1
MAX_TREE_VERSION: Final = 2  # ergo-lib reads no other, so the devnet takes none
INIT_COST: Final = 10_000
SCRIPTS: Final = "Scripts of all transaction inputs should pass verification."


@dataclass(frozen=True, slots=True)
class Scene:
    """The boxes that a transaction names, in its order (None: not there), and the block it would stand in."""

    boxes: Sequence[BoxView | None]
    data_boxes: Sequence[BoxView | None]
    height: int
    parameters: Mapping[str, Any]


def refusal(view: TxView, scene: Scene) -> str | None:
    """The first rule that a transaction breaks; None where its scripts may be looked at."""
    for found in (_parts(view), _present(view, scene), _outputs(view, scene), _sums(view, scene)):
        for text in found:
            return text
    return None


def too_large(view: TxView) -> str | None:
    """The refusal of a transaction that is larger than a mempool takes."""
    return f"Transaction {printed(view)} has too large size {view.size}" if view.size > MAX_TX_SIZE else None


def fee_refusal(view: TxView) -> str | None:
    """The refusal of a transaction that pays less than a mempool asks for."""
    if view.fee >= MIN_FEE:
        return None
    return f"Min fee not met: {java_double(MIN_FEE / 10**9)} ergs required, {java_double(view.fee / 10**9)} ergs given"


def printed(view: TxView) -> str:
    """A transaction as a node prints it, its parts left out."""
    return f"ErgoTransaction(id: {view.tx_id}, inputs: [...], outputs: [...], size: {view.size})"


def least_cost(view: TxView, boxes: Sequence[BoxView], parameters: Mapping[str, Any]) -> int:
    """Block cost units that a node charges before any script runs."""
    held = [[token_id for token_id, _ in box.tokens] for box in (*view.outputs, *boxes)]
    accesses = sum(map(len, held)) + len({token_id for ids in held for token_id in ids})
    return _initial_cost(view, parameters) + int(parameters["tokenAccessCost"]) * accesses


def java_double(number: float) -> str:
    """A number as Java prints it: from a thousandth to ten million in full, others as 1.0E-4."""
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        return repr(float(number))
    texts = (f"{number:.{digits}e}" for digits in range(1, 18))
    mantissa, exponent = next(text for text in texts if float(text) == number).split("e")
    return f"{mantissa}E{int(exponent)}"


def _initial_cost(view: TxView, parameters: Mapping[str, Any]) -> int:
    counts = {
        "inputCost": len(view.inputs),
        "dataInputCost": len(view.data_inputs),
        "outputCost": len(view.outputs),
    }
    return INIT_COST + sum(int(parameters[name]) * count for name, count in counts.items())


def _parts(view: TxView) -> Iterator[str]:
    """Looks at a transaction alone."""
    tx_id, values = view.tx_id, [made.value for made in view.outputs]
    if not view.inputs:
        yield f"A transaction should have at least one input. Tx {tx_id} has no inputs"
    if not view.outputs:
        yield f"A transaction should have at least one output. Tx {tx_id} has no outputs"
    if len(view.inputs) > MAX_COUNT:
        yield f"A number of transaction inputs should not exceed {MAX_COUNT}. {tx_id}: {len(view.inputs)}"
    if len(view.data_inputs) > MAX_COUNT:
        yield f"A number transaction data inputs should not exceed {MAX_COUNT}. {tx_id}: {len(view.data_inputs)}"
    if len(view.outputs) > MAX_COUNT:
        yield f"A number of transaction outputs should not exceed {MAX_COUNT}. {tx_id}: {len(view.outputs)}"
    if min(values) < 0:
        listed = ", ".join(map(str, values))
        yield f"Erg amount for a transaction output should not be negative. {tx_id}: Vector({listed})"
    if sum(values) > MAX_LONG:
        yield f"Sum of transaction output values should not exceed {MAX_LONG}. long overflow"
    distinct = len(set(view.inputs))
    if distinct < len(view.inputs):
        yield f"There should be no duplicate inputs. {tx_id}: {distinct} == {len(view.inputs)}"


def _present(view: TxView, scene: Scene) -> Iterator[str]:
    """Costs, tokens of single outputs, and whether the boxes are there."""
    cost = "Accumulated cost of block transactions should not exceed <maxBlockCost>."
    if _initial_cost(view, scene.parameters) > int(scene.parameters["maxBlockCost"]):
        yield f"{cost} {view.tx_id}: initial cost"
    for made in view.outputs:
        if len(made.tokens) > MAX_TOKENS or max(_totals([made]).values(), default=0) > MAX_LONG:
            text = f"A number of tokens within a box should not exceed {MAX_TOKENS}"
            yield f"{text} and sum of assets of one type should not exceed {MAX_LONG}. "
    if any(amount < 1 for made in view.outputs for _, amount in made.tokens):
        yield f"All token amounts of transaction outputs should be positive. {view.tx_id}: Vector(...)"
    yield from _missing(view.tx_id, "input", view.inputs, scene.boxes)
    yield from _missing(view.tx_id, "data input", view.data_inputs, scene.data_boxes)


def _missing(tx_id: str, name: str, ids: Sequence[str], boxes: Sequence[BoxView | None]) -> Iterator[str]:
    absent = [str(index) for index, box in enumerate(boxes) if box is None]
    if absent:
        counts = f"{len(ids) - len(absent)} == {len(ids)}"
        yield f"Every {name} of the transaction should be in UTXO. {tx_id}: {counts}. Missing {name}s: {', '.join(absent)}"


def _outputs(view: TxView, scene: Scene) -> Iterator[str]:
    oldest = max(box.creation_height for box in scene.boxes if box)
    for made in view.outputs:
        yield from _output(made, scene, oldest)


def _output(made: BoxView, scene: Scene, oldest: int) -> Iterator[str]:
    named = f"output id: {made.tx_id}: output {_printed_box(made)}"
    least = int(scene.parameters["minValuePerByte"]) * len(made.raw)
    if made.value < least:
        text = "Every output of the transaction should contain at least <minValuePerByte * outputSize> nanoErgs."
        yield f"{text} {made.tx_id}, output {made.box_id}, {made.value} >= {least}"
    if made.creation_height > scene.height:
        text = "Transaction outputs should have creationHeight not exceeding block height. "
        yield f"{text} {made.creation_height} <= {scene.height} is not true, {named}"
    if made.creation_height < 0:
        text = "Transaction outputs should have non-negative creationHeight. "
        yield f"{text} {made.creation_height} >= 0 is not true, {named}"
    if made.creation_height < oldest:
        text = "Creation height of any output should be not less than  "
        yield f"{text} {made.creation_height} is less than max creation height in inputs({oldest}), {named}"
    if len(made.raw) > MAX_BOX_SIZE:
        yield f"Box size should not exceed {MAX_BOX_SIZE}. {made.tx_id}: output {_printed_box(made)}"
    yield from _tree(made)


def _tree(made: BoxView) -> Iterator[str]:
    tree = bytes.fromhex(made.tree)
    if len(tree) > MAX_BOX_SIZE:
        yield f"Box proposition size should not exceed {MAX_BOX_SIZE}. {made.tx_id}: output {_printed_box(made)}"
    if not tree or tree_version(tree) > MAX_TREE_VERSION:
        yield f"output {made.index}: this devnet reads trees up to version {MAX_TREE_VERSION}"
    elif lacks_size_bit(tree):
        yield f"output {made.index}: for tree version > 0, size bit should be set"


def _sums(view: TxView, scene: Scene) -> Iterator[str]:
    boxes = [box for box in scene.boxes if box]
    spent, made = sum(box.value for box in boxes), sum(box.value for box in view.outputs)
    if spent > MAX_LONG:
        yield f"Sum of transaction inputs should not exceed {MAX_LONG}. {view.tx_id} as invalid Inputs Sum"
    if spent != made:
        text = "Amount of Ergs in inputs should be equal to amount of Erg in outputs."
        yield f"{text} {view.tx_id}: Success({spent}) == Success({made})"
    held, new = _totals(boxes), view.inputs[0]
    for token_id, amount in _totals(view.outputs).items():
        if amount > held.get(token_id, -1) and token_id != new:
            text = "For every token, its amount in outputs should not exceed its amount in inputs."
            amounts = f"Amount in = {held.get(token_id, -1)}, out = {amount}."
            allowed = f"Allowed new asset = WrappedArray({_signed(new)}), out = ArraySeq({_signed(token_id)})"
            yield f"{text} {view.tx_id}: {amounts} {allowed}"


def _totals(boxes: Sequence[BoxView]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for box in boxes:
        for token_id, amount in box.tokens:
            totals[token_id] += amount
    return totals


def _printed_box(box: BoxView) -> str:
    """A box as a node prints it, the inner form of its tree left out."""
    parts = f"tokens: ({'...' if box.tokens else 'Coll()'}), {box.tx_id}, {box.index}, Map(), {box.creation_height}"
    return f"ErgoBox({box.box_id},{box.value},ErgoTree(...),{parts})"


def _signed(token_id: str) -> str:
    """Bytes as numbers of -128 to 127."""
    return ", ".join(str(byte - 256 if byte > 127 else byte) for byte in bytes.fromhex(token_id))
