"""`python -m tests.contracts`: the table of attacks. Ends with 1 if one is accepted, a twin is refused or the interpreters disagree."""

from __future__ import annotations

import sys

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import templates

from .judge import Judge
from .suite import all_cases, findings, judged
from .world import World


def main() -> int:
    world = World.of(templates())
    wrong: list[str] = []
    print("| attack | refused by sigma-rust | refused by JVM | by which guard |\n|---|---|---|---|")
    with Appkit() as appkit:
        count = 0
        for case, attack, twin in judged(Judge(world.deployment, appkit), all_cases(world)):
            count += 1
            guards = ", ".join(attack.guards) or "nobody"
            print(f"| {case.name} | {_answer(not attack.rust)} | {_answer(not attack.jvm)} | {guards} |")
            wrong += [f"{case.name}: {finding}" for finding in findings(attack, twin)]
    print(f"\n{count} attacks, {len(wrong)} findings", *wrong, sep="\n")
    return 1 if wrong else 0


def _answer(refused: bool) -> str:
    return "yes" if refused else "NO"


if __name__ == "__main__":
    sys.exit(main())
