"""The only way out for a transaction: built under a lock, signed, committed to the journal, sent, and resent until it is final.

The bytes are on the disk before they leave. What a node answers decides nothing on its own: a time-out is neither success nor failure,
and a refusal ends a transaction only when one of its inputs is gone from the chain and from our own pending ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

import structlog
from ergo_lib_python.transaction import Transaction

from aihd.chain.http import SourceError
from aihd.chain.node import Answer
from aihd.chain.signer import Signer
from aihd.chain.view import ChainView, Situation, Tip
from aihd.core.signing import Permit, Spent, outflow
from aihd.errors import InvariantError, TemporaryError, one_line
from aihd.ops.failpoints import reach
from aihd.protocol.funding import Plan
from aihd.store.journal import Journal, TxRecord, TxStatus

log = structlog.get_logger()

HOUR: Final = 3600
PATIENCE: Final = 5  # blocks that a transaction may wait in the mempool before it is offered for a higher fee
PAUSE: Final = 1.0  # seconds, at least, before silent sources are asked again
Build = Callable[[Situation], Plan | None]


@dataclass(frozen=True, slots=True)
class Intent:
    """What a transaction is for. There is never more than one live transaction with the same `key`."""

    verb: str
    task_id: bytes | None = None

    @property
    def key(self) -> str:
        return f"{self.verb}:{self.task_id.hex()}" if self.task_id else self.verb


@dataclass(frozen=True, slots=True)
class Overdue:
    """A transaction to be replaced, with the ids of those built on it (`line`, itself first).

    `fee` is what the replacement offers. A node weighs a transaction with its descendants, and takes another one instead only for more.
    """

    record: TxRecord
    line: tuple[str, ...]
    fee: int


class DroppedError(TemporaryError):
    """A transaction was sent and can never be mined: somebody else was first. What it was for may be tried anew."""


class Submitter:
    """One wallet's transactions."""

    def __init__(
        self, view: ChainView, signer: Signer, journal: Journal, *, fee: int, final_depth: int, permit: Permit
    ) -> None:
        self._view = view
        self._signer = signer
        self._journal = journal
        self._fee = fee
        self._final_depth = final_depth
        self._permit = permit
        self._lock = asyncio.Lock()
        self._since: dict[str, int] = {}  # height at which each transaction was first seen waiting
        self._height = 0
        self._outdated: set[str] = set()
        self._parsed: dict[str, Transaction] = {}

    async def situation(self) -> Situation:
        """What the wallet can do now, our own live transactions included."""
        return await self._situation(self._fee, frozenset())

    async def _situation(self, fee: int, without: Collection[str]) -> Situation:
        live = [(self._tx(r), r.height) for r in self._journal.live() if r.id not in without]
        return await self._view.situation(self._signer.tree, fee, live, self._journal.claims_at_work())

    def _tx(self, record: TxRecord) -> Transaction:
        """Its transaction, parsed once while it is live: every situation asks for all of them."""
        if record.id not in self._parsed:
            self._parsed[record.id] = Transaction.from_bytes(record.body)
        return self._parsed[record.id]

    def busy(self, intent: Intent) -> bool:
        """Whether there is nothing to do for an intent: a transaction for it is under way, or done, and needs no replacement."""
        return self._journal.has_live(intent.key) and self._overdue(intent) is None

    async def contested(self, box_id: str) -> bool:
        """Whether a transaction that is not ours waits to spend a box."""
        if not await self._view.node.is_spent_in_mempool(box_id):
            return False
        # The node tells that it is spent, but not by whom.
        ours = [r.id for r in self._journal.live() if box_id in _inputs(self._tx(r))]
        return not any([await self._view.node.in_mempool(tx_id) for tx_id in ours])

    def outdate(self, intent: Intent, *, but: str = "") -> None:
        """What is under way for an intent must not be mined if that can be helped: the next `transact` replaces it.

        A transaction of kind `but` may stay.
        """
        live = (record for record in self._journal.live() if record.intent == intent.key)
        self._outdated.update(record.id for record in live if record.kind != but)

    def _overdue(self, intent: Intent) -> Overdue | None:
        """The waiting transaction of an intent that is to be replaced.

        Only those of a task are: each of them spends a box of its own, which the replacement spends too, so that never both are mined.
        """
        if intent.task_id is None:
            return None
        record = self._journal.pending(intent.key)
        if record is None:
            return None
        waited = self._height - self._since.get(record.id, self._height)
        if waited < PATIENCE and record.id not in self._outdated:
            return None
        line = self._line_of(record)
        fee = record.fee + sum(r.fee for r in self._journal.live() if r.id in line)
        return Overdue(record, tuple(line), fee) if fee <= self._permit.spending.max_fee else None

    async def transact(self, intent: Intent, build: Build) -> TxRecord | None:
        """Build, sign, record and send; None when the intent is under way already, or `build` finds nothing to do.

        Errors of building and signing leave nothing behind. Once recorded, the transaction is this class's to bring home;
        DroppedError when the node's first answer shows that it can never be.
        """
        async with self._lock:
            if self.busy(intent):
                return None
            old = self._overdue(intent)
            situation = await self._situation(old.fee if old else self._fee, old.line if old else ())
            plan = build(situation)
            if plan is None:
                return None
            info = situation.tip.info
            spent = Spent(self._journal.spent_since(HOUR), self._journal.spent_since(24 * HOUR))
            tx = self._signer.sign(plan, situation.tip.headers, info.parameters, permit=self._permit, spent=spent)
            record = self._record(intent, plan, tx)
            self._replace(old, record)
        log.info("signed", kind=plan.kind, tx=record.id, intent=intent.key)
        reason = await self._send(record)
        if reason is not None:
            # An error, so that whoever asked for it waits before he asks again.
            raise DroppedError(f"{plan.kind}: the node refuses {record.id}: {reason}")
        return record

    def _replace(self, old: Overdue | None, record: TxRecord) -> None:
        """Journal a signed transaction, and that `old` gives way to it with all that was built on it."""
        if old is None:
            self._journal.record(record)
            return
        ours, theirs = (self._tx(r) for r in (record, old.record))
        if not _inputs(ours) & _inputs(theirs):
            raise InvariantError(
                f"{record.kind}: {record.id} shares no input with {old.record.id}, so both could be mined"
            )
        for child in old.line[1:]:
            self._journal.mark(child, TxStatus.REPLACED, note=f"its parent {old.record.id} is replaced")
        self._journal.record(replace(record, replaces=old.record.id))
        log.warning("replaced", kind=record.kind, tx=old.record.id, by=record.id, fee=record.fee)

    def _line_of(self, record: TxRecord) -> list[str]:
        """A transaction and those live ones of ours that were built on it, in the order of signing."""
        line, made = [record.id], {str(box.box_id) for box in self._tx(record).outputs}
        for other in self._journal.live():
            tx = self._tx(other)
            if other.id not in line and made & _inputs(tx):
                line.append(other.id)
                made |= {str(box.box_id) for box in tx.outputs}
        return line

    def _record(self, intent: Intent, plan: Plan, tx: Transaction) -> TxRecord:
        spent = outflow(self._permit, plan.inputs, plan.outputs)
        return TxRecord(str(tx.id), intent.key, plan.kind, intent.task_id, bytes(tx), plan.fee, spent)

    async def confirmed(self, record: TxRecord, poll: float) -> int:
        """Follow until a transaction is in a block; its height. DroppedError when it can never be mined."""
        while True:
            try:
                await self.follow(await self._view.sync())
            except SourceError as error:
                # What was sent is sent: whoever waits for it goes on waiting until a source answers again.
                log.warning("no source tells what became of it", tx=record.id, error=one_line(error))
                await asyncio.sleep(max(poll, PAUSE))
                continue
            now = next(tx for tx in self._journal.transactions() if tx.id == record.id)
            if now.status is TxStatus.DROPPED:
                raise DroppedError(f"{now.kind}: {now.note}")
            if now.height is not None:
                return now.height
            await asyncio.sleep(poll)

    async def follow(self, tip: Tip) -> None:
        """Once for each new tip: what became of every transaction that may still be mined, and send again what is not in a block."""
        async with self._lock:
            self._height = tip.height
            for record in self._journal.replaced():
                await self._follow_replaced(record, tip)
            for record in self._journal.live():
                if self._journal.has_live(record.intent):  # else its parent was dropped on the way, and it with it
                    await self._follow(record, tip)
            self._since = {r.id: self._since.get(r.id, tip.height) for r in self._journal.live()}
            self._outdated &= self._since.keys()
            self._parsed = {tx_id: tx for tx_id, tx in self._parsed.items() if tx_id in self._since}

    async def _follow_replaced(self, record: TxRecord, tip: Tip) -> None:
        height = await self._view.mined_at(record.id)
        if height is not None:
            # It was first after all: in the same commit the one that should have replaced it makes room.
            log.info("mined", kind=record.kind, tx=record.id, height=height)
            self._journal.mark(record.id, TxStatus.MINED, height=height)

    async def _follow(self, record: TxRecord, tip: Tip) -> None:
        height = await self._view.mined_at(record.id)
        if height is not None:
            status = TxStatus.FINAL if tip.next_height - height > self._final_depth else TxStatus.MINED
            if (status, height) != (record.status, record.height):
                self._journal.mark(record.id, status, height=height)
                log.info(str(status), kind=record.kind, tx=record.id, height=height)
            return
        if record.status is TxStatus.MINED:
            log.warning(
                "reorg took a transaction out of its block", kind=record.kind, tx=record.id, height=record.height
            )
            self._journal.mark(record.id, TxStatus.PENDING, note="its block was reorganised away")
        if not await self._view.node.in_mempool(record.id):
            await self._send(record)

    async def _send(self, record: TxRecord) -> str | None:
        """Send once; the reason if the transaction was dropped for good."""
        tx = self._tx(record)
        reach(f"submit {record.kind}: before")
        result = await self._view.node.submit(tx)
        if result.answer is Answer.UNKNOWN:
            await self._view.explorer.relay(tx)
        reach(f"submit {record.kind}: after")
        self._journal.count_send(record.id)
        if result.answer in (Answer.ACCEPTED, Answer.KNOWN):
            return None
        log.info("not accepted", kind=record.kind, tx=record.id, answer=str(result.answer), detail=result.detail)
        reason = None
        if result.answer is Answer.FEE:
            self._outdated.add(record.id)
        elif result.answer is Answer.REFUSED:
            reason = result.detail
        elif result.answer is Answer.MISSING_INPUT and (gone := await self._gone_input(record, tx)):
            box_id, why = gone
            reason = f"input {box_id} {why}"
            self._view.doubt(box_id)
        if reason is not None:
            self._drop(record, reason)
        return reason

    async def _gone_input(self, record: TxRecord, tx: Transaction) -> tuple[str, str] | None:
        """The first input that went elsewhere, or vanished with the branch it was on, and what became of it.

        The transaction itself may have been mined since we looked: then its inputs are spent, but by it.
        """
        node = self._view.node
        waiting = (record for record in self._journal.live() if record.status is TxStatus.PENDING)
        created = {str(box.box_id) for record in waiting for box in self._tx(record).outputs}
        for box_id in _inputs(tx):
            if box_id in created or await node.box(box_id) is not None:
                continue
            why = await self._view.gone(box_id, by_other_than=record.id)
            if why is not None:
                return box_id, why
        return None

    def _drop(self, record: TxRecord, reason: str) -> None:
        """End a transaction that can never be mined, and those of ours that were built on it."""
        line = self._line_of(record)
        self._journal.mark(record.id, TxStatus.DROPPED, note=reason)
        log.warning("dropped", kind=record.kind, tx=record.id, reason=reason)
        for child in line[1:]:
            self._journal.mark(child, TxStatus.DROPPED, note=f"its parent {record.id} was dropped")


def _inputs(tx: Transaction) -> set[str]:
    return {str(tx_input.box_id) for tx_input in tx.inputs}
