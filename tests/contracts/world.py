"""A market in memory: boxes in any state a guard may meet them in, and the honest transaction for each of them.

Boxes are put on the chain as they are (a guard sees a box, not how it came about); that the states used here are reached by honest
transactions is what test_liveness shows. Default heights leave room on both sides: boxes were made at 950, the tip is at 1000.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox

from aihd.protocol import guards, plans
from aihd.protocol.boxes import (
    Bond,
    ClaimedTask,
    FailureReceipt,
    Minter,
    On,
    Rating,
    Receipt,
    TaskEscrow,
)
from aihd.protocol.constants import (
    BOND_RESERVE,
    COOLDOWN,
    FAILED,
    MARKET_LIFE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    RECEIPT_VALUE,
    SETTLE_GRACE,
    SLACK,
)
from aihd.protocol.deployment import CONTENT_OF, Deployment, Guard, Template
from aihd.protocol.funding import Funds, Plan
from aihd.protocol.plans import Market, Side

from .chain import CLIENT, NODE, STRANGER, TREASURER, C, Draft, Out, Party, Tokens, box_of

ERG: Final = 10**9
FEE: Final = 1_100_000
MADE: Final = 950
TIP: Final = 1000
EXPIRY: Final = 900 + MARKET_LIFE
BOND_TOKEN: Final = hashlib.sha256(b"bond token").digest()
SALT: Final = hashlib.sha256(b"salt").digest()
_GUARD_OF: Final = {content: guard for guard, content in CONTENT_OF.items()}


def token(name: str) -> bytes:
    """An id that stands for a token minted earlier, for instance by the claim of a task."""
    return hashlib.sha256(b"token " + name.encode()).digest()


TASK: Final = token("task")
OTHER: Final = token("other")
ASSET: Final = token("asset")
# A task of 1 ERG that is paid in a token.
IN_TOKEN: Final[Mapping[str, Any]] = {"asset": ASSET, "payment": 12_345, "worth": ERG}


@dataclass(frozen=True, slots=True)
class World:
    """A deployment made of `templates`, with boxes under its guards."""

    deployment: Deployment
    _origins: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    @classmethod
    def of(cls, templates: Mapping[Guard, Template], expiry: int = EXPIRY) -> World:
        made = Deployment.make(
            templates, network="devnet", bond_token=BOND_TOKEN, treasury=TREASURER.tree, expiry=expiry
        )
        return cls(made)

    # Boxes

    def place(self, out: Out, height: int = MADE) -> ErgoBox:
        return box_of(out, b"origin %d" % next(self._origins), height)

    def box(self, content: C, value: int, tokens: Tokens = (), height: int = MADE) -> On[C]:
        """A box under the guard of its content."""
        tree = self.deployment.trees[_GUARD_OF[type(content)]]
        return On(self.place(Out(value, tree, tokens, content.constants()), height), content)

    def coin(self, party: Party, value: int = 100 * ERG, tokens: Tokens = ()) -> ErgoBox:
        return self.place(Out(value, party.tree, tokens))

    def minter(self, supply: int = plans.BOND_SUPPLY) -> On[Minter]:
        return self.box(Minter(), plans.MINTER_VALUE, ((BOND_TOKEN, supply),))

    def bond(self, *open_ids: bytes, value: int | None = None, **changes: Any) -> On[Bond]:
        """The bond of NODE with one running task of 1 ERG for each open id."""
        running = len(open_ids)
        bond = Bond(
            NODE.pk,
            100 * ERG,
            committed=running * ERG,
            score=7,
            completed=3,
            failed=2,
            timed_out=1,
            born=940,
            active=running,
            last_activity=945,
            open_ids=open_ids,
            endpoint="http://node.example:8080",
        )
        bond = replace(bond, **changes)
        return self.box(bond, bond.amount + BOND_RESERVE if value is None else value, ((BOND_TOKEN, 1),))

    def task(self, value: int | None = None, height: int = MADE, **changes: Any) -> On[TaskEscrow]:
        """A task of 1 ERG; what it is worth follows its payment where that is in ERG and nothing else is said."""
        terms: dict[str, Any] = {
            "service_hash": token("service"),
            "input_commitment": token("input"),
            "payment": ERG,
            "min_reputation": 0,
            "claim_deadline": TIP + 20,
            "exec_window": 50,
            "selection_window": 0,
            "selection_difficulty": 1,
            "client": CLIENT.pk,
            "locator": "data:,hello",
            **changes,
        }
        task = TaskEscrow(**{"worth": terms["payment"], **terms})
        locked = plans.value_of(task) if value is None else value
        return self.box(task, locked, plans.units(task.asset, task.payment), height)

    def claimed(self, task_id: bytes = TASK, value: int | None = None, **changes: Any) -> On[ClaimedTask]:
        terms: dict[str, Any] = {
            "service_hash": token("service"),
            "input_commitment": token("input"),
            "payment": ERG,
            "exec_deadline": TIP + 40,
            "claim_height": TIP - 10,
            "client": CLIENT.pk,
            "node": NODE.pk,
            "locator": "data:,hello",
            **changes,
        }
        task = ClaimedTask(**{"worth": terms["payment"], **terms})
        locked = guards.escrow_value(task.worth, task.payment, in_token=task.asset is not None)
        tokens = ((task_id, 2), *plans.units(task.asset, task.payment))
        return self.box(task, locked if value is None else value, tokens)

    def rating(self, task_id: bytes = TASK, **changes: Any) -> On[Rating]:
        """A rating whose commit window is open until TIP + 20, its reveal window until TIP + 50."""
        rating = Rating(client=CLIENT.pk, node=NODE.pk, worth=ERG, commit_deadline=TIP + 20, reveal_deadline=TIP + 50)
        rating = replace(rating, **changes)
        in_erg = 0 if rating.asset else rating.held
        return self.box(rating, RATING_VALUE + in_erg, ((task_id, 1), *plans.units(rating.asset, rating.held)))

    def failed(self, task_id: bytes = TASK, **changes: Any) -> On[Rating]:
        """What a failure at TIP leaves to be settled."""
        terms: dict[str, Any] = {
            "outcome": FAILED, "commit_deadline": 0, "reveal_deadline": TIP + 1 + SLACK // 2, **changes
        }  # fmt: skip
        return self.rating(task_id, **terms)

    def receipt(self, task_id: bytes = TASK, height: int = MADE) -> On[Receipt]:
        content = Receipt(task_id, token("input"), token("output"), token("params"), NODE.pk, b"s" * 56, b"c" * 38)
        return self.box(content, RECEIPT_VALUE, ((task_id, 1),), height)

    def failure(self, task_id: bytes = TASK, height: int = MADE) -> On[FailureReceipt]:
        content = FailureReceipt(task_id, NODE.pk, 2, token("evidence"), height, b"s" * 56)
        return self.box(content, MIN_BOX, ((task_id, 1),), height)

    def committed(self, rating: On[Rating], client: int = 4, node: int = 5) -> On[Rating]:
        """A rating with the commitments of both sides (0 = that side stays silent)."""
        hashes = {
            f"{side}_commitment": plans.commitment_of(rating, side, mark, SALT) if mark else b""
            for side, mark in ((Side.CLIENT, client), (Side.NODE, node))
        }
        content: Rating = replace(rating.content, **hashes)  # type: ignore[arg-type]
        return self.box(content, rating.value, rating.tokens)

    def rated(self, client: int = 0, node: int = 0, marks: tuple[int, int] = (0, 0), **changes: Any) -> On[Rating]:
        """A rating with commitments to `client` and `node`, and the `marks` that were revealed."""
        rating = self.rating(changes.pop("task_id", TASK), **changes)
        rating = self.committed(rating, client, node)
        revealed = replace(rating.content, client_mark=marks[0], node_mark=marks[1])
        return self.box(revealed, rating.value, rating.tokens)

    # Honest transactions. `solo`: without a wallet box.

    def _draft(self, plan: Plan, tip: int, coin: ErgoBox | None, *signers: Party) -> Draft:
        return Draft.of(plan, tip, signers, (coin,) if coin else ())

    def _market(self, tip: int) -> Market:
        return Market(self.deployment, tip + 1)

    def open_bond(self, tip: int = TIP, minter: On[Minter] | None = None, **changes: Any) -> Draft:
        coin = self.coin(NODE)
        terms: dict[str, Any] = {"node": NODE.pk, "amount": 50 * ERG, "endpoint": "http://node.example:8080", **changes}
        funds = Funds((coin,), NODE.tree, FEE)
        return self._draft(plans.open_bond(self._market(tip), minter or self.minter(), funds, **terms), tip, coin, NODE)

    def manage(self, bond: On[Bond] | None = None, tip: int = TIP, **changes: Any) -> Draft:
        coin = self.coin(NODE)
        funds = Funds((coin,), NODE.tree, FEE)
        return self._draft(plans.manage(self._market(tip), bond or self.bond(), funds, **changes), tip, coin, NODE)

    def withdraw(self, bond: On[Bond] | None = None, tip: int = TIP + COOLDOWN) -> Draft:
        coin = self.coin(NODE)
        funds = Funds((coin,), NODE.tree, FEE)
        return self._draft(plans.withdraw(self._market(tip), bond or self.bond(), funds), tip, coin, NODE)

    def claim(self, task: On[TaskEscrow] | None = None, bond: On[Bond] | None = None, tip: int = TIP) -> Draft:
        coin = self.coin(NODE)
        funds = Funds((coin,), NODE.tree, FEE)
        plan = plans.claim(self._market(tip), task or self.task(), bond or self.bond(), funds)
        return self._draft(plan, tip, coin, NODE)

    def release(
        self, claimed: On[ClaimedTask] | None = None, tip: int = TIP, *, solo: bool = False, fee: int = FEE
    ) -> Draft:
        claimed = claimed or self.claimed()
        receipt = plans.receipt_for(claimed, token("output"), token("params"), b"s" * 56, b"c" * 38)
        coin = None if solo else self.coin(NODE)
        funds = Funds((coin,) if coin else (), NODE.tree, fee)
        return self._draft(plans.release(self._market(tip), claimed, receipt, funds), tip, coin, NODE)

    def fail(self, claimed: On[ClaimedTask] | None = None, tip: int = TIP) -> Draft:
        coin = self.coin(NODE)
        claimed = claimed or self.claimed()
        failure = FailureReceipt(plans.task_id_of(claimed), NODE.pk, 2, token("evidence"), tip + 1, b"s" * 56)
        plan = plans.fail(self._market(tip), claimed, failure, Funds((coin,), NODE.tree, FEE))
        return self._draft(plan, tip, coin, NODE)

    def timeout(
        self,
        claimed: On[ClaimedTask] | None = None,
        bond: On[Bond] | None = None,
        tip: int | None = None,
        *,
        solo: bool = False,
    ) -> Draft:
        """By a stranger, or by the node."""
        claimed = claimed or self.claimed()
        tip = claimed.content.exec_deadline if tip is None else tip
        held = bond or self.bond(plans.task_id_of(claimed))
        plan = plans.timeout(self._market(tip), claimed, held, Funds((), STRANGER.tree, FEE))
        return self._draft(plan, tip, None if solo else self.coin(STRANGER), STRANGER, NODE)

    def settle(
        self,
        rating: On[Rating] | None = None,
        bond: On[Bond] | None = None,
        tip: int | None = None,
        *,
        by: Party = STRANGER,
        solo: bool = False,
    ) -> Draft:
        """By a stranger when the grace is over, or by the node as soon as the rating is final or the client stayed silent."""
        rating = rating or self.rating()
        tip = settled_at(rating.content, by) if tip is None else tip
        held = bond or self.bond(plans.task_id_of(rating))
        plan = plans.settle(self._market(tip), rating, held, Funds((), by.tree, FEE))
        signers = (NODE,) if by is NODE else (STRANGER, NODE, CLIENT)
        return self._draft(plan, tip, None if solo else self.coin(by), *signers)

    def refund(self, task: On[TaskEscrow] | None = None, tip: int | None = None, *, solo: bool = False) -> Draft:
        """By a stranger."""
        task = task or self.task()
        tip = task.content.claim_deadline if tip is None else tip
        plan = plans.refund(self._market(tip), task, Funds((), STRANGER.tree, FEE))
        return self._draft(plan, tip, None if solo else self.coin(STRANGER), STRANGER, NODE)

    def cancel(self, task: On[TaskEscrow] | None = None, tip: int = TIP, coin: ErgoBox | None = None) -> Draft:
        plan = plans.cancel(self._market(tip), task or self.task(), Funds((), CLIENT.tree, FEE))
        return self._draft(plan, tip, coin or self.coin(CLIENT), CLIENT)

    def commit(self, side: Side, rating: On[Rating] | None = None, tip: int = TIP, mark: int = 4) -> Draft:
        rating = rating or self.rating()
        party = party_of(side)
        coin = self.coin(party)
        commitment = plans.commitment_of(rating, side, mark, SALT)
        plan = plans.commit(self._market(tip), rating, side, commitment, Funds((coin,), party.tree, FEE))
        return self._draft(plan, tip, coin, party)

    def reveal(
        self, side: Side, rating: On[Rating] | None = None, tip: int = TIP, mark: int | None = None, salt: bytes = SALT
    ) -> Draft:
        """The default rating has the client committed to 4 and the node to 5."""
        rating = rating or self.committed(self.rating())
        mark = (4 if side is Side.CLIENT else 5) if mark is None else mark
        party = party_of(side)
        coin = self.coin(party)
        plan = plans.reveal(self._market(tip), rating, side, mark, salt, Funds((coin,), party.tree, FEE))
        return self._draft(plan, tip, coin, party)

    def reclaim(self, receipt: On[Receipt] | On[FailureReceipt] | None = None, tip: int | None = None) -> Draft:
        receipt = receipt or self.receipt()
        tip = receipt.box.creation_height + RECEIPT_RETENTION if tip is None else tip
        coin = self.coin(NODE)
        plan = plans.reclaim(self._market(tip), receipt, Funds((coin,), NODE.tree, FEE))
        return self._draft(plan, tip, coin, NODE)


def party_of(side: Side) -> Party:
    return CLIENT if side is Side.CLIENT else NODE


def settled_at(rating: Rating, by: Party) -> int:
    """The first tip after which this party may settle."""
    if by is not NODE:
        return rating.reveal_deadline + SETTLE_GRACE
    if rating.client_mark and rating.node_mark:
        return TIP
    return rating.reveal_deadline if rating.client_commitment else max(TIP, rating.commit_deadline)
