"""aihd's escrow as a payment process of nodo: what nodo registers beside its own, in its own process.

nodo is synchronous and threaded. So is this module: nothing starts when it is imported, each call runs a loop of its own in the thread
that called and leaves nothing behind, and any number of threads may call at once. A payment is a task: the payer locks the amount in an
escrow that only the payee's bond can claim, the payee's daemon runs the task, and the receipt that it publishes releases the money.
docs/payment.md says how it is registered and set up; the settings are those of the file that AIH_PAYMENT_FILE names.

The daemon beside nodo is the one that claims, runs and releases: `claim_task`, `publish_receipt` and `release_payment` say what the
chain holds of its work and send nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from hashlib import sha3_256
from typing import Any, Final, TypeVar

import structlog

from aihd.chain.http import SourceError
from aihd.client.party import Party
from aihd.errors import AihdError, TemporaryError, UsageError, one_line
from aihd.nodo.payment import message, paying
from aihd.nodo.payment.proof import Claim, Proof, Verdict, judge, prove, sight
from aihd.nodo.payment.settings import PaymentSettings, key_of, load_payment
from aihd.protocol.constants import MIN_BOX, RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.guards import escrow_value

CONTRACT: Final = "aih task escrow 1"
"""What this payment process is, the same for every node and market: peers match it by its hash."""
CONTRACT_HASH: Final = sha3_256(CONTRACT.encode()).hexdigest()
LEDGER: Final = "ergo"
NATIVE_ASSET: Final = "ERG"
PROSE: Final = "ERG locked in a task escrow, released by the receipt of the task"
FORMAL: Final = b""

PAUSE: Final = 1.0  # seconds between two looks of a validator that waits
log = logging.getLogger(__name__)
# Of all payments of this process: two at once would spend the same boxes. Other processes are kept out by the data folder's lock.
_wallet = threading.Lock()
T = TypeVar("T")


def process_payment(amount: int, deposit_token: str, ledger: Any, script: bytes) -> Any:
    """Pay `amount` of nodo's unit for a deposit token to `script`, the payee's tree; nodo's `Contract`, to be told to the payee.

    Returns once the receipt is `confirmations` deep, since the payee's nodo burns the token of a payment that it cannot prove at once.
    Asked again with the same token it goes on with the same escrow. Raises (AihdError) when the payment was not delivered within `wait`
    seconds or ended without a receipt; the money comes back after the task's deadline, by this call, the next one or `manager`.
    """
    payment = _payment()
    _check_ledger(ledger)
    nanoerg, end = payment.nanoerg(amount), time.monotonic() + payment.wait
    if nanoerg < MIN_BOX:
        raise UsageError(f"amount {amount} is {nanoerg} nanoERG, expected at least {MIN_BOX}")
    key_of(script)
    deposit = _with_purse(payment, lambda who: paying.pay(who, payment, deposit_token, script, nanoerg))
    log.info("payment of %d nanoERG is task %s", nanoerg, deposit.task)
    while not _looked(payment, deposit):
        if time.monotonic() >= end:
            raise TemporaryError(f"the payment's task {deposit.task} was not delivered within {payment.wait:g} s")
        time.sleep(payment.settings().chain.poll)
    return message.contract(
        ledger, contract_type=CONTRACT.encode(), script=script + deposit.task_id, token_id=NATIVE_ASSET
    )


def payment_process_validator(amount: int, token: str, ledger: Any, script: bytes) -> bool:
    """Whether `amount` of nodo's unit was paid to the daemon beside this nodo for `token`: never raises.

    True only when the chain holds the receipt, `confirmations` deep, of the task that `script` names (the payee's tree and the task id, as
    `process_payment` of the payer gives it), and that task pays for this token, with exactly this amount, and was claimed and
    released by this node. What cannot be looked up, or is on its way, is looked at again for `patience` seconds: nodo asks only once.
    """
    try:
        payment = _payment()
        _check_ledger(ledger)
        claim = Claim.read(token, payment.nanoerg(amount), payment.payee_tree(), bytes(script))
        verdict = Verdict(False, claim) if isinstance(claim, str) else _patient(payment, claim)
    except AihdError as error:
        log.warning("payment not validated: %s", one_line(error))
        return False
    except Exception as error:  # nodo takes what is raised here for a defect of its own
        log.exception("payment not validated: %s", one_line(error))
        return False
    log.info("payment of %s: %s", amount, verdict.reason)
    return verdict.paid


def claim_task(task_id: str) -> str | None:
    """Id of the transaction with which the daemon claimed a task (64 hexadecimal digits); None while no block holds one.

    The daemon claims, by its own policy. AihdError when the chain cannot be asked or the id is none, here and in the two below.
    """
    return _proof(task_id).claim


def publish_receipt(task_id: str) -> str | None:
    """Id of the receipt box that the daemon published for a task; None while no block holds one."""
    receipt = _proof(task_id).receipt
    return receipt.id if receipt else None


def release_payment(task_id: str) -> str | None:
    """Id of the transaction that paid the daemon for a task; None while no block holds one. It is the one that publishes the receipt."""
    return _proof(task_id).release


def check_sender_balance(amount: int) -> bool:
    """Whether the wallet that pays holds an escrow of this amount and its fee: never raises."""
    try:
        payment = _payment()
        held, fee = _with_purse(payment, _funds)
    except AihdError as error:
        log.warning("balance unknown: %s", one_line(error))
        return False
    nanoerg = payment.nanoerg(amount)
    return held >= escrow_value(nanoerg, nanoerg, in_token=False) + fee + MIN_BOX


def settlement_floors_mu() -> tuple[int, int]:
    """(what a payment costs beside its amount, the smallest amount), in nodo's unit."""
    payment = _payment()
    costs = RECEIPT_VALUE + RATING_VALUE + payment.settings().wallet.fee
    return payment.units(costs), payment.units(MIN_BOX)


