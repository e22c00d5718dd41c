"""What is said of a daemon in some sixty situations, word for word; and what holds of each of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from situations import CLAIMED, situations, told

from aihd.core.verdict import Facts, Verdict, judge, parting
from aihd.core.words import about, blocks_left, count

GOLDEN: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("situations.toml").read_text(encoding="utf-8")
)
SITUATIONS = dict(situations())


@pytest.mark.parametrize("name", SITUATIONS)
def test_situation__when__judged__then__said_as_written_down(name: str) -> None:
    assert told(SITUATIONS[name]) == GOLDEN[name]


def test_situations__when__counted__then__each_is_written_down_once() -> None:
    assert GOLDEN.keys() == SITUATIONS.keys()
    assert len(SITUATIONS) >= 60
    assert {entry["verdict"] for entry in GOLDEN.values()} == set(map(str, Verdict))


@pytest.mark.parametrize("facts", SITUATIONS.values(), ids=SITUATIONS)
def test_verdict__when__anything_is_wrong__then__it_says_what_to_do(facts: Facts) -> None:
    judgement = judge(facts)
    assert all(issue.command for issue in judgement.issues)
    assert (judgement.verdict is Verdict.HEALTHY) == (facts.running and not judgement.issues)
    if judgement.verdict is not Verdict.HEALTHY:
        assert "What to do: " in judgement.sentence or "start it" in judgement.sentence
    assert "None" not in judgement.sentence
    assert "1 tasks" not in judgement.sentence


def test_parting__when__tasks_are_left__then__until_when_and_what_is_lost() -> None:
    assert parting([CLAIMED], 990, 120.0) == (
        "1 task unpaid: start again before height 1080 (90 blocks, about 3 h), or 0.5 ERG and 0.05 ERG of the bond are lost"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "about 0 s"), (59, "about 59 s"), (60, "about 1 min"), (3_599, "about 59 min"), (3_600, "about 1 h"),
     (9_600, "about 2.6 h"), (86_399, "about 23 h"), (86_400, "about 1 d"), (30 * 86_400, "about 30 d")],
)  # fmt: skip
def test_about__when__a_time_is_said__then__rounded_down(seconds: float, said: str) -> None:
    assert about(seconds) == said


def test_words__when__one_or_none__then__plain_english() -> None:
    assert (count(1, "task"), count(0, "task"), count(2, "task")) == ("1 task", "0 tasks", "2 tasks")
    assert (blocks_left(1, 120), blocks_left(0, 120)) == ("1 block, about 2 min", "no block")
