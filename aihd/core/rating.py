"""When a side may move in a rating, and what the other side failed to do. The same rules for node and client.

`height` is always that of the next block. The guards allow a little more than these rules: a commitment on its last block may come too
late for the miner, and a mark opened on the first block after the deadline is read by everybody, while a reorg of a block or two would
give the other side another chance to commit.
"""

from __future__ import annotations

from typing import Final

from aihd.protocol.boxes import Rating
from aihd.protocol.plans import Side

MARGIN: Final = 2  # blocks


def may_commit(rating: Rating, side: Side, height: int) -> bool:
    """Whether a commitment sent now gets into the rating in time."""
    return not _commitment(rating, side) and height + MARGIN <= rating.commit_deadline


def may_reveal(rating: Rating, side: Side, height: int) -> bool:
    """Whether our mark may be opened: the other side has committed, or can do so no more; a late reveal costs a fee, none costs points."""
    ready = bool(_commitment(rating, _OTHER[side])) or height > rating.commit_deadline + MARGIN
    return bool(_commitment(rating, side)) and not mark_of(rating, side) and ready and height <= rating.reveal_deadline


def mark_of(rating: Rating, side: Side) -> int:
    """The mark that a side has opened; 0 for none."""
    return rating.client_mark if side is Side.CLIENT else rating.node_mark


def omission(rating: Rating, side: Side) -> str:
    """What the other side of `side` did not do in a rating whose time is over; empty when it did all."""
    other = _OTHER[side]
    if mark_of(rating, other):
        return ""
    if _commitment(rating, other):
        return f"the {other} committed to a mark and did not reveal it"
    return f"the {other} committed to no mark"


_OTHER: Final = {Side.CLIENT: Side.NODE, Side.NODE: Side.CLIENT}


def _commitment(rating: Rating, side: Side) -> bytes:
    return rating.client_commitment if side is Side.CLIENT else rating.node_commitment
