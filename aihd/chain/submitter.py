"""The only way out for a transaction: built, signed, committed to the journal, handed to every node, and again until it is final.

The bytes are on the disk before they leave. What to do next about each is decided by one table (aihd/core/sending.py); here its facts are
gathered and its actions carried out. Whatever is signed for a purpose excludes everything that was signed for it before and could still
be mined, so that nothing is ever paid twice.

Nothing waits while nodes are asked: what is read beforehand is read again if something was signed meanwhile, and between the last look
and the journal there is no pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import structlog
from ergo_lib_python.chain import ErgoBox

from aihd.chain.http import SourceError
from aihd.chain.intent import Funding as Funding
from aihd.chain.intent import Intent as Intent
from aihd.chain.pending import Pending, exclude
from aihd.chain.purse import Purse
from aihd.chain.signer import Signer
from aihd.chain.submission import Submitted
from aihd.chain.view import ChainView, Situation, Tip
from aihd.core.sending import PATIENCE as PATIENCE
from aihd.core.sending import TAKEN, Action, Answer, Origin, decide
from aihd.core.signing import Permit, Spent, outflow
from aihd.errors import AihdError, InvariantError, TemporaryError, one_line
from aihd.ops.failpoints import reach
from aihd.ops.lock import Turns
from aihd.protocol.funding import Plan, TxKind
from aihd.store.journal import Journal, TxRecord, TxStatus

log = structlog.get_logger()

HOUR: Final = 30  # blocks of 120 s
DAY: Final = 720
READINGS: Final = 20  # of a situation in which something was signed meanwhile
PAUSE: Final = 1.0  # seconds, at least, before silent sources are asked again
Build = Callable[[Situation], Plan | None]
# These spend no box that is of one task alone, so two of them for one purpose share a box of the wallet only if they are made to.
_OF_THE_WALLET: Final = frozenset(
    {TxKind.SEND, TxKind.POST, TxKind.DEPLOY, TxKind.OPINION, TxKind.OPEN_BOND, TxKind.MANAGE}
)


@dataclass(frozen=True, slots=True)
class Overdue:
    """A transaction that another one is to take the place of, with the ids of those built on it (`line`, itself first).

    `fee` is what the next one offers. A node weighs a transaction with its descendants, and takes another one instead only for more.
    """

    record: TxRecord
    line: tuple[str, ...]
    fee: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A box, and the transaction that spent it in the block of a height."""

    box: str
    by: str
    height: int


class DroppedError(TemporaryError):
    """A transaction was sent and can never be mined: somebody else was first. What it was for may be tried anew."""


