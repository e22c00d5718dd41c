"""`python -m tests.crash [every] [first]`: the whole table, or each `every`-th point; ends non-zero when a promise was broken."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from aihd.ops.logs import setup_logging

from .scenario import EARNED, stage


async def main(every: int = 1, first: int = 1) -> int:
    setup_logging("error", "console")
    broken = 0
    with tempfile.TemporaryDirectory(prefix="aihd-crash-") as folder:
        async with stage(Path(folder)) as on:
            await on.run(0)  # the first start of a daemon has points of its own, which later starts do not reach
            points = await on.points()
            print(f"{len(points)} failpoints in a task; an undisturbed one earns {EARNED} nanoERG", flush=True)
            for at in range(first, len(points) + 1, every):
                outcome = await on.run(at)
                broken += bool(outcome.wrong)
                verdict = "; ".join(outcome.wrong) or "same end"
                print(f"{'FAIL' if outcome.wrong else 'ok':5} killed at {outcome.point:40} {verdict}", flush=True)
    print(f"{broken} broken promises")
    return 1 if broken else 0


sys.exit(asyncio.run(main(*map(int, sys.argv[1:]))))
