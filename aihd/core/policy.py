"""Take a task or leave it: a chain of small rules, each of which declines with a code and a sentence, or passes on.

Default deny: an offer is accepted only if no rule objects. The same rules run when a task is found and again in the moment of the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aihd.protocol import constants, guards
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.plans import escrow_value
from aihd.protocol.selection import FRESH_HEADERS, HeaderRef, is_selected
from aihd.protocol.units import format_erg


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked for one service: the least payment in nanoERG, and how many blocks a run takes."""

    min_payment: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator asks. Amounts are nanoERG, margins are blocks; `services` maps a service hash to its terms."""

    min_profit: int
    max_open: int
    claim_margin: int
    release_margin: int
    tx_fee: int
    services: Mapping[bytes, Terms]
    min_client: int | None = None  # least standing of a client by the market's history, in units of 10^-9


FEW_RUNS: Final = 3
"""Runs that our credit at nodo has to be good for, or nothing new is claimed."""
AMPLE_RUNS: Final = 100
"""Runs that the amount is good for which an operator is asked to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What our client id has at nodo and what a run takes of it at its start, in nodo's `unit`. `cure`: what its operator does about it."""

    balance: int
    start: int
    unit: str
    cure: str

    @property
    def runs(self) -> int:
        """Runs that the balance is good for; a run that takes nothing needs none."""
        return max(0, self.balance) // self.start if self.start > 0 else 10**9

    def objection(self, others: int = 0) -> str | None:
        """A sentence when that is too little for a run beside `others` that may still have to start; None when it is enough.

        What is wrong stands before its semicolon, what mends it behind.
        """
        needed = max(FEW_RUNS, others + 1)
        if self.runs >= needed:
            return None
        has = f"it has {self.balance} {self.unit}, a run takes {self.start} at its start, {needed} are asked for"
        return f"nodo does not trust our client id ({has}); {self.cure}"


@dataclass(frozen=True, slots=True)
class Offer:
    """A task as it is offered to us now.

    `headers` newest first; `height` is that of the next block; `at_work` counts the tasks that keep us busy. `cost` is what nodo asks
    for the run, in nanoERG; None while it has not said. `client` is the client's standing by the market's history, from -10^9 to 10^9
    (0: nobody knows it); None while the history is not read yet. `credit` is ours at nodo; None where nothing is charged, or known.
    """

    task: On[TaskEscrow]
    bond: Bond
    height: int
    headers: tuple[HeaderRef, ...]
    at_work: int
    cost: int | None = 0
    client: int | None = 0
    credit: Credit | None = None


@dataclass(frozen=True, slots=True)
class Decline:
    """Why not. `passing` says that the same offer may be fine later."""

    code: str
    sentence: str
    passing: bool = False

    @property
    def ours(self) -> bool:
        """Whether it waits for something that our operator can mend."""
        return self.passing and self.code in _MENDED_HERE


Rule = Callable[[Offer, Limits], Decline | None]

_MENDED_HERE: Final = frozenset({"cost", "profit", "credit"})
# What a paid task costs us on chain: claim, release, commit, reveal and settle.
_TRANSACTIONS: Final = 5


def consider(offer: Offer, limits: Limits) -> Decline | None:
    """The first objection, or None to accept."""
    return next((decline for decline in _verdicts(offer, limits) if decline), None)


def explain(offer: Offer, limits: Limits) -> list[tuple[str, Decline | None]]:
    """Every rule with its answer, for an operator who asks."""
    return [(rule.__name__.removeprefix("_"), rule(offer, limits)) for rule in RULES]


def _verdicts(offer: Offer, limits: Limits) -> Iterable[Decline | None]:
    return (rule(offer, limits) for rule in RULES)


def _version(offer: Offer, limits: Limits) -> Decline | None:
    version = offer.task.content.version
    if version != constants.VERSION:
        return Decline("version", f"the task is of protocol version {version}, this is {constants.VERSION}")
    return None


def _service(offer: Offer, limits: Limits) -> Decline | None:
    wanted = offer.task.content.service_hash
    if wanted not in limits.services:
        return Decline("service", f"service {wanted.hex()[:16]}… is not offered here")
    return None


def _funded(offer: Offer, limits: Limits) -> Decline | None:
    needed = escrow_value(offer.task.content.payment)
    if not 0 < offer.task.content.payment <= constants.MAX_PAYMENT or offer.task.value < needed:
        return Decline("funded", f"it holds {format_erg(offer.task.value)}, its terms need {format_erg(needed)}")
    return None


