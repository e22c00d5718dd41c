from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aihd.reputation.clock import LONGEST_REST, Clock
from aihd.reputation.fixed import BLOCKS_PER_DAY


def ticked(days: list[int]) -> Clock:
    clock = Clock()
    for day in days:
        clock.tick(day * BLOCKS_PER_DAY)
    return clock


def readings(clock: Clock, days: list[int]) -> list[int]:
    return [clock.reading(day * BLOCKS_PER_DAY) for day in days]


def test_reading__when__a_party_rests__then__runs_on_for_a_week() -> None:
    days = [100, 100, 101, 104, 104 + LONGEST_REST, 1000]
    assert readings(ticked(days), days) == [0, 0, 1, 4, 11, 18]


@given(st.lists(st.integers(0, 60), min_size=1), st.lists(st.integers(0, 60)))
def test_untick__when__ticks_are_taken_back__then__as_if_they_never_were(kept: list[int], gone: list[int]) -> None:
    kept.sort()
    clock = ticked([*kept, *sorted(kept[-1] + day for day in gone)])
    for _ in gone:
        clock.untick()
    assert readings(clock, kept) == readings(ticked(kept), kept)
    assert readings(clock, kept)[-1] <= kept[-1] - kept[0]
