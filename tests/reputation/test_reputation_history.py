from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aihd.protocol.constants import MAX_PAYMENT
from aihd.reputation.fixed import ONE
from aihd.reputation.history import HistoryError, Outcome, Role, TaskRecord


def record(**fields: Any) -> TaskRecord:
    return replace(TaskRecord(1, b"t", b"c", b"n", 10**9), **fields)


@pytest.mark.parametrize(
    ("fields", "node", "client"),
    [
        ({"client_mark": 5, "node_mark": 1}, ONE, -ONE),
        ({"client_mark": 4}, ONE // 2, None),
        ({"node_mark": 3}, None, 0),
        ({}, None, None),
        ({"outcome": Outcome.FAILED}, 0, None),
        ({"outcome": Outcome.TIMED_OUT}, -ONE, None),
        ({"client_mark": 5, "node_committed": True}, ONE // 2, None),
        ({"client_mark": 1, "node_committed": True}, -ONE, None),
        ({"node_committed": True}, -ONE // 2, None),
        ({"node_mark": 5, "client_committed": True}, None, ONE // 2),
        ({"node_committed": True, "client_committed": True}, None, None),
    ],
)
def test_opinion__when__a_task_ended_like_this__then__says_that(
    fields: dict[str, Any], node: int | None, client: int | None
) -> None:
    ended = record(**fields)
    assert (ended.opinion(Role.NODE), ended.opinion(Role.CLIENT)) == (node, client)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"worth": 0}, "worth 0"),
        ({"worth": MAX_PAYMENT + 1}, "worth 500000000000001"),
        ({"client_mark": 6}, "marks 6 and 0"),
        ({"node_mark": -1}, "marks 0 and -1"),
        ({"height": -1}, "height -1"),
    ],
)
def test_record__when__the_chain_cannot_have_shown_it__then__refused_by_name(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(HistoryError, match=named):
        record(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"client_funding": b"n"},
        {"node_funding": b"c"},
        {"client_funding": b"p", "node_funding": b"p"},
        {"client": b"n"},
        {"client_funding": b"n", "node_funding": b"p"},
    ],
)
def test_self_dealt__when__one_purse_is_behind_both__then__seen(fields: dict[str, Any]) -> None:
    assert record(**fields).self_dealt
    assert not record(client_funding=b"p", node_funding=b"q").self_dealt
