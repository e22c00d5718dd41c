"""A market without a chain: keys, boxes and headers made up, transactions planned, signed and evaluated for real.

A `Story` walks tasks through their transactions. It keeps every box with the height at which it was made and spent, and shows them as a
chain source would, at the tip or at an earlier height (what is left after a reorg).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.transaction import Transaction, TxId
from mnemonic import Mnemonic

from aihd.chain.contracts import make_deployment
from aihd.chain.signer import Signer
from aihd.client.party import MAX_FEE, NO_LIMIT
from aihd.core.life import Life, Sighting, read_life
from aihd.core.signing import Permit, Spending, Spent
from aihd.protocol import plans
from aihd.protocol.box import box_of
from aihd.protocol.boxes import Bond, ClaimedTask, FailureReceipt, Minter, On, Rating, Receipt, TaskEscrow, tokens_of
from aihd.protocol.constants import MARKET_LIFE, SETTLE_GRACE
from aihd.protocol.deployment import Deployment
from aihd.protocol.funding import Funds, Plan
from aihd.protocol.hashes import receipt_cid
from aihd.protocol.plans import Market, Side
from aihd.protocol.trees import GENERATOR, parse_tree

ERG: Final = 10**9
FEE: Final = 1_100_000
START: Final = 1000
SERVICE, COMMITMENT, OUTPUT, PARAMS = (bytes([n]) * 32 for n in (1, 2, 3, 4))
PARAMETERS: Final[Mapping[str, Any]] = {
    "blockVersion": 3,
    "maxBlockCost": 8001091,
    "maxBlockSize": 1271009,
    "inputCost": 2407,
    "dataInputCost": 100,
    "outputCost": 184,
    "tokenAccessCost": 100,
    "minValuePerByte": 360,
    "storageFeeFactor": 1250000,
    "height": 1000,
}


def digest(*words: object) -> bytes:
    """32 bytes that are the same in every run."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).digest()


def header(height: int, branch: str = "main") -> dict[str, Any]:
    """A header in node JSON; its id depends on height and branch."""
    return {
        "id": digest(branch, height).hex(),
        "parentId": digest(branch, height - 1).hex(),
        "version": 3,
        "height": height,
        "timestamp": 1_700_000_000_000 + 120_000 * height,
        "nBits": 117501863,
        "votes": "000000",
        "stateRoot": "00" * 33,
        "adProofsRoot": "00" * 32,
        "transactionsRoot": "00" * 32,
        "extensionHash": "00" * 32,
        "powSolutions": {"pk": GENERATOR.hex(), "w": GENERATOR.hex(), "n": "00" * 8, "d": 0},
    }


def headers(tip: int, branch: str = "main") -> list[dict[str, Any]]:
    """The ten newest headers, newest first."""
    return [header(height, branch) for height in range(tip, tip - 10, -1)]


def signer(name: str) -> Signer:
    """A key that is the same in every run."""
    return Signer(f"the key of {name}")


def mnemonic_of(name: str) -> str:
    """12 words that are the same in every run."""
    return Mnemonic("english").to_mnemonic(digest("words", name)[:16])


FREE: Final = Spending(MAX_FEE, NO_LIMIT, NO_LIMIT, NO_LIMIT)


def permit(owner: Signer, deployment: Deployment, payout: bytes | None = None, spending: Spending = FREE) -> Permit:
    """What a person may sign: anything that the market allows, within `spending`."""
    return owner.permit(deployment, spending, payout)


def sign(
    owner: Signer,
    deployment: Deployment,
    plan: Plan,
    newest_first: Sequence[Mapping[str, Any]],
    payout: bytes | None = None,
) -> Transaction:
    """The plan's transaction after the block `newest_first[0]`; SigningError when a guard or a rule refuses it."""
    allowed = permit(owner, deployment, payout)
    return owner.sign(plan, newest_first, PARAMETERS, permit=allowed, spent=Spent(0, 0))


