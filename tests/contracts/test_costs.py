"""Every transaction fits the limits of a node's mempool with room to spare, at 48 open tasks too."""

from __future__ import annotations

import pytest

from .costs import MAX_BOX, MAX_COSTS, MAX_TX, SIZES, rows
from .judge import Judge
from .world import World

pytestmark = [pytest.mark.jvm, pytest.mark.slow]


def test_transactions__when_as_large_as_they_get__then_within_a_tenth_of_the_limits(world: World, judge: Judge) -> None:
    table = list(rows(world, judge))

    assert len(table) == 4 * len(SIZES) + 9
    assert max(row.size for row in table) < MAX_TX / 10
    assert max(row.cost for row in table) < min(MAX_COSTS.values()) / 10
    assert max(row.largest_box for row in table) < MAX_BOX * 9 / 10
    assert max(value for row in table for _, value in row.least) < 2_000_000
