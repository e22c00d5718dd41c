"""The arithmetic of the guards, in Python: what a bond becomes by each transaction, and who gets how much.

Each function is the twin of an expression in ergoscript/bond.es or claimed.es. Heights are the HEIGHT that scripts see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aihd.protocol.boxes import Bond, Rating
from aihd.protocol.constants import (
    COMPLETED,
    FAILED,
    FEE_BPS,
    MAX_MINER_FEE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_VALUE,
    SLACK,
    SLASH_BPS,
    TIMEOUT_POINTS,
    WHOLE_BPS,
)

_ERG: Final = 10**9
_WEIGHTS: Final = ((_ERG // 100, 1), (_ERG // 10, 2), (_ERG, 4), (10 * _ERG, 8))

# A declared `last_activity` must lie in [HEIGHT, HEIGHT + SLACK] when the transaction is mined: the middle of it leaves the same
# number of blocks for being late and costs the node as many blocks of cool-down.
_ACTIVITY_LEAD: Final = SLACK // 2
# A bond takes part in lotteries from the block after `born` on, so this lead is kept short.
BIRTH_LEAD: Final = 5


def weight(worth: int) -> int:
    """Returns the weight of a rating by what its task is worth, in nanoERG."""
    return next((w for limit, w in _WEIGHTS if worth < limit), 16)


def treasury_fee(worth: int) -> int:
    """Returns the nanoERG due to the treasury for a task of this worth; 0 where it would be under the smallest box."""
    fee = worth * FEE_BPS // WHOLE_BPS
    return fee if fee >= MIN_BOX else 0


def slash(bond_amount: int, worth: int) -> int:
    """Returns the nanoERG that a missed deadline takes from the bond for the client."""
    return min(bond_amount, worth * SLASH_BPS // WHOLE_BPS)


def escrow_value(worth: int, payment: int, *, in_token: bool) -> int:
    """Returns the nanoERG that a client locks: the payment, or for one in a token what its release costs; receipt and rating on top."""
    locked = treasury_fee(worth) + MAX_MINER_FEE if in_token else payment
    return locked + RECEIPT_VALUE + RATING_VALUE


def held_share(worth: int, payment: int, holdback_bps: int, *, in_token: bool) -> int:
    """Returns the part of a payment, in nanoERG or in units of its token, that waits in the rating for the client's mark.

    Of ERG it is a share of what is left when treasury and miner are paid, so that a release pays for itself at any holdback.
    """
    if in_token:
        return payment * holdback_bps // WHOLE_BPS
    share = max(0, payment - treasury_fee(worth) - MAX_MINER_FEE) * holdback_bps // WHOLE_BPS
    return share if share >= MIN_BOX else 0


def settle_points(rating: Rating) -> int:
    """What a settled rating adds to the node's score.

    The client's mark counts from -2 to +2 weights. A node that committed and did not reveal loses one weight on top, unless the client
    broke a commitment too.
    """
    w = weight(rating.worth)
    said = (rating.client_mark - 3) * w if rating.client_mark else 0
    node_broke = bool(rating.node_commitment) and not rating.node_mark
    client_broke = bool(rating.client_commitment) and not rating.client_mark
    return said - w if node_broke and not client_broke else said


def after_claim(bond: Bond, task_id: bytes, worth: int, height: int) -> Bond:
    return replace(
        bond,
        committed=bond.committed + worth,
        active=bond.active + 1,
        last_activity=height + _ACTIVITY_LEAD,
        open_ids=(*bond.open_ids, task_id),
    )


def after_timeout(bond: Bond, task_id: bytes, worth: int) -> Bond:
    return replace(
        _closed(bond, task_id, worth),
        amount=bond.amount - slash(bond.amount, worth),
        score=bond.score + TIMEOUT_POINTS * weight(worth),
        timed_out=bond.timed_out + 1,
    )


def after_settle(bond: Bond, task_id: bytes, rating: Rating) -> Bond:
    return replace(
        _closed(bond, task_id, rating.worth),
        score=bond.score + settle_points(rating),
        completed=bond.completed + (rating.outcome == COMPLETED),
        failed=bond.failed + (rating.outcome == FAILED),
    )


def after_raise(bond: Bond, add: int, height: int) -> Bond:
    """A raised stake is born again: from then on it draws tickets."""
    return replace(bond, amount=bond.amount + add, born=height + BIRTH_LEAD if add else bond.born)


def _closed(bond: Bond, task_id: bytes, worth: int) -> Bond:
    open_ids = tuple(i for i in bond.open_ids if i != task_id)
    return replace(bond, committed=bond.committed - worth, active=bond.active - 1, open_ids=open_ids)
