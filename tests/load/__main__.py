"""`python -m tests.load`: the time from the start after SIGKILL to ready, and what became of the tasks; non-zero when one is lost."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from aihd.core.task import State

from .kill import CLAIMED, FAILED, load


async def main() -> int:
    with tempfile.TemporaryDirectory(prefix="aihd-load-") as folder:
        async with load(Path(folder)) as on:
            await on.fill()
            before = on.states()
            print(f"in flight: {dict(before)}", flush=True)
            seconds = await on.kill()
            print(f"ready {seconds:.2f} s after the start that followed SIGKILL", flush=True)
            after = await on.finish()
            print(f"at the end: {dict(after)}")
            lost = CLAIMED + FAILED - after.total() + after[State.LOST] + after[State.TIMED_OUT]
            paid = len(on.waiting) - (after.total() - after[State.ADMITTED])
            print(f"{lost} lost, {paid} not delivered")
            return 1 if lost or paid else 0


sys.exit(asyncio.run(main()))
