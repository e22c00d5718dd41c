"""When a side may move in a rating: never so that the guard could refuse it, never so that the other side could learn from it."""

from __future__ import annotations

from dataclasses import replace

import made
import pytest

from aihd.core.rating import MARGIN, may_commit, may_reveal, may_settle, omission
from aihd.protocol.boxes import Rating
from aihd.protocol.constants import FAILED
from aihd.protocol.plans import Side

OPEN = made.rating()
OURS = replace(OPEN, node_commitment=b"n" * 32)
BOTH = replace(OURS, client_commitment=b"c" * 32)


def test_may_commit__when__a_client_is_asked__then__it_stops_earlier_than_the_node_that_can_displace_it() -> None:
    assert [may_commit(OPEN, Side.CLIENT, height) for height in (95, 96)] == [True, False]
    assert MARGIN[Side.CLIENT] > MARGIN[Side.NODE]


@pytest.mark.parametrize(
    ("rating", "height", "commits"),
    [
        (OPEN, 98, True),
        (OPEN, 99, False),
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
        (OURS, 102, False),
        (OURS, 103, True),
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
    assert [omission(replace(OPEN, outcome=FAILED), side) for side in Side] == ["", ""]


SEALED = replace(OPEN, client_commitment=b"c" * 32)
OPENED = replace(OURS, node_mark=5)


@pytest.mark.parametrize(
    ("rating", "node", "client"),
    [
        (OPEN, 103, 103),  # the client stayed silent: over two blocks after he could have said anything
        (SEALED, 161, 161),
        (OURS, 161, 103),  # our mark has to be open first, else it costs us points
        (OPENED, 103, 103),
        (BOTH, 161, 161),
        (replace(BOTH, node_mark=5), 161, 161),
        (replace(BOTH, client_mark=5), 161, 161),
        (replace(BOTH, client_mark=5, node_mark=5), 0, 0),
        (made.rating(commit_deadline=0, reveal_deadline=160, outcome=FAILED), 3, 3),
    ],
)
def test_may_settle__when__height_and_box_vary__then__once_nothing_more_can_come_of_it(
    rating: Rating, node: int, client: int
) -> None:
    for side, first in ((Side.NODE, node), (Side.CLIENT, client)):
        assert [height for height in range(200) if may_settle(rating, side, height)] == list(range(first, 200))
