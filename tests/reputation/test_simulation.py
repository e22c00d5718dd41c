"""The market of 200 nodes, the same in every run; docs/reputation.md shows the larger ones."""

from __future__ import annotations

import pytest

from benchmarks.reputation_sim.attacks import ATTACKS
from benchmarks.reputation_sim.market import Maker
from benchmarks.reputation_sim.measure import auc, measure


@pytest.mark.parametrize(
    "attack",
    [
        *("rings of 2", "rings of 30", "circles of 6 steps", "sybil clients", "slander", "slow drain", "micro-tasks"),
        *("all of these", "drain under micro-tasks", "micro-tasks of 0.003 ERG", "slander in nine days"),
    ],
)
def test_score__when__a_fifth_of_the_market_colludes__then__told_apart_where_a_plain_mean_is_blind(attack: str) -> None:
    measured = measure(attack, 200, seed=1)
    assert measured.plain <= 0.7
    assert measured.ours >= 0.95
    assert measured.gain is None or measured.gain < 0.2
    assert measured.loss < 0.1


def test_market__when__made_twice_from_a_seed__then__the_same() -> None:
    first, second = (Maker(7, 60).make(ATTACKS["slander"]) for _ in range(2))
    assert first.records == second.records
    assert first.dealt == second.dealt


def test_auc__when__ranked__then__the_share_of_pairs_in_order() -> None:
    assert auc({b"a": 1.0, b"b": 0.5, b"c": 0.5, b"d": -1.0}, [b"a", b"b"], [b"c", b"d"]) == 3.5 / 4
    assert auc({b"a": -1.0}, [b"a"], [b"unrated"]) == 0
