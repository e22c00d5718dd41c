"""A sample of the crash table in every run; `make crash` does all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .scenario import PAID, stage

SAMPLE = 4


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.asyncio
async def test_daemon__when__killed_at_a_failpoint_and_started_again__then__the_task_ends_the_same(
    tmp_path: Path,
) -> None:
    async with stage(tmp_path) as on:
        await on.run(PAID, 0)
        points = await on.points(PAID)
        submits = [number for number, point in enumerate(points, start=1) if "submit" in point]
        sample = submits[:: max(1, len(submits) // SAMPLE)][:SAMPLE]
        outcomes = [await on.run(PAID, at) for at in sample]
    assert len(sample) == SAMPLE
    assert all(outcome.crashed for outcome in outcomes)
    assert {outcome.point: outcome.wrong for outcome in outcomes if outcome.wrong} == {}
