"""The market at its full size."""

from __future__ import annotations

from collections import Counter

import pytest

from aihd.core.task import State, Where

from .table import game, show, wrong


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.asyncio
async def test_market__when__a_third_of_the_blocks_is_replaced__then__every_task_ends_and_the_books_add_up() -> None:
    async with game(tasks=200, seed=1) as played:
        show(played)
        assert wrong(played) == []
        assert len(played.ends()) + played.vanished == 200
        assert played.vanished < 20
        assert played.replaced / played.mined > 0.25
        ends = Counter(end.where for end in played.ends().values())
        assert all(ends[where] for where in (Where.SETTLED, Where.FAILURE_SETTLED, Where.TIMED_OUT))
        assert any(end.burned for end in played.ends().values())
    assert any(State.LOST in seat.promises.ended.values() for seat in played.seats)
