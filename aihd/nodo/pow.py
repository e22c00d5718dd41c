"""The work that nodo asks for a client id when it has many clients."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from typing import Final

from aihd.nodo.failures import Refused

MAX_DIFFICULTY: Final = 6
"""Hex digits; 6 are 17 million hashes, about 15 seconds. nodo asks for one digit per 500 clients it has."""

SLICE: Final = 10_000  # hashes between two turns of the event loop


async def solve_pow(challenge: str, difficulty: int) -> str:
    """A text s for which the BLAKE2b-512 of challenge ‖ s, in hex, ends with `difficulty` zeros.

    Refused when that would take longer than a client id is worth (over MAX_DIFFICULTY digits).
    """
    if difficulty > MAX_DIFFICULTY:
        raise Refused(f"GenerateClient: the node asks for {difficulty} digits of work, at most {MAX_DIFFICULTY}")
    start, zeros = hashlib.blake2b(challenge.encode()), "0" * difficulty
    for number in itertools.count():
        attempt = start.copy()
        attempt.update(b"%d" % number)
        if attempt.hexdigest().endswith(zeros):
            return str(number)
        if number % SLICE == 0:
            await asyncio.sleep(0)
    raise AssertionError("unreachable: count() has no end")
