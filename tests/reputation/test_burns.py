"""Held money, burned money and money that is a token: what each of them weighs in a score."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.protocol.constants import MAX_PAYMENT
from aihd.reputation.engine import Engine
from aihd.reputation.explain import RatingTerm, explain
from aihd.reputation.fixed import BLOCKS_PER_DAY, ONE, evidence_weight, value_weight
from aihd.reputation.history import IN_A_TOKEN, HistoryError, Outcome, Role, TaskRecord
from benchmarks.reputation_sim.price import locked, spent, standing

ERG = 10**9
TASKS = count()


def rated(
    client: str, node: str, mark: int, *, held: int = 0, worth: int = ERG, asset: bytes | None = None
) -> TaskRecord:
    """A paid task that its client marked."""
    task = next(TASKS).to_bytes(4, "big")
    return TaskRecord(
        1,
        task,
        client.encode(),
        node.encode(),
        worth,
        client_mark=mark,
        client_committed=mark > 0,
        held=held,
        asset=asset,
    )


def engine_of(*records: TaskRecord, height: int = 100) -> Engine:
    engine = Engine()
    engine.advance(height)
    engine.fold(records)
    return engine


def complaint(*records: TaskRecord) -> RatingTerm:
    """The term of the newest complaint about the node "n"."""
    return next(term for term in explain(engine_of(*records), b"n").terms if term.opinion < 0)


def evidence(*records: TaskRecord, node: str = "n") -> int:
    return engine_of(*records).verdict(node.encode()).evidence


# ---------------------------------------------------------------- burns


@pytest.mark.parametrize(("mark", "held", "burned"), [(1, 300, 300), (2, 300, 0), (0, 300, 0), (1, 0, 0)])
def test_burned__when__something_was_held__then__gone_by_a_mark_of_1_alone(mark: int, held: int, burned: int) -> None:
    record = TaskRecord(1, b"t", b"c", b"n", 1000, client_mark=mark, held=held)
    assert (record.burned, record.paid) == (burned, 1000 - burned)


@pytest.mark.parametrize(
    ("outcome", "held", "most"),
    [(Outcome.COMPLETED, 1001, 1000), (Outcome.COMPLETED, -1, 1000), (Outcome.FAILED, 1, 0), (Outcome.TIMED_OUT, 1, 0)],
)
def test_record__when__more_was_held_than_can_have_been__then__refused_by_name(
    outcome: Outcome, held: int, most: int
) -> None:
    with pytest.raises(HistoryError, match=f"held {held} of task 74, {outcome.value}: must be 0 to {most} nanoERG"):
        TaskRecord(1, b"t", b"c", b"n", 1000, outcome, held=held)


def content(client: str, count: int) -> list[TaskRecord]:
    """Good work of others, for which the client let go what he held back."""
    return [rated(client, f"good {i}", 5, held=1) for i in range(count)]


def spite(client: str, count: int) -> list[TaskRecord]:
    return [rated(client, f"burned {i}", 1, held=ERG) for i in range(count)]


@pytest.mark.parametrize(
    ("let_go", "burns", "held", "factor"),
    [
        (0, 0, ERG, 1.0),  # a first burn: nothing speaks for its writer, nothing against
        (9, 0, ERG, 1 + 0.25 * 14 / 16),
        (9, 0, ERG // 2, 1 + 0.125 * 14 / 16),
        (9, 0, 0, 1.0),  # a bare mark
        (99, 0, ERG, 1 + 0.25 * 15 / 16),
        (9, 9, ERG, 1.0),  # as often as not
        (0, 1, ERG, 1 - 0.5 / 2),
        (0, 9, ERG, 1 - 0.5 * 15 / 16),
        (0, 9, ERG // 2, 1 - 0.25 * 15 / 16),
        (0, 9, 0, 1.0),
        (0, 99, ERG, 1 - 0.5),
    ],
)
def test_burn__when__its_writer_has_this_record__then__louder_for_the_exception_and_softer_for_the_habit(
    let_go: int, burns: int, held: int, factor: float
) -> None:
    term = complaint(*content("c", let_go), *spite("c", burns), rated("c", "n", 1, held=held))
    assert abs(term.burn - factor * ONE) <= 1


def test_burn__when__it_is_the_first_of_its_writer__then__a_bare_mark_in_everything() -> None:
    praise = [rated(f"p{i}", "n", 4) for i in range(6)]
    burned, bare = (engine_of(*praise, rated("c", "n", 1, held=held)) for held in (ERG, 0))
    assert burned.verdict(b"n") == bare.verdict(b"n")


def test_burn__when__louder__then__in_the_mean_the_evidence_and_the_recent_mean() -> None:
    others = content("c", 9)
    bare, burned = ([*others, rated("p", "n", 5), rated("c", "n", 1, held=held)] for held in (0, ERG))
    worse, better = engine_of(*burned).verdict(b"n"), engine_of(*bare).verdict(b"n")
    assert better.score.value == 0
    assert abs(worse.score.value - (10_000 - 12_187.5) * ONE // 22_187.5) <= 1
    assert abs(worse.evidence * 20_000 - better.evidence * 22_187.5) < 100_000
    for term in explain(engine_of(*burned), b"n").terms:
        assert abs(term.recent - (12_187.5 if term.opinion < 0 else 10_000) * ONE // 22_187.5) <= 1


def test_burn__when__recent_work_was_worse__then__it_weighs_in_what_counts_as_recent() -> None:
    """Old praise lies so far back on the node's own clock that the last two tasks are all that is recent."""
    old = [replace(rated(f"old {day}", "n", 5), height=day * BLOCKS_PER_DAY) for day in range(0, 140, 7)]
    filler = [replace(rated(f"dust {day}", "n", 3, worth=1), height=day * BLOCKS_PER_DAY) for day in range(140, 700, 7)]
    end = [
        replace(record, height=700 * BLOCKS_PER_DAY) for record in (rated("p", "n", 5), rated("c", "n", 1, held=ERG))
    ]
    engine = engine_of(*content("c", 9), *old, *filler, *end, height=701 * BLOCKS_PER_DAY)
    verdict = engine.verdict(b"n")
    recent = (10_000 - 12_187.5) * ONE / 22_187.5
    assert verdict.turned > 0
    assert abs(verdict.score.value - ONE // 5 - recent) < 1000


def test_burn__when__its_writer_changes__then__what_he_said_before_is_weighed_anew() -> None:
    engine = engine_of(rated("c", "n", 1, held=ERG), rated("p", "n", 5))
    assert engine.score(b"n").value == 0
    engine.fold([rated("c", "good", 5, held=1)])
    assert engine.score(b"n").value < 0
    engine.fold(spite("c", 3))
    assert engine.score(b"n").value > 0


@pytest.mark.parametrize("mark", [1, 5])
def test_burn__when__he_dealt_with_himself__then__that_says_nothing_of_how_he_burns(mark: int) -> None:
    own = replace(rated("c", "friend", mark, held=ERG), client_funding=b"purse", node_funding=b"purse")
    burn = replace(rated("c", "n", 1, held=ERG), client_funding=b"purse")
    assert own.self_dealt
    assert complaint(own, own_again(own), burn).burn == ONE


def own_again(own: TaskRecord) -> TaskRecord:
    return replace(own, task=b"again")


def test_burn__when__keys_share_a_purse__then__all_that_they_burned_is_one() -> None:
    def of_the_firm(record: TaskRecord) -> TaskRecord:
        return replace(record, client_funding=b"firm")

    others, burn = content("a", 3), rated("b", "n", 1, held=ERG)
    assert complaint(*map(of_the_firm, others), of_the_firm(burn)).burn == ONE + ONE // 4 * 3 // 4
    assert complaint(*others, burn).burn == ONE


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 4)), max_size=20))
def test_burn__when__of_any_history__then__a_half_to_five_quarters_of_a_bare_mark(
    said: list[tuple[str, int, int]],
) -> None:
    records = [rated("c", node, mark, held=quarters * ERG // 4) for node, mark, quarters in said]
    for node in "abc":
        for term in explain(engine_of(*records), node.encode()).terms:
            assert ONE // 2 <= term.burn <= ONE + ONE // 4
            assert term.burn == ONE or term.record.burned


@pytest.mark.parametrize(("mark", "opinion"), [(5, 0), (3, 0), (2, -ONE // 2), (1, -ONE), (0, 0)])
def test_opinion__when__the_client_burned__then__the_nodes_praise_is_void_and_no_blame_comes_of_it(
    mark: int, opinion: int
) -> None:
    burned = replace(rated("c", "n", 1, held=1), node_mark=mark, node_committed=mark > 0)
    assert (burned.opinion(Role.CLIENT), burned.opinion(Role.NODE)) == (opinion, -ONE)


@pytest.mark.parametrize("mark", [0, 2, 5])
def test_opinion__when__the_client_let_go__then__the_nodes_praise_stands(mark: int) -> None:
    kept = replace(rated("c", "n", mark, held=1), node_mark=5, node_committed=True)
    assert kept.opinion(Role.CLIENT) == ONE


def test_burn__when__the_client_is_the_one_who_is_scored__then__the_nodes_own_burns_lend_it_no_weight() -> None:
    """The node buys as well, and burns now and then: that weighs its complaints as a customer alone."""
    burns = [*content("n", 9), rated("n", "burned", 1, held=ERG)]
    marked = replace(rated("c", "n", 1, held=ERG), node_mark=2, node_committed=True)
    (term,) = explain(engine_of(*burns, marked), b"c", Role.CLIENT).terms
    assert term.burn == ONE


def test_score__when__a_client_burns_all__then__he_stands_where_an_unknown_one_does() -> None:
    marked = [replace(record, node_mark=5, node_committed=True) for record in spite("c", 20)]
    score = engine_of(*marked).score(b"c", Role.CLIENT)
    assert (score.value, score.standing) == (0, 0)
    assert score.confidence > ONE // 2
    bare = [replace(record, held=0) for record in marked]
    assert engine_of(*bare).score(b"c", Role.CLIENT).value == ONE


def test_fresh__when__what_was_paid_was_burned__then__it_came_round_nowhere() -> None:
    """Burned money is no income of the node: who buys from it has nothing that might have come round."""
    burned = rated("a", "b", 1, held=ERG)
    (term,) = explain(engine_of(burned, rated("b", "n", 5)), b"n").terms
    assert term.fresh == ONE
    (circling,) = explain(engine_of(rated("a", "b", 1), rated("b", "n", 5), rated("n", "x", 5)), b"n").terms
    assert circling.fresh == 0


# ---------------------------------------------------------------- tokens


def test_stake__when__the_payment_is_a_token__then__a_third_of_what_the_client_says() -> None:
    in_token = rated("c", "n", 5, worth=3 * ERG, held=3 * ERG, asset=b"token")
    assert (IN_A_TOKEN, in_token.stake, in_token.paid) == (3, ERG, ERG)
    assert evidence(in_token) == evidence(rated("c", "n", 5)) == evidence_weight(value_weight(ERG))
    assert rated("c", "n", 1, worth=3 * ERG, held=ERG, asset=b"token").paid == 2 * ERG // 3
    assert rated("c", "n", 5, worth=1, asset=b"token").stake == 1


@pytest.mark.parametrize("tenths", range(1, 10))
def test_price__when__a_standing_is_bought_with_a_worthless_token__then__dearer_than_in_erg(tenths: int) -> None:
    assert standing(tenths, in_token=True).spent > standing(tenths).spent


@given(st.integers(IN_A_TOKEN, MAX_PAYMENT))
def test_price__when__a_token_of_any_worth_buys_a_mark__then__erg_buys_the_same_and_neither_costs_nor_locks_more(
    worth: int,
) -> None:
    """So whatever mixture of tasks somebody pays in tokens, the same in ERG is no dearer for him."""
    in_token, in_erg = rated("c", "n", 5, worth=worth, asset=b"token"), rated("c", "n", 5, worth=worth // IN_A_TOKEN)
    assert in_token.stake == in_erg.stake
    assert locked(in_token.worth, in_token=True) >= locked(in_erg.worth)
    assert spent(in_token.worth) >= spent(in_erg.worth)


@pytest.mark.parametrize("worth", [1, 1000, 100 * ERG])
def test_fresh__when__a_circle_is_closed_by_tokens__then__no_matter_what_they_are_said_to_be_worth(worth: int) -> None:
    """The node gets its money from the client in ERG and gives it back for a token that may be worth it."""
    ring = [rated("a", "n", 5, worth=50 * ERG), rated("n", "b", 5, worth=worth, asset=b"token")]
    closed = engine_of(*ring, rated("b", "a", 5, worth=worth, asset=b"token"))
    assert closed.score(b"n").confidence == 0
    assert engine_of(*ring).score(b"n").confidence > 0, "the client earned nothing: the circle is open"


def test_moved__when__a_token_was_burned_or_given_back__then__nothing_moved() -> None:
    burned = rated("c", "n", 1, held=ERG, asset=b"token")
    failed = replace(rated("c", "n", 0, asset=b"token"), outcome=Outcome.FAILED)
    assert (burned.moved, failed.moved) == (0, 0)
    assert rated("c", "n", 1, held=ERG - 1, asset=b"token").moved == MAX_PAYMENT
    assert rated("c", "n", 5).moved == ERG


def test_fresh__when__much_is_paid_in_a_token__then__a_third_of_it_stands_against_the_circle() -> None:
    ring = [rated("b", "a", 5, worth=ERG), rated("n", "b", 5, worth=ERG)]
    bought = [rated("a", "n", 5, worth=6 * ERG, asset=asset) for asset in (None, b"token")]
    erg, token = (explain(engine_of(*ring, record), b"n").terms[0].fresh for record in bought)
    assert (erg, token) == (ONE - 2 * ONE // 6, 0)
