"""Honest transactions in every shape that matters to a guard: all must be accepted, in both interpreters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from aihd.protocol.boxes import Bond, ClaimedTask, On, Rating
from aihd.protocol.constants import (
    BOND_RESERVE,
    COOLDOWN,
    MAX_ENDPOINT,
    MAX_PAYMENT,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    SLACK,
)
from aihd.protocol.plans import Side

from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .world import ASSET, ERG, EXPIRY, IN_TOKEN, OTHER, TASK, TIP, World

Named = Iterator[tuple[str, Draft]]
HOLDBACKS: Final = (0, 1, 5000, 10_000)
SMALL: Final = 100 * MIN_BOX  # the smallest worth that owes a fee


def drafts(w: World) -> Named:
    yield from _bonds(w)
    yield from _tasks(w)
    yield from _ends(w)
    yield from _ratings(w)
    yield from _settlements(w)
    yield "reclaim of a receipt", w.reclaim()
    yield "reclaim of a failure receipt", w.reclaim(w.failure())


def _bonds(w: World) -> Named:
    yield "open bond", w.open_bond()
    yield "open bond with the longest endpoint", w.open_bond(endpoint="x" * MAX_ENDPOINT)
    yield "open bond with the least stake", w.open_bond(amount=1)
    yield "manage: top up", w.manage(add=ERG)
    yield "manage: endpoint, with tasks open", w.manage(w.bond(TASK, OTHER), endpoint="x" * MAX_ENDPOINT)
    yield "manage: value without stake", w.manage().value(0, ERG)
    yield "withdraw", w.withdraw()
    yield "raise at the earliest", w.manage(add=ERG).edit(0, Bond, born=TIP + 1)
    yield "raise at the latest", w.manage(add=ERG).edit(0, Bond, born=TIP + 1 + SLACK)
    yield "manage after the end of the market", w.manage(w.bond(), EXPIRY + 9, add=ERG)
    yield "open bond at the end of the market", w.open_bond(EXPIRY - 1)
    yield "withdraw after the end of the market", w.withdraw(w.bond(), EXPIRY + 9)
    yield "withdraw after the cool-down's first block", w.withdraw(w.bond(last_activity=TIP), TIP + COOLDOWN)
    tokens = w.coin(NODE, tokens=((OTHER, 5),))
    yield "withdraw beside other tokens", w.withdraw().spend(1, tokens).add(Out(ERG, NODE.tree, ((OTHER, 5),)))


def _tasks(w: World) -> Named:
    yield "claim", w.claim()
    yield "claim with 47 tasks open", w.claim(None, w.bond(*(b"%032d" % n for n in range(47))))
    yield "claim of a task that names its nodes", w.claim(w.task(allowed=(RIVAL.pk, NODE.pk)))
    yield "claim by a ticket", w.claim(w.task(selection_window=500))
    yield (
        "claim by a bond of negative score",
        w.claim(w.task(selection_window=500, min_reputation=-9), w.bond(score=-9)),
    )
    yield "claim of a task that holds more than it must", w.claim(w.task(9 * ERG))
    yield "claim with the shortest deadline", w.claim().edit(1, ClaimedTask, exec_deadline=TIP + 1 + 26)
    for holdback in HOLDBACKS:
        yield f"claim with holdback {holdback}", w.claim(w.task(holdback_bps=holdback))
        yield f"claim in a token with holdback {holdback}", w.claim(w.task(**IN_TOKEN, holdback_bps=holdback))
    for worth in (1, SMALL - 1, SMALL, MAX_PAYMENT):
        rich = w.bond(amount=MAX_PAYMENT)
        yield f"claim of a payment of {worth} nanoERG", w.claim(w.task(payment=worth), rich)
        for payment in (1, MAX_PAYMENT):
            task = w.task(asset=ASSET, payment=payment, worth=worth, holdback_bps=10_000)
            yield f"claim of {payment} units that are worth {worth} nanoERG", w.claim(task, rich)
    yield "claim at the end of the market", w.claim(w.task(claim_deadline=EXPIRY), w.bond(), EXPIRY - 1)
    yield "refund", w.refund()
    yield "refund in a token", w.refund(w.task(**IN_TOKEN))
    yield "refund in a token without a wallet", w.refund(w.task(**IN_TOKEN), solo=True)
    yield "refund after the end of the market", w.refund(w.task(claim_deadline=EXPIRY), EXPIRY + 1)
    yield "refund without a wallet", w.refund(solo=True)
    yield "refund beside other tokens", w.refund().spend(1, w.coin(STRANGER, tokens=((OTHER, 5),)))
    yield "refund beside outputs without registers", w.refund().add(Out(ERG, STRANGER.tree), Out(ERG, NODE.tree))
    yield "cancel", w.cancel()
    yield "cancel in a token", w.cancel(w.task(**IN_TOKEN))
    yield "cancel after the claim deadline", w.cancel(tip=TIP + 500)
    yield "cancel beside other tokens", w.cancel(coin=w.coin(CLIENT, tokens=((OTHER, 5),)))
    yield "cancel of two tasks", w.cancel().spend(1, w.task().box)


def _ends(w: World) -> Named:
    bond = w.bond(OTHER, TASK)
    yield "release", w.release()
    old = w.receipt(OTHER, height=1)
    late = w.release(w.claimed(exec_deadline=10**6), tip=TIP + RECEIPT_RETENTION)
    yield "release with a receipt to reclaim beside it", late.spend(1, old.box)
    for how, task in _payments(w):
        yield f"release of {how}", w.release(task)
        yield f"fail of {how}", w.fail(task)
        yield f"timeout of {how}", w.timeout(task, bond)
        if task.content.payment > 2 * MIN_BOX or task.content.asset:
            yield f"release of {how} without a wallet", w.release(task, solo=True)
        if task.content.worth >= MIN_BOX or task.content.asset:
            yield f"timeout of {how} without a wallet", w.timeout(task, bond, solo=True)
    full = w.claimed(holdback_bps=10_000)
    yield "release that leaves the node nothing but the fee", w.release(full, solo=True, fee=2 * MIN_BOX)
    yield "fail", w.fail()
    yield "fail in the last block", w.fail(tip=TIP + 39)
    yield "timeout", w.timeout(None, bond)
    yield "timeout with the largest fee", w.timeout(solo=True).value(1, -900_000).value(2, 900_000)
    yield "timeout of a bond that cannot pay", w.timeout(None, w.bond(TASK, amount=0, value=BOND_RESERVE))


def _payments(w: World) -> Iterator[tuple[str, On[ClaimedTask]]]:
    """Claimed tasks with every kind of payment, at every kind of holdback."""
    for holdback in HOLDBACKS:
        yield f"1 ERG, holdback {holdback}", w.claimed(holdback_bps=holdback)
        yield f"a token, holdback {holdback}", w.claimed(**IN_TOKEN, holdback_bps=holdback)
        small = {**IN_TOKEN, "worth": SMALL - 1}
        yield f"a token that owes no fee, holdback {holdback}", w.claimed(**small, holdback_bps=holdback)
        yield f"a payment that owes no fee, holdback {holdback}", w.claimed(payment=SMALL - 1, holdback_bps=holdback)
    for payment in (1, 3 * MIN_BOX - 1, 3 * MIN_BOX, MAX_PAYMENT):
        yield f"{payment} nanoERG, all held", w.claimed(payment=payment, holdback_bps=10_000)
        yield (
            f"{payment} units, all held",
            w.claimed(asset=ASSET, payment=payment, worth=SMALL, holdback_bps=10_000),
        )
    yield "one unit of which half would be held", w.claimed(asset=ASSET, payment=1, worth=ERG, holdback_bps=5000)
    yield "a token worth the most", w.claimed(asset=ASSET, payment=1, worth=MAX_PAYMENT, holdback_bps=10_000)


def _ratings(w: World) -> Named:
    for side in Side:
        alone = w.committed(w.rating(), client=4 if side is Side.CLIENT else 0, node=5 if side is Side.NODE else 0)
        after = w.commit(Side.NODE if side is Side.CLIENT else Side.CLIENT)
        box = w.box(Rating.read(after.unsigned().outputs[0]), RATING_VALUE, ((TASK, 1),))
        yield f"commit by the {side}", w.commit(side)
        yield f"commit by the {side}, second", w.commit(side, box)
        yield f"commit by the {side} in the last block", w.commit(side, tip=TIP + 19)
        yield f"reveal by the {side}", w.reveal(side)
        yield f"reveal by the {side} alone", w.reveal(side, alone, tip=TIP + 20)
        yield f"reveal by the {side} in the last block", w.reveal(side, tip=TIP + 49)


def _settlements(w: World) -> Named:
    shapes: dict[str, dict[str, Any]] = {
        "of silence": {},
        "of two marks": {"client": 5, "node": 4, "marks": (5, 4)},
        "of the worst mark": {"client": 1, "node": 4, "marks": (1, 4)},
        "of a node that broke": {"client": 5, "node": 4, "marks": (5, 0)},
        "of a node that broke, the client silent": {"client": 0, "node": 4, "marks": (0, 0)},
        "of a client that broke": {"client": 5, "node": 4, "marks": (0, 4)},
        "of two that broke": {"client": 5, "node": 4, "marks": (0, 0)},
        "of a client alone": {"client": 5, "node": 0, "marks": (5, 0)},
    }
    for what, shape in shapes.items():
        yield f"settle {what}", w.settle(w.rated(**shape))
    for worth in (ERG // 100 - 1, ERG // 100, ERG // 10, ERG, 10 * ERG):
        yield f"settle of {worth} nanoERG", w.settle(w.rated(5, 4, (5, 4), worth=worth))
    yield "settle between other ids", w.settle(None, w.bond(OTHER, TASK))
    yield "settle by the node of two marks before the window ends", w.settle(w.rated(5, 4, (5, 4)), by=NODE)
    yield "settle by the node of a client that broke", w.settle(w.rated(5, 4, (0, 4)), by=NODE)
    yield "settle by the node when the client is silent", w.settle(by=NODE)
    yield "settle by the node, itself committed", w.settle(w.rated(0, 4), by=NODE)
    yield "settle of a failure by the node in the next block", w.settle(w.failed(), by=NODE, tip=TIP + 1)
    yield "settle of a failure by the node without a wallet", w.settle(w.failed(), by=NODE, tip=TIP + 1, solo=True)
    yield "settle of a failure by a stranger", w.settle(w.failed())
    for what, kept in (("ERG", {"held": ERG // 2}), ("a token", {"held": 5000, "asset": ASSET})):
        for marks in ((0, 0), (1, 4), (2, 4), (5, 0), (1, 0)):
            rating = w.rated(marks[0], 4, marks, **kept)
            yield f"settle of {what} held, marks {marks}", w.settle(rating)
            yield f"settle of {what} held, marks {marks}, by the node", w.settle(rating, by=NODE, solo=True)
        yield f"settle of {what} held, the client broke", w.settle(w.rated(1, 4, (0, 4), **kept))
