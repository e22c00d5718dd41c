"""Numbers of the score: integers in units of 10^-9, the same to the last digit on every machine.

No float is ever in between. Logarithm and half-life come from tables that `decimal` rounds correctly at import (its `ln` and `exp` are
defined to the last digit, which the C library's are not).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal
from math import isqrt
from typing import Final

from aihd.protocol.units import NANO_PER_ERG

ONE: Final = 10**9
"""1.0 in these units."""

BLOCKS_PER_DAY: Final = 720  # of 120 s
HALF_LIFE_DAYS: Final = 90
RECENT_DAYS: Final = 14  # half-life of the recent mean, in days of a party's own clock
WEIGHT_UNIT: Final = NANO_PER_ERG // 100  # the 0.01 ERG of ln(1 + V / 0.01 ERG)

_BITS: Final = 40  # of the fraction while a logarithm is worked out
_EXACT: Final = Context(prec=40, rounding=ROUND_HALF_EVEN)


def _ln(number: Decimal) -> int:
    return int(_EXACT.to_integral_value(_EXACT.multiply(_EXACT.ln(number), Decimal(1 << _BITS))))


_LN_2: Final = _ln(Decimal(2))
_LN_UNIT: Final = _ln(Decimal(WEIGHT_UNIT))
_LN_STEPS: Final = tuple(_ln(_EXACT.divide(Decimal(step), Decimal(128))) for step in range(128, 256))


def _doubling(days: int) -> tuple[int, ...]:
    """2^(day / days) of each day until it has doubled."""
    return tuple(
        int(_EXACT.power(Decimal(2), _EXACT.divide(Decimal(day), Decimal(days))).scaleb(9).to_integral_value())
        for day in range(days)
    )


_GROWTH: Final = _doubling(HALF_LIFE_DAYS)
_RECENT: Final = _doubling(RECENT_DAYS)


def value_weight(value: int) -> int:
    """ln(1 + value / 0.01 ERG) of a payment in nanoERG; off by less than 2 units."""
    number = value + WEIGHT_UNIT
    exponent = number.bit_length() - 1
    mantissa = number << 63 >> exponent  # in [2^63, 2^64)
    step = mantissa >> 56 << 56  # the mantissa's first 8 bits, whose logarithm is in the table
    rest = ((mantissa - step) << _BITS) // step  # below 2^-7: five terms of the series leave 10^-13
    square = rest * rest >> _BITS
    cube = square * rest >> _BITS
    series = rest - square // 2 + cube // 3 - (square * square >> _BITS) // 4 + (cube * square >> _BITS) // 5
    return (exponent * _LN_2 + _LN_STEPS[(step >> 56) - 128] + series - _LN_UNIT) * ONE >> _BITS


def evidence_weight(weight: int) -> int:
    """Returns the evidence in a rating of that value weight: w * min(1, w)^2. Below 0.017 ERG it falls with the cube."""
    return weight if weight >= ONE else weight**3 // ONE**2


def growth(height: int) -> int:
    """2^(day / 90) of a height's day: what a rating weighs against older ones.

    It grows with the height in place of shrinking with the age: a sum of such weights never has to be touched again.
    """
    halvings, day = divmod(height // BLOCKS_PER_DAY, HALF_LIFE_DAYS)
    return _GROWTH[day] << halvings


def recent_growth(day: int) -> int:
    """2^(day / 14) of a day of a party's own clock, against what it did lately."""
    halvings, rest = divmod(day, RECENT_DAYS)
    return _RECENT[rest] << halvings


def square_root(number: int) -> int:
    """Of a number in units of 10^-9, rounded down."""
    return isqrt(number * ONE)


def text(number: int, digits: int = 3) -> str:
    """For people: 733_333_333 -> "0.733", rounded half up."""
    step = 10 ** (9 - digits)
    whole, rest = divmod((abs(number) + step // 2) // step, 10**digits)
    sign = "-" if number < 0 and (whole or rest) else ""
    return f"{sign}{whole}.{rest:0{digits}d}" if digits else f"{sign}{whole}"
