"""Everybody but the daemon: clients, a rival node, a stranger. They see the chain itself and act at once, by signed transactions."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import made
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.signer import Signer, SigningError
from aihd.core.life import Life, Sighting, read_life
from aihd.core.signing import Spending, Spent
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.ledger import By, ChainBox
from aihd.devnet.views import BoxView
from aihd.errors import AihdError
from aihd.execution import seal
from aihd.execution.auth import SIGNATURE_HEADER, upload_message
from aihd.execution.inputs import data_locator
from aihd.protocol import envelope, hashes, plans
from aihd.protocol.box import box_of
from aihd.protocol.boxes import Bond, Content, FailureReceipt, Minter, On, TaskEscrow
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import Funds, InsufficientFundsError, Plan
from aihd.protocol.plans import Market, Side

C = TypeVar("C", bound=Content)
FEE = 1_100_000
EVERYTHING = 10**18
CLAIM_WINDOW = 30
EXEC_WINDOW = 40


@dataclass(frozen=True, slots=True)
class Ground:
    """A market on a chain, seen from inside."""

    chain: Chain
    deployment: Deployment
    _read: dict[str, On[Any]] = field(default_factory=dict)
    _lives: dict[tuple[tuple[str, str, str | None], ...], Life] = field(default_factory=dict)

    @property
    def market(self) -> Market:
        return Market(self.deployment, self.chain.height + 1)

    def boxes(self, by: By, key: str, *, unspent: bool = True) -> list[ChainBox]:
        """What the chain holds under a tree or a token (hex), oldest first."""
        ledger = self.chain.ledger
        pages = ledger.unspent if unspent else ledger.all
        ids = pages.page(by, key, 0, pages.count(by, key), descending=False)
        return [ledger.boxes[box_id] for box_id in ids]

    def life(self, task_id: bytes) -> Life:
        """The life of a task on the main chain."""
        found = self.boxes(By.TOKEN, task_id.hex(), unspent=False)
        key = tuple((box.view.box_id, box.block_id, self.chain.ledger.spender(box.view.box_id)) for box in found)
        if key not in self._lives:
            self._lives[key] = read_life(self.deployment, [self._sighting(box) for box in found])
        return self._lives[key]

    def _sighting(self, box: ChainBox) -> Sighting:
        spender = self.chain.ledger.spender(box.view.box_id)
        return Sighting(box_of(box.view.box), box.height, bytes.fromhex(box.block_id), spender)

    def forget(self) -> None:
        """What was read of other branches is of no use any more."""
        self._lives.clear()
        self._read.clear()

    def spendable(self, tree: bytes) -> list[ErgoBox]:
        """Boxes under a tree that nothing in chain or mempool spends, confirmed ones first."""
        return [view.box for view in self._spendable(tree)]

    def _spendable(self, tree: bytes) -> list[BoxView]:
        pool = self.chain.pool
        confirmed = [box.view for box in self.boxes(By.TREE, tree.hex())]
        waiting = [view for view in pool.outputs() if view.tree == tree.hex()]
        return [view for view in (*confirmed, *waiting) if pool.spender(view.box_id) is None]

    def read(self, content: type[C], view: BoxView) -> On[C]:
        """A box of the market, decoded once."""
        known = self._read.get(view.box_id)
        if known is None:
            known = self._read[view.box_id] = self.deployment.read(content, view.box)
        return known

    def views(self, guard: Guard) -> list[BoxView]:
        """What can be spent under a guard, the mempool included."""
        return self._spendable(self.deployment.trees[guard])

    def bonds(self) -> list[On[Bond]]:
        """Bonds as they will be after the mempool."""
        return [self.read(Bond, view) for view in self.views(Guard.BOND)]

    def bond(self, node: bytes) -> On[Bond] | None:
        return next((bond for bond in self.bonds() if bond.content.node == node), None)

    def escrow(self, task_id: bytes) -> On[TaskEscrow] | None:
        """The task's escrow while it is unspent on the chain."""
        key, ledger = task_id.hex(), self.chain.ledger
        gone = key not in ledger.boxes or ledger.spender(key) is not None
        return None if gone else self.read(TaskEscrow, ledger.boxes[key].view)


@dataclass(slots=True)
class Job:
    """A task as its client knows it. `delivered` is the height at which the node took the upload."""

    id: bytes
    commitment: bytes
    upload: bytes
    inline: bool
    bad: bool
    mark: int
    salt: bytes
    delivered: int | None = None
    in_time: bool = False  # the node took the upload in the first half of the window
    lazy: bool = (
        False  # the client neither uploads by itself, nor posts again what a reorg lost, nor takes back what is late
    )
    tx: Transaction | None = None  # the post


