"""The life of a task, read from the boxes that carry its token.

Whoever knows the task id can look up every box that ever held its token: the claimed task, the receipt or failure receipt, and each
state of the rating. From those alone follows where the task stands. The same reading serves the node and the client.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from aihd.core.rating import may_settle
from aihd.core.task import Where
from aihd.protocol.box import Box
from aihd.protocol.boxes import ClaimedTask, Content, FailureReceipt, On, Rating, Receipt
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import CONTENT_OF, Deployment
from aihd.protocol.plans import Side

C = TypeVar("C", bound=Content)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A box as a chain source shows it. `height` and `block` are None while it is only in the mempool."""

    box: Box
    height: int | None
    block: bytes | None
    spent_by: str | None


@dataclass(frozen=True, slots=True)
class Life:
    """What the chain shows of a task; `since` is the height at which the newest step was mined (None: not yet)."""

    claimed: On[ClaimedTask] | None = None
    claim_height: int | None = None
    claim_block: bytes | None = None
    claimed_spent_by: str | None = None
    receipt: On[Receipt] | None = None
    receipt_height: int | None = None
    failure: On[FailureReceipt] | None = None
    rating: On[Rating] | None = None
    rating_spent_by: str | None = None
    since: int | None = None

    def where(self, height: int, side: Side = Side.NODE) -> Where | None:
        """The standing of a claimed task as one side sees it, `height` being that of the next block; None before a claim."""
        if self.claimed is None:
            return None
        if self.claimed_spent_by is None:
            return Where.CLAIMED
        if self.failure is not None:
            return Where.FAILED if self.rating_spent_by is None else Where.FAILURE_SETTLED
        if self.receipt is None:
            return Where.TIMED_OUT
        if self.rating is None or self.rating_spent_by is not None:
            return Where.SETTLED
        return _rating_where(self.rating.content, height, side)


def _rating_where(rating: Rating, height: int, side: Side) -> Where:
    if may_settle(rating, side, height):
        return Where.RATED
    mark, commitment = (
        (rating.client_mark, rating.client_commitment)
        if side is Side.CLIENT
        else (rating.node_mark, rating.node_commitment)
    )
    if mark:
        return Where.REVEALED
    return Where.COMMITTED if commitment else Where.RELEASED


def read_life(deployment: Deployment, sightings: Iterable[Sighting]) -> Life:
    """Put the boxes of one task token in order. Boxes that are not ours, or malformed, are left out: they prove nothing."""
    found = [(typed, sighting) for sighting in sightings if (typed := _typed(deployment, sighting.box)) is not None]
    claimed = _newest(ClaimedTask, found)
    receipt = _newest(Receipt, found)
    failure = _newest(FailureReceipt, found)
    rating = _newest(Rating, found)
    newest = rating or receipt or failure or claimed
    return Life(
        claimed=claimed[0] if claimed else None,
        claim_height=claimed[1].height if claimed else None,
        claim_block=claimed[1].block if claimed else None,
        claimed_spent_by=claimed[1].spent_by if claimed else None,
        receipt=receipt[0] if receipt else None,
        receipt_height=receipt[1].height if receipt else None,
        failure=failure[0] if failure else None,
        rating=rating[0] if rating else None,
        rating_spent_by=rating[1].spent_by if rating else None,
        since=newest[1].height if newest else None,
    )


def _typed(deployment: Deployment, box: Box) -> On[Content] | None:
    guard = deployment.guard_of(box)
    if guard is None:
        return None
    try:
        return deployment.read(CONTENT_OF[guard], box)
    except BoxError:
        return None


def _newest(content: type[C], found: Iterable[tuple[On[Content], Sighting]]) -> tuple[On[C], Sighting] | None:
    """The unspent box of a kind, else the one that went furthest (a rating has several states)."""
    mine = [(On(typed.source, typed.content), s) for typed, s in found if isinstance(typed.content, content)]
    return max(mine, key=lambda pair: (pair[1].spent_by is None, _progress(pair[0])), default=None)


def _progress(found: On[Content]) -> int:
    """Orders the states of one rating: each step fills one more of its halves, and none is ever emptied."""
    rating = found.content
    if not isinstance(rating, Rating):
        return 0
    halves = (rating.client_commitment, rating.node_commitment, rating.client_mark, rating.node_mark)
    return sum(map(bool, halves))