def ledger() -> Any:
    """nodo's message of the ledger that this process pays on."""
    return message.contract(LEDGER, contract_type=b"", script=b"", token_id="").ledger


def init() -> None:
    """Advertise the daemon beside this nodo as a payee, if the settings name one: called by nodo when it starts."""
    payment = _payment()
    if payment.payee is not None:
        message.advertise(
            message.contract(
                LEDGER,
                contract_type=CONTRACT.encode(),
                script=payment.payee_tree(),
                token_id=NATIVE_ASSET,
                address=payment.payee,
            )
        )


def manager() -> None:
    """Look after payments that nobody waits for any more: send again what is in no block, take back what is overdue.

    Called by nodo now and then. AihdError when the wallet or the chain cannot be used.
    """
    payment = _payment()
    final_depth = payment.settings().chain.final_depth
    for sentence in _with_purse(payment, lambda who: paying.sweep(who, final_depth)):
        log.warning("%s", sentence)


# -- parts


def _payment() -> PaymentSettings:
    return load_payment(os.environ)


def _check_ledger(given: Any) -> None:
    if LEDGER not in message.tags_of(given):
        raise UsageError(f"ledger {message.tags_of(given)}: expected {LEDGER!r}")


def _with_purse(payment: PaymentSettings, work: Callable[[Party], Coroutine[Any, Any, T]]) -> T:
    """Let the wallet do something, alone."""

    _log_through_nodo()

    async def alone() -> T:
        async with paying.purse(payment.settings()) as who:
            return await work(who)

    with _wallet:
        return asyncio.run(alone())


def _log_through_nodo() -> None:
    """aihd's own log lines go the way of the standard library's, unless somebody has decided otherwise."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def _looked(payment: PaymentSettings, deposit: paying.Deposit) -> bool:
    """Whether a payment is delivered, as far as can be told now."""
    try:
        return _with_purse(payment, lambda who: paying.delivered(who, deposit, payment.confirmations))
    except TemporaryError as error:
        log.warning("task %s: %s", deposit.task, one_line(error))
        return False


async def _funds(who: Party) -> tuple[int, int]:
    """nanoERG that the wallet can spend now, and its fee."""
    funds = (await who.submitter.situation()).funds
    return sum(box.value for box in funds.boxes), funds.fee


def _patient(payment: PaymentSettings, claim: Claim) -> Verdict:
    """The verdict, waited for while it may still change."""
    end = time.monotonic() + payment.patience
    while True:
        verdict = asyncio.run(_judged(payment, claim))
        if verdict.final or time.monotonic() >= end:
            return verdict
        time.sleep(min(PAUSE, payment.patience))


async def _judged(payment: PaymentSettings, claim: Claim) -> Verdict:
    try:
        async with sight(payment.settings()) as seen:
            return await judge(seen, claim, payment.confirmations)
    except SourceError as error:
        return Verdict(False, one_line(error), final=False)


def _proof(task_id: str) -> Proof:
    payment = _payment()
    try:
        wanted = bytes.fromhex(task_id)
    except ValueError:
        wanted = b""
    if len(wanted) != 32:
        raise UsageError(f"task {task_id!r}: expected its id, 64 hexadecimal digits")

    async def proof() -> Proof:
        async with sight(payment.settings()) as seen:
            return await prove(seen.view, wanted, key_of(payment.payee_tree()))

    return asyncio.run(proof())
