"""What was earned and what it cost, day by day and service by service. Amounts are nanoERG. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from aihd.protocol import guards
from aihd.protocol.constants import SLASH_BPS
from aihd.protocol.funding import TxKind

SLASHED = "slashed"  # a move of its own, whoever's transaction took it from the bond
THE_CLIENT_PAYS = (TxKind.TIMEOUT, TxKind.REFUND)  # the miner


@dataclass(frozen=True, slots=True)
class Move:
    """A transaction of ours that is in a block, or a slash. `payment` is that of its task, 0 without one.

    `spent` is what it took out of the wallet and the payout address, the fee included; negative when it brought in more.
    """

    day: str
    service: str
    kind: str
    payment: int
    fee: int
    spent: int


@dataclass(frozen=True, slots=True)
class Row:
    """The sums of a day and a service. `payments` are after the treasury's share, `fees` went to miners, `slashed` left the bond,
    `refunded` was given back by honest failures, `net` is what came into the wallet and the payout address.
    """

    day: str
    service: str
    paid: int = 0
    payments: int = 0
    fees: int = 0
    slashed: int = 0
    refunded: int = 0
    net: int = 0

    def plus(self, move: Move) -> Row:
        released, failed, slashed = (move.kind == kind for kind in ("release", "fail", SLASHED))
        return Row(
            self.day,
            self.service,
            self.paid + released,
            self.payments + released * (move.payment - guards.treasury_fee(move.payment)),
            self.fees + (0 if move.kind in THE_CLIENT_PAYS else move.fee),
            self.slashed + slashed * (move.payment * SLASH_BPS // 10_000),
            self.refunded + failed * move.payment,
            self.net - move.spent,
        )


def books(moves: Iterable[Move]) -> list[Row]:
    """One row for each day and service in which something moved, in that order."""
    rows: dict[tuple[str, str], Row] = {}
    for move in moves:
        key = (move.day, move.service)
        rows[key] = rows.get(key, Row(*key)).plus(move)
    return [rows[key] for key in sorted(rows)]
