"""The paying side: one escrow for each deposit token, followed until its receipt is deep enough or its money is back.

All of it goes through the journal of the wallet that pays, under the lock of its data folder, and within the limits of its configuration.
A token has one intent for ever, so whatever is asked twice, and whenever this process dies, no token is paid for twice. nodo asks for a
new token when a call ended before its payment was delivered: then the payment that is under way, or delivered and not told yet, is the
answer to the new token too, and nothing is paid anew.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

import structlog
from ergo_lib_python.transaction import Transaction

from aihd.chain.contracts import load_deployment
from aihd.chain.signer import Signer
from aihd.chain.submitter import Intent, Submitter
from aihd.chain.view import ChainView, Situation
from aihd.client.client import Post
from aihd.client.party import Party, party
from aihd.config import Settings, required
from aihd.core.signing import Spending
from aihd.core.task import Where
from aihd.errors import AihdError, ConfigError, DependencyError, TemporaryError, UsageError, one_line
from aihd.nodo.payment.deposit import PaidInput, paid_input, salt_of
from aihd.nodo.payment.message import was_communicated
from aihd.nodo.payment.proof import prove
from aihd.nodo.payment.settings import PaymentSettings, key_of
from aihd.ops.lock import process_lock
from aihd.protocol import plans
from aihd.protocol.boxes import TaskEscrow
from aihd.protocol.funding import Plan
from aihd.store.journal import Journal

log = structlog.get_logger()

MAX_FEES: Final = 10  # a fee may be raised to this multiple of wallet.fee
BACK_WITHIN: Final = 5.0  # seconds for sending a refund: its block is for a later look to see
RETELL_AFTER: float = 60.0
"""Seconds that nodo has for telling the payee before a payment is given to it once more."""
TELLINGS: Final = 2  # a payee that knew of it already says no, and nodo would ask for ever
_KEPT: Final = "deposit:"  # meta keys of the journal


@dataclass(frozen=True, slots=True)
class Deposit:
    """What is kept of a payment: `task` is its id and `payee` the tree of whom it is for, both in hex; `amount` is nanoERG.

    `over`: nothing of it can change any more; `failed`: and it ended without a receipt. `token`: the deposit token, which nobody but payer
    and payee knows. `told`: the token for which nodo was given it as paid, last at `told_at` (Unix seconds), `tellings` times.
    """

    task: str
    payee: str
    amount: int
    over: bool = False
    failed: bool = False
    token: str = ""
    told: str = ""
    told_at: float = 0.0
    tellings: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether the payee knows of it, or had its chance to."""
        if not self.told:
            return False
        lately = time.time() < self.told_at + RETELL_AFTER
        return lately or self.tellings >= TELLINGS or was_communicated(self.told)

    @property
    def key(self) -> str:
        """Under which the journal keeps it."""
        return f"{_KEPT}{salt_of(self.token).hex()}"

    @property
    def task_id(self) -> bytes:
        return bytes.fromhex(self.task)

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(**json.loads(text))


@asynccontextmanager
async def purse(settings: Settings) -> AsyncIterator[Party]:
    """The wallet that pays, its data folder locked, within the spending limits of its configuration.

    TemporaryError when another process has the folder, a daemon for example: a wallet of its own is what paying needs.
    """
    deployment, record = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    wallet, chain = settings.wallet, settings.chain
    signer = Signer.from_file(required(wallet.mnemonic_file, "wallet.mnemonic_file"), wallet.password_file)
    with process_lock(settings.lock_file):
        async with party(
            node_urls=chain.node_urls,
            explorer_urls=chain.explorer_urls,
            deployment=deployment,
            genesis_id=record.genesis_id,
            signer=signer,
            database=settings.database,
            fee=wallet.fee,
            poll=chain.poll,
            final_depth=chain.final_depth,
        ) as who:
            # A party's own submitter has no limits, since there a person decides; here a program does.
            limits = Spending(
                MAX_FEES * wallet.fee, wallet.max_spend_per_tx, wallet.max_spend_per_hour, wallet.max_spend_per_day
            )
            permit = signer.permit(deployment, limits)
            submitter = Submitter(
                who.view, signer, who.journal, fee=wallet.fee, final_depth=chain.final_depth, permit=permit
            )
            yield replace(who, submitter=submitter)


