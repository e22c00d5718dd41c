"""Every attack is refused by both interpreters, and every honest transaction accepted by both."""

from __future__ import annotations

import pytest

from .cases import Line
from .judge import Judge
from .suite import MODULES, all_cases, findings, honest_drafts, judged
from .world import World

pytestmark = [pytest.mark.jvm, pytest.mark.slow]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition("_")[2])
def test_attacks__when_built_by_hand_with_any_proof__then_both_interpreters_refuse(
    world: World, judge: Judge, module: object
) -> None:
    wrong = {
        case.name: found
        for case, attack, twin in judged(judge, all_cases(world, [module]))
        if (found := findings(attack, twin))
    }

    assert wrong == {}


def test_honest_transactions__when_in_any_shape__then_both_interpreters_accept(world: World, judge: Judge) -> None:
    verdicts = {name: judge(draft) for name, draft in honest_drafts(world)}

    assert {name: v for name, v in verdicts.items() if not v.accepted or v.rules} == {}


def test_cases__when_counted__then_every_line_of_the_protocol_has_one_and_names_are_unique(world: World) -> None:
    cases = list(all_cases(world))

    assert {case.line for case in cases} == set(Line) - {Line.BLOCKED}
    assert len({case.name for case in cases}) == len(cases) > 900
