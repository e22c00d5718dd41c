"""What a key may sign: a decoded transaction, held against the plan it claims to be and against the operator's limits.

The signer asks here before it touches the key. Default deny: an output under a tree that is neither ours, nor a guard of the market, nor
named by what this kind of transaction is for, is refused, whatever the plan says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import UnsignedTransaction

from aihd.protocol.boxes import ClaimedTask, Rating, TaskEscrow, tokens_of
from aihd.protocol.codec import BoxError
from aihd.protocol.coins import REEMISSION_TOKEN, total_of
from aihd.protocol.constants import BURN, USELESS
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import Output, Plan, TxKind
from aihd.protocol.opinion import REPUTATION_TREE
from aihd.protocol.trees import FEE_TREE, p2pk_tree, script_of, tree_version
from aihd.protocol.units import MAX_LONG, format_erg

NEWEST_TREE: Final = 2


@dataclass(frozen=True, slots=True)
class Spending:
    """nanoERG that may leave the wallet, fees included: by one transaction, in an hour, in a day; and the largest fee."""

    max_fee: int
    per_tx: int
    per_hour: int
    per_day: int

    def by_order(self) -> Spending:
        """The same for what a person orders and confirms: only the fee is limited."""
        return Spending(self.max_fee, *(MAX_LONG,) * 3)


@dataclass(frozen=True, slots=True)
class Spent:
    """nanoERG that our transactions took out of the wallet lately."""

    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True)
class Permit:
    """Whose key it is (33 bytes), on which market, how much it may spend, and the tree that earnings may go to."""

    key: bytes
    deployment: Deployment
    spending: Spending
    payout: bytes | None = None

    @property
    def own(self) -> frozenset[bytes]:
        mine = p2pk_tree(self.key)
        return frozenset({mine, self.payout}) if self.payout else frozenset({mine})


def outflow(permit: Permit, inputs: Iterable[ErgoBox], outputs: Iterable[ErgoBoxCandidate | Output]) -> int:
    """nanoERG that a transaction takes out of our wallet (negative: brings in)."""
    before = sum(box.value for box in inputs if script_of(box) in permit.own)
    return before - sum(output.value for output in outputs if _tree(output) in permit.own)


def refusals(permit: Permit, plan: Plan, tx: UnsignedTransaction, spent: Spent) -> list[str]:
    """Every reason not to sign `tx` as `plan`; empty when there is none. Each is a sentence without secrets."""
    outputs = tx.output_candidates
    return [
        *_unlike_plan(plan, tx),
        *_keys(permit, plan),
        *_trees(permit, plan, outputs),
        *_tokens(permit, plan, outputs),
        *_amounts(permit, plan, outputs, spent),
    ]


def _unlike_plan(plan: Plan, tx: UnsignedTransaction) -> Iterator[str]:
    """The transaction is decoded and compared: the plan is only what somebody says it is."""
    asked = [str(i.box_id) for i in tx.inputs]
    meant = [str(box.box_id) for box in plan.inputs]
    if asked != meant:
        yield f"it spends {len(asked)} boxes that are not the {len(meant)} of the plan"
    if [str(i.box_id) for i in tx.data_inputs] != [str(box.box_id) for box in plan.data_inputs]:
        yield f"it reads {len(tx.data_inputs)} data inputs that are not the {len(plan.data_inputs)} of the plan"
    for index, (output, planned) in enumerate(zip_longest(tx.output_candidates, plan.outputs)):
        if output is None or planned is None or not _same(output, planned):
            yield f"output {index} is not the one of the plan"


def _same(output: ErgoBoxCandidate, planned: Output) -> bool:
    registers = output.additional_registers
    expected = list(planned.registers.items())
    return (
        output.value == planned.value
        and _tree(output) == planned.tree
        and _held(output) == planned.tokens
        and len(registers) == len(expected)
        and all(bytes(registers[register]) == bytes(value) for register, value in expected)
    )


def _keys(permit: Permit, plan: Plan) -> Iterator[str]:
    if plan.signer is not None and plan.signer != permit.key:
        yield f"it asks for key {plan.signer.hex()}, this is {permit.key.hex()}"


def _trees(permit: Permit, plan: Plan, outputs: Sequence[ErgoBoxCandidate]) -> Iterator[str]:
    known = {*permit.own, FEE_TREE, *permit.deployment.trees.values(), *_others(permit, plan)}
    for index, output in enumerate(outputs):
        tree = _tree(output)
        if tree_version(tree) > NEWEST_TREE:
            yield f"output {index} is under a tree of version {tree_version(tree)}, which cannot be judged here"
        elif tree not in known:
            yield f"output {index} pays {format_erg(output.value)} to {tree.hex()[:24]}…, which a {plan.kind} has no business with"


def _others(permit: Permit, plan: Plan) -> Iterator[bytes]:
    """Trees that are neither ours nor guards, and that this kind of transaction pays to."""
    match plan.kind:
        case TxKind.RELEASE:
            yield permit.deployment.treasury
        case TxKind.FAIL | TxKind.TIMEOUT | TxKind.REFUND:
            yield from _clients(permit, plan.inputs[0])
        case TxKind.SETTLE:
            yield from _held_payee(permit, plan.inputs[0])
        case TxKind.OPINION:
            yield REPUTATION_TREE
        case TxKind.SEND:
            yield from (output.tree for output in plan.outputs[: plan.named])


def _held_payee(permit: Permit, first: ErgoBox) -> Iterator[bytes]:
    """Who gets what a rating holds: its node, or nobody at all after the mark that burns it."""
    try:
        rating = permit.deployment.read(Rating, first).content
    except BoxError:
        return
    if rating.held:
        yield BURN if rating.client_mark == USELESS else p2pk_tree(rating.node)


def _clients(permit: Permit, first: ErgoBox) -> Iterator[bytes]:
    """The client whose task is the first input, as its own registers name him."""
    guard = permit.deployment.guard_of(first)
    try:
        if guard is Guard.CLAIMED:
            yield p2pk_tree(permit.deployment.read(ClaimedTask, first).content.client)
        elif guard is Guard.TASK:
            yield p2pk_tree(permit.deployment.read(TaskEscrow, first).content.client)
    except BoxError:
        return


def _tokens(permit: Permit, plan: Plan, outputs: Sequence[ErgoBoxCandidate]) -> Iterator[str]:
    """Every unit of every token is accounted for: kept, given to whom the plan names, or burned by its word."""
    own = total_of(tokens_of(box) for box in plan.inputs if script_of(box) in permit.own)
    if REEMISSION_TOKEN in own:
        yield "it spends a box with the re-emission token, which owes part of its value elsewhere"
    missing = _missing(permit, plan, own, outputs)
    for token, amount in missing.items():
        yield f"{amount} of token {token.hex()[:16]}… would leave the wallet, and the plan does not name them"
    before = total_of(map(tokens_of, plan.inputs))
    after = total_of(map(_held, outputs)) + Counter(plan.burned)
    for token in before.keys() | after.keys():
        gone = before[token] - after[token]
        if gone > 0 and token not in missing:
            yield f"{gone} of token {token.hex()[:16]}… would be burned, and the plan does not name them"
        if gone < 0 and token != bytes(plan.inputs[0].box_id):
            yield f"{-gone} of token {token.hex()[:16]}… would come from nowhere"
    for token, amount in plan.burned.items():
        if amount > before[token] - own[token]:
            yield f"it would burn {amount} of token {token.hex()[:16]}…, of which the market's boxes hold {before[token] - own[token]}"


def _missing(
    permit: Permit, plan: Plan, own: Mapping[bytes, int], outputs: Iterable[ErgoBoxCandidate]
) -> dict[bytes, int]:
    """Tokens of the wallet that neither stay in it nor go to an output that the plan names."""
    held = Counter(own)
    held.subtract(total_of(_held(output) for output in outputs if _tree(output) in permit.own))
    held.subtract(total_of(named.tokens for named in plan.outputs[: plan.named] if named.tree not in permit.own))
    return {token: amount for token, amount in held.items() if amount > 0}


def _amounts(permit: Permit, plan: Plan, outputs: Sequence[ErgoBoxCandidate], spent: Spent) -> Iterator[str]:
    limits = permit.spending
    fee = sum(output.value for output in outputs if _tree(output) == FEE_TREE)
    if fee > limits.max_fee:
        yield f"its fee of {format_erg(fee)} is over the limit of {format_erg(limits.max_fee)}"
    leaving = max(0, outflow(permit, plan.inputs, outputs))
    for name, limit, before in (
        ("per_tx", limits.per_tx, 0),
        ("per_hour", limits.per_hour, spent.last_hour),
        ("per_day", limits.per_day, spent.last_day),
    ):
        rest = max(0, limit - before)
        if leaving > rest:  # what only brings money in is held up by no limit, however much was spent before
            yield f"it takes {format_erg(leaving)} out of the wallet, wallet.max_spend_{name} leaves {format_erg(rest)}"


def _tree(output: ErgoBoxCandidate | Output) -> bytes:
    return output.tree if isinstance(output, Output) else bytes(output.ergo_tree)


def _held(output: ErgoBoxCandidate) -> tuple[tuple[bytes, int], ...]:
    return tuple((bytes(token.token_id), int(token.amount)) for token in output.tokens or ())
