"""What a liar pays for reputation: the cheapest way that the protocol leaves open, in nanoERG."""

from __future__ import annotations

from dataclasses import dataclass

from aihd.protocol.constants import BOND_MULTIPLIER, RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.guards import treasury_fee, weight
from aihd.protocol.units import NANO_PER_ERG
from aihd.reputation.fixed import ONE, evidence_weight, value_weight
from aihd.reputation.score import HALF_CONFIDENCE

MINER_FEE = 1_000_000  # of a transaction
STEPS = 6  # post, claim, release, commit, reveal, settle: the least that brings a client's mark
PAYMENTS = tuple(sorted({round(10 ** (exponent / 50)) for exponent in range(300, 601)} | {NANO_PER_ERG // 10 - 1}))


@dataclass(frozen=True, slots=True)
class Price:
    """`spent` is gone; `locked` comes back when the ratings are settled and the bond is withdrawn. `payment`: of one task."""

    what: str
    tasks: int
    payment: int
    spent: int
    locked: int


def chain_point() -> Price:
    """One point of the bond's own counter, bought with marks of 5, which bring 2w each."""
    payment = min(PAYMENTS, key=lambda value: _task(value) / (2 * weight(value)))
    return Price(
        "1 point of the bond's own counter", 1, payment, _task(payment) // (2 * weight(payment)), _locked(payment)
    )


def standing(tenths: int) -> Price:
    """A standing out of nothing, by new customers whose purse nobody sees, one task each. Funding one costs a transfer more."""
    evidence = HALF_CONFIDENCE * tenths // (10 - tenths)
    payment = min(PAYMENTS, key=lambda value: (_task(value) + MINER_FEE) / _evidence(value))
    tasks = -(-evidence // _evidence(payment))
    name = f"a standing of 0.{tenths} with hidden purses ({evidence // ONE} units of evidence)"
    return Price(name, tasks, payment, tasks * (_task(payment) + MINER_FEE), _locked(payment))


def _evidence(payment: int) -> int:
    return evidence_weight(value_weight(payment))


def _task(payment: int) -> int:
    """What a task with oneself costs for good."""
    return STEPS * MINER_FEE + treasury_fee(payment)


def _locked(payment: int) -> int:
    """One task after the other: payment and boxes on one side, the bond on the other."""
    return payment + RECEIPT_VALUE + RATING_VALUE + payment // BOND_MULTIPLIER
