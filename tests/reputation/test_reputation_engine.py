from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.reputation.engine import Engine
from aihd.reputation.explain import explain
from aihd.reputation.fixed import BLOCKS_PER_DAY, ONE
from aihd.reputation.history import HistoryError, Outcome, Role, TaskRecord
from aihd.reputation.pair import WINDOW
from aihd.reputation.score import Score, Verdict

ERG = 10**9
HALF_LIFE = 64_800
WEEK = 7 * BLOCKS_PER_DAY
TASKS = count()


def rated(client: str, node: str, mark: int = 5, *, height: int = 1, worth: int = ERG, purse: str = "") -> TaskRecord:
    """A paid task that only its client marked."""
    funding = purse.encode() or None
    task = next(TASKS).to_bytes(4, "big")
    return TaskRecord(
        height,
        task,
        client.encode(),
        node.encode(),
        worth,
        client_mark=mark,
        client_committed=True,
        client_funding=funding,
    )


def weekly(who: str, count: int, mark: int = 5, start: int = 0) -> list[TaskRecord]:
    """A new customer each week, from a week on."""
    return [rated(f"{who} {week}", "n", mark, height=(start + week) * WEEK) for week in range(count)]


def engine_of(records: Iterable[TaskRecord], height: int = 10**7) -> Engine:
    engine = Engine()
    engine.advance(height)
    engine.fold(records)
    return engine


def score(records: Iterable[TaskRecord], node: str = "n", height: int = 10**7) -> Score:
    return engine_of(records, height).score(node.encode())


def everything(engine: Engine) -> dict[tuple[Role, bytes], Verdict]:
    return {(role, key): engine.verdict(key, role) for role in Role for key in engine.known(role)}


