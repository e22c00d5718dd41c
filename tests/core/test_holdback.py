from __future__ import annotations

from math import nan, nextafter

import pytest

from aihd.core.holdback import default_holdback


@pytest.mark.parametrize(
    ("allow_list", "least_standing", "share"),
    [
        (False, None, 10_000),
        (True, None, 0),
        (False, 0.5, 0),
        (True, 0.5, 0),
        (False, 1.0, 0),
        (False, nextafter(0.5, 0), 10_000),
        (True, nextafter(0.5, 0), 10_000),
        (True, 0.0, 10_000),
        (False, 0.0, 10_000),
        (False, -1.0, 10_000),
        (False, nan, 10_000),
        (True, nan, 10_000),
    ],
)
def test_default_holdback__when__these_may_claim__then__nothing_is_held_from_nodes_of_standing_and_all_from_others(
    allow_list: bool, least_standing: float | None, share: int
) -> None:
    assert default_holdback(allow_list, least_standing) == share
