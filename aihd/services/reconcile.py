"""Looks at the chain at every new tip: what became of our transactions, and where each open task stands."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any, Final

import structlog

from aihd.chain.view import where_is
from aihd.core.life import Life, Sighting
from aihd.core.task import Command, Stage, State, Task, Where
from aihd.execution.failures import Failure, note_of
from aihd.protocol.boxes import ClaimedTask
from aihd.services.engine import Engine, Service, guarded
from aihd.services.settle import end_intent
from aihd.services.watch import claim_intent

log = structlog.get_logger()

VANISHED: Final = "its escrow is no longer on the chain"


class Reconcile(Service):
    """The one that looks; its beat wakes the others."""

    name = "reconcile"
    commands = frozenset({Command.BREAK, Command.GIVE_UP, Command.CLOSE})

    def __init__(self, engine: Engine, poll: float) -> None:
        super().__init__(engine)
        self._poll = poll
        self._seen = ""  # id of the newest header that was looked at to the end
        self.turned = time.monotonic()  # when the last look ended, well or not

    async def run(self) -> None:
        """Poll for a new tip; a beat follows each look, so that time-driven work goes on between blocks too."""
        while True:
            if await guarded(self.engine, self.name, self.look()):
                self.engine.pulse.beat()
            self.turned = time.monotonic()
            await asyncio.sleep(self._poll)

    async def look(self) -> None:
        """One look: follow the chain and our transactions on it, refresh every open task, and end what has ended."""
        engine = self.engine
        tip = await engine.view.sync()
        if tip.info.header_id != self._seen:
            # Before the tip is sighted: a look that fails here is repeated, and nobody acts on half of it.
            await engine.submitter.follow(tip)
            engine.sighted[:] = [tip]
            held = await self._adopt()
            for task in engine.journal.open_tasks():
                await self._refresh(task, held)
            self._seen = tip.info.header_id
        await self.step()

    async def _adopt(self) -> set[bytes]:
        """Take up what our bond has open and the journal does not know: it was lost, or restored from an old backup. All open ids."""
        engine, held = self.engine, set[bytes]()
        for bond in await engine.view.bonds():
            if bond.content.node != engine.signer.public_key:
                continue
            held.update(bond.content.open_ids)
            for task_id in bond.content.open_ids:
                if engine.journal.find(task_id) is not None:
                    continue
                claimed = (await engine.view.life(task_id)).claimed
                if claimed is None:
                    log.error("open in our bond, but no source shows its claim", task=task_id.hex())
                    engine.view.doubt(bond.id)
                    continue
                engine.journal.add(_adopted(task_id, claimed.content))
                log.warning("adopted", task=task_id.hex(), worth=claimed.content.worth)
        return held

    async def _refresh(self, task: Task, held: set[bytes]) -> None:
        """Bring a task's record in line with the chain; `held` are the tasks that our bond has open."""
        engine = self.engine
        life, escrow = await engine.view.standing(task.id)
        where = where_is(escrow, life, engine.signer.public_key, engine.tip.next_height)
        if where is None and engine.view.is_unproved(task.id):
            return  # what is missing is missing in a source, and may be on the chain
        claim = claim_intent(task.id).key
        claimed = engine.journal.has_live(claim) and engine.journal.pending(claim) is None
        if where is None and task.id not in held and not claimed:
            where = Where.OPEN  # its post went with a branch: it may come back until its deadline, and is given up then
        if where is None:
            # Keep what we have and look again.
            if task.note != VANISHED:
                engine.journal.update(task.id, "not on the chain", note=VANISHED)
            return
        changes = await self._changes(task, where, life, escrow)
        if task.note == VANISHED:
            changes["note"] = ""
        known = asdict(task)
        changes = {name: value for name, value in changes.items() if known[name] != value}
        if changes:
            after = engine.journal.update(task.id, "seen on chain", **changes)
            if after.state is not task.state:
                log.info("task", task=task.id.hex(), state=str(after.state), was=str(task.state), height=after.since)

    async def _changes(self, task: Task, where: Where, life: Life, escrow: Sighting | None) -> dict[str, Any]:
        changes: dict[str, Any] = {"where": where, "since": await self._since(where, life, escrow)}
        changes["release_height"] = life.receipt_height
        if life.claimed is not None and where is not Where.LOST:
            terms = life.claimed.content
            changes.update(
                claim_height=terms.claim_height,
                claim_block=life.claim_block,
                claim_tx=bytes.fromhex(life.claimed.transaction_id),
                exec_deadline=terms.exec_deadline,
            )
            if where is Where.CLAIMED and _seed_changed(task, life):
                log.warning("the claim moved to another block: run again", task=task.id.hex())
                self.engine.submitter.outdate(end_intent(task.id))
                changes.update(stage=Stage.INPUT, output_hash=None, params_hash=None, receipt_cid=None)
        if life.rating is not None:
            rating = life.rating.content
            both = bool(rating.client_commitment and rating.node_commitment)
            changes.update(
                commit_deadline=rating.commit_deadline,
                reveal_deadline=rating.reveal_deadline,
                client_mark=rating.client_mark,
                may_reveal=both,
            )
        return changes

    async def _since(self, where: Where, life: Life, escrow: Sighting | None) -> int | None:
        """Height of the block that brought the task where it is."""
        view = self.engine.view
        if where is Where.OPEN:
            return escrow.height if escrow else None
        if where is Where.LOST:
            return await view.mined_at(escrow.spent_by) if escrow and escrow.spent_by else life.claim_height
        if where in (Where.SETTLED, Where.FAILURE_SETTLED) and life.rating_spent_by is not None:
            return await view.mined_at(life.rating_spent_by)
        if where is Where.TIMED_OUT and life.claimed_spent_by is not None:
            return await view.mined_at(life.claimed_spent_by)
        return life.since

    async def handle(self, task: Task, command: Command) -> None:
        journal = self.engine.journal
        if command is Command.BREAK:
            journal.update(task.id, "cannot be delivered", stage=Stage.BROKEN, note=_missed(task))
        elif command is Command.GIVE_UP:
            if not self.engine.submitter.ended(claim_intent(task.id), "the time to claim is over"):
                return  # it is in a block, and binds us
            journal.update(task.id, "given up", where=Where.LOST, final=True, note="it was not claimed in time")
        else:
            after = journal.update(task.id, "closed", final=True)
            self.engine.inputs.delete(task.id)
            log.info("closed", task=task.id.hex(), state=str(after.state))