class Submitter:
    """One wallet's transactions."""

    def __init__(
        self,
        view: ChainView,
        signer: Signer,
        journal: Journal,
        *,
        fee: int,
        final_depth: int,
        permit: Permit,
        origin: Origin = Origin.DAEMON,
        turns: Turns | None = None,
    ) -> None:
        """`turns` are those of processes on this wallet; None for the one that has it for itself."""
        self._view = view
        self._signer = signer
        self._journal = journal
        self._fee = fee
        self._final_depth = final_depth
        self._permit = permit
        self._origin = origin
        self._turns = turns or Turns(None)
        self._pending = Pending(journal)
        self._purse = Purse(view, journal, self._pending, signer.tree, final_depth)
        self._wallet = asyncio.Lock()  # one after the other: each is built on the change of the one before
        self._following = asyncio.Lock()

    # -- what can be done now

    async def situation(self) -> Situation:
        """What the wallet can do now, our own live transactions included."""
        return await self._situation(Intent(""), None, None)

    async def _situation(self, intent: Intent, old: Overdue | None, before: TxRecord | None) -> Situation:
        """What an intent can do now, so that what takes the place of `old` excludes what was signed `before`."""
        line = old.line if old else ()
        fee = old.fee if old else self._fee
        claims = self._journal.claims_at_work()
        seen = await self._view.situation(self._signer.tree, fee, self._pending.bearing(line), claims)
        if intent.funding is Funding.ANY and seen.bond is not None:
            seen = replace(seen, bond=await self._purse.newest(seen.bond))
        boxes = await self._purse.boxes(intent, seen, line)
        first = () if before is None else self._shared(before, boxes)
        return replace(seen, funds=replace(seen.funds, boxes=tuple(boxes), first=first))

    def _shared(self, old: TxRecord, boxes: list[ErgoBox]) -> tuple[ErgoBox, ...]:
        """A box of the wallet whose spending excludes an old transaction, where only such boxes can."""
        if old.kind not in _OF_THE_WALLET:
            return ()
        spends, makers = self._pending.spends(old), self._pending.makers()
        for box in boxes:
            maker = makers.get(str(box.box_id))
            if str(box.box_id) in spends or (maker and exclude(self._pending.spends(maker), spends)):
                return (box,)
        return ()

    # -- what is under way

    def busy(self, intent: Intent) -> bool:
        """Whether nothing is to be done for an intent: a transaction for it is under way or done, and none should take its place."""
        return self._journal.has_live(intent.key) and self._overdue(intent) is None

    async def contested(self, box_id: str) -> bool:
        """Whether a transaction that is not ours waits to spend a box."""
        if not await self._view.node.is_spent_in_mempool(box_id):
            return False
        # The node tells that it is spent, but not by whom.
        ours = [r.id for r in self._journal.live() if box_id in self._pending.parsed(r).inputs]
        return not any([await self._view.node.in_mempool(tx_id) for tx_id in ours])

    def outdate(self, intent: Intent, *, but: str = "") -> None:
        """What is under way for an intent must not be mined if that can be helped: the next `transact` replaces it.

        A transaction of kind `but` may stay.
        """
        live = (record for record in self._journal.live() if record.intent == intent.key)
        self._pending.unwant(record for record in live if record.kind != but)

    def ended(self, intent: Intent, reason: str) -> bool:
        """End what waits for an intent whose time is over, so that no guard lets it pass; whether nothing of it is in a block."""
        record = self._journal.pending(intent.key)
        if record is not None:
            self._drop(record, reason)
        return not self._journal.has_live(intent.key)

    def _overdue(self, intent: Intent) -> Overdue | None:
        """The waiting transaction of an intent that another one is to take the place of."""
        record = self._journal.pending(intent.key)
        action = decide(self._pending.facts()[record.id]) if record else Action.WAIT
        if record is None or action not in (Action.REPLACE, Action.BUILD):
            return None
        line = self._pending.line_of(record)
        if action is Action.BUILD:
            return Overdue(record, line, self._fee)
        fee = record.fee + sum(r.fee for r in self._journal.live() if r.id in line)
        return Overdue(record, line, fee) if fee <= self._permit.spending.max_fee else None

    # -- the way out

    async def transact(self, intent: Intent, build: Build) -> TxRecord | None:
        """Build, sign, record and send; None when the intent is under way already, or `build` finds nothing to do.

        `build` may be called more than once: only its last plan is used. Errors of building and signing leave nothing behind. Once
        recorded, the transaction is this class's to bring home; DroppedError when the nodes' first answers show that it can never be.
        """
        async with self._turn(intent), self._turns.turn():
            record = await self._signed(intent, build)
        if record is None:
            return None
        log.info("signed", kind=record.kind, tx=record.id, intent=intent.key)
        reason = await self._send(record)
        if reason is not None:
            # An error, so that whoever asked for it waits before he asks again.
            raise DroppedError(f"{record.kind}: {record.id}: {reason}")
        return record

    @asynccontextmanager
    async def _turn(self, intent: Intent) -> AsyncIterator[None]:
        """Wait for those before, where one is built on the other."""
        if intent.funding is not Funding.ANY:
            yield
            return
        async with self._wallet:
            yield

    async def _signed(self, intent: Intent, build: Build) -> TxRecord | None:
        """A transaction in the journal, which excludes all that was signed for its intent before."""
        over: set[str] = set()  # predecessors that can never be mined
        for _ in range(READINGS):
            if self.busy(intent):
                return None
            old, state = self._overdue(intent), self._pending.state()
            before = self._before(intent, old, over)
            situation = await self._situation(intent, old, before[-1] if before else None)
            if self._pending.state() != state:
                continue
            # From here to the journal nothing is awaited, so nothing comes in between.
            record = self._planned(intent, old, situation, build)
            beside = [] if record is None else self._not_excluded(record, before)
            if record is None or not beside:
                return record and self._recorded(record, old)
            over |= {each.id for each in beside if await self._is_over(each)}
            if standing := [each.id for each in beside if each.id not in over]:
                said = (
                    f"{record.kind}: {record.id} shares no input with {standing[0]}, so both could be mined: not sent"
                )
                raise InvariantError(said) if situation.funds.first else TemporaryError(said)
        raise TemporaryError(f"{intent.verb}: other transactions are signed faster than this one can be built")

    def _planned(self, intent: Intent, old: Overdue | None, situation: Situation, build: Build) -> TxRecord | None:
        plan = build(situation)
        if plan is None:
            return None
        tip = situation.tip
        origin = intent.origin or self._origin
        permit = self._permit
        if origin is Origin.OPERATOR:
            permit = replace(permit, spending=permit.spending.by_order())
        spent = self._spent(tip.height)
        tx = self._signer.sign(plan, tip.headers, tip.info.parameters, permit=permit, spent=spent)
        if old is not None and str(tx.id) == old.record.id:
            return None  # at the same height for the same fee: it is the same
        return TxRecord(
            str(tx.id),
            intent.key,
            plan.kind,
            intent.task_id,
            bytes(tx),
            plan.fee,
            outflow(self._permit, plan.inputs, plan.outputs),
            replaces=old.record.id if old else None,
            origin=origin,
            tip=tip.height,
            parents=self._pending.ancestors([str(box.box_id) for box in plan.inputs]),
        )

    def _spent(self, height: int) -> Spent:
        return Spent(*(self._journal.spent_since(height - blocks) for blocks in (HOUR, DAY)))

    def allowance(self, height: int) -> int:
        """Returns the nanoERG that the daemon may still spend by itself, as far as the limits of an hour and a day leave any."""
        limits, spent = self._permit.spending, self._spent(height)
        return max(0, min(limits.per_hour - spent.last_hour, limits.per_day - spent.last_day))

    def _before(self, intent: Intent, old: Overdue | None, over: set[str]) -> list[TxRecord]:
        """What was signed for an intent and could still be mined, as far as is known."""
        before = [*self._journal.predecessors(intent.key), *([old.record] if old else [])]
        return [each for each in before if each.id not in over]

    def _not_excluded(self, record: TxRecord, before: list[TxRecord]) -> list[TxRecord]:
        """Those that could be mined beside a new one."""
        mine = self._pending.spends(record)
        return [each for each in before if each.id != record.id and not exclude(mine, self._pending.spends(each))]

    async def _is_over(self, record: TxRecord) -> bool:
        """Whether a transaction can never be mined: another one, in a block, spent what it needs."""
        spends = self._pending.spends(record)
        return await self._taken(spends) is not None

    def _recorded(self, record: TxRecord, old: Overdue | None) -> TxRecord:
        """Journal a signed transaction, and that `old` gives way to it with all that was built on it."""
        if old is not None:
            for child in old.line[1:]:
                self._journal.mark(child, TxStatus.REPLACED, note=f"its parent {old.record.id} is replaced")
            log.warning("replaced", kind=record.kind, tx=old.record.id, by=record.id, fee=record.fee)
        self._journal.record(record)
        return record

    # -- until it is final

    async def confirmed(self, record: TxRecord, poll: float, again: tuple[Intent, Build] | None = None) -> int:
        """Follow until a transaction, or the one that took its place, is in a block; the height.

        With `again` it is replaced for a higher fee when it waits too long. DroppedError when it can never be mined.
        """
        while True:
            try:
                await self.follow(await self._view.sync())
            except SourceError as error:
                # What was sent is sent: whoever waits for it goes on waiting until a source answers again.
                log.warning("no source tells what became of it", tx=record.id, error=one_line(error))
                await asyncio.sleep(max(poll, PAUSE))
                continue
            record = self._successor(record)
            if record.height is not None:
                return record.height
            if again is not None and not self.busy(again[0]):
                await self._replaced(*again)
            await asyncio.sleep(poll)

    async def _replaced(self, intent: Intent, build: Build) -> None:
        """Put another one in the place of what waits, if that is possible now: it was sent, and may be mined all the same."""
        try:
            await self.transact(intent, build)
        except AihdError as error:
            log.info("not replaced", intent=intent.key, error=one_line(error))

    def _successor(self, record: TxRecord) -> TxRecord:
        """A transaction as it stands now, or the one that took its place; DroppedError when there is none."""
        now = self._journal.live_of(record.intent)
        if now is None:
            ended = self._journal.transaction(record.id)
            raise DroppedError(f"{record.kind}: {ended.note if ended else 'it is not in the journal'}")
        return now

    async def follow(self, tip: Tip) -> None:
        """Once for each new tip: what became of every transaction that may still be mined, and send again what is not in a block.

        One that cannot be looked at keeps the others from nothing: its error is raised at the end. Where another process is at work with
        the wallet, that one follows.
        """
        if not self._turns.is_free():
            return
        async with self._following:
            troubles: list[AihdError] = []
            self._pending.reach(tip.height)
            for record in [*self._journal.replaced(), *self._journal.live()]:
                try:
                    await self._follow(record.id, tip)
                except AihdError as error:
                    troubles.append(error)
            self._pending.tidy()
            if troubles:
                raise troubles[0]

    async def _follow(self, tx_id: str, tip: Tip) -> None:
        height = await self._view.mined_at(tx_id)
        record = self._journal.transaction(tx_id)
        if record is None or record.status in (TxStatus.FINAL, TxStatus.DROPPED):
            return  # it ended on the way
        if height is not None:
            self._mined(record, height, tip)
        elif record.status is not TxStatus.REPLACED:
            if record.status is TxStatus.MINED:
                log.warning("a reorg took it out of its block", kind=record.kind, tx=tx_id, height=record.height)
                self._journal.mark(tx_id, TxStatus.PENDING, note="its block was reorganised away")
            await self._send(record, again=True)

    def _mined(self, record: TxRecord, height: int, tip: Tip) -> None:
        deep = tip.next_height - height > self._final_depth and record.status is not TxStatus.REPLACED
        status = TxStatus.FINAL if deep else TxStatus.MINED
        if (status, height) != (record.status, record.height):
            # One that lost its place and was first after all takes it back: in the same commit the other one makes room.
            self._journal.mark(record.id, status, height=height)
            log.info(str(status), kind=record.kind, tx=record.id, height=height)

    async def _send(self, record: TxRecord, *, again: bool = False) -> str | None:
        """Hand it to every node (`again`: that does not have it); the reason if it was dropped for good."""
        tx = self._pending.parsed(record).tx
        reach(f"submit {record.kind}: before")
        result = await self._view.node.submit(tx, again=again)
        if result.answer in (Answer.UNKNOWN, Answer.UNREACHED):
            await self._view.explorer.relay(tx)
        reach(f"submit {record.kind}: after")
        if result.sent:
            self._journal.count_send(record.id)
        self._pending.heard(record.id, result.answer)
        if result.answer in TAKEN:
            return None
        log.info("not accepted", kind=record.kind, tx=record.id, answer=str(result.answer), detail=result.detail)
        return await self._judged(record, result)

    async def _judged(self, record: TxRecord, result: Submitted) -> str | None:
        """End a transaction if that is the only thing left to do; the reason."""
        try:
            taken = await self._taken(dict.fromkeys(self._own_inputs(record), ""))
        except AihdError as error:
            log.info("its inputs cannot be looked at", tx=record.id, error=one_line(error))
            taken = None
        if taken is not None and self._was_ours(record, taken):
            return None
        facts = self._pending.facts().get(record.id)  # anew: it may have ended meanwhile
        if facts is None or decide(replace(facts, spent=taken is not None)) is not Action.DROP:
            return None
        reason = (
            f"input {taken.box} is spent by another transaction, {taken.by}"
            if taken
            else f"every node refuses it: {result.detail}"
        )
        self._drop(record, reason)
        return reason

    def _was_ours(self, record: TxRecord, taken: Taken) -> bool:
        """Whether an input was spent for the same purpose: by the transaction itself, or by one whose place it took."""
        spender = self._journal.transaction(taken.by)
        if spender is None or spender.intent != record.intent:
            return False
        if spender.id == record.id:
            self._pending.heard(record.id, Answer.KNOWN)  # the next look sees its block
        elif spender.status is not TxStatus.FINAL:
            self._journal.mark(spender.id, TxStatus.MINED, height=taken.height)
            log.info("mined", kind=spender.kind, tx=spender.id, height=taken.height)
        return True

    def _own_inputs(self, record: TxRecord) -> list[str]:
        """Its inputs but for those that waiting ones of ours are to make."""
        makers = self._pending.makers()
        waiting = {box for box, maker in makers.items() if maker.status is TxStatus.PENDING}
        return sorted(self._pending.parsed(record).inputs - waiting)

    async def _taken(self, spends: dict[str, str]) -> Taken | None:
        """The first of some boxes that a transaction in a block spent, if it is not the one that should have."""
        for box_id, spender in spends.items():
            if await self._view.node.unspent(box_id) is not None:
                continue
            self._view.doubt(box_id)
            try:
                spending = await self._view.sources.spending(box_id)
            except SourceError:
                continue  # it vanished with a branch, or nobody shows what became of it: that is no verdict
            if spending is not None and spending.tx.id != spender:
                return Taken(box_id, spending.tx.id, spending.height)
        return None

    def _drop(self, record: TxRecord, reason: str) -> None:
        """End a transaction that can never be mined, and those of ours that were built on it."""
        line = self._pending.line_of(record)
        self._journal.mark(record.id, TxStatus.DROPPED, note=reason)
        log.warning("dropped", kind=record.kind, tx=record.id, reason=reason)
        for child in line[1:]:
            self._journal.mark(child, TxStatus.DROPPED, note=f"its parent {record.id} was dropped")
