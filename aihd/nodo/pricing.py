"""What a run costs at the node, in nanoERG: nodo's estimate in its own unit, and the rate at which it takes ERG.

All integers and exact fractions; what cannot be split is rounded up, against us, never down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from aihd.errors import UsageError


class Per(Enum):
    """What a rate is for, in nanoERG."""

    NANOERG = 1
    ERG = 10**9

    @property
    def label(self) -> str:
        return "per nanoERG" if self is Per.NANOERG else "per ERG"


@dataclass(frozen=True, slots=True)
class Estimate:
    """nodo's estimate for one instance, in its unit (MU; gas before July 2026).

    `start` is paid once, `upkeep` (at the service's initial resources) to `upkeep_most` (at its largest) every
    `every` seconds.
    """

    start: int
    upkeep: int
    upkeep_most: int
    every: int

    def of_run(self, seconds: float) -> int:
        """The most that a run of this many seconds costs: a period that has begun is paid."""
        periods = math.ceil(Fraction(seconds) / self.every) if self.every > 0 else 0
        return self.start + periods * max(self.upkeep, self.upkeep_most)


@dataclass(frozen=True, slots=True)
class Rate:
    """Units (MU, gas) that a node gives for ERG: `amount` for each `per` nanoERG, so 1 for a nanoERG and 10^9 for a whole ERG."""

    amount: Fraction
    per: Per

    def __post_init__(self) -> None:
        if self.amount <= 0:
            raise UsageError(f"rate {self.amount} {self.per.label} should be above 0")

    @property
    def per_nanoerg(self) -> Fraction:
        """Units for one nanoERG."""
        return self.amount / self.per.value

    def nanoerg(self, units: int) -> int:
        """An amount of the node's unit in nanoERG, rounded up."""
        return math.ceil(units / self.per_nanoerg)


def settled(declared: Rate, configured: Rate | None) -> Rate:
    """The rate to count with: what the node declares, or what its configuration says where that is another reading of the same number.

    Versions differ in whether they declare for a nanoERG or for a whole ERG. Where nothing decides, the dearer of the two counts.
    """
    if configured is None or declared.per_nanoerg == configured.per_nanoerg:
        return declared
    if declared.amount in (configured.per_nanoerg, configured.per_nanoerg * Per.ERG.value):
        return configured
    return min(declared, configured, key=lambda rate: rate.per_nanoerg)
