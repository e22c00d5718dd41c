"""The market of 200 nodes, the same in every run; docs/reputation.md shows the larger ones."""

from __future__ import annotations

import pytest

from aihd.protocol.units import NANO_PER_ERG
from benchmarks.reputation_sim.attacks import ATTACKS
from benchmarks.reputation_sim.garbage import DRAWN_OUT, EVERY, careers, mean_of, takings
from benchmarks.reputation_sim.market import SILENT, Maker
from benchmarks.reputation_sim.measure import auc, measure
from benchmarks.reputation_sim.spite import BURNERS, harm


@pytest.mark.parametrize(
    "attack",
    [
        *("rings of 2", "rings of 30", "circles of 6 steps", "sybil clients", "slander", "slow drain", "micro-tasks"),
        *("all of these", "drain under micro-tasks", "micro-tasks of 0.003 ERG", "slander in nine days"),
        *("good work burned by rivals", "burned in nine days", "rings paid back in tokens"),
    ],
)
def test_score__when__a_fifth_of_the_market_colludes__then__told_apart_where_a_plain_mean_is_blind(attack: str) -> None:
    measured = measure(attack, 200, seed=1)
    assert measured.plain <= 0.7
    assert measured.ours >= 0.95
    assert measured.gain is None or measured.gain < 0.2
    assert measured.loss < 0.1


@pytest.mark.parametrize("attack", ["garbage, nothing held back", "garbage, half held back", "garbage, all held back"])
def test_score__when__fresh_names_deliver_garbage__then__every_honest_node_stands_above_them(attack: str) -> None:
    assert measure(attack, 200, seed=1).ours > 0.99


def test_score__when__a_twentieth_of_the_customers_burns_all__then__bad_nodes_are_told_apart_still() -> None:
    assert measure("good work burned by customers", 200, seed=1).ours >= 0.95


def test_garbage__when__more_is_held_back__then__it_earns_what_the_silent_leave_it() -> None:
    nothing, half, everything = (mean_of(careers(share, 200, seed=1)) for share in (0, 5_000, 10_000))
    assert nothing[:3] == half[:3] == everything[:3], "the same names, tasks and payments"
    assert nothing[-1] > 1
    assert 0.55 < half[-1] < 0.7
    assert SILENT - 0.05 < everything[-1] < SILENT + 0.05


@pytest.mark.parametrize(("holdback", "left"), [(0, 52_000_000), (5_000, 28_000_000), (10_000, 4_000_000)])
def test_takings__when__a_task_is_burned__then__boxes_and_fees_are_what_the_guards_leave(
    holdback: int, left: int
) -> None:
    """0.05 ERG owe the treasury nothing; claim 0.001, release 0.001; settling leaves 0.003, the kept receipt 0.001."""
    payment = 50_000_000
    assert takings(payment, holdback, burned=True) == left
    assert takings(payment, holdback, burned=False) == takings(payment, 0, burned=True)


def test_play__when__the_first_mark_is_settled__then__nobody_who_follows_the_default_gives_it_work() -> None:
    for career in careers(10_000, 200, seed=2):
        assert career.blocks >= 1 + DRAWN_OUT
        assert len(career.payments) <= -(-career.blocks // EVERY)


@pytest.mark.parametrize(("attack", "kept"), [*zip(BURNERS, (0.8, 0.8, 0.5), strict=True)])
def test_harm__when__good_work_is_burned__then__standing_stays_and_the_burner_has_none(
    attack: str, kept: float
) -> None:
    done = harm(attack, 200, seed=1)
    assert kept < done.kept < 1
    assert done.burner <= 0.01
    assert done.others > 0.25
    assert done.cost > 0.1 * NANO_PER_ERG


def test_market__when__made_twice_from_a_seed__then__the_same() -> None:
    first, second = (Maker(7, 60).make(ATTACKS["slander"]) for _ in range(2))
    assert first.records == second.records
    assert first.dealt == second.dealt


def test_auc__when__ranked__then__the_share_of_pairs_in_order() -> None:
    assert auc({b"a": 1.0, b"b": 0.5, b"c": 0.5, b"d": -1.0}, [b"a", b"b"], [b"c", b"d"]) == 3.5 / 4
    assert auc({b"a": -1.0}, [b"a"], [b"unrated"]) == 0
