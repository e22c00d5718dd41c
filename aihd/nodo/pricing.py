"""What a run costs at the node, in nanoERG: nodo's estimate in its own unit, and the rate at which it takes ERG.

All integers and exact fractions; what cannot be split is rounded up, against us, never down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from aihd.errors import UsageError

NANOERG_PER_ERG: Final = 10**9


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


def to_nanoerg(amount: int, per_nanoerg: Fraction) -> int:
    """`amount` of the node's unit in nanoERG, rounded up; `per_nanoerg`: units that the node gives for one nanoERG."""
    if per_nanoerg <= 0:
        raise UsageError(f"rate {per_nanoerg} per nanoERG should be above 0")
    return math.ceil(amount / per_nanoerg)


def from_gas_per_erg(gas_per_erg: Fraction) -> Fraction:
    """The rate of a node that counts in gas, per nanoERG."""
    return gas_per_erg / NANOERG_PER_ERG
