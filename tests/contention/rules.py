"""Two versions of the market: the one that is, and the one before it, in which a release and a failure spent the bond.

Version 1 is kept as its compiled templates and as what differs in its boxes and transactions, so that a play that version 2 withstands can
be seen to succeed. Outputs have their index by name: the bond's successor is always output 0 where there is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ergo_lib_python.chain import Constant

from aihd.chain.contracts import templates
from aihd.protocol import codec, guards, plans
from aihd.protocol.boxes import Bond, ClaimedTask, On, Rating, TaskEscrow
from aihd.protocol.constants import RATING_VALUE, RECEIPT_VALUE, SLACK
from aihd.protocol.deployment import Guard, Template
from aihd.protocol.funding import Funds, Output, Plan, TxKind, balance
from aihd.protocol.plans import Market

_COMPILED: Final = Path(__file__).parent / "version1"
_WINDOW: Final = 60  # blocks, of commits and of reveals


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a play needs of a version: its guards, its boxes, and the transactions that differ."""

    templates: Mapping[Guard, Template]
    task: type[TaskEscrow]
    claimed: type[ClaimedTask]
    rating: type[Rating]
    claim: Callable[[Market, On[TaskEscrow], On[Bond], Funds], Plan]
    release: Callable[[Market, On[ClaimedTask], On[Bond], Funds], Plan]
    settle: Callable[[Market, On[Rating], On[Bond], Funds], Plan]
    rating_at: int
    release_spends_the_bond: bool


# Version 2


def _release(market: Market, claimed: On[ClaimedTask], bond: On[Bond], funds: Funds) -> Plan:
    """With no box but the claimed one, whatever the fee is up to what the task holds for it."""
    receipt = plans.receipt_for(claimed, b"o" * 32, b"p" * 32, b"s" * 56, b"c" * 38)
    return plans.release(market, claimed, receipt, replace(funds, boxes=()))


VERSION_2: Final = Rules(
    templates=templates(),
    task=TaskEscrow,
    claimed=ClaimedTask,
    rating=Rating,
    claim=plans.claim,
    release=_release,
    settle=plans.settle,
    rating_at=1,
    release_spends_the_bond=False,
)


# Version 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task1(TaskEscrow):
    def constants(self) -> tuple[Constant, ...]:
        terms = (
            self.payment,
            self.min_reputation,
            self.claim_deadline,
            self.exec_window,
            self.selection_window,
            self.selection_difficulty,
            1,
        )
        now = TaskEscrow.constants(self)
        return (*now[:2], codec.coll_long(terms), *now[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimed1(ClaimedTask):
    def constants(self) -> tuple[Constant, ...]:
        now = ClaimedTask.constants(self)
        return (*now[:2], codec.coll_long((self.payment, self.exec_deadline, self.claim_height)), *now[3:])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rating1(Rating):
    def constants(self) -> tuple[Constant, ...]:
        now = Rating.constants(self)
        return (*now[:2], codec.coll_long((self.worth,)), *now[3:])


def _claim_1(market: Market, task: On[TaskEscrow], bond: On[Bond], funds: Funds) -> Plan:
    terms = task.content
    claimed = _Claimed1(
        service_hash=terms.service_hash,
        input_commitment=terms.input_commitment,
        worth=terms.worth,
        payment=terms.payment,
        exec_deadline=market.height + terms.exec_window,
        claim_height=market.height,
        client=terms.client,
        node=bond.content.node,
        locator=terms.locator,
    )
    after = guards.after_claim(bond.content, task.raw_id, terms.payment, market.height)
    named = (
        market.output(Guard.BOND, bond.value, after, bond.tokens),
        market.output(Guard.CLAIMED, task.value, claimed, ((task.raw_id, 2),)),
    )
    return balance(TxKind.CLAIM, (task.box, bond.box), named, funds, market.height, signer=bond.content.node)


def _release_1(market: Market, claimed: On[ClaimedTask], bond: On[Bond], funds: Funds) -> Plan:
    terms, task_id = claimed.content, plans.task_id_of(claimed)
    receipt = plans.receipt_for(claimed, b"o" * 32, b"p" * 32, b"s" * 56, b"c" * 38)
    commit = market.height + _WINDOW
    rating = _Rating1(
        client=terms.client,
        node=terms.node,
        worth=terms.payment,
        commit_deadline=commit,
        reveal_deadline=commit + _WINDOW,
    )
    after = replace(
        bond.content,
        committed=bond.content.committed - terms.payment,
        active=bond.content.active - 1,
        completed=bond.content.completed + 1,
        last_activity=market.height + SLACK // 2,
    )
    due = guards.treasury_fee(terms.payment)
    named = (
        market.output(Guard.BOND, bond.value, after, bond.tokens),
        market.output(Guard.RECEIPT, RECEIPT_VALUE, receipt, ((task_id, 1),)),
        market.output(Guard.RATING, RATING_VALUE, rating, ((task_id, 1),)),
        *((Output(due, market.deployment.treasury),) if due else ()),
    )
    return balance(TxKind.RELEASE, (claimed.box, bond.box), named, funds, market.height, signer=terms.node)


def _settle_1(market: Market, rating: On[Rating], bond: On[Bond], funds: Funds) -> Plan:
    task_id = plans.task_id_of(rating)
    after = replace(
        bond.content,
        score=bond.content.score + guards.settle_points(rating.content),
        open_ids=tuple(i for i in bond.content.open_ids if i != task_id),
    )
    named = (market.output(Guard.BOND, bond.value, after, bond.tokens),)
    spent = (rating.box, bond.box)
    return balance(TxKind.SETTLE, spent, named, funds, market.height, signer=None, burned=[task_id])


def _template(guard: Guard) -> Template:
    record = json.loads((_COMPILED / f"{guard}.json").read_text(encoding="utf-8"))
    return Template(guard, bytes.fromhex(record["tree"]), {n: tuple(i) for n, i in record["slots"].items()})


VERSION_1: Final = Rules(
    templates={guard: _template(guard) for guard in Guard},
    task=_Task1,
    claimed=_Claimed1,
    rating=_Rating1,
    claim=_claim_1,
    release=_release_1,
    settle=_settle_1,
    rating_at=2,
    release_spends_the_bond=True,
)