async def pay(who: Party, payment: PaymentSettings, token: str, payee: bytes, amount: int) -> Deposit:
    """Post the escrow of a token, unless that has been done: `amount` nanoERG that only the payee (a tree) can claim.

    The deposit may be that of an earlier token of the same payee. UsageError when the token was already paid for with another amount or to
    another payee: a token is paid for once. TemporaryError while another payment to the payee is under way.
    """
    intent = Intent(f"{_KEPT}{salt_of(token).hex()}")
    if who.journal.has_live(intent.key):
        _check_same(_posted(who.journal, intent.key), payee, amount)
    elif (open_one := _open_one(who.journal, payee, amount)) is not None:
        return open_one
    if not who.submitter.busy(intent):
        given = paid_input(token, payment.input, payment.environment)
        if payment.service is None:
            raise ConfigError("service is not set in the payment's settings: the hash of what a payment has run")
        await _check_payee(who.view, payee)
        await who.submitter.transact(intent, lambda now: _escrow(who, payment, token, payee, amount, given, now))
    deposit = _posted(who.journal, intent.key)
    _check_same(deposit, payee, amount)
    return deposit


def _check_same(deposit: Deposit, payee: bytes, amount: int) -> None:
    if (deposit.payee, deposit.amount) != (payee.hex(), amount):
        raise UsageError(
            f"this deposit token was paid for already, by task {deposit.task} with {deposit.amount} nanoERG: a token is paid for once"
        )


def _posted(journal: Journal, key: str) -> Deposit:
    """What is kept of a payment. An escrow that waited too long is posted anew, so the task is that of the transaction that counts."""
    deposit, record = Deposit.read(journal.meta()[key]), journal.live_of(key)
    if record is None:
        return deposit
    return replace(deposit, task=str(Transaction.from_bytes(record.body).outputs[0].box_id))


def _open_one(journal: Journal, payee: bytes, amount: int) -> Deposit | None:
    """A deposit to the payee that nodo was not given yet, or of which its own record says that the payee was never told.

    TemporaryError when it is of another amount and still under way.
    """
    for deposit in deposits(journal):
        if deposit.payee != payee.hex() or not deposit.token or deposit.failed:
            continue
        if deposit.is_settled:
            continue
        if deposit.amount == amount:
            return deposit
        if not deposit.over and not deposit.told:
            raise TemporaryError(
                f"a payment of {deposit.amount} nanoERG to this payee is under way, by task {deposit.task}"
            )
    return None


def deposits(journal: Journal) -> list[Deposit]:
    """Every payment whose transaction was not given up."""
    return [_posted(journal, key) for key in journal.meta() if key.startswith(_KEPT) and journal.has_live(key)]


def by_transaction(journal: Journal, tx_id: str) -> Deposit | None:
    """The payment that a transaction of ours posted."""
    for record in journal.transactions():
        if record.id == tx_id and record.intent.startswith(_KEPT) and (text := journal.meta().get(record.intent)):
            return Deposit.read(text)
    return None


def transaction_of(journal: Journal, deposit: Deposit) -> str | None:
    """Id of the transaction that posts a payment; None when there is none yet."""
    found = [record for record in journal.transactions() if record.intent == deposit.key]
    return found[-1].id if found else None


def tell(journal: Journal, deposit: Deposit, token: str) -> None:
    """Note that nodo was given a payment as made, for a token."""
    kept = Deposit.read(journal.meta()[deposit.key])
    again = kept.tellings if kept.told == token else kept.tellings + 1
    _keep(journal, deposit.key, replace(kept, told=token, told_at=time.time(), tellings=again))


async def _check_payee(view: ChainView, payee: bytes) -> None:
    """Money for somebody who has no bond here would only come back after the claim window."""
    key = key_of(payee)
    if all(bond.content.node != key for bond in await view.bonds()):
        raise UsageError(f"the payee {key.hex()} has no bond on market {view.deployment.id[:16]}…: it could not claim")


