"""Numbers as people say them: plural forms, and how long blocks take. Pure."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Returns "1 task", "2 tasks"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def about(seconds: float) -> str:
    """Returns a time as people say it: "about 40 s", "about 3 min", "about 3 h", "about 4 d"."""
    for size, unit, least in ((86_400, "d", 2), (3_600, "h", 2), (60, "min", 2), (1, "s", 0)):
        if seconds >= least * size:
            return f"about {round(seconds / size)} {unit}"
    return "now"


def blocks_left(blocks: int, seconds_per_block: float) -> str:
    """Returns "80 blocks, about 3 h"; "no block" when the height has come."""
    return f"{count(blocks, 'block')}, {about(blocks * seconds_per_block)}" if blocks > 0 else "no block"
