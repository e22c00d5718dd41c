"""`python -m tests.crash`: the whole table; ends non-zero when a promise was broken, or a failpoint was passed by.

A task that nobody disturbs shows which failpoints there are. One that is reached very often, as when the headers of each block are kept,
is tried at some of these moments. Points that only a daemon reaches that was killed before are tried by killing it twice.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from aihd.ops.logs import setup_logging

from .scenario import PAID, PLOTS, Kill, Outcome, Plot, Stage, stage

STAGES: Final = 5  # worlds at one time: most of their time they wait for blocks
MOST: Final = 6  # moments at which one failpoint is tried
TRIES: Final = 3  # of a point that a task came by without reaching it
KINDS: Final = ("claim", "release", "fail", "commit", "reveal", "settle")
CALLS: Final = ("start service", "run", "stop service", "reputation", *(f"submit {kind}" for kind in KINDS))
STORED: Final = ("input stored", "output stored", "receipt stored")
EXPECTED: Final = frozenset({*STORED, *(f"{call}: {when}" for call in CALLS for when in ("before", "after"))})

Trial = tuple[Plot, Kill]


async def main() -> int:
    setup_logging("error", "console")
    trials = await _trials()
    names = {_name(point) for _, kill in trials for point in (kill.at, kill.then) if point}  # each was met twice
    if missing := EXPECTED - names:
        print(f"an undisturbed task does not reach: {', '.join(sorted(missing))}")
        return 1
    print(f"{len(names)} failpoints, {len(trials)} kills, in {STAGES} worlds at one time", flush=True)
    waiting = asyncio.Queue[Trial]()
    for trial in trials:
        waiting.put_nowait(trial)
    tables = await asyncio.gather(*(_work(waiting) for _ in range(STAGES)))
    outcomes = [outcome for table in tables for outcome in table]
    broken = sum(bool(outcome.wrong) for outcome in outcomes)
    killed = {_name(point) for o in outcomes if o.crashed for point in (o.kill.at, o.kill.then) if point}
    print(f"{len(outcomes)} tasks, {broken} broken promises, passed by: {', '.join(sorted(names - killed)) or 'none'}")
    return 1 if broken or names - killed else 0


async def _trials() -> list[Trial]:
    """What is to be tried: the failpoints that two tasks, which end well, both come by."""
    with tempfile.TemporaryDirectory(prefix="aihd-crash-") as folder:
        async with stage(Path(folder)) as on:
            trials: list[Trial] = []
            known: set[str] = set()
            for plot in PLOTS.values():
                first, second = [(await _shown(on, plot, Kill())).points for _ in range(2)]
                known |= _names(first) | _names(second)
                trials += [(plot, Kill(point)) for point in _sampled(second) if _name(point) in _names(first)]
            cut = Kill("run: before#1")
            first, second = [(await _shown(on, PAID, cut)).after for _ in range(2)]
            new = _names(first) - known
            return trials + [(PAID, Kill(cut.at, point)) for point in _sampled(second) if _name(point) in new]


async def _shown(on: Stage, plot: Plot, kill: Kill) -> Outcome:
    outcome = await on.run(plot, kill)
    if outcome.wrong:
        raise AssertionError(f"killed {kill}, and wrong already: {outcome.wrong}")
    return outcome


def _sampled(points: Iterable[str]) -> Iterator[str]:
    """All moments of a failpoint; of one with many, some that are spread evenly, first and last included."""
    moments: defaultdict[str, list[str]] = defaultdict(list)
    for point in points:
        moments[_name(point)].append(point)
    for found in moments.values():
        last, steps = len(found) - 1, min(MOST, len(found)) - 1
        yield from (found[last * step // steps] for step in range(steps + 1)) if steps else found[:1]


def _names(points: Iterable[str]) -> set[str]:
    return {_name(point) for point in points}


def _name(point: str) -> str:
    return point.rpartition("#")[0]


async def _work(waiting: asyncio.Queue[Trial]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="aihd-crash-") as folder:
        async with stage(Path(folder)) as on:
            while not waiting.empty():
                plot, kill = waiting.get_nowait()
                outcomes.append(outcome := await _tried(on, plot, kill))
                verdict = "; ".join(outcome.wrong) or "same end"
                verdict += "" if outcome.crashed else "; it came by without this point"
                print(
                    f"{'FAIL' if outcome.wrong else 'ok':5} {plot.name:8} killed at {kill!s:48} {verdict}", flush=True
                )
    return outcomes


async def _tried(on: Stage, plot: Plot, kill: Kill) -> Outcome:
    for _ in range(TRIES - 1):
        outcome = await on.run(plot, kill)
        if outcome.crashed or outcome.wrong:
            return outcome
    return await on.run(plot, kill)


sys.exit(asyncio.run(main()))
