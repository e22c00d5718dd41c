"""What was earned and what it cost, by day, service and asset. Pure.

Payments, held shares and refunds are in smallest units of the asset; fees, slashes and what came into the wallet are nanoERG.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from aihd.core.task import Task
from aihd.protocol.constants import SLASH_BPS, WHOLE_BPS
from aihd.protocol.funding import TxKind

ERG = "ERG"
THE_CLIENT_PAYS = (TxKind.TIMEOUT, TxKind.REFUND)  # the miner


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What moved on a day, for a service, in an asset ("ERG" or a token id in hex).

    `payments` are after the treasury's share and without what is held; `held` waits for clients' marks (it falls again on the day of the
    settlement, when it is paid or `burned`); `refunded` was given back by honest failures; `fees` went to miners, `slashed` left the bond,
    `net` is what came into the wallet and the payout address: nanoERG, all three.
    """

    day: str
    service: str
    asset: str = ERG
    paid: int = 0
    payments: int = 0
    held: int = 0
    burned: int = 0
    refunded: int = 0
    fees: int = 0
    slashed: int = 0
    net: int = 0

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.day, self.service, self.asset)

    def __add__(self, other: Row) -> Row:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _AMOUNTS}
        return Row(day=self.day, service=self.service, asset=self.asset, **sums)


_AMOUNTS = tuple(field.name for field in fields(Row) if field.name not in ("day", "service", "asset"))


def of_transaction(task: Task | None, *, day: str, kind: str, fee: int, spent: int) -> Row:
    """Returns what a transaction of ours that is in a block did to the wallet; `spent` is what it took out, the fee included."""
    service = task.service_hash.hex() if task else ""
    fees = 0 if kind in THE_CLIENT_PAYS else fee
    return Row(day=day, service=service, asset=_asset(task), fees=fees, net=-spent)


def of_release(task: Task, day: str) -> Row:
    """Returns what a published receipt brought."""
    amounts, held = task.amounts, task.held_share
    at_once = amounts.paid + amounts.held + amounts.burned - held
    return Row(day=day, service=task.service_hash.hex(), asset=_asset(task), paid=1, payments=at_once, held=held)


def of_settlement(task: Task, day: str) -> Row:
    """Returns what became of the held share, whoever settled."""
    held, burned = task.held_share, task.amounts.burned
    service = task.service_hash.hex()
    return Row(day=day, service=service, asset=_asset(task), payments=held - burned, held=-held, burned=burned)


def of_failure(task: Task, day: str) -> Row:
    """Returns what an honest failure gave back."""
    return Row(day=day, service=task.service_hash.hex(), asset=_asset(task), refunded=task.payment)


def of_slash(task: Task, day: str) -> Row:
    """Returns what a missed deadline cost the bond, if that held as much; whoever's transaction took it."""
    return Row(day=day, service=task.service_hash.hex(), slashed=task.worth * SLASH_BPS // WHOLE_BPS)


def _asset(task: Task | None) -> str:
    return task.asset.hex() if task is not None and task.asset is not None else ERG


def books(rows: Iterable[Row]) -> list[Row]:
    """Returns one row for each day, service and asset in which something moved, in that order."""
    sums: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        sums[row.key] = sums[row.key] + row if row.key in sums else row
    return [sums[key] for key in sorted(sums)]
