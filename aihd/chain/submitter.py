"""The only way out for a transaction: built under a lock, signed, committed to the journal, sent, and resent until it is final.

The bytes are on the disk before they leave. What a node answers decides nothing on its own: a time-out is neither success nor failure,
and a refusal ends a transaction only when one of its inputs is gone from the chain and from our own pending ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog
from ergo_lib_python.transaction import Transaction

from aihd.chain.node import Answer
from aihd.chain.signer import Signer
from aihd.chain.view import ChainView, Situation, Tip
from aihd.core.signing import Permit, Spent, outflow
from aihd.errors import TemporaryError
from aihd.ops.failpoints import reach
from aihd.protocol.funding import Plan
from aihd.store.journal import Journal, TxRecord, TxStatus

log = structlog.get_logger()

HOUR: Final = 3600
Build = Callable[[Situation], Plan | None]


@dataclass(frozen=True, slots=True)
class Intent:
    """What a transaction is for. There is never more than one live transaction with the same `key`."""

    verb: str
    task_id: bytes | None = None

    @property
    def key(self) -> str:
        return f"{self.verb}:{self.task_id.hex()}" if self.task_id else self.verb


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

    async def situation(self) -> Situation:
        """What the wallet can do now, our own live transactions included."""
        unconfirmed = [(Transaction.from_bytes(record.body), record.height) for record in self._journal.live()]
        return await self._view.situation(self._signer.tree, self._fee, unconfirmed)

    async def transact(self, intent: Intent, build: Build) -> TxRecord | None:
        """Build, sign, record and send; None when the intent is under way already, or `build` finds nothing to do.

        Errors of building and signing leave nothing behind. Once recorded, the transaction is this class's to bring home;
        DroppedError when the node's first answer shows that it can never be.
        """
        async with self._lock:
            if self._journal.has_live(intent.key):
                return None
            situation = await self.situation()
            plan = build(situation)
            if plan is None:
                return None
            info = situation.tip.info
            spent = Spent(self._journal.spent_since(HOUR), self._journal.spent_since(24 * HOUR))
            tx = self._signer.sign(plan, situation.tip.headers, info.parameters, permit=self._permit, spent=spent)
            record = self._record(intent, plan, tx)
            self._journal.record(record)
        log.info("signed", kind=plan.kind, tx=record.id, intent=intent.key)
        reason = await self._send(record)
        if reason is not None:
            # An error, so that whoever asked for it waits before he asks again.
            raise DroppedError(f"{plan.kind}: the node refuses {record.id}: {reason}")
        return record

    def _record(self, intent: Intent, plan: Plan, tx: Transaction) -> TxRecord:
        spent = outflow(self._permit, plan.inputs, plan.outputs)
        return TxRecord(str(tx.id), intent.key, plan.kind, intent.task_id, bytes(tx), plan.fee, spent)

    async def confirmed(self, record: TxRecord, poll: float) -> int:
        """Follow until a transaction is in a block; its height. DroppedError when it can never be mined."""
        while True:
            await self.follow(await self._view.tip())
            now = next(tx for tx in self._journal.transactions() if tx.id == record.id)
            if now.status is TxStatus.DROPPED:
                raise DroppedError(f"{now.kind}: {now.note}")
            if now.height is not None:
                return now.height
            await asyncio.sleep(poll)

    async def follow(self, tip: Tip) -> None:
        """Once for each new tip: what became of every live transaction, and send again what is not in a block."""
        async with self._lock:
            for record in self._journal.live():
                if self._journal.has_live(record.intent):  # else its parent was dropped on the way, and it with it
                    await self._follow(record, tip)

    async def _follow(self, record: TxRecord, tip: Tip) -> None:
        mined = await self._view.node.mined_at(record.id)
        if mined is not None:
            height = mined[0]
            status = TxStatus.FINAL if tip.next_height - height >= self._final_depth else TxStatus.MINED
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
        tx = Transaction.from_bytes(record.body)
        reach(f"submit {record.kind}: before")
        result = await self._view.node.submit(tx)
        reach(f"submit {record.kind}: after")
        self._journal.count_send(record.id)
        if result.answer in (Answer.ACCEPTED, Answer.KNOWN):
            return None
        log.info("not accepted", kind=record.kind, tx=record.id, answer=str(result.answer), detail=result.detail)
        reason = None
        if result.answer is Answer.REFUSED:
            reason = result.detail
        elif result.answer is Answer.MISSING_INPUT and (gone := await self._gone_input(record, tx)):
            reason = f"input {gone} is spent by another transaction"
        if reason is not None:
            self._drop(record, reason)
        return reason

    async def _gone_input(self, record: TxRecord, tx: Transaction) -> str | None:
        """The first input that went elsewhere, or vanished with the branch it was on.

        The transaction itself may have been mined since we looked: then its inputs are spent, but by it.
        """
        node = self._view.node
        waiting = (record for record in self._journal.live() if record.status is TxStatus.PENDING)
        created = {str(box.box_id) for record in waiting for box in Transaction.from_bytes(record.body).outputs}
        for tx_input in tx.inputs:
            box_id = str(tx_input.box_id)
            if box_id in created or await node.box(box_id) is not None:
                continue
            if await node.was_taken(box_id, by_other_than=record.id):
                return box_id
        return None

    def _drop(self, record: TxRecord, reason: str) -> None:
        """End a transaction that can never be mined, and those of ours that were built on it."""
        self._journal.mark(record.id, TxStatus.DROPPED, note=reason)
        log.warning("dropped", kind=record.kind, tx=record.id, reason=reason)
        made = {str(box.box_id) for box in Transaction.from_bytes(record.body).outputs}
        for other in self._journal.live():
            inputs = {str(i.box_id) for i in Transaction.from_bytes(other.body).inputs}
            if inputs & made:
                self._drop(other, f"its parent {record.id} was dropped")
