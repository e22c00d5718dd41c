"""Costs in nanoERG."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.errors import UsageError
from aihd.nodo.hashing import ALGORITHMS, algorithm_named, hash_file
from aihd.nodo.pricing import Estimate, Per, Rate, settled

rates = st.fractions(min_value=Fraction(1, 10**12), max_value=10**60)


@given(st.integers(0, 10**70), rates)
def test_nanoerg__when__any_amount_and_rate__then__the_least_that_covers_it(amount: int, rate: Fraction) -> None:
    cost = Rate(rate, Per.NANOERG).nanoerg(amount)
    assert cost * rate >= amount
    assert cost == 0 or (cost - 1) * rate < amount


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-1)])
def test_rate__when__it_is_not_above_zero__then__usage_error(rate: Fraction) -> None:
    with pytest.raises(UsageError, match="should be above 0"):
        Rate(rate, Per.ERG)


def test_nanoerg__when__default_of_february_2026__then__a_run_costs_one_nanoerg_at_most() -> None:
    assert Rate(Fraction(10**58), Per.ERG).nanoerg(10**40) == 1


def test_nanoerg__when__a_rate_is_for_a_whole_erg__then__a_billionth_of_it_for_a_nanoerg() -> None:
    estimate = 10_254_802  # of a real node, at one MU for one nanoERG
    assert (
        Rate(Fraction(10**9), Per.ERG).nanoerg(estimate) == Rate(Fraction(1), Per.NANOERG).nanoerg(estimate) == estimate
    )


@pytest.mark.parametrize(
    ("declared", "configured", "counts"),
    [
        (Rate(Fraction(10**9), Per.ERG), None, Fraction(1)),
        (Rate(Fraction(10**9), Per.ERG), Rate(Fraction(1), Per.NANOERG), Fraction(1)),
        (Rate(Fraction(1), Per.ERG), Rate(Fraction(1), Per.NANOERG), Fraction(1)),  # declared for a nanoERG after all
        (Rate(Fraction(10**9), Per.NANOERG), Rate(Fraction(1), Per.NANOERG), Fraction(1)),  # for a whole ERG after all
        (Rate(Fraction(7), Per.NANOERG), Rate(Fraction(3), Per.NANOERG), Fraction(3)),  # the dearer one
        (Rate(Fraction(2), Per.NANOERG), Rate(Fraction(3), Per.NANOERG), Fraction(2)),
    ],
)
def test_settled__when__configuration_and_declaration_are_held_together__then__the_right_reading_or_the_dearer(
    declared: Rate, configured: Rate | None, counts: Fraction
) -> None:
    assert settled(declared, configured).per_nanoerg == counts


@given(
    st.integers(0, 10**20), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 3600), st.integers(0, 10**6)
)
def test_of_run__when__seconds_grow__then__cost_does_and_whole_periods_are_paid(
    start: int, upkeep: int, most: int, every: int, seconds: int
) -> None:
    estimate = Estimate(start, upkeep, most, every)
    assert estimate.of_run(seconds) <= estimate.of_run(seconds + 1)
    assert estimate.of_run(every * 3) == start + 3 * max(upkeep, most)


def test_of_run__when__node_names_no_period__then__only_the_start() -> None:
    assert Estimate(5, 7, 9, 0).of_run(1000) == 5


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("sha3_256", "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
        ("sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("shake_256", "46b9dd2b0ba88d13233b3feb743eeb243fcd52ea62b81b82b50c27646ed5762f"),
        ("blake2b", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
    ],
)
def test_algorithms__when__nothing_is_hashed__then__nodo_s_id_of_the_algorithm(
    tmp_path: Path, name: str, digest: str
) -> None:
    assert ALGORITHMS[name](b"").hex() == digest
    assert algorithm_named(digest) == algorithm_named(name.upper()) == name
    content = b"x" * (3 << 20)
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file", name) == ALGORITHMS[name](content)


def test_algorithm_named__when__unknown__then__none() -> None:
    assert algorithm_named("md5") is None
    assert algorithm_named("00" * 32) is None