def _escrow(
    who: Party,
    payment: PaymentSettings,
    token: str,
    payee: bytes,
    amount: int,
    given: PaidInput,
    now: Situation,
) -> Plan:
    """The plan of the escrow; what is needed to find it again is in the journal before it is signed."""
    terms = TaskEscrow(
        service_hash=bytes.fromhex(payment.service or ""),
        input_commitment=given.commitment,
        worth=amount,
        payment=amount,
        min_reputation=0,
        claim_deadline=now.market.height + payment.claim_window,
        exec_window=payment.exec_window,
        selection_window=0,
        selection_difficulty=1,
        client=who.signer.public_key,
        locator=given.locator,
        allowed=(key_of(payee),),
    )
    plan = plans.post(now.market, terms, now.funds)
    task_id = bytes(plans.boxes_of(plan)[0].box_id)
    salt = salt_of(token).hex()
    # The client's own record, too: so that the verbs for tasks (fetch, verify, rate, refund) know it.
    who.journal.save_post(task_id, asdict(Post(str(payment.input or ""), dict(payment.environment), salt)))
    _keep(who.journal, f"{_KEPT}{salt}", Deposit(task_id.hex(), payee.hex(), amount, token=token))
    return plan


def _keep(journal: Journal, key: str, deposit: Deposit) -> None:
    journal.remember(key, json.dumps(asdict(deposit)))


async def delivered(who: Party, deposit: Deposit, confirmations: int) -> bool:
    """Look once: whether the receipt of a payment is that deep. What is overdue is taken back on the way.

    DependencyError when the task ended without a receipt: then the money is back, but for fees.
    """
    now = await who.client.progress(deposit.task_id)
    if now is None:
        return False
    if now.where.is_undelivered:
        raise DependencyError(f"the payment's task {deposit.task} ended without a receipt: {now.where}")
    if now.life.receipt is not None:
        found = await prove(who.view, deposit.task_id, key_of(bytes.fromhex(deposit.payee)), now.life)
        return found.depth >= confirmations
    if await _overdue(who, deposit, now.where, now.height):
        await _take_back(who, deposit)
    return False


async def _take_back(who: Party, deposit: Deposit) -> None:
    """Send what brings the money back. Whatever hinders it now, or came in between, the next look shows."""
    try:
        async with asyncio.timeout(BACK_WITHIN):
            await who.client.refund(deposit.task_id)
    except (TimeoutError, AihdError) as error:
        log.info("money not back yet", task=deposit.task, error=one_line(error))


async def _overdue(who: Party, deposit: Deposit, where: Where, height: int) -> bool:
    """Whether the payee has let its time pass: to claim, or to deliver what it claimed."""
    life, escrow = await who.view.standing(deposit.task_id)
    if where is Where.OPEN and escrow is not None:
        return height > who.view.deployment.read(TaskEscrow, escrow.box).content.claim_deadline
    return where is Where.CLAIMED and life.claimed is not None and height > life.claimed.content.exec_deadline


async def sweep(who: Party, final_depth: int) -> list[str]:
    """Look at every payment that is not over; a sentence for each that ended without a receipt."""
    ended: list[str] = []
    for key in who.journal.meta():
        deposit = _posted(who.journal, key) if key.startswith(_KEPT) else None
        if deposit is None or deposit.over or not who.journal.has_live(key):
            continue
        failed = False
        try:
            over = await delivered(who, deposit, final_depth)
        except DependencyError as error:
            ended.append(str(error))
            over = failed = await _final(who, deposit, final_depth)
        if over:
            _keep(who.journal, key, replace(deposit, over=True, failed=failed))
    return ended


async def _final(who: Party, deposit: Deposit, final_depth: int) -> bool:
    """Whether the end of a task that has no receipt is too deep to be undone."""
    life, escrow = await who.view.standing(deposit.task_id)
    end = life.claimed_spent_by if life.claimed is not None else escrow and escrow.spent_by
    height = await who.view.mined_at(end) if end else None
    return height is not None and (await who.view.node.info()).height - height + 1 >= final_depth
