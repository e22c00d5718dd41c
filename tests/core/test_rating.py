"""When a side may move in a rating: never so that the guard could refuse it, never so that the other side could learn from it."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest

from aihd.core.rating import MARGIN, may_commit, may_reveal, omission
from aihd.protocol.boxes import Rating
from aihd.protocol.plans import Side

OPEN = made.rating()
OURS = replace(OPEN, node_commitment=b"n" * 32)
BOTH = replace(OURS, client_commitment=b"c" * 32)


@pytest.mark.parametrize(
    ("rating", "height", "commits"),
    [
        (OPEN, 100 - MARGIN, True),
        (OPEN, 100 - MARGIN + 1, False),
        (OPEN, 101, False),
        (OURS, 50, False),
        (replace(OPEN, client_commitment=b"c" * 32), 50, True),
    ],
)
def test_may_commit__when__height_and_box_vary__then__once_and_a_margin_before_the_deadline(
    rating: Rating, height: int, commits: bool
) -> None:
    assert may_commit(rating, Side.NODE, height) is commits


@pytest.mark.parametrize(
    ("rating", "height", "reveals"),
    [
        (OPEN, 150, False),
        (OURS, 100, False),
        (OURS, 101, False),
        (OURS, 100 + MARGIN, False),
        (OURS, 101 + MARGIN, True),
        (BOTH, 50, True),
        (BOTH, 160, True),
        (BOTH, 161, False),
        (replace(BOTH, node_mark=5), 50, False),
        (replace(BOTH, client_mark=5), 50, True),
    ],
)
def test_may_reveal__when__height_and_box_vary__then__not_before_the_other_side_is_bound(
    rating: Rating, height: int, reveals: bool
) -> None:
    assert may_reveal(rating, Side.NODE, height) is reveals


def test_omission__when__the_other_side_did_less_than_all__then__said_in_words() -> None:
    assert omission(OURS, Side.NODE) == "the client committed to no mark"
    assert omission(BOTH, Side.NODE) == "the client committed to a mark and did not reveal it"
    assert omission(BOTH, Side.CLIENT) == "the node committed to a mark and did not reveal it"
    assert omission(replace(BOTH, client_mark=1), Side.NODE) == ""
