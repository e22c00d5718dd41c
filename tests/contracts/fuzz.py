"""Property fuzzing of the guards: honest transactions, mutated, judged by both interpreters, held against the invariants.

`python -m tests.contracts.fuzz --mutations 500000 --seed 7` prints a table by kind; it ends with 1 and the smallest recipe if an invariant
broke. The JVM, in a process of its own, judges every mutant. sigma-rust, which takes longer to build a transaction than to judge it,
judges every mutant that the JVM accepts, and of the others a share that the mutant's own bytes choose.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import templates
from aihd.protocol.deployment import Guard, Template

from .fuzz_judge import Mutant
from .fuzz_mutations import OPERATIONS, Kitchen, Mutation, Recipe
from .fuzz_seeds import Colluders, Seed, around, seeds
from .invariants import broken
from .world import World

BATCH: Final = 10  # recipes in one example of hypothesis, so that the JVM can work ahead
REFUSED_SHARE: Final = 98  # of 256: how many of the refused mutants sigma-rust judges too
CHUNK: Final = 2_000  # examples that hypothesis remembers at a time
# What a JVM started for many thousand transactions should have in _JAVA_OPTIONS: the second compiler halves the time of each.
LONG_RUN: Final = "-XX:TieredStopAtLevel=4"
_NUMBERS: Final = st.integers(0, 255)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a recipe: the verdicts, None where an interpreter was not asked, and what is wrong with them.

    The JVM is not asked about what is the honest transaction again, or breaks a rule of the chain that needs no script.
    """

    recipe: Recipe
    seed: Seed
    jvm: bool | None = None
    rust: bool | None = None
    faults: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return bool(self.jvm and self.rust)

    def __str__(self) -> str:
        return f"{self.seed.name} ({self.recipe}): {'; '.join(self.faults)}"


@dataclass
class Tally:
    """Counts over many outcomes; those by kind are of mutants that were judged, `refused` are those that both interpreters refused."""

    judged: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    idle: int = 0

    def add(self, outcome: Outcome) -> None:
        if outcome.jvm is None:
            self.idle += 1
            return
        self.judged[outcome.seed.kind] += 1
        self.refused += outcome.rust is False
        if outcome.accepted:
            self.accepted[outcome.seed.kind] += 1
            self.operations.update({mutation.operation for mutation in outcome.recipe.mutations})

    def table(self) -> Iterator[str]:
        yield "| transaction | mutants | accepted by both |\n|---|---|---|"
        yield from (f"| {kind} | {judged} | {self.accepted[kind]} |" for kind, judged in sorted(self.judged.items()))
        yield f"| all | {self.judged.total()} | {self.accepted.total()} |\n"
        yield f"sigma-rust refused {self.refused} of them as the JVM did. {self.idle} more were no change or broke a rule of the chain."


class Fuzzer:
    """A market, its recipes, and both interpreters."""

    def __init__(self, appkit: Appkit, templates: Mapping[Guard, Template]) -> None:
        world = World.of(templates)
        self.deployment = world.deployment
        self.kitchen = Kitchen(tuple(seeds(world)), around(world), world.deployment.trees)
        self._honest = {Mutant(self.deployment, seed.draft).key for seed in self.kitchen.seeds}
        self._appkit = appkit

    def outcomes(self, recipes: Sequence[Recipe]) -> Iterator[Outcome]:
        """In the order of the recipes; the JVM works ahead while this process asks sigma-rust."""
        asked: list[tuple[Recipe, Seed, Mutant, Future[bool] | None]] = []
        with ThreadPoolExecutor(1) as jvm:
            for recipe in recipes:
                seed, draft = self.kitchen.mutant(recipe)
                mutant = Mutant(self.deployment, draft)
                worth = mutant.key not in self._honest and not mutant.unlawful()
                verdict = jvm.submit(mutant.passes_jvm, self._appkit, mutant.proofs) if worth else None
                asked.append((recipe, seed, mutant, verdict))
            for recipe, seed, mutant, verdict in asked:
                yield self._outcome(recipe, seed, mutant, verdict.result()) if verdict else Outcome(recipe, seed)

    def _outcome(self, recipe: Recipe, seed: Seed, mutant: Mutant, jvm: bool) -> Outcome:
        """Ask sigma-rust, where the JVM accepts or the lot falls on the mutant, and look at what both accept."""
        if not jvm and mutant.id[0] >= REFUSED_SHARE:
            return Outcome(recipe, seed, jvm)
        proofs, reason = mutant.passes_rust()
        if proofs and not jvm:
            jvm = mutant.passes_jvm(self._appkit, [proofs])
        if bool(proofs) != jvm:
            return Outcome(
                recipe, seed, jvm, bool(proofs), (f"the JVM says {jvm}, sigma-rust {bool(proofs)} {reason}",)
            )
        return Outcome(recipe, seed, jvm, jvm, tuple(broken(mutant.accepted())) if jvm else ())


def recipes(count: int) -> st.SearchStrategy[Recipe]:
    """Recipes over `count` honest transactions: one to four mutations, by any colluders."""
    mutation = st.builds(Mutation, st.sampled_from(sorted(OPERATIONS)), _NUMBERS, _NUMBERS, _NUMBERS)
    mutations = st.lists(mutation, min_size=1, max_size=4).map(tuple)
    return st.builds(Recipe, st.integers(0, count - 1), st.sampled_from(Colluders), mutations)


def fuzz(fuzzer: Fuzzer, mutants: int, seed: int, progress: Callable[[Tally], None] = lambda _: None) -> Tally:
    """Judge `mutants` or a few more, the same ones for the same seed; AssertionError with the smallest recipe that breaks something."""
    tally = Tally()
    while (left := mutants - tally.judged.total()) > 0:
        seed += 1
        _chunk(fuzzer, tally, min(CHUNK, -(-left // BATCH)), seed)
        progress(tally)
    return tally


def _chunk(fuzzer: Fuzzer, tally: Tally, examples: int, seed: int) -> None:
    @seeded(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(recipes(len(fuzzer.kitchen.seeds)), min_size=BATCH, max_size=BATCH))
    def keeps_the_invariants(batch: list[Recipe]) -> None:
        outcomes = list(fuzzer.outcomes(batch))
        for outcome in outcomes:
            tally.add(outcome)
        faulty = [str(outcome) for outcome in outcomes if outcome.faults]
        assert not faulty, "\n".join(faulty)

    keeps_the_invariants()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutations", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    asked = parser.parse_args()
    began = time.monotonic()

    def progress(tally: Tally) -> None:
        print(f"{tally.judged.total()} mutants, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    print(f"seed {asked.seed}")
    os.environ.setdefault("_JAVA_OPTIONS", LONG_RUN)
    with Appkit() as appkit:
        try:
            tally = fuzz(Fuzzer(appkit, templates()), asked.mutations, asked.seed, progress)
        except AssertionError as error:
            print(error)
            return 1
    print(*tally.table(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
