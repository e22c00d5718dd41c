"""Take a task or leave it: a chain of small rules, each of which declines with a code and a sentence, or passes on.

Default deny: an offer is accepted only if no rule objects. The same rules run when a task is found and again in the moment of the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aihd.core.assets import Assets, name_of, show_amount
from aihd.protocol import constants, guards
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.plans import value_of
from aihd.protocol.selection import FRESH_HEADERS, HeaderRef, is_selected
from aihd.protocol.units import format_erg

STANDING_UNIT: Final = 10**9  # a standing of 1


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked for one service: the least payment by asset (None stands for ERG), and how many blocks a run takes.

    A payment in an asset without a price is not taken.
    """

    min_payment: Mapping[bytes | None, int]
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator asks. Amounts are nanoERG, margins are blocks; `services` maps a service hash to its terms.

    `holdback` says which share of a payment may wait for the client's mark, in basis points, by the client's standing: rows of least
    standing and most holdback. `expiry` is the last height at which the market allows a claim.
    """

    min_profit: int
    max_open: int
    claim_margin: int
    release_margin: int
    tx_fee: int
    services: Mapping[bytes, Terms]
    assets: Assets = field(default_factory=dict)
    holdback: tuple[tuple[int, int], ...] = ((-STANDING_UNIT, constants.WHOLE_BPS),)
    expiry: int = 2**31 - 1
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


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @property
    def terms(self) -> TaskEscrow:
        """The task's terms."""
        return self.task.content


@dataclass(frozen=True, slots=True)
class Decline:
    """Why not. `passing` says that the same offer may be fine later."""

    code: str
    sentence: str
    passing: bool = False


Rule = Callable[[Offer, Limits], Decline | None]

# A claim that is built late is void once half of the window is gone: shorter windows than this leave no room for that.
MIN_WINDOW: Final = 20

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
    version = offer.terms.version
    if version != constants.VERSION:
        return Decline("version", f"the task is of protocol version {version}, this is {constants.VERSION}")
    return None


def _service(offer: Offer, limits: Limits) -> Decline | None:
    wanted = offer.terms.service_hash
    if wanted not in limits.services:
        return Decline("service", f"service {wanted.hex()[:16]}… is not offered here")
    return None


def _funded(offer: Offer, limits: Limits) -> Decline | None:
    terms = offer.terms
    if not (0 < terms.payment <= constants.MAX_PAYMENT and 0 < terms.worth <= constants.MAX_PAYMENT):
        return Decline(
            "funded",
            f"it pays {terms.payment} and is said to be worth {terms.worth} nanoERG: no claim of it can be valid",
        )
    if terms.asset is None and terms.worth != terms.payment:
        return Decline(
            "funded", f"it pays {format_erg(terms.payment)} and is said to be worth {format_erg(terms.worth)}"
        )
    if not 0 <= terms.holdback_bps <= constants.WHOLE_BPS:
        return Decline("funded", f"its holdback is {terms.holdback_bps} basis points, no claim of it can be valid")
    needed = value_of(terms)
    if offer.task.value < needed:
        return Decline("funded", f"it holds {format_erg(offer.task.value)}, its terms need {format_erg(needed)}")
    return None


def _asset(offer: Offer, limits: Limits) -> Decline | None:
    """A declared worth that is too high would eat the bond's capacity and raise the slash."""
    terms = offer.terms
    if terms.asset is None:
        return None
    asset = limits.assets.get(terms.asset)
    if asset is None:
        return Decline("asset", f"it pays in token {terms.asset.hex()[:16]}…, which is none of [assets]")
    most = terms.payment * asset.max_worth // 10**asset.decimals
    if terms.worth > most:
        text = f"it says that {asset.show(terms.payment)} are worth {format_erg(terms.worth)}, at most {format_erg(most)} are believed"
        return Decline("worth", text)
    return None


def _price(offer: Offer, limits: Limits) -> Decline | None:
    terms = offer.terms
    least = limits.services[terms.service_hash].min_payment.get(terms.asset)
    if least is None:
        return Decline("price", f"this service is not sold for {name_of(limits.assets, terms.asset)}")
    if terms.payment < least:
        asked = show_amount(limits.assets, terms.asset, least)
        return Decline(
            "price",
            f"it pays {show_amount(limits.assets, terms.asset, terms.payment)}, this service costs at least {asked}",
        )
    return None


