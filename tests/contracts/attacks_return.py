"""Attacks on a claimed task whose money goes back to the client: by a failure receipt before the deadline, by anybody after it."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec
from aihd.protocol.boxes import Bond, FailureReceipt, Rating
from aihd.protocol.constants import (
    COMPLETED,
    MAX_FAILURE_TYPE,
    MAX_MINER_FEE,
    MAX_PROOF,
    MIN_BOX,
    RECEIPT_VALUE,
    SLACK,
)
from aihd.protocol.deployment import Guard

from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .shapes import both_keys, named_for
from .world import BOND_TOKEN, ERG, OTHER, TASK, TIP, World

NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    yield from _fail(w)
    yield from _failure(w)
    yield from _rating(w)
    yield from _timeout(w)
    yield from _slash(w)
    yield from _beside(w)
    yield from _rides(w)


def _fail(w: World) -> Iterator[Case]:
    h = w.fail()
    bond = w.bond(TASK)
    kept = Out(bond.value, bytes(bond.box.ergo_tree), bond.tokens, bond.content.constants())
    attacks = [
        (Line.BUSINESS, "a nanoERG more of the client's money for the failure receipt", h.value(0, 1).value(2, -1)),
        (Line.BUSINESS, "the payment, as a value to reclaim", h.value(0, ERG).value(2, -ERG)),
        (Line.BUSINESS, "the client pays for the rating", h.value(2, -4 * MIN_BOX)),
        (Line.BUSINESS, "the client pays the miner", h.value(2, -1_100_000)),
        (Line.DUST, "the client gets dust", h.out(2, value=MIN_BOX)),
        (Line.LEAK, "the money goes to the node", h.out(2, tree=NODE.tree)),
        (Line.LEAK, "the client's output is missing", h.without(2)),
        (Line.FOOLED, "the client's output is the last", h.without(2).add(h.outputs[2])),
        (Line.FOOLED, "failure receipt and client trade places", h.flip(0, 2)),
        (Line.FOOLED, "failure receipt and rating trade places", h.flip(0, 1)),
        (Line.TWO_MASTERS, "the client's output is for nothing", h.out(2, registers=())),
        (Line.TWO_MASTERS, "the client's output is for another box too", h.out(2, registers=(named_for(OTHER),))),
        (Line.STOLEN, "the failure receipt under the node's key", h.out(0, tree=NODE.tree)),
        (Line.STOLEN, "the failure receipt under the rating's guard", h.out(0, tree=w.deployment.trees[Guard.RATING])),
        (Line.UNSIGNED, "by a stranger", h.instead(1, w.coin(STRANGER)).by(STRANGER, RIVAL)),
        (Line.UNSIGNED, "by the client", h.instead(1, w.coin(CLIENT)).by(CLIENT, STRANGER)),
        (Line.FORM, "no failure receipt", h.without(0)),
        (Line.PUSHED, "with the bond beside it, as it was once", h.spend(1, bond.box).add(kept)),
        (Line.SHARED, "two claimed boxes, one output to the client", h.spend(1, w.claimed(OTHER).box)),
    ]
    yield from against("fail", h, attacks)


def _failure(w: World) -> Iterator[Case]:
    h = w.fail()
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.WRONG_KEY, "another node's key", {"node": RIVAL.pk}),
        (Line.SECOND, "another task's id", {"task_id": OTHER}),
        (Line.FORM, "failure type 0", {"failure_type": 0}),
        (Line.FORM, "a failure type too high", {"failure_type": MAX_FAILURE_TYPE + 1}),
        (Line.LONG, "a negative failure type", {"failure_type": -(2**31)}),
        (Line.FORM, "evidence of 31 bytes", {"evidence": b"e" * 31}),
        (Line.PADDED, "evidence of 1500 bytes", {"evidence": b"e" * 1500}),
        (Line.HEIGHT, "the height of the next block", {"height": NEXT + 1}),
        (Line.HEIGHT, "a height long ago", {"height": NEXT - SLACK - 1}),
        (Line.LONG, "a height near 2^63", {"height": 2**63 - 1}),
        (Line.PADDED, "a signature too long", {"node_sig": b"s" * (MAX_PROOF + 1)}),
    ]
    attacks = [(line, how, h.edit(0, FailureReceipt, **change)) for line, how, change in changes]
    attacks += [
        (Line.DUST, "a nanoERG under the smallest box", h.value(0, -1)),
        (Line.UNITS, "no unit, which the node keeps", h.out(0, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.UNITS, "no unit", h.out(0, tokens=())),
        (Line.UNITS, "both units", h.out(0, tokens=((TASK, 2),)).out(1, tokens=())),
        (Line.PADDED, "a foreign token", h.spend(1, spare).out(0, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.HEIGHT, "declared made long ago, to be reclaimed early", h.out(0, height=NEXT - SLACK - 1)),
        (Line.FORM, "the height as an Int", h.register(0, 8, codec.int_constant(NEXT))),
        (Line.FORM, "no signature register", h.out(0, registers=h.outputs[0].registers[:5])),
        (Line.SECOND, "a receipt in the place of the rating", h.out(1, value=RECEIPT_VALUE,
            tree=w.deployment.trees[Guard.RECEIPT], registers=w.receipt().content.constants())),
    ]  # fmt: skip
    yield from against("fail, failure receipt", h, attacks)


def _rating(w: World) -> Iterator[Case]:
    """The rating of a failure is there to be settled and for nothing else."""
    h = w.fail()
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.BY_HAND, "that counts as completed", {"outcome": COMPLETED}),
        (Line.BY_HAND, "that counts as neither", {"outcome": 3}),
        (Line.BY_HAND, "of a task that is worth less", {"worth": 1}),
        (Line.BY_HAND, "of a task that is worth more, to win capacity", {"worth": 20 * ERG}),
        (Line.HELD, "that says to hold a share", {"held": ERG}),
        (Line.EARLY, "that may be marked", {"commit_deadline": NEXT + 30, "reveal_deadline": NEXT + 60}),
        (Line.EARLY, "that may be marked from now on", {"commit_deadline": NEXT}),
        (Line.BY_HAND, "marked by the node in the client's name", {"client_mark": 5}),
        (Line.BY_HAND, "marked by the node in its own", {"node_mark": 5}),
        (Line.COPIED, "committed to in the client's name", {"client_commitment": OTHER}),
        (Line.COPIED, "committed to in the node's", {"node_commitment": OTHER}),
        (Line.REVEAL, "of another client", {"client": NODE.pk}),
        (Line.REVEAL, "of another node", {"node": RIVAL.pk}),
        (Line.HEIGHT, "over a block ago", {"reveal_deadline": NEXT - 1}),
        (Line.HEIGHT, "that only the node may settle for long", {"reveal_deadline": NEXT + SLACK + 1}),
        (Line.HEIGHT, "that only the node may ever settle", {"reveal_deadline": 2**31 - 1}),
    ]
    attacks = [(line, how, h.edit(1, Rating, **change)) for line, how, change in changes]
    attacks += [
        (Line.STOLEN, "under the node's key", h.out(1, tree=NODE.tree)),
        (Line.DUST, "worth a nanoERG less", h.value(1, -1)),
        (Line.UNITS, "without its unit", h.out(1, tokens=())),
        (Line.UNITS, "whose unit the node keeps", h.out(1, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.PADDED, "with a foreign token", h.spend(1, spare).out(1, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.FORM, "with five marks", h.register(1, 7, codec.coll_int((0, NEXT + 9, 0, 0, 0)))),
        (Line.FORM, "with two terms", h.register(1, 6, codec.coll_long((ERG, 0)))),
        (Line.FORM, "with a client of two keys", h.register(1, 4, both_keys())),
        (Line.FORM, "that is missing", h.without(1)),
    ]
    yield from against("fail, rating", h, attacks)


def _timeout(w: World) -> Iterator[Case]:
    claimed = w.claimed()
    h = w.timeout(claimed)
    least = claimed.value - MAX_MINER_FEE + ERG // 10
    early = w.timeout(claimed, tip=claimed.content.exec_deadline - 1)
    attacks = [
        (Line.SLASH, "in the last block of the deadline", early),
        (Line.SLASH, "long before the deadline", w.timeout(claimed, tip=TIP)),
        (Line.SLASH, "in the last block of the deadline, by the client", early.by(CLIENT, STRANGER)),
        (Line.DUST, "a nanoERG less than all but the largest fee", h.out(1, value=least - 1)),
        (Line.DUST, "dust to the client", h.out(1, value=MIN_BOX)),
        (Line.LEAK, "the slash goes to the caller", h.value(1, -ERG // 10)),
        (Line.LEAK, "the money goes to the caller", h.out(1, tree=STRANGER.tree)),
        (Line.LEAK, "the money goes to the node", h.out(1, tree=NODE.tree)),
        (Line.FOOLED, "the client's output is the third", h.insert(1, Out(ERG, STRANGER.tree))),
        (Line.UNITS, "a unit kept by the caller", h.add(Out(ERG, STRANGER.tree, ((TASK, 1),)))),
        (Line.UNITS, "both units kept by the node", h.add(Out(ERG, NODE.tree, ((TASK, 2),)))),
        (Line.UNITS, "a unit kept in the client's output", h.out(1, tokens=((TASK, 1),))),
        (Line.UNITS, "a unit kept in the bond", h.out(0, tokens=((BOND_TOKEN, 1), (TASK, 1)))),
        (Line.SECOND, "a receipt after all", h.add(
            Out(RECEIPT_VALUE, w.deployment.trees[Guard.RECEIPT], ((TASK, 1),), w.receipt().content.constants()))),
        (Line.TWO_MASTERS, "the client's output is for nothing", h.out(1, registers=())),
        (Line.TWO_MASTERS, "the client's output is for another box too", h.out(1, registers=(named_for(OTHER),))),
        (Line.LEAK, "without the bond", h.instead(1, w.coin(STRANGER)).out(0, tree=STRANGER.tree, tokens=())),
    ]  # fmt: skip
    yield from against("timeout", h, attacks)


def _slash(w: World) -> Iterator[Case]:
    h = w.timeout()
    unpaid = h.edit(0, Bond, amount=100 * ERG).value(0, ERG // 10).value(1, -ERG // 10)
    double = h.edit(0, Bond, amount=100 * ERG - ERG // 5).value(0, -ERG // 10)
    poor = w.bond(TASK, amount=ERG // 20)
    kept = w.timeout(None, poor)
    attacks = [
        (Line.SLASH, "the bond pays nothing", unpaid),
        (Line.SLASH, "the bond pays twice", double),
        (Line.SLASH, "the bond pays, its register does not", h.edit(0, Bond, amount=100 * ERG)),
        (Line.SLASH, "its register pays, the bond does not", h.value(0, ERG // 10).value(1, -ERG // 10)),
        (Line.BY_HAND, "the score stays", h.edit(0, Bond, score=7)),
        (Line.BY_HAND, "the missed deadline is not counted", h.edit(0, Bond, timed_out=1)),
        (Line.BY_HAND, "counted as a failure", h.edit(0, Bond, timed_out=1, failed=3)),
    ]
    yield from against("timeout, slash", h, attacks)
    over = kept.value(0, -MIN_BOX).edit(0, Bond, amount=-MIN_BOX)
    yield Case("timeout, slash: more than the stake that is left", Line.SLASH, over, kept)


def _beside(w: World) -> Iterator[Case]:
    """Two claimed boxes in one transaction, or none that is the first input."""
    first, second = w.claimed(TASK), w.claimed(OTHER)
    both = w.bond(TASK, OTHER)
    h = w.timeout(first, both)
    own = w.place(Out(w.bond(TASK).value, NODE.tree, ((OTHER, 1),), w.bond(TASK, amount=0).content.constants()))
    fake = w.timeout(first, w.bond(TASK, amount=0, value=own.value))
    by_own = fake.instead(1, own).out(0, tree=NODE.tree, tokens=())
    attacks = [
        (Line.SHARED, "two claimed boxes, one output to the client", h.spend(2, second.box)),
        (Line.SELF_MADE, "a wallet box in the place of the bond, with nothing to slash", by_own),
        (Line.TWO_BONDS, "two equal bonds, one successor", h.spend(2, w.bond(TASK, OTHER).box)),
        (Line.SETTLED, "beside another node's bond", _beside_rival(w)),
        (Line.FOOLED, "the claimed box is not the first input", h.spend(0, w.coin(STRANGER))),
        (Line.FOOLED, "a task beside it", h.spend(2, w.task(claim_deadline=TIP).box)),
    ]  # fmt: skip
    yield from against("timeout", h, attacks)


def _beside_rival(w: World) -> Draft:
    return w.timeout(None, w.bond(node=RIVAL.pk, active=1, committed=ERG)).by(STRANGER, RIVAL, NODE)


def _rides(w: World) -> Iterator[Case]:
    """A claimed box that is not the first input, beside a transaction that moves its bond for another task."""
    late = w.claimed()
    both = w.bond(OTHER, TASK)
    tip = TIP + 200
    settle = w.settle(w.rating(OTHER), both, tip)
    by_node = w.settle(w.failed(OTHER), both, tip, by=NODE)
    timeout = w.timeout(w.claimed(OTHER), both, tip)
    refund = w.timeout(late, both, tip).outputs[1]
    claim = w.claim(w.task(claim_deadline=10**6), both, tip)
    for what, h, attack in (
        ("a settlement", settle, settle.spend(2, late.box).insert(1, refund)),
        ("a settlement of a failure by its node", by_node, by_node.spend(2, late.box).insert(1, refund)),
        ("a timeout", timeout, timeout.spend(2, late.box)),
        (
            "a timeout, in whose place its own refund stands",
            timeout,
            timeout.spend(2, late.box).out(1, **_like(refund)),
        ),
        ("a claim", claim, claim.spend(2, late.box)),
        ("a manage", w.manage(both, tip), w.manage(both, tip).spend(1, late.box).insert(1, refund)),
    ):
        yield Case(f"timeout: riding on {what}", Line.RIDES, attack, h)


def _like(out: Out) -> dict[str, object]:
    return {"value": out.value, "tree": out.tree, "tokens": out.tokens, "registers": out.registers}
