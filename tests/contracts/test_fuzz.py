"""The fuzzer at work, and put to the test: it writes what ergo-lib writes, accepts what is honest, and finds holes that are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import source_of, templates
from aihd.protocol.deployment import Guard

from .chain import message_of
from .fuzz import LONG_RUN, Fuzzer, fuzz
from .fuzz_judge import Mutant
from .fuzz_mutations import Mutation, Recipe
from .fuzz_tx import box_size
from .invariants import broken
from .mutate import Mutant as Weakened
from .mutate import compile_mutant

pytestmark = pytest.mark.jvm
MUTANTS = 20_000


@pytest.fixture(scope="module")
def long_appkit() -> Iterator[Appkit]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_JAVA_OPTIONS", LONG_RUN)
        running = Appkit()
    with running:
        yield running


@pytest.fixture(scope="module")
def fuzzer(long_appkit: Appkit) -> Fuzzer:
    return Fuzzer(long_appkit, templates())


def test_bytes__when__a_transaction_is_written_without_ergo_lib__then__they_are_those_of_ergo_lib(
    fuzzer: Fuzzer,
) -> None:
    for seed in fuzzer.kitchen.seeds:
        mutant, unsigned = Mutant(fuzzer.deployment, seed.draft), seed.draft.unsigned()
        assert mutant.message == message_of(unsigned), seed.name
        assert [box_size(out) for out in mutant.outputs] == [len(bytes(box)) for box in unsigned.outputs], seed.name


def test_seeds__when__honest__then__both_accept_and_no_invariant_breaks(fuzzer: Fuzzer, long_appkit: Appkit) -> None:
    for number, seed in enumerate(fuzzer.kitchen.seeds):
        _, draft = fuzzer.kitchen.mutant(Recipe(number, seed.able[0], ()))
        mutant = Mutant(fuzzer.deployment, draft)
        proofs, why = mutant.passes_rust()
        assert proofs, (seed.name, why)
        assert mutant.passes_jvm(long_appkit, mutant.proofs), seed.name
        assert not mutant.unlawful(), seed.name
        assert broken(mutant.accepted()) == [], seed.name


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_guards__when__transactions_are_mutated__then__what_both_accept_keeps_the_invariants(fuzzer: Fuzzer) -> None:
    tally = fuzz(fuzzer, MUTANTS, seed=0)
    print(*tally.table(), sep="\n")
    assert tally.judged.total() >= MUTANTS
    assert tally.refused >= 5_000
    # A fuzzer whose every mutant is refused proves nothing.
    assert tally.accepted.total() >= MUTANTS // 10
    assert set(tally.accepted) == {seed.kind for seed in fuzzer.kitchen.seeds}


@dataclass(frozen=True, slots=True)
class Hole:
    """A condition that a guard loses, a mutation of an honest transaction that it alone stops, and the invariant that is then broken."""

    guard: Guard
    condition: str
    seed: str
    mutation: Mutation
    fault: str


# Numbers of a mutation: output, register (and 6 x place within it), how. Places are those of `AMOUNTS` and of `tweaked`.
HOLES = [
    Hole(
        Guard.BOND,
        "nextEndpoint == SELF.R9[Coll[Byte]].get",
        "timeout 0",
        Mutation("tweak", 0, 5),
        "the endpoint changes",
    ),
    Hole(Guard.BOND, "next.value == SELF.value - slash", "settle 0", Mutation("take", 0, 6), "the stake is not there"),
    Hole(Guard.BOND, "INPUTS(1).id == SELF.id", "claim 3", Mutation("spend", 7), "2 bonds"),
    Hole(
        Guard.CLAIMED,
        "refund.value >= SELF.value - MAX_MINER_FEE + slash",
        "timeout 3",
        Mutation("take", 1, 9),
        "gets",
    ),
    Hole(Guard.CLAIMED, "refund.value >= SELF.value - MIN_BOX", "fail 0", Mutation("shift", 2, 1, 9), "gets"),
    Hole(Guard.CLAIMED, "treasury.value >= due", "release 3", Mutation("take", 2, 2), "gets"),
    Hole(
        Guard.CLAIMED,
        "rating.value >= RATING_VALUE + heldErg",
        "release 7",
        Mutation("take", 1, 2),
        "a rating that is worth too little",
    ),
    Hole(
        Guard.RATING,
        "payout.tokens == SELF.tokens.slice(1, SELF.tokens.size)",
        "settle 8",
        Mutation("burn", 1),
        "gets",
    ),
    Hole(
        Guard.RATING,
        "payout.propositionBytes == (if (marks(2) == 1) BURN else node.propBytes)",
        "settle 4",
        Mutation("retree", 1, 1),
        "gets",
    ),
    Hole(
        Guard.RATING,
        "(nextClientHash == clientHash && nextMarks(2) == marks(2))",
        "commit by node 1",
        Mutation("tweak", 0, 3 + 6 * 2),
        "both halves",
    ),
    Hole(
        Guard.RATING,
        "blake2b256(Coll(nextMark.toByte) ++ salt ++ taskId ++ rater.propBytes) == hash",
        "reveal by node 0",
        Mutation("tweak", 0, 3 + 6 * 3, 1),
        "not what was committed to",
    ),
    Hole(Guard.TASK, "refund.value >= SELF.value - MAX_MINER_FEE", "refund 0", Mutation("take", 0, 3), "gets"),
    Hole(Guard.MINTER, "bond.R6[Int].get == 0", "bond 0", Mutation("tweak", 1, 2), "a bond with a history"),
    Hole(
        Guard.RECEIPT,
        "HEIGHT > SELF.creationInfo._1 + RECEIPT_RETENTION",
        "reclaim 0",
        Mutation("earlier"),
        "goes early",
    ),
]


@pytest.fixture(scope="module")
def holey(long_appkit: Appkit) -> Fuzzer:
    """A market whose guards have all the holes at once."""
    sources = {guard: source_of(guard) for guard in Guard}
    for hole in HOLES:
        assert sources[hole.guard].count(hole.condition) == 1, hole
        sources[hole.guard] = sources[hole.guard].replace(hole.condition, "true")
    weak = {guard: compile_mutant(long_appkit, Weakened(guard, "", 0, sources[guard])) for guard in Guard}
    return Fuzzer(long_appkit, weak)


@pytest.mark.parametrize("hole", HOLES, ids=[f"{hole.guard}: {hole.condition}" for hole in HOLES])
def test_fuzzer__when__a_guard_lost_a_condition__then__a_mutant_breaks_an_invariant(
    fuzzer: Fuzzer, holey: Fuzzer, hole: Hole
) -> None:
    number, seed = next((i, seed) for i, seed in enumerate(fuzzer.kitchen.seeds) if seed.name == hole.seed)
    recipe = Recipe(number, seed.able[0], (hole.mutation,))
    (whole,), (broken_,) = fuzzer.outcomes([recipe]), holey.outcomes([recipe])
    assert whole.jvm is False
    assert broken_.accepted
    assert any(hole.fault in found for found in broken_.faults), broken_.faults