def test_score__when__a_fixed_history__then__these_very_digits() -> None:
    marks = (5, 4, 5, 1, 5, 3)
    records = [rated(f"c{i}", "n", mark, height=i * 20_000, worth=(i + 1) * ERG // 7) for i, mark in enumerate(marks)]
    assert score([*records, *(rated("c0", "n", 4, height=110_000) for _ in range(3))]) == Score(
        406_634_595, 657_130_877
    )


def test_score__when__nobody_rated__then__zero_without_confidence() -> None:
    assert score([]) == Score(0, 0)
    assert Score(0, 0).standing == 0


def test_score__when__a_rating_is_younger_than_final__then__does_not_count_yet() -> None:
    engine = engine_of([rated("c", "n", height=100)], height=109)
    assert engine.score(b"n").confidence == 0
    assert explain(engine, b"n").waiting == 1
    engine.advance(110)
    assert engine.score(b"n").confidence > 0


def test_score__when__a_node_rests__then__nothing_changes() -> None:
    records = [rated("a", "n", 5), rated("b", "n", 2, height=5_000)]
    assert score(records, height=6_000) == score(records, height=10**7)


def test_score__when__work_turns_bad__then__the_newer_half_life_weighs_twice() -> None:
    turned = score([rated("a", "n", 5), rated("b", "n", 1, height=1 + HALF_LIFE)])
    assert turned.value == -ONE // 3  # (1 - 2) / (1 + 2)


def test_score__when__one_customer_repeats__then__the_kth_adds_a_kth() -> None:
    once, thrice = score([rated("a", "n")]), engine_of(rated("a", "n") for _ in range(3))
    terms = explain(thrice, b"n").terms
    assert [term.repeat for term in terms] == [ONE, ONE // 2, ONE // 3]
    assert once.confidence < thrice.score(b"n").confidence < score([rated(c, "n") for c in "abc"]).confidence


def test_score__when__a_customer_changes_his_mind__then__the_newest_speaks_loudest() -> None:
    assert score([*(rated("a", "n", 5) for _ in range(2)), rated("a", "n", 1, height=2)]).value < 0


def test_score__when__a_pair_is_long__then__a_window_of_it_counts() -> None:
    long = engine_of(rated("a", "n", height=height) for height in range(WINDOW + 9))
    assert long.score(b"n") == score(rated("a", "n", height=height) for height in range(9, WINDOW + 9))
    assert explain(long, b"n").older == 9


def test_score__when__keys_share_a_purse__then__they_are_one_rater() -> None:
    firm = engine_of(rated(key, "n", purse="firm") for key in "abc").verdict(b"n")
    assert firm == engine_of(rated("a", "n") for _ in range(3)).verdict(b"n")
    assert firm.raters == engine_of([rated("a", "n")]).verdict(b"n").raters


def test_score__when__customers_are_funded_by_the_node__then__not_for_sale() -> None:
    engine = engine_of(rated(f"sybil {i}", "n", purse="n") for i in range(50))
    assert engine.score(b"n") == Score(0, 0)
    assert explain(engine, b"n").self_dealt == 50


@pytest.mark.parametrize("size", [2, 3, 5, 20, 30])
def test_score__when__money_goes_round_a_circle_of_any_length__then__praise_weighs_nothing(size: int) -> None:
    circle = [rated(str(i), str((i + 1) % size)) for i in range(size) for _ in range(5)]
    assert score(circle, "0") == Score(0, 0)
    assert score(circle[5:], "0").confidence > 0  # open: the last one spends nothing, so nothing came round


def test_score__when__the_circle_pays_unequal_sums__then__the_difference_buys_little() -> None:
    unequal = [rated("a", "b", worth=3 * ERG), rated("b", "a", worth=ERG)]
    assert 0 < score(unequal, "b").confidence < score(unequal[:1], "b").confidence
    assert score([rated("a", "b", worth=2 * ERG), rated("b", "a", worth=ERG)], "b").confidence == 0


def test_score__when__a_complaint_comes_from_the_circle__then__it_is_heard() -> None:
    assert score([rated("a", "b", 1), rated("b", "a")], "b").value == -ONE


def test_score__when__few_slander_a_good_node__then__they_speak_with_half_their_weight() -> None:
    praise = [rated(f"c{i}", "n") for i in range(8)]
    slandered = score([*praise, *(rated(f"s{i}", "n", 1) for i in range(2))])
    assert slandered.value == (8 - 1) * ONE // 9


def test_score__when__few_praise_a_bad_node__then__they_are_hardly_heard() -> None:
    complaints = [rated(f"c{i}", "n", 1) for i in range(8)]
    assert score([*complaints, *(rated(f"s{i}", "n") for i in range(4))]).value < -0.9 * ONE


def test_score__when__micro_tasks_praise_and_a_real_one_complains__then__the_value_decides() -> None:
    micro = [rated(f"c{i}", "n", worth=10**6) for i in range(20)]
    assert score([*micro, rated("victim", "n", 1, worth=10 * ERG)]).value < 0


def test_score__when__many_small_tasks_praise_and_few_real_ones_complain__then__the_consensus_is_of_the_money() -> None:
    micro = [rated(f"c{i}", "n", worth=ERG // 500) for i in range(60)]
    verdict = engine_of([*micro, *(rated(f"v{i}", "n", 1, worth=ERG // 20) for i in range(4))]).verdict(b"n")
    assert verdict.consensus == -10
    assert verdict.score.value < 0


def test_score__when__tasks_are_small__then__confidence_is_earned_with_the_cube_of_the_weight() -> None:
    sixty = [score(rated(f"c{i}", "n", worth=value) for i in range(60)).confidence for value in (ERG // 500, ERG // 50)]
    assert sixty[0] < ONE // 20
    assert sixty[1] > 0.85 * ONE


def test_score__when__nothing_is_at_stake__then__no_consensus_and_no_confidence() -> None:
    verdict = engine_of(rated(f"c{i}", "n", worth=1) for i in range(9)).verdict(b"n")
    assert (verdict.consensus, verdict.score.confidence) == (None, 0)


def test_score__when__a_node_turns_bad__then__its_old_praise_does_not_hold_it_up() -> None:
    turned = engine_of([*weekly("good", 20), *weekly("bad", 4, mark=1, start=20)]).verdict(b"n")
    assert turned.turned > ONE // 5
    assert turned.score.value < 0


def test_score__when__one_in_eight_tasks_fails_as_ever__then__nothing_is_taken_off() -> None:
    marks = [1 if day % 8 == 7 else 5 for day in range(40)]
    daily = [rated(f"c{day}", "n", mark, height=day * BLOCKS_PER_DAY) for day, mark in enumerate(marks)]
    assert [engine_of(daily[:count]).verdict(b"n").turned for count in range(41)] == [0] * 41


def test_score__when__a_node_has_rested__then__one_complaint_is_one_among_many() -> None:
    daily = [rated(f"c{i}", "n", height=i * BLOCKS_PER_DAY) for i in range(30)]
    ends = [30 * BLOCKS_PER_DAY + weeks * WEEK for weeks in (1, 52)]
    after = [engine_of([*daily, rated("x", "n", 1, height=end)]).verdict(b"n") for end in ends]
    assert [verdict.turned for verdict in after] == [0, 0]


def test_score__when__complaints_end__then__good_work_is_believed_again() -> None:
    turned = [*weekly("good", 20), *weekly("bad", 4, mark=1, start=20)]
    assert engine_of([*turned, *weekly("better", 12, start=24)]).verdict(b"n").turned == 0


def test_score__when__the_circle_covers_up__then__recent_work_is_what_strangers_say() -> None:
    turned = [*weekly("good", 20), *weekly("bad", 4, mark=1, start=20)]
    bought = [rated("n", "friend", height=23 * WEEK, worth=50 * ERG), rated("x", "friend", height=1)]
    praise = [rated("friend", "n", height=24 * WEEK, worth=5 * ERG) for _ in range(9)]
    assert score([*turned, *praise, *bought]) == score(turned)


def test_score__when__as_client__then__by_what_nodes_say() -> None:
    marked = [TaskRecord(1, bytes([i]), b"c", bytes([i]), ERG, node_mark=2) for i in range(3)]
    engine = engine_of(marked)
    assert engine.score(b"c", Role.CLIENT).value == -ONE // 2
    assert list(engine.known(Role.NODE)) == []


def test_fold__when__a_record_is_there_already__then__refused_and_nothing_changed() -> None:
    known = rated("a", "n")
    engine = engine_of([known])
    before = everything(engine)
    with pytest.raises(HistoryError, match="known already"):
        engine.fold([rated("b", "n"), known])
    assert (everything(engine), len(engine)) == (before, 1)


def test_advance__when__the_chain_got_shorter__then__refused() -> None:
    engine = engine_of([], height=100)
    with pytest.raises(HistoryError, match="99 is below the known 100"):
        engine.advance(99)


PARTIES = st.sampled_from([b"a", b"b", b"c", b"d"])
PURSES = st.sampled_from([None, None, b"a", b"p"])
TASK_IDS = st.integers(0, 10**6).map(lambda number: number.to_bytes(4, "big"))
RECORDS = st.builds(
    lambda *, held, **fields: TaskRecord(
        **fields, held=held * fields["worth"] // 4 if fields["outcome"] is Outcome.COMPLETED else 0
    ),
    height=st.integers(0, 60),
    task=TASK_IDS,
    client=PARTIES,
    node=PARTIES,
    worth=st.integers(1, 10**11) | st.integers(1, 10**7),
    outcome=st.sampled_from([Outcome.COMPLETED, Outcome.COMPLETED, Outcome.FAILED, Outcome.TIMED_OUT]),
    client_mark=st.integers(0, 5),
    node_mark=st.integers(0, 5),
    client_committed=st.booleans(),
    node_committed=st.booleans(),
    client_funding=PURSES,
    node_funding=PURSES,
    held=st.integers(0, 4),
    asset=st.sampled_from([None, None, b"token"]),
)
BURNS = st.builds(  # of customers that serve nobody; whatever they do not burn they let go
    lambda height, task, parties, mark: TaskRecord(
        height, task, parties[0], parties[1], ERG, client_mark=mark, client_committed=True, held=ERG
    ),
    height=st.integers(0, 60),
    task=TASK_IDS,
    parties=st.tuples(st.sampled_from([b"x", b"y"]), st.sampled_from([b"a", b"b", b"c"])),
    mark=st.sampled_from([1, 1, 5]),
)
HISTORY = st.lists(RECORDS, unique_by=lambda record: record.order, max_size=40) | st.lists(
    BURNS, unique_by=lambda record: record.order, max_size=40
)
UNITS = st.sampled_from([1, BLOCKS_PER_DAY // 3, 5 * BLOCKS_PER_DAY])  # blocks: all on one day, or days or weeks apart


def spread(history: list[TaskRecord], unit: int) -> list[TaskRecord]:
    return [replace(record, height=record.height * unit) for record in history]


@given(HISTORY, UNITS, st.data())
def test_fold__when__records_come_in_any_order_over_any_forks__then__as_from_scratch(
    history: list[TaskRecord], unit: int, data: st.DataObject
) -> None:
    """Each step folds in a few records, grows the chain or cuts it; scores are asked for in between, so that stale sums would show."""
    engine = Engine()
    known: list[TaskRecord] = []
    left = list(data.draw(st.permutations(spread(history, unit))))
    forks = data.draw(st.integers(0, 5))
    while left:
        some, left = left[:3], left[3:]
        engine.fold(some)
        known += some
        if forks and data.draw(st.booleans()):
            forks -= 1
            engine.rollback(unit * data.draw(st.integers(0, 70)))
            left += [record for record in known if record.height > engine.height]  # the new branch holds them again
            known = [record for record in known if record.height <= engine.height]
        else:
            engine.advance(engine.height + unit * data.draw(st.integers(0, 30)))
        scratch = engine_of(known, engine.height)
        assert everything(engine) == everything(scratch)
        assert len(engine) == len(scratch)


@given(HISTORY, UNITS)
def test_explain__when__of_any_history__then__its_shares_make_the_score(history: list[TaskRecord], unit: int) -> None:
    engine = engine_of(spread(history, unit))
    for (role, key), verdict in everything(engine).items():
        explained = explain(engine, key, role)
        overall = sum(term.share * term.opinion for term in explained.terms) // ONE
        recent = sum(term.recent * term.opinion for term in explained.terms) // ONE
        assert explained.verdict == verdict
        assert abs(overall - verdict.turned - verdict.score.value) <= len(explained.terms) + 1
        if verdict.turned:
            assert abs(recent + ONE // 5 - verdict.score.value) <= len(explained.terms) + 1
        assert -ONE <= verdict.score.value <= ONE
        assert 0 <= verdict.score.confidence < ONE
