"""One measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Result:
    """`ours` and `floor` in seconds for the same work; `against` says what the floor does."""

    what: str
    ours: float
    floor: float
    against: str

    def row(self) -> tuple[str, ...]:
        ratio = f"{self.ours / self.floor:.2f}"
        return (self.what, f"{self.ours * 1000:.2f} ms", f"{self.floor * 1000:.2f} ms", ratio, self.against)


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest run: noise only ever adds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
