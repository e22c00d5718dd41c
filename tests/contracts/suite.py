"""All cases, and what is wrong with a pair of verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from . import (
    attacks_bond,
    attacks_held,
    attacks_minter,
    attacks_rating,
    attacks_release,
    attacks_return,
    attacks_task,
    attacks_token,
    honest,
)
from .cases import Case
from .chain import Draft
from .judge import Judge, Verdict
from .world import World

MODULES = (
    attacks_minter,
    attacks_task,
    attacks_token,
    attacks_bond,
    attacks_release,
    attacks_return,
    attacks_rating,
    attacks_held,
)


def all_cases(world: World, modules: Iterable[Any] = MODULES) -> Iterator[Case]:
    """Every attack, each with its honest twin."""
    for module in modules:
        yield from module.cases(world)


def honest_drafts(world: World) -> Iterator[tuple[str, Draft]]:
    """Every honest transaction, in every shape."""
    return honest.drafts(world)


def judged(judge: Judge, cases: Iterable[Case]) -> Iterator[tuple[Case, Verdict, Verdict]]:
    """Each case with the verdicts on its attack and on its twin; cases that share a twin share its verdict."""
    twins: dict[int, tuple[Draft, Verdict]] = {}
    for case in cases:
        if id(case.twin) not in twins:
            twins[id(case.twin)] = (case.twin, judge(case.twin))
        yield case, judge(case.attack, case.twin), twins[id(case.twin)][1]


def findings(attack: Verdict, twin: Verdict) -> list[str]:
    """What is wrong with an attack's verdict and its twin's; empty when the attack is refused for the right reason."""
    found = []
    if attack.rust or attack.jvm:
        found.append("the attack is accepted")
    if not attack.agreed or not twin.agreed:
        found.append(f"the interpreters disagree (attack {attack.rust}, {attack.jvm}; twin {twin.rust}, {twin.jvm})")
    if not twin.accepted or twin.rules:
        found.append(f"the honest twin is refused by {twin.guards} {[rule.text for rule in twin.rules]}")
    if attack.rules:
        found.append(f"the attack breaks a chain rule: {[rule.text for rule in attack.rules]}")
    return found