def coin(
    owner: bytes, value: int, seed: str, tokens: Sequence[Token | tuple[bytes, int]] | None = None, height: int = 900
) -> ErgoBox:
    """A box of `value` nanoERG and `tokens` under the tree `owner`, from a transaction named by `seed`."""
    held = [each if isinstance(each, Token) else Token(TokenId(each[0]), each[1]) for each in tokens or ()] or None
    candidate = ErgoBoxCandidate(value=value, script=parse_tree(owner), creation_height=height, tokens=held)
    return ErgoBox.from_box_candidate(candidate, TxId(digest("coin", seed).hex()), 0)


@dataclass(frozen=True, slots=True)
class Known:
    """A box and what became of it."""

    box: ErgoBox
    height: int
    spent_by: str | None = None
    spent_at: int | None = None

    def shown(self, tip: int) -> Sighting:
        spent = self.spent_by if self.spent_at is not None and self.spent_at <= tip else None
        return Sighting(box_of(self.box), self.height, digest("main", self.height), spent)


class Story:
    """A market with one bonded node, a client and a stranger; every transaction is mined in a block of its own."""

    def __init__(self, stake: int = 5 * ERG, treasury: str = "treasury") -> None:
        self.node, self.client, self.stranger, self.deployer = map(signer, ("node", "client", "stranger", "deployer"))
        self.tip = START
        self.known: dict[str, Known] = {}
        for owner in (self.node, self.client, self.stranger, self.deployer):
            for number in range(2):
                box = coin(owner.tree, 50 * ERG, f"{owner!r} {number}")
                self.known[str(box.box_id)] = Known(box, 900)
        self.asset = digest("asset")
        paid_in = coin(self.client.tree, ERG, "assets", ((self.asset, 1_000_000),))
        self.known[str(paid_in.box_id)] = Known(paid_in, 900)
        token = bytes(self.funds(self.deployer).boxes[0].box_id)
        self.treasury = signer(treasury).tree
        self.deployment = make_deployment(
            network="devnet", bond_token=token, treasury=self.treasury, expiry=START + MARKET_LIFE
        )
        made = self.run(plans.deploy(self.market, self.funds(self.deployer)), self.deployer)
        minter = self.deployment.read(Minter, made[0])
        plan = plans.open_bond(
            self.market,
            minter,
            self.funds(self.node),
            node=self.node.public_key,
            amount=stake,
            endpoint="http://127.0.0.1:1",
        )
        made = self.run(plan, self.node)
        self.minter = self.deployment.read(Minter, made[0])
        self.bond = self.deployment.read(Bond, made[1])
        self.tip += 10  # past `born`

    # -- the chain

    @property
    def height(self) -> int:
        """The HEIGHT that scripts see next."""
        return self.tip + 1

    @property
    def market(self) -> Market:
        return Market(self.deployment, self.height)

    def funds(self, owner: Signer, fee: int = FEE) -> Funds:
        mine = [k.box for k in self.known.values() if k.spent_by is None and bytes(k.box.ergo_tree) == owner.tree]
        mine.sort(key=lambda box: (len(box.tokens), -box.value, str(box.box_id)))
        return Funds(tuple(mine), owner.tree, fee)

    def run(self, plan: Plan, owner: Signer, payout: bytes | None = None) -> list[ErgoBox]:
        """Sign, evaluate and mine; the outputs."""
        tx = sign(owner, self.deployment, plan, headers(self.tip), payout)
        self.tip += 1
        for box in plan.inputs:
            key = str(box.box_id)
            self.known[key] = replace(self.known[key], spent_by=str(tx.id), spent_at=self.tip)
        outputs = list(tx.outputs)
        self.known.update((str(box.box_id), Known(box, self.tip)) for box in outputs)
        return outputs

    def sightings(self, task_id: bytes, tip: int | None = None) -> list[Sighting]:
        """What a chain source shows of a task's token, at the tip or at an earlier height."""
        at = self.tip if tip is None else tip
        mine = (k for k in self.known.values() if any(token == task_id for token, _ in tokens_of(k.box)))
        return [known.shown(at) for known in mine if known.height <= at]

    def life(self, task_id: bytes, tip: int | None = None) -> Life:
        return read_life(self.deployment, self.sightings(task_id, tip))

    # -- the steps

    def terms(self, payment: int = ERG, **changes: Any) -> TaskEscrow:
        """A task that is worth its payment unless `worth` is among the changes, as it is where `asset` is."""
        terms: dict[str, Any] = {
            "service_hash": SERVICE,
            "input_commitment": COMMITMENT,
            "worth": payment,
            "min_reputation": 0,
            "claim_deadline": self.tip + 40,
            "exec_window": 60,
            "selection_window": 0,
            "selection_difficulty": 1,
            "client": self.client.public_key,
            **changes,
        }
        return TaskEscrow(payment=payment, **terms)

    def post(self, payment: int = ERG, **changes: Any) -> On[TaskEscrow]:
        plan = plans.post(self.market, self.terms(payment, **changes), self.funds(self.client))
        task = self.deployment.read(TaskEscrow, self.run(plan, self.client)[0])
        self.tip += 1  # past the selection window of 0 blocks
        return task

    def claim(self, task: On[TaskEscrow]) -> On[ClaimedTask]:
        made = self.run(plans.claim(self.market, task, self.bond, self.funds(self.node)), self.node)
        self.bond = self.deployment.read(Bond, made[0])
        return self.deployment.read(ClaimedTask, made[1])

    def release(self, claimed: On[ClaimedTask], funds: Funds | None = None) -> tuple[On[Receipt], On[Rating]]:
        receipt = plans.receipt_for(claimed, OUTPUT, PARAMS, b"signature", receipt_cid(b"document"))
        plan = plans.release(self.market, claimed, receipt, funds or self.funds(self.node))
        made = self.run(plan, self.node)
        return self.deployment.read(Receipt, made[0]), self.deployment.read(Rating, made[1])

    def fail(self, claimed: On[ClaimedTask]) -> tuple[On[FailureReceipt], On[Rating]]:
        task_id = plans.task_id_of(claimed)
        failure = FailureReceipt(task_id, self.node.public_key, 1, digest("why"), self.height, b"signature")
        made = self.run(plans.fail(self.market, claimed, failure, self.funds(self.node)), self.node)
        return self.deployment.read(FailureReceipt, made[0]), self.deployment.read(Rating, made[1])

    def timeout(self, claimed: On[ClaimedTask]) -> None:
        self.tip = max(self.tip, claimed.content.exec_deadline)
        made = self.run(plans.timeout(self.market, claimed, self.bond, Funds((), b"", FEE)), self.stranger)
        self.bond = self.deployment.read(Bond, made[0])

    def commit(self, rating: On[Rating], side: Side, mark: int = 5) -> On[Rating]:
        commitment = plans.commitment_of(rating, side, mark, digest("salt", side))
        plan = plans.commit(self.market, rating, side, commitment, self.funds(self._of(side)))
        return self.deployment.read(Rating, self.run(plan, self._of(side))[0])

    def reveal(self, rating: On[Rating], side: Side, mark: int = 5) -> On[Rating]:
        plan = plans.reveal(self.market, rating, side, mark, digest("salt", side), self.funds(self._of(side)))
        return self.deployment.read(Rating, self.run(plan, self._of(side))[0])

    def settle(self, rating: On[Rating], by: Signer | None = None) -> list[ErgoBox]:
        """By a stranger, as soon as anybody may; or by the node, when it is asked to: what came out after the bond."""
        settler = by or self.stranger
        if settler is self.stranger:
            self.tip = max(self.tip, rating.content.reveal_deadline + SETTLE_GRACE)
        made = self.run(plans.settle(self.market, rating, self.bond, self.funds(settler)), settler)
        self.bond = self.deployment.read(Bond, made[0])
        return made[1:]

    def _of(self, side: Side) -> Signer:
        return self.client if side is Side.CLIENT else self.node
