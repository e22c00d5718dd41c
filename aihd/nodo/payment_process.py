"""aihd's escrow as a payment process of nodo: what nodo registers beside its own, in its own process.

nodo is synchronous and threaded. So is this module: nothing starts when it is imported, each call runs a loop of its own in the thread
that called and leaves nothing behind, any number of threads may call at once, and none is kept for longer than ten seconds: what takes
longer is taken up by a later call. A payment is a task: the payer locks the amount in an escrow that only the payee's bond can claim, the
payee's daemon runs the task, and the receipt that it publishes releases the money. docs/payment.md says how it is registered and set up,
and what works in which age of nodo; the settings are those of the file that AIH_PAYMENT_FILE names.

The daemon beside nodo is the one that claims, runs and releases: `claim_task`, `publish_receipt` and `release_payment` say what the
chain holds of its work and send nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from hashlib import sha3_256
from typing import Any, Final, TypeVar

import structlog

from aihd.chain.http import SourceError
from aihd.client.party import Party
from aihd.errors import AihdError, TemporaryError, UsageError, one_line
from aihd.nodo.payment import message, paying
from aihd.nodo.payment.proof import Claim, Proof, Verdict, judge, prove, sight
from aihd.nodo.payment.settings import LONGEST, PaymentSettings, key_of, load_payment
from aihd.nodo.payment.spent import Spent
from aihd.nodo.ratings import Outbox, ledger_of, take
from aihd.protocol.constants import MIN_BOX, RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.guards import escrow_value
from aihd.protocol.trees import address_of

CONTRACT: Final = "aih task escrow 1"
"""What this payment process is, the same for every node and market: peers match it by its hash."""
CONTRACT_HASH: Final = sha3_256(CONTRACT.encode()).hexdigest()
LEDGER: Final = "ergo"
NATIVE_ASSET: Final = "ERG"
PROSE: Final = "ERG locked in a task escrow, released by the receipt of the task"
FORMAL: Final = b"\n".join(
    (
        b"asset.native=ERG",
        b"asset.native.base_unit=nanoERG",
        b"asset.native.decimals=9",
        b"chain=ergo",
        b"consensus=autolykos2",
        b"payment.contract=" + CONTRACT.encode(),
        b"payment.deposit_token=salt of the task's input is blake2b256 of aih:deposit:1 and the token",
    )
)
"""How the newest nodo wants a ledger described: lines of key=value, in the order of their keys."""
DEPOSIT_TOKEN_TTL: Final = 4 * 3600
"""Seconds that a deposit token may wait for its payment: a claim and a run take their blocks."""
is_demo: Final = False
needs_unspent_proof: Final = False

CALL: Final = 9.0  # seconds that any call may take
PAUSE: Final = 1.0  # seconds between two looks of a call that waits
EVERY: Final = 60  # seconds between two calls of `manager`, where nodo asks
log = logging.getLogger(__name__)
# Of all payments of this process: two at once would spend the same boxes. Other processes are kept out by the data folder's lock.
_wallet = threading.Lock()
_reporter: ContextVar[Callable[..., object] | None] = ContextVar("aih_transaction_reporter", default=None)
T = TypeVar("T")


class PendingError(TemporaryError, TimeoutError):
    """A payment is posted and not delivered yet; a later call goes on with it."""


@contextmanager
def transaction_id_reporting(reporter: Callable[..., object]) -> Iterator[None]:
    """Report the id of the transaction that posts a payment to the caller: nodo's record, by which it takes the payment up later."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def process_payment(amount: int, deposit_token: str, ledger: Any, script: bytes) -> Any:
    """Pay `amount` of nodo's unit for a deposit token to `script`, the payee's tree; nodo's `Contract`, to be told to the payee.

    Returns once the receipt is `confirmations` deep, since the payee's nodo burns the token of a payment that it cannot prove at once.
    PendingError when it is not yet, after `wait` seconds: the payment goes on, and a later call goes on with it, with the same token or
    with another one of the same payee and amount; nothing is paid anew. Raises (AihdError) when it cannot be paid or ended without a
    receipt; the money comes back after the task's deadline, by the next call or `manager`.
    """
    payment = _payment()
    _check_ledger(ledger)
    nanoerg, end = payment.nanoerg(amount), time.monotonic() + min(payment.wait, LONGEST)
    if nanoerg < MIN_BOX:
        raise UsageError(f"amount {amount} is {nanoerg} nanoERG, expected at least {MIN_BOX}")
    key_of(script)

    async def posted(who: Party) -> paying.Deposit:
        deposit = await paying.pay(who, payment, deposit_token, script, nanoerg)
        _report(paying.transaction_of(who.journal, deposit))
        return deposit

    deposit = _with_purse(payment, posted)
    log.info("payment of %d nanoERG is task %s", nanoerg, deposit.task)
    return _awaited(payment, deposit, deposit_token, ledger, end)


