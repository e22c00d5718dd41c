"""Honest transactions in every shape that matters to a guard: all must be accepted, in both interpreters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aihd.protocol.boxes import Rating
from aihd.protocol.constants import BOND_RESERVE, COOLDOWN, MAX_ENDPOINT, MIN_BOX, RATING_VALUE
from aihd.protocol.plans import Side

from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .world import ERG, OTHER, TASK, TIP, World

Named = Iterator[tuple[str, Draft]]


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
    yield "refund", w.refund()
    yield "refund without a wallet", w.refund(solo=True)
    yield "refund beside other tokens", w.refund().spend(1, w.coin(STRANGER, tokens=((OTHER, 5),)))
    yield "refund beside outputs without registers", w.refund().add(Out(ERG, STRANGER.tree), Out(ERG, NODE.tree))
    yield "cancel", w.cancel()
    yield "cancel after the claim deadline", w.cancel(tip=TIP + 500)
    yield "cancel beside other tokens", w.cancel(coin=w.coin(CLIENT, tokens=((OTHER, 5),)))
    yield "cancel of two tasks", w.cancel().spend(1, w.task().box)


def _ends(w: World) -> Named:
    bond = w.bond(OTHER, TASK)
    yield "release", w.release(None, bond)
    yield "release of a payment that owes no fee", w.release(w.claimed(payment=100 * MIN_BOX - 1))
    yield "release with a receipt to reclaim beside it", w.reclaim()
    yield "fail", w.fail(None, bond)
    yield "fail with the smallest failure receipt", w.fail().value(1, -MIN_BOX).value(2, MIN_BOX)
    yield "timeout", w.timeout(None, bond)
    yield "timeout without a wallet", w.timeout(solo=True)
    yield "timeout with the largest fee", w.timeout(solo=True).value(1, -900_000).value(2, 900_000)
    yield "timeout of a bond that cannot pay", w.timeout(None, w.bond(TASK, amount=0, value=BOND_RESERVE))


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
    for payment in (ERG // 100 - 1, ERG // 100, ERG // 10, ERG, 10 * ERG):
        yield f"settle of {payment} nanoERG", w.settle(w.rated(5, 4, (5, 4), payment=payment))
    yield "settle of two marks before the window ends", w.settle(w.rated(5, 4, (5, 4)), tip=TIP)
    yield "settle between other ids", w.settle(None, w.bond(OTHER, TASK))
