"""`python -m tests.crash`: the whole table; ends non-zero when a promise was broken, or a failpoint was never reached.

`--plot NAME` plays one kind of task, `--every N --first K` a part of its points.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aihd.ops.logs import setup_logging

from .scenario import PLOTS, Outcome, Plot, stage

STAGES: Final = 5  # worlds at one time: most of their time they wait for blocks
KINDS: Final = ("claim", "release", "fail", "commit", "reveal", "settle")
CALLS: Final = ("start service", "run", "stop service", "reputation", *(f"submit {kind}" for kind in KINDS))
STORED: Final = ("journal: before commit", "journal: after commit", "input stored", "output stored", "receipt stored")
EXPECTED: Final = frozenset({*STORED, *(f"{call}: {when}" for call in CALLS for when in ("before", "after"))})


@dataclass(frozen=True, slots=True)
class Part:
    """Points `first`, `first + every`, … of a plot."""

    plot: Plot
    every: int
    first: int


async def main() -> int:
    setup_logging("error", "console")
    parts = list(_parts())
    print(
        f"{len(parts)} worlds, in each one task after another, with the daemon killed at one failpoint of it",
        flush=True,
    )
    tables = await asyncio.gather(*(_table(part) for part in parts))
    outcomes = [outcome for table in tables for outcome in table]
    broken = sum(bool(outcome.wrong) for outcome in outcomes)
    missed = _missed(outcomes) if len(parts) == STAGES else set()
    print(
        f"{len(outcomes)} kills, {broken} broken promises, failpoints never reached: {', '.join(sorted(missed)) or 'none'}"
    )
    return 1 if broken or missed else 0


def _parts() -> Iterator[Part]:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--plot", choices=PLOTS)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.plot:
        yield Part(PLOTS[chosen.plot], chosen.every, chosen.first)
        return
    paid, refused = PLOTS.values()  # a task that is rated has twice as many points as one that fails
    yield from (Part(paid, STAGES - 2, first) for first in range(1, STAGES - 1))
    yield from (Part(refused, 2, first) for first in (1, 2))


async def _table(part: Part) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="aihd-crash-") as folder:
        async with stage(Path(folder)) as on:
            await on.run(
                part.plot, 0
            )  # the first start of a daemon has points of its own, which later starts do not reach
            points = await on.points(part.plot)
            for at in range(part.first, len(points) + 1, part.every):
                outcomes.append(outcome := await on.run(part.plot, at))
                _tell(part.plot, outcome)
    return outcomes


def _tell(plot: Plot, outcome: Outcome) -> None:
    verdict = "; ".join(outcome.wrong) or ("same end" if outcome.crashed else "same end; it came by without this point")
    mark = "FAIL" if outcome.wrong else "ok"
    print(f"{mark:5} {plot.name:8} killed at {outcome.point:32} {verdict}", flush=True)


def _missed(outcomes: Iterable[Outcome]) -> set[str]:
    """Failpoints at which no daemon was killed."""
    return set(EXPECTED) - {outcome.point.partition(" ")[2] for outcome in outcomes if outcome.crashed}


sys.exit(asyncio.run(main()))
