"""Weighted random selection: may this bond claim this task now, and by which header.

The twin of the lottery in ergoscript/task.es. Chance is proportional to `1 + max(0, score)`, with nobody to ask: a header younger than
task and bond decides, so neither side can choose a winning key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.constants import TICKETS
from aihd.protocol.hashes import blake2b256, prop_bytes

# A node that validates a block shows scripts nine headers. A header among the newest four is still there five blocks later.
FRESH_HEADERS: Final = 4


@dataclass(frozen=True, slots=True)
class HeaderRef:
    """What selection needs of a header."""

    height: int
    id: bytes


def ticket(header_id: bytes, task_id: bytes, node: bytes) -> int:
    """The number drawn for a node (33-byte key) by a header: in [0, 2^63)."""
    raw = int.from_bytes(blake2b256(header_id, task_id, prop_bytes(node))[:8], "big", signed=True)
    return -1 - raw if raw < 0 else raw


def weight(score: int) -> int:
    return 1 + max(0, score)


def is_selected(task: On[TaskEscrow], bond: Bond, headers: Iterable[HeaderRef], height: int) -> bool:
    """Would the guard let this bond take the task at HEIGHT `height`, `headers` being those that the script sees?"""
    terms = task.content
    created = task.creation_height
    if height > created + terms.selection_window:
        return True
    odds = weight(bond.score) * TICKETS
    return any(
        h.height > created
        and h.height > bond.born
        and ticket(h.id, task.raw_id, bond.node) * terms.selection_difficulty < odds
        for h in headers
    )
