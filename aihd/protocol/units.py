"""Quantities with units, as people write them: amounts, durations and sizes.

Promise: parsing is exact (no float is ever in between), a number without its unit is refused, and what a `format_*`
function writes, the matching `parse_*` function reads back to the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NewType

from aihd.errors import UsageError

NanoErg = NewType("NanoErg", int)
"""An amount of the chain's own unit, 10^-9 ERG."""

NANO_PER_ERG = 1_000_000_000
MAX_LONG = 2**63 - 1  # the chain's Long: amounts, and our bound for everything that is counted

_QUANTITY = re.compile(r"\s*([0-9][0-9_]{0,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]+)\s*", re.ASCII)


class UnitError(UsageError, ValueError):
    """A quantity cannot be read; the text names what was given and what would be right."""


@dataclass(frozen=True, slots=True)
class _Kind:
    what: str
    example: str
    units: Mapping[str, int]  # name -> how many of the smallest unit
    smallest: str


_AMOUNT = _Kind("an amount", '"0.05 ERG" or "50000000 nanoERG"', {"ERG": NANO_PER_ERG, "nanoERG": 1}, "nanoERG")
_DURATION = _Kind(
    "a duration",
    '"30 s", "5 min" or "2 h"',
    {"d": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1_000, "ms": 1},
    "ms",
)
_SIZE = _Kind(
    "a size",
    '"100 MB" or "1 GiB"',
    {
        "TiB": 2**40,
        "TB": 10**12,
        "GiB": 2**30,
        "GB": 10**9,
        "MiB": 2**20,
        "MB": 10**6,
        "KiB": 2**10,
        "kB": 10**3,
        "B": 1,
    },
    "B",
)


def parse_erg(text: object) -> NanoErg:
    """Amount in nanoERG from "0.05 ERG" or "50000000 nanoERG".

    UnitError without a unit, when negative, finer than a nanoERG, or more than a Long holds.
    """
    return NanoErg(_parse(text, _AMOUNT))


def format_erg(amount: int) -> str:
    """Shortest exact text of an amount in nanoERG: 50_000_000 -> "0.05 ERG"."""
    return f"{format_units(amount, 9)} ERG"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with the name of its unit, such as 0.10 SigUSD; how many decimals the unit has is known elsewhere."""

    number: Fraction
    unit: str

    def __str__(self) -> str:
        digits = self.number.denominator.bit_length()  # enough for whatever was written in decimals
        return f"{format_units(int(self.number * 10**digits), digits)} {self.unit}"

    def smallest(self, decimals: int) -> int:
        """How many of the smallest unit; UnitError when it is finer than that or more than a Long holds."""
        value: Fraction = self.number * 10**decimals
        if value.denominator != 1:
            raise UnitError(f"{str(self)!r} is finer than the {decimals} decimals that {self.unit} has")
        if value > MAX_LONG:
            raise UnitError(f"{str(self)!r} is more than the largest possible, {MAX_LONG} of the smallest unit")
        return value.numerator


def parse_quantity(text: object) -> Quantity:
    """A number with any unit; UnitError when it is not one."""
    right = 'write a number with its unit, as "0.05 ERG" or "0.10 SigUSD"'
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise UnitError(f"{text!r} is not a number with a unit: {right}")
    return Quantity(Fraction(match[1].replace("_", "")), match[2])


def format_units(amount: int, decimals: int) -> str:
    """Shortest exact text of an amount of smallest units: 10 with 2 decimals -> "0.1"."""
    whole, rest = divmod(abs(amount), 10**decimals)
    digits = f"{whole}.{rest:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return f"{'-' if amount < 0 else ''}{digits}"


def parse_duration(text: object) -> float:
    """Seconds from "500 ms", "30 s", "5 min", "2 h" or "1 d"; UnitError when it is none of these."""
    return _parse(text, _DURATION) / 1000


def format_duration(seconds: float) -> str:
    """Text of a duration in the largest unit that fits without remainder: 300 -> "5 min"."""
    return _format(round(seconds * 1000), _DURATION)


def parse_size(text: object) -> int:
    """Bytes from "100 MB" (decimal) or "1 GiB" (binary); UnitError when it is neither."""
    return _parse(text, _SIZE)


def format_size(size: int) -> str:
    """Text of a size in bytes in the largest unit that fits without remainder: 100_000_000 -> "100 MB"."""
    return _format(size, _SIZE)


def _parse(text: object, kind: _Kind) -> int:
    right = f"write {kind.what} as {kind.example}"
    if not isinstance(text, str):
        raise UnitError(f"{text!r} has no unit: {right}")
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UnitError(f"{text!r} is not a number with a unit: {right}")
    number, unit = match.groups()
    scale = {name.lower(): size for name, size in kind.units.items()}.get(unit.lower())
    if scale is None:
        raise UnitError(f"{text!r} has an unknown unit: {right}")
    value = Fraction(number.replace("_", "")) * scale
    if value.denominator != 1:
        raise UnitError(f"{text!r} is finer than 1 {kind.smallest}, the smallest there is")
    if value > MAX_LONG:
        raise UnitError(f"{text!r} is more than the largest possible, {MAX_LONG} {kind.smallest}")
    return value.numerator


def _format(value: int, kind: _Kind) -> str:
    unit, scale = next(
        ((name, size) for name, size in kind.units.items() if value and value % size == 0), (kind.smallest, 1)
    )
    return f"{value // scale} {unit}"
