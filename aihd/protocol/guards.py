"""The arithmetic of the guards, in Python: what a bond becomes by each transaction, and who gets how much.

Each function is the twin of an expression in ergoscript/bond.es or claimed.es. Heights are the HEIGHT that scripts see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from aihd.protocol.boxes import Bond, Rating
from aihd.protocol.constants import FEE_BPS, MIN_BOX, SLACK, SLASH_BPS, TIMEOUT_POINTS

_ERG: Final = 10**9
_WEIGHTS: Final = ((_ERG // 100, 1), (_ERG // 10, 2), (_ERG, 4), (10 * _ERG, 8))

# A declared `last_activity` must lie in [HEIGHT, HEIGHT + SLACK] when the transaction is mined: the middle of it leaves the same
# number of blocks for being late and costs the node as many blocks of cool-down.
_ACTIVITY_LEAD: Final = SLACK // 2


def weight(payment: int) -> int:
    """Rating weight of a payment in nanoERG."""
    return next((w for limit, w in _WEIGHTS if payment < limit), 16)


def treasury_fee(payment: int) -> int:
    """nanoERG due to the treasury; 0 where it would be under the smallest box."""
    fee = payment * FEE_BPS // 10_000
    return fee if fee >= MIN_BOX else 0


def slash(bond_amount: int, payment: int) -> int:
    """nanoERG that a missed deadline takes from the bond for the client."""
    return min(bond_amount, payment * SLASH_BPS // 10_000)


def settle_points(rating: Rating) -> int:
    """What a settled rating adds to the node's score.

    The client's mark counts from -2 to +2 weights. A node that committed and did not reveal loses one weight on top, unless the client
    broke a commitment too.
    """
    w = weight(rating.payment)
    said = (rating.client_mark - 3) * w if rating.client_mark else 0
    node_broke = bool(rating.node_commitment) and not rating.node_mark
    client_broke = bool(rating.client_commitment) and not rating.client_mark
    return said - w if node_broke and not client_broke else said


def after_claim(bond: Bond, task_id: bytes, payment: int, height: int) -> Bond:
    return replace(
        bond,
        committed=bond.committed + payment,
        active=bond.active + 1,
        last_activity=height + _ACTIVITY_LEAD,
        open_ids=(*bond.open_ids, task_id),
    )


def after_release(bond: Bond, payment: int, height: int) -> Bond:
    return replace(_ended(bond, payment), completed=bond.completed + 1, last_activity=height + _ACTIVITY_LEAD)


def after_fail(bond: Bond, task_id: bytes, payment: int, height: int) -> Bond:
    ended = replace(_ended(bond, payment), failed=bond.failed + 1, last_activity=height + _ACTIVITY_LEAD)
    return _closed(ended, task_id)


def after_timeout(bond: Bond, task_id: bytes, payment: int) -> Bond:
    ended = replace(
        _ended(bond, payment),
        amount=bond.amount - slash(bond.amount, payment),
        score=bond.score + TIMEOUT_POINTS * weight(payment),
        timed_out=bond.timed_out + 1,
    )
    return _closed(ended, task_id)


def after_settle(bond: Bond, task_id: bytes, rating: Rating) -> Bond:
    return _closed(replace(bond, score=bond.score + settle_points(rating)), task_id)


def _ended(bond: Bond, payment: int) -> Bond:
    return replace(bond, committed=bond.committed - payment, active=bond.active - 1)


def _closed(bond: Bond, task_id: bytes) -> Bond:
    return replace(bond, open_ids=tuple(i for i in bond.open_ids if i != task_id))
