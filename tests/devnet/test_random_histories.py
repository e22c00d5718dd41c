from __future__ import annotations

import random
from collections import Counter

import pytest
from devnet_histories import KINDS, Action, Sample, Scenario
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aihd.chain.appkit import Appkit
from aihd.devnet.judge import second_opinion

TRANSACTIONS = 10_000
SAMPLES = 500

numbers = st.integers(0, 2**16)
actions = st.tuples(st.sampled_from(KINDS), numbers, numbers, numbers)


@pytest.mark.slow
def test_chain__when__ten_thousand_random_transactions__then__money_state_and_mempool_stay_sound() -> None:
    counted: Counter[str] = Counter()

    @settings(max_examples=155, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(actions, min_size=25, max_size=40))
    def history(played: list[Action]) -> None:
        scenario = Scenario()
        scenario.play(played)
        counted.update(submitted=scenario.submitted, taken=scenario.taken, refused=scenario.refused)

    history()
    assert counted["submitted"] >= TRANSACTIONS
    assert min(counted["taken"], counted["refused"] * 10) >= TRANSACTIONS // 2, counted


@pytest.mark.jvm
@pytest.mark.slow
def test_interpreters__when__five_hundred_of_them_are_judged_again__then__the_jvm_says_what_sigma_rust_says() -> None:
    samples: list[Sample] = []
    chosen = random.Random(7)
    while len(samples) < SAMPLES:
        Scenario(sampled=samples.append).play(
            [(chosen.choice(KINDS), *(chosen.randrange(2**16) for _ in range(3))) for _ in range(30)]  # type: ignore[misc]
        )
    del samples[SAMPLES:]
    with Appkit() as appkit:
        parameters = Scenario().chain.parameters
        for sample in samples:
            verdict = second_opinion(appkit, sample.view, sample.boxes, [], sample.blocks, parameters)
            assert verdict.ok == sample.accepted, (sample.view.tx_id, verdict)
    refused = sum(not sample.accepted for sample in samples)
    assert refused >= SAMPLES // 20, refused