def _price(offer: Offer, limits: Limits) -> Decline | None:
    payment = offer.task.content.payment
    least = limits.services[offer.task.content.service_hash].min_payment
    if payment < least:
        return Decline("price", f"it pays {format_erg(payment)}, this service costs at least {format_erg(least)}")
    return None


def _profit(offer: Offer, limits: Limits) -> Decline | None:
    if offer.cost is None:
        return Decline("cost", "nodo has not said what the run costs", passing=True)
    # A settler is paid by the rating box; the receipt's value comes back when it may be reclaimed.
    payment = offer.task.content.payment
    fees = guards.treasury_fee(payment) + _TRANSACTIONS * limits.tx_fee
    profit = payment - fees - offer.cost + constants.RATING_VALUE
    if profit < limits.min_profit:
        # nodo's price may fall; the rest of it never changes.
        return Decline(
            "profit",
            f"it would leave {profit} nanoERG after fees and {offer.cost} for the run, {limits.min_profit} are asked",
            passing=profit + offer.cost >= limits.min_profit,
        )
    return None


def _credit(offer: Offer, limits: Limits) -> Decline | None:
    objection = offer.credit and offer.credit.objection(offer.at_work)
    return Decline("credit", objection, passing=True) if objection else None


def _stranger(offer: Offer, limits: Limits) -> Decline | None:
    return Decline("own", "it was posted with our own key") if offer.task.content.client == offer.bond.node else None


def _reputation(offer: Offer, limits: Limits) -> Decline | None:
    least = offer.task.content.min_reputation
    if offer.bond.score < least:
        return Decline("reputation", f"it asks for a score of {least}, ours is {offer.bond.score}", passing=True)
    return None


def _client(offer: Offer, limits: Limits) -> Decline | None:
    if limits.min_client is None:
        return None
    if offer.client is None:
        return Decline("client", "the market's history is not read yet", passing=True)
    if offer.client < limits.min_client:
        text = f"its client stands at {offer.client / 10**9:.3f}, at least {limits.min_client / 10**9:.3f} is asked"
        return Decline("client", text, passing=True)
    return None


def _allowed(offer: Offer, limits: Limits) -> Decline | None:
    allowed = offer.task.content.allowed
    if allowed and offer.bond.node not in allowed:
        return Decline("allow_list", f"our key is not among the {len(allowed)} that it allows")
    return None


def _claim_time(offer: Offer, limits: Limits) -> Decline | None:
    left = offer.task.content.claim_deadline - offer.height
    if left < limits.claim_margin:
        return Decline("claim_deadline", f"{left} blocks are left to claim it, {limits.claim_margin} are needed")
    return None


def _run_time(offer: Offer, limits: Limits) -> Decline | None:
    window = offer.task.content.exec_window
    # Half of the window may pass before the input is here.
    least = 2 * (limits.services[offer.task.content.service_hash].blocks + limits.release_margin)
    if not least <= window <= 2**31 - offer.height:
        return Decline("exec_window", f"it gives {window} blocks to run and release, at least {least} are needed")
    return None


def _capacity(offer: Offer, limits: Limits) -> Decline | None:
    payment, bond = offer.task.content.payment, offer.bond
    if bond.committed + payment > bond.amount * constants.BOND_MULTIPLIER:
        text = f"{format_erg(bond.committed)} are committed, {format_erg(payment)} more is over twice the bond"
        return Decline("bond", text, passing=True)
    if len(bond.open_ids) >= constants.MAX_OPEN:
        return Decline("bond_slots", f"the bond holds {len(bond.open_ids)} open tasks, no more fit", passing=True)
    return None


def _busy(offer: Offer, limits: Limits) -> Decline | None:
    if offer.at_work >= limits.max_open:
        return Decline("busy", f"{offer.at_work} tasks are at work, policy.max_open_tasks allows no more", passing=True)
    return None


def _selected(offer: Offer, limits: Limits) -> Decline | None:
    # Only fresh headers: a claim that leans on an older one would die before it is mined.
    if not is_selected(offer.task, offer.bond, offer.headers[:FRESH_HEADERS], offer.height):
        return Decline("not_selected", "the lottery has not drawn our bond yet", passing=True)
    return None


RULES: Final[tuple[Rule, ...]] = (
    _version,
    _service,
    _funded,
    _price,
    _profit,
    _stranger,
    _client,
    _allowed,
    _claim_time,
    _run_time,
    _reputation,
    _capacity,
    _busy,
    _credit,
    _selected,
)