def _profit(offer: Offer, limits: Limits) -> Decline | None:
    if offer.cost is None:
        return Decline("cost", "nodo has not said what the run costs", passing=True)
    profit = _income(offer.terms) - _TRANSACTIONS * limits.tx_fee - offer.cost
    if profit < limits.min_profit:
        # nodo's price may fall; the rest of it never changes.
        return Decline(
            "profit",
            f"it would leave {profit} nanoERG after fees and {offer.cost} for the run, {limits.min_profit} are asked",
            passing=profit + offer.cost >= limits.min_profit,
        )
    return None


def _income(terms: TaskEscrow) -> int:
    """nanoERG that come in if all goes well: a held share as if it were paid, a token as what it is said to be worth.

    A settler is paid by the rating box; the receipt's value comes back when it may be reclaimed. What a client adds to a payment in a token
    covers the treasury's share and the release.
    """
    if terms.asset is not None:
        return terms.worth + constants.MAX_MINER_FEE + constants.RATING_VALUE - constants.MIN_BOX
    return terms.payment - guards.treasury_fee(terms.worth) + constants.RATING_VALUE


def _holdback(offer: Offer, limits: Limits) -> Decline | None:
    bps, standing = offer.terms.holdback_bps, offer.client or 0
    most = max((share for least, share in limits.holdback if standing >= least), default=0)
    if bps > most:
        text = f"it holds back {bps / 100:g} % until the client's mark, policy.max_holdback allows this client {most / 100:g} %"
        return Decline("holdback", text, passing=offer.client is None)
    return None


def _expiry(offer: Offer, limits: Limits) -> Decline | None:
    over = offer.height + offer.terms.exec_window
    if over > limits.expiry:
        return Decline("expiry", f"it may last until height {over}, the market ends at {limits.expiry}")
    return None


def _credit(offer: Offer, limits: Limits) -> Decline | None:
    objection = offer.credit and offer.credit.objection(offer.at_work)
    return Decline("credit", objection, passing=True) if objection else None


def _stranger(offer: Offer, limits: Limits) -> Decline | None:
    return Decline("own", "it was posted with our own key") if offer.terms.client == offer.bond.node else None


def _reputation(offer: Offer, limits: Limits) -> Decline | None:
    least = offer.terms.min_reputation
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
    allowed = offer.terms.allowed
    if allowed and offer.bond.node not in allowed:
        return Decline("allow_list", f"our key is not among the {len(allowed)} that it allows")
    return None


def _claim_time(offer: Offer, limits: Limits) -> Decline | None:
    left = offer.terms.claim_deadline - offer.height
    if left < limits.claim_margin:
        return Decline("claim_deadline", f"{left} blocks are left to claim it, {limits.claim_margin} are needed")
    return None


def _run_time(offer: Offer, limits: Limits) -> Decline | None:
    window = offer.terms.exec_window
    # Half of the window may pass before the input is here.
    least = 2 * (limits.services[offer.terms.service_hash].blocks + limits.release_margin)
    if not max(least, MIN_WINDOW) <= window <= constants.MAX_EXEC:
        text = (
            f"it gives {window} blocks to run and release, {max(least, MIN_WINDOW)} to {constants.MAX_EXEC} are taken"
        )
        return Decline("exec_window", text)
    return None


def _capacity(offer: Offer, limits: Limits) -> Decline | None:
    worth, bond = offer.terms.worth, offer.bond
    if bond.committed + worth > bond.amount * constants.BOND_MULTIPLIER:
        text = f"{format_erg(bond.committed)} are committed, {format_erg(worth)} more is over twice the bond"
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
    _asset,
    _price,
    _profit,
    _holdback,
    _stranger,
    _client,
    _allowed,
    _claim_time,
    _run_time,
    _expiry,
    _reputation,
    _capacity,
    _busy,
    _credit,
    _selected,
)

_LASTING: Final[tuple[Rule, ...]] = (
    _version,
    _service,
    _funded,
    _asset,
    _price,
    _stranger,
    _allowed,
    _claim_time,
    _run_time,
    _expiry,
)


def never(task: On[TaskEscrow], node: bytes, height: int, limits: Limits) -> Decline | None:
    """Returns why a task will not be taken by a node (33-byte key) whatever comes, `height` being that of the next block.

    Only what neither our bond nor nodo nor the client's standing can change is looked at: such a task need not be kept in mind.
    """
    offer = Offer(task=task, bond=Bond(node, 0), height=height, headers=(), at_work=0)
    found = (rule(offer, limits) for rule in _LASTING)
    return next((decline for decline in found if decline is not None and not decline.passing), None)