def await_payment(tx_id: str, script: bytes) -> Any:
    """The `Contract` of a payment that a transaction of ours posted, once it is delivered: how nodo takes up what a call left.

    PendingError while it is not. UsageError for a transaction that posted no payment to `script`.
    """
    payment = _payment()
    end = time.monotonic() + min(payment.wait, LONGEST)

    async def found(who: Party) -> paying.Deposit | None:
        return paying.by_transaction(who.journal, tx_id)

    deposit = _with_purse(payment, found)
    if deposit is None or deposit.payee != bytes(script).hex():
        raise UsageError(f"transaction {tx_id[:80]!r} is none with which this wallet paid {bytes(script).hex()[:80]!r}")
    return _awaited(payment, deposit, deposit.token, LEDGER, end)


def payment_process_validator(amount: int, token: str, ledger: Any, script: bytes) -> bool:
    """Whether `amount` of nodo's unit was paid to the daemon beside this nodo for `token`: never raises.

    True only when the chain holds the receipt, `confirmations` deep, of the task that `script` names (the payee's tree and the task id, as
    `process_payment` of the payer gives it), and that task pays for this token or one given before, with exactly this amount, and was
    claimed and released by this node; and only once for a task. What cannot be looked up, or is on its way, is looked at again for
    `patience` seconds: nodo asks only once.
    """
    try:
        payment = _payment()
        _check_ledger(ledger)
        claim = Claim.read(token, payment.nanoerg(amount), payment.payee_tree(), bytes(script))
        verdict = Verdict(False, claim) if isinstance(claim, str) else _patient(payment, claim)
        if (
            verdict.paid
            and not isinstance(claim, str)
            and not Spent.beside(message.database()).spend(claim.task_id, token)
        ):
            verdict = Verdict(False, f"task {claim.task_id.hex()} was given as a payment before")
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


def mu_per_unit() -> int:
    """nodo's units for one whole ERG, as its ages before the newest declare them to peers."""
    return int(_payment().mu_per_nanoerg * 10**9)


def mu_per_base_unit() -> Decimal:
    """nodo's units for one nanoERG, as the newest declares them to peers."""
    rate = _payment().mu_per_nanoerg
    return Decimal(rate.numerator) / Decimal(rate.denominator)


def mu_to_native(amount: int) -> Decimal:
    """An amount of nodo's unit in nanoERG, exactly."""
    return Decimal(amount) / mu_per_base_unit()


def get_balance() -> tuple[str, float]:
    """(address, ERG that it can spend) of the wallet that pays; of the payee's, with 0, where this nodo does not pay."""
    payment = _payment()
    if payment.service is None and payment.payee is not None:
        return payment.payee, 0.0

    async def held(who: Party) -> tuple[str, float]:
        return address_of(who.signer.tree, who.view.prefix), (await _funds(who))[0] / 10**9

    return _with_purse(payment, held)


def manager_iteration_time() -> int:
    """Seconds between two calls of `manager`."""
    return EVERY


def unavailable_reason() -> str | None:
    """Why nodo cannot use this payment process now; None when it can. Looks at files only."""
    try:
        payment = _payment()
        payment.settings()
    except AihdError as error:
        return one_line(error)
    if payment.payee is None:
        return "payee is not set in the file of AIH_PAYMENT_FILE: nodo knows a rate only of what it advertises, so a payer needs one too"
    return None


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
    return message.contract(LEDGER, contract_type=b"", script=b"", token_id="", prose=PROSE, formal=FORMAL).ledger


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
                prose=PROSE,
                formal=FORMAL,
            )
        )