def _missed(task: Task) -> str:
    """Why a task is not done at its deadline."""
    if task.state is State.AWAITING_INPUT:
        return note_of(Failure.NO_INPUT, "none came in time")
    if task.state is State.READY and task.note:
        return note_of(Failure.UNREACHABLE, task.note)  # what nodo answered when it was last asked to start it
    return note_of(Failure.TOO_SLOW, "it did not end in time")


def _adopted(task_id: bytes, claimed: ClaimedTask) -> Task:
    """A task as its claim tells it; the terms that only its escrow had are those that the claim took."""
    window = claimed.exec_deadline - claimed.claim_height
    return Task(
        id=task_id,
        service_hash=claimed.service_hash,
        input_commitment=claimed.input_commitment,
        worth=claimed.worth,
        payment=claimed.payment,
        asset=claimed.asset,
        holdback_bps=claimed.holdback_bps,
        client=claimed.client,
        claim_deadline=claimed.claim_height,
        exec_window=window,
        locator=claimed.locator,
        note="found on the chain",
    )


def _seed_changed(task: Task, life: Life) -> bool:
    """Whether a reorg moved the claim after the service was started: its seed comes from the block of the claim."""
    moved = task.claim_block is not None and life.claim_block not in (None, task.claim_block)
    return moved and task.stage in (Stage.RUNNING, Stage.DONE)
