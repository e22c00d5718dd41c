"""What a liar pays for reputation: the cheapest way that the protocol leaves open, in nanoERG."""

from __future__ import annotations

from dataclasses import dataclass

from aihd.protocol.constants import BOND_MULTIPLIER
from aihd.protocol.guards import escrow_value, treasury_fee, weight
from aihd.protocol.units import NANO_PER_ERG
from aihd.reputation.fixed import ONE, evidence_weight, value_weight
from aihd.reputation.history import IN_A_TOKEN
from aihd.reputation.score import HALF_CONFIDENCE

MINER_FEE = 1_000_000  # of a transaction
STEPS = 6  # post, claim, release, commit, reveal, settle: the least that brings a client's mark
PAYMENTS = tuple(sorted({round(10 ** (exponent / 50)) for exponent in range(300, 601)} | {NANO_PER_ERG // 10 - 1}))


@dataclass(frozen=True, slots=True)
class Price:
    """`spent` is gone; `locked` comes back when the ratings are settled and the bond is withdrawn. `payment`: of one task, or its worth."""

    what: str
    tasks: int
    payment: int
    spent: int
    locked: int


def chain_point() -> Price:
    """Returns the price of one point of the bond's own counter, bought with marks of 5, which bring 2w each."""
    payment = min(PAYMENTS, key=lambda value: spent(value) / (2 * weight(value)))
    cost = spent(payment) // (2 * weight(payment))
    return Price("1 point of the bond's own counter", 1, payment, cost, locked(payment))


def standing(tenths: int, *, in_token: bool = False) -> Price:
    """Returns the price of a standing out of nothing, by new customers whose purse nobody sees, one task each.

    Funding one costs a transfer more. The token is worth nothing but what its payer says.
    """
    evidence = HALF_CONFIDENCE * tenths // (10 - tenths)

    def proof(worth: int) -> int:
        return evidence_weight(value_weight(worth // IN_A_TOKEN if in_token else worth))

    worth = min(PAYMENTS, key=lambda value: (spent(value) + MINER_FEE) / (proof(value) or 1))
    tasks = -(-evidence // proof(worth))
    paid_in = ", paid in a worthless token" if in_token else f" ({evidence // ONE} units of evidence)"
    name = f"a standing of 0.{tenths} with hidden purses{paid_in}"
    return Price(name, tasks, worth, tasks * (spent(worth) + MINER_FEE), locked(worth, in_token=in_token))


def spent(worth: int) -> int:
    """Returns the nanoERG that a task with oneself costs for good."""
    return STEPS * MINER_FEE + treasury_fee(worth)


def locked(worth: int, *, in_token: bool = False) -> int:
    """Returns the nanoERG that lie fast for one task after the other: the escrow on one side, the bond on the other."""
    return escrow_value(worth, worth, in_token=in_token) + worth // BOND_MULTIPLIER
