"""What is done about a sent transaction, for every combination of what can be known of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import Final

import pytest

from aihd.core.sending import PATIENCE, TAKEN, Action, Age, Answer, Facts, Standing, age_of, bears, decide, together

BOOLEANS: Final = (False, True)
W, R, B = Action.WAIT, Action.REPLACE, Action.BUILD

# What becomes of one that waits, its inputs there and its parents well: by the answer, at each age, and when it is unwanted.
TABLE: Final[dict[Answer, tuple[Action, Action, Action, Action]]] = {
    Answer.ACCEPTED: (W, W, R, R),
    Answer.KNOWN: (W, W, R, R),
    Answer.FEE: (R, R, R, R),
    Answer.UNKNOWN: (W, W, R, R),
    Answer.DOUBLE_SPEND: (W, W, R, R),
    Answer.SPOILT: (B, B, B, B),
    Answer.MISSING_INPUT: (W, B, B, B),
    Answer.EARLY: (W, W, B, B),
    Answer.UNREACHED: (W, W, B, B),
}
# Whether others may be built on it, fresh or aged, and overdue.
BEARS: Final[dict[Answer | None, tuple[bool, bool]]] = {
    None: (True, True),
    Answer.ACCEPTED: (True, True),
    Answer.KNOWN: (True, True),
    Answer.FEE: (True, False),
    Answer.UNKNOWN: (True, False),
    Answer.DOUBLE_SPEND: (False, False),
    Answer.SPOILT: (False, False),
    Answer.MISSING_INPUT: (False, False),
    Answer.EARLY: (True, False),
    Answer.UNREACHED: (True, False),
    Answer.REFUSED: (False, False),
}


def every() -> Iterator[Facts]:
    for standing, answer, age, spent, orphaned, unwanted in product(
        Standing, (None, *Answer), Age, BOOLEANS, BOOLEANS, BOOLEANS
    ):
        yield Facts(standing=standing, answer=answer, age=age, spent=spent, orphaned=orphaned, unwanted=unwanted)


def test_decide__when__anything_is_known__then__one_action_and_only_a_fact_ends_it() -> None:
    seen = [(facts, decide(facts)) for facts in every()]
    assert len(seen) == 3 * 11 * 3 * 8
    assert {action for _, action in seen} == set(Action)
    for facts, action in seen:
        waiting = facts.standing is Standing.WAITING
        assert (action is Action.DROP) == (
            waiting and (facts.spent or (facts.answer is Answer.REFUSED and not facts.orphaned))
        ), facts
        assert (action is Action.SEND) == (
            waiting and facts.answer is None and not facts.spent and not facts.orphaned
        ), facts
        assert waiting or action is Action.WAIT, facts


@pytest.mark.parametrize("answer", TABLE)
def test_decide__when__nodes_answered__then__as_the_table_says(answer: Answer) -> None:
    *ages, unwanted = TABLE[answer]
    assert [decide(Facts(answer=answer, age=age)) for age in Age] == ages
    assert {decide(Facts(answer=answer, age=age, unwanted=True)) for age in (Age.FRESH, Age.AGED)} == {unwanted}


def test_decide__when__it_rests_on_what_no_node_takes__then__built_anew_whatever_was_answered() -> None:
    for facts in every():
        if facts.orphaned and not facts.spent and facts.standing is Standing.WAITING:
            assert decide(facts) is Action.BUILD


@pytest.mark.parametrize("answer", BEARS, ids=str)
def test_bears__when__it_waits__then__only_on_what_a_node_has_or_may_have(answer: Answer | None) -> None:
    young, old = BEARS[answer]
    for age, expected in zip(Age, (young, young, old), strict=True):
        facts = Facts(answer=answer, age=age)
        assert bears(facts) is expected
        assert not bears(replace(facts, orphaned=True)) and not bears(replace(facts, spent=True))
        assert bears(replace(facts, standing=Standing.MINED)) and not bears(replace(facts, standing=Standing.REPLACED))


def test_bears__when__a_transaction_is_to_be_built_anew__then__nothing_rests_on_it() -> None:
    for facts in every():
        if decide(facts) in (Action.BUILD, Action.DROP) and not facts.unwanted:
            assert not bears(facts), facts


def test_together__when__nodes_disagree__then__one_that_has_it_is_enough_and_all_have_to_refuse() -> None:
    for answers in combinations_with_replacement(Answer, 3):
        found = together(answers)
        assert found in answers
        assert (found in TAKEN) == any(answer in TAKEN for answer in answers)
        assert (found is Answer.REFUSED) == all(answer is Answer.REFUSED for answer in answers)
        assert found is together(reversed(answers))
    assert together([]) is Answer.UNREACHED


def test_age_of__when__blocks_pass__then__overdue_at_the_patience_and_not_before() -> None:
    assert [age_of(n) for n in range(-3, PATIENCE + 1)] == (
        [Age.FRESH] * 4 + [Age.AGED] * (PATIENCE - 1) + [Age.OVERDUE]
    )