def manager() -> None:
    """Count the daemon's finished ratings, and look after payments that nobody waits for any more.

    What of them is in no block is sent again, what is overdue taken back. Called by nodo now and then. AihdError when the wallet or the
    chain cannot be used.
    """
    payment = _payment()
    if payment.ratings is not None:
        counted = take(Outbox(payment.ratings), ledger_of(message.database()), message.connection())
        log.info("%d ratings counted", counted)
    if payment.service is None:
        return  # this nodo pays nobody, so there is no wallet to look after
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
    """Let the wallet do something, alone; TemporaryError when that takes longer than a call may."""
    _log_through_nodo()
    end = time.monotonic() + CALL

    async def alone() -> T:
        async with asyncio.timeout(max(0.1, end - time.monotonic())), paying.purse(payment.settings()) as who:
            return await work(who)

    if not _wallet.acquire(timeout=CALL / 2):
        raise TemporaryError("the wallet that pays is busy with other payments; ask again later")
    try:
        return asyncio.run(alone())
    except TimeoutError:
        raise TemporaryError(f"the chain did not answer within {CALL:g} s; ask again later") from None
    finally:
        _wallet.release()


def _report(tx_id: str | None) -> None:
    """Tell nodo of the transaction, if it wants to know: the newest in two steps, the ones before it in one."""
    reporter = _reporter.get()
    if reporter is None or tx_id is None:
        return
    try:
        reporter(tx_id, sent=True)
    except TypeError:
        reporter(tx_id)


def _awaited(payment: PaymentSettings, deposit: paying.Deposit, token: str, ledger: Any, end: float) -> Any:
    """nodo's `Contract` of a deposit once it is delivered, noted as told; PendingError when that is not so at the end."""
    while not _looked(payment, deposit, token):
        if time.monotonic() + PAUSE >= end:
            raise PendingError(f"the payment's task {deposit.task} is not delivered yet; it is not paid anew meanwhile")
        time.sleep(min(PAUSE, payment.settings().chain.poll))
    first = deposit.token.encode() if deposit.token and deposit.token != token else b""
    script = bytes.fromhex(deposit.payee) + deposit.task_id + first
    return message.contract(
        ledger, contract_type=CONTRACT.encode(), script=script, token_id=NATIVE_ASSET, prose=PROSE, formal=FORMAL
    )


def _log_through_nodo() -> None:
    """aihd's own log lines go the way of the standard library's, unless somebody has decided otherwise."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
        )


def _looked(payment: PaymentSettings, deposit: paying.Deposit, token: str) -> bool:
    """Whether a payment is delivered, as far as can be told now; one that is so is noted as told."""

    async def look(who: Party) -> bool:
        done = await paying.delivered(who, deposit, payment.confirmations)
        if done:
            paying.tell(who.journal, deposit, token)
        return done

    try:
        return _with_purse(payment, look)
    except TemporaryError as error:
        log.warning("task %s: %s", deposit.task, one_line(error))
        return False


async def _funds(who: Party) -> tuple[int, int]:
    """nanoERG that the wallet can spend now, and its fee."""
    funds = (await who.submitter.situation()).funds
    return sum(box.value for box in funds.boxes), funds.fee


def _patient(payment: PaymentSettings, claim: Claim) -> Verdict:
    """The verdict, waited for while it may still change."""
    end = time.monotonic() + min(payment.patience, LONGEST / 2)
    while True:
        verdict = asyncio.run(_judged(payment, claim))
        if verdict.final or time.monotonic() >= end:
            return verdict
        time.sleep(min(PAUSE, payment.patience))


async def _judged(payment: PaymentSettings, claim: Claim) -> Verdict:
    try:
        async with asyncio.timeout(CALL - LONGEST / 2), sight(payment.settings()) as seen:
            return await judge(seen, claim, payment.confirmations)
    except SourceError as error:
        return Verdict(False, one_line(error), final=False)
    except TimeoutError:
        return Verdict(False, "the chain does not answer", final=False)


def _proof(task_id: str) -> Proof:
    payment = _payment()
    try:
        wanted = bytes.fromhex(task_id)
    except ValueError:
        wanted = b""
    if len(wanted) != 32:
        raise UsageError(f"task {task_id!r}: expected its id, 64 hexadecimal digits")

    async def proof() -> Proof:
        async with asyncio.timeout(CALL), sight(payment.settings()) as seen:
            return await prove(seen.view, wanted, key_of(payment.payee_tree()))

    try:
        return asyncio.run(proof())
    except TimeoutError:
        raise TemporaryError(f"the chain did not answer within {CALL:g} s; ask again later") from None
