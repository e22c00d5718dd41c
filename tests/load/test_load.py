"""Killed with its hands full."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihd.core.task import AT_WORK, State

from .kill import CLAIMED, FAILED, load


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.asyncio
async def test_daemon__when__killed_with_64_tasks_in_flight__then__ready_again_and_none_is_lost(tmp_path: Path) -> None:
    async with load(tmp_path) as on:
        await on.fill()
        before = on.states()
        assert (before[State.AWAITING_INPUT], before[State.ADMITTED]) == (CLAIMED, FAILED)
        await on.kill()
        assert on.states() == before
        after = await on.finish()
        assert after.total() == CLAIMED + FAILED
        assert after[State.ADMITTED] == FAILED
        assert not any(after[state] for state in {*AT_WORK, State.BEATEN, State.SLASHED, State.LOST, State.TIMED_OUT})
