"""All cases, and what is wrong with a pair of verdicts."""

from __future__ import annotations

from collections.abc import Iterator

from . import attacks_bond, attacks_minter, attacks_task
from .cases import Case
from .judge import Verdict
from .world import World


def all_cases(world: World) -> Iterator[Case]:
    """Every attack, each with its honest twin."""
    for module in (attacks_minter, attacks_task, attacks_bond):
        yield from module.cases(world)


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
