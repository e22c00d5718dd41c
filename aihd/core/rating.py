"""When a side may move in a rating, and what the other side failed to do. The same rules for node and client.

`height` is always that of the next block. The guards allow a little more than these rules: a commitment on its last block may come too
late for the miner, and a mark opened on the first block after the deadline is read by everybody, while a reorg of a block or two would
give the other side another chance to commit.
"""

from __future__ import annotations

from typing import Final

from aihd.protocol.boxes import Rating
from aihd.protocol.constants import FAILED
from aihd.protocol.plans import Side

# Blocks before the end of a window in which a side commits no more. The other side spends the same box and so can displace each move of a
# client once: what a client says has to be in well before that.
MARGIN: Final = {Side.CLIENT: 5, Side.NODE: 2}
# Blocks before the commit deadline at which a client's program gives the mark 1 by itself, if no right output has come.
COMPLAIN_BEFORE: Final = 10


def may_commit(rating: Rating, side: Side, height: int) -> bool:
    """Whether a commitment sent now gets into the rating in time."""
    return not _commitment(rating, side) and height + MARGIN[side] <= rating.commit_deadline


def may_reveal(rating: Rating, side: Side, height: int) -> bool:
    """Whether our mark may be opened: the other side has committed, or can do so no more; a late reveal costs a fee, none costs points."""
    ready = bool(_commitment(rating, _OTHER[side])) or height > rating.commit_deadline + MARGIN[Side.NODE]
    return bool(_commitment(rating, side)) and not mark_of(rating, side) and ready and height <= rating.reveal_deadline


def may_settle(rating: Rating, side: Side, height: int) -> bool:
    """Returns true where nothing more can come of a rating, so that its node may settle it: it is final, or its client stayed silent.

    A node that committed to a mark opens it first: to break that commitment costs it points.
    """
    final = bool(rating.client_mark and rating.node_mark) or height > rating.reveal_deadline
    silent = not rating.client_commitment and height > rating.commit_deadline + MARGIN[Side.NODE]
    unopened = bool(rating.node_commitment) and not rating.node_mark
    return final or (silent and not (side is Side.NODE and unopened))


def mark_of(rating: Rating, side: Side) -> int:
    """The mark that a side has opened; 0 for none."""
    return rating.client_mark if side is Side.CLIENT else rating.node_mark


def omission(rating: Rating, side: Side) -> str:
    """What the other side of `side` did not do in a rating whose time is over; empty when it did all. Of a failure there is no mark."""
    other = _OTHER[side]
    if rating.outcome == FAILED or mark_of(rating, other):
        return ""
    if _commitment(rating, other):
        return f"the {other} committed to a mark and did not reveal it"
    return f"the {other} committed to no mark"


_OTHER: Final = {Side.CLIENT: Side.NODE, Side.NODE: Side.CLIENT}


def _commitment(rating: Rating, side: Side) -> bytes:
    return rating.client_commitment if side is Side.CLIENT else rating.node_commitment