@dataclass(slots=True)
class Person:
    """A key on the market. `try_` gives None where a guard, the mempool or the purse objects."""

    ground: Ground
    signer: Signer
    jobs: list[Job] = field(default_factory=list)

    async def sealed(self, job: Job, node: bytes) -> tuple[bytes, dict[str, str]]:
        """What this client uploads for a task to a node: the sealed body, and the headers that go with it."""

        async def pieces() -> AsyncIterator[bytes]:
            yield job.upload

        body = b"".join([part async for part in seal.seal(node, seal.input_context(job.id), pieces())])
        genesis = bytes.fromhex(self.ground.chain.blocks[0].block_id)
        signature = self.signer.sign_message(upload_message(genesis, job.id))
        return body, {"Content-Type": seal.CONTENT_TYPE, SIGNATURE_HEADER: signature.hex()}

    @property
    def funds(self) -> Funds:
        boxes = sorted(self.ground.spendable(self.signer.tree), key=lambda box: (len(box.tokens), -box.value))
        return Funds(tuple(boxes), self.signer.tree, FEE)

    def signed(self, plan: Plan) -> Transaction:
        chain = self.ground.chain
        headers = [block.header for block in reversed(chain.blocks[-10:])]
        permit = self.signer.permit(self.ground.deployment, Spending(FEE * 2, EVERYTHING, EVERYTHING, EVERYTHING))
        return self.signer.sign(plan, headers, chain.parameters, permit=permit, spent=Spent(0, 0))

    def do(self, plan: Plan) -> Transaction:
        """Into the mempool; RejectedError or SigningError where it does not belong there."""
        tx = self.signed(plan)
        self.ground.chain.submit(tx)
        return tx

    def try_(self, plan: Plan) -> Transaction | None:
        try:
            return self.do(plan)
        except (RejectedError, SigningError):
            return None

    # -- a client

    def post(
        self, service: bytes, payment: int, *, inline: bool, bad: bool = False, holdback_bps: int = 0
    ) -> Job | None:
        """A task; a `bad` one carries an input that no service takes."""
        salt = secrets.token_bytes(32)
        body = b"".join(envelope.encode({}, [f"input {len(self.jobs)}".encode()]))
        if bad:
            body = (2).to_bytes(4, "big") + b"[]" + body
        commitment = hashes.input_commitment(salt, [body])
        deadline = self.ground.chain.height + 1 + CLAIM_WINDOW
        locator = data_locator(salt + body) if inline else ""
        terms = made.escrow(
            service_hash=service,
            input_commitment=commitment,
            payment=payment,
            claim_deadline=deadline,
            exec_window=EXEC_WINDOW,
            holdback_bps=holdback_bps,
            client=self.signer.public_key,
            locator=locator,
        )
        try:
            plan = plans.post(self.ground.market, terms, self.funds)
        except InsufficientFundsError:
            return None
        if (tx := self.try_(plan)) is None:
            return None
        task_id = bytes(plans.boxes_of(plan)[0].box_id)
        mark = 1 + len(self.jobs) % 5
        job = Job(task_id, commitment, salt + body, inline, bad, mark, secrets.token_bytes(32), in_time=inline, tx=tx)
        self.jobs.append(job)
        return job

    def post_again(self, job: Job) -> bool:
        """Bring back a post that a reorg or a mempool lost; False where it is there, or cannot be."""
        chain = self.ground.chain
        if job.tx is None or job.id.hex() in chain.ledger.boxes or chain.pool.output(job.id.hex()) is not None:
            return False
        try:
            chain.submit(job.tx)
        except RejectedError:
            return False
        return True

    def rate(self, job: Job) -> bool:
        """Commit to a mark, or reveal it, whichever is due; False when neither is, or another was first."""
        rating = self.ground.life(job.id).rating
        if rating is None or self.ground.chain.ledger.utxo(rating.id) is None:
            return False
        content, height, market = rating.content, self.ground.chain.height + 1, self.ground.market
        if not content.client_commitment and height <= content.commit_deadline:
            commitment = plans.commitment_of(rating, Side.CLIENT, job.mark, job.salt)
            return self.try_(plans.commit(market, rating, Side.CLIENT, commitment, self.funds)) is not None
        ripe = content.node_commitment or height > content.commit_deadline
        if content.client_commitment and not content.client_mark and ripe and height <= content.reveal_deadline:
            plan = plans.reveal(market, rating, Side.CLIENT, job.mark, job.salt, self.funds)
            return self.try_(plan) is not None
        return False

    def take_back(self, job: Job) -> bool:
        """Cancel a task that nobody claimed."""
        escrow = self.ground.escrow(job.id)
        return escrow is not None and self.try_(plans.cancel(self.ground.market, escrow, self.funds)) is not None

    # -- a node

    def open_bond(self, amount: int, endpoint: str) -> None:
        """Stake `amount` nanoERG; the minter must be there."""
        ground = self.ground
        (view,) = ground.views(Guard.MINTER)
        market, minter = ground.market, ground.read(Minter, view)
        key = self.signer.public_key
        self.do(plans.open_bond(market, minter, self.funds, node=key, amount=amount, endpoint=endpoint))

    def claim(self, task_id: bytes) -> Transaction | None:
        """A signed claim of an open task, not yet sent anywhere; None when it cannot be."""
        escrow, bond = self.ground.escrow(task_id), self.ground.bond(self.signer.public_key)
        if escrow is None or bond is None:
            return None
        try:
            return self.signed(plans.claim(self.ground.market, escrow, bond, self.funds))
        except AihdError:
            return None

    def fail(self, task_id: bytes) -> bool:
        """Admit failure of a task that this node claimed."""
        claimed = self.ground.life(task_id).claimed
        if claimed is None or claimed.content.node != self.signer.public_key:
            return False
        if self.ground.chain.ledger.utxo(claimed.id) is None:
            return False
        height = self.ground.chain.height + 1
        failure = FailureReceipt(task_id, self.signer.public_key, 1, b"\0" * 32, height, b"signature")
        plan = plans.fail(self.ground.market, claimed, failure, self.funds)
        return self.try_(plan) is not None

    # -- a stranger

    def time_out(self, task_id: bytes) -> bool:
        """Return a task whose deadline has passed."""
        claimed = self.ground.life(task_id).claimed
        if claimed is None or self.ground.chain.ledger.utxo(claimed.id) is None:
            return False
        bond = self.ground.bond(claimed.content.node)
        if bond is None or self.ground.chain.height < claimed.content.exec_deadline:
            return False
        return self.try_(plans.timeout(self.ground.market, claimed, bond, Funds((), b"", FEE))) is not None
