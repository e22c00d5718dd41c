"""Numbers as people say them: plural forms, and how long blocks take. Pure."""

from __future__ import annotations

from math import floor
from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def count(number: int, noun: str) -> str:
    """Returns "1 task", "2 tasks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def about(seconds: float) -> str:
    """Returns a time as people say it: "about 40 s", "about 3 min", "about 2.6 h", "about 30 d".

    It is rounded down, since mostly it is what is left.
    """
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), (1, "s"))
    number = seconds / size
    return f"about {floor(number * 10) / 10:g} {unit}" if number < 10 and size > 60 else f"about {floor(number)} {unit}"


def blocks_left(blocks: int, seconds_per_block: float) -> str:
    """Returns "80 blocks, about 3 h"; "no block" when the height has come."""
    return f"{count(blocks, 'block')}, {about(blocks * seconds_per_block)}" if blocks > 0 else "no block"
