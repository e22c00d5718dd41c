from __future__ import annotations

from decimal import Context, Decimal

from hypothesis import given
from hypothesis import strategies as st

from aihd.protocol.constants import MAX_PAYMENT
from aihd.reputation.fixed import (
    BLOCKS_PER_DAY,
    HALF_LIFE_DAYS,
    ONE,
    evidence_weight,
    growth,
    recent_growth,
    square_root,
    text,
    value_weight,
)

EXACT = Context(prec=40)


@given(st.integers(1, MAX_PAYMENT))
def test_value_weight__when__of_any_payment__then__the_logarithm_to_the_ninth_digit(value: int) -> None:
    true = EXACT.multiply(EXACT.ln(EXACT.divide(Decimal(value + 10**7), Decimal(10**7))), Decimal(ONE))
    assert abs(value_weight(value) - true) < 2


def test_value_weight__when__known_payments__then__these_very_digits() -> None:
    assert [value_weight(value) for value in (1, 10**6, 10**7, 10**9, 10**15)] == [
        100,
        95310179,
        693147180,
        4615120516,
        18420680753,
    ]


@given(st.integers(0, 10**7))
def test_growth__when__a_half_life_passes__then__doubles(height: int) -> None:
    assert growth(height + HALF_LIFE_DAYS * BLOCKS_PER_DAY) == 2 * growth(height)
    assert growth(height + BLOCKS_PER_DAY) > growth(height)


def test_growth__when__half_of_a_half_life__then__root_of_two() -> None:
    assert growth(45 * BLOCKS_PER_DAY) == 1_414_213_562


def test_recent_growth__when__a_fortnight_of_the_own_clock_passes__then__doubles() -> None:
    assert [recent_growth(day) for day in (0, 7, 14, 28)] == [ONE, 1_414_213_562, 2 * ONE, 4 * ONE]


def test_evidence_weight__when__below_one__then__the_cube() -> None:
    assert [evidence_weight(weight) for weight in (0, ONE // 10, ONE // 2, ONE, 2 * ONE)] == [
        0,
        ONE // 1000,
        ONE // 8,
        ONE,
        2 * ONE,
    ]


def test_square_root__when__of_a_quarter__then__a_half() -> None:
    assert square_root(ONE // 4) == ONE // 2


def test_text__when__shown__then__rounded_and_signed() -> None:
    assert [text(number) for number in (733_333_333, -500_000, -499_999, ONE)] == ["0.733", "-0.001", "0.000", "1.000"]
    assert text(ONE // 2, 0) == "1"
