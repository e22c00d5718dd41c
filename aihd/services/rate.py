"""Rates the client and lets itself be rated: commit, reveal, settle. Settles what others left lying where the operator wants that."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Final

from aihd.chain.submitter import DroppedError, Intent
from aihd.chain.view import Situation
from aihd.core.rating import may_commit, may_reveal, omission
from aihd.core.task import Command, Task
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, On, Rating
from aihd.protocol.codec import BoxError
from aihd.protocol.constants import SETTLE_GRACE
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Plan, TxKind
from aihd.protocol.plans import Side
from aihd.services.engine import Engine, Service
from aihd.store.journal import TxStatus

# There is a rating only where there is a receipt, and a receipt only where a valid input came in time and the commitment to it was true
# (what fails before that ends in a failure receipt, with no mark for anybody). Of such a client there is nothing to complain.
FAIR: Final = 5

LISTED_EVERY: Final = 30  # blocks between two listings of the ratings of others


class Rate(Service):
    """Our half of the rating, and the folding of the whole into our bond."""

    name = "rate"
    commands = frozenset({Command.COMMIT, Command.REVEAL, Command.SETTLE})

    def __init__(self, engine: Engine, *, settle_others: bool = False) -> None:
        """`settle_others`: fold other people's overdue ratings into their bonds too; the value of each box pays for that."""
        super().__init__(engine)
        self._settle_others = settle_others
        self._listed = -LISTED_EVERY

    async def step(self) -> None:
        await super().step()
        tip = self.engine.tip
        if self._settle_others and tip.height >= self._listed + LISTED_EVERY:
            await self._settle_overdue(tip.next_height)
            self._listed = tip.height

    async def handle(self, task: Task, command: Command) -> None:
        engine = self.engine
        intent = Intent(str(command), task.id)
        if engine.submitter.busy(intent):
            return
        rating = (await engine.view.life(task.id)).rating
        if rating is None or not self._is_time(command, rating.content):
            return
        if await engine.view.node.box(rating.id) is None or await engine.submitter.contested(rating.id):
            return  # the other side moves first; its successor box is ours to build on after the next block
        if command is Command.COMMIT and task.salt is None:
            # On the disk before anybody can see the commitment: a lost salt is a broken promise.
            task = engine.journal.update(task.id, "mark chosen", mark=FAIR, salt=secrets.token_bytes(32))
        if command is Command.SETTLE and (missing := omission(rating.content, Side.NODE)) not in task.note:
            engine.journal.update(task.id, "half rated", note="; ".join(filter(None, (task.note, missing))))
        await engine.submitter.transact(intent, lambda situation: self._plan(task, command, rating, situation))

    def _is_time(self, command: Command, rating: Rating) -> bool:
        """By the box itself: what the task's record says of it may be a block older."""
        height = self.engine.tip.next_height
        if command is Command.COMMIT:
            return may_commit(rating, Side.NODE, height)
        return command is Command.SETTLE or may_reveal(rating, Side.NODE, height)

    def _plan(self, task: Task, command: Command, rating: On[Rating], situation: Situation) -> Plan | None:
        market, funds = situation.market, situation.funds
        if command is Command.SETTLE:
            return self._settlement(rating, situation)
        if task.mark is None or task.salt is None:
            return None  # committed by nobody we know of: there is nothing to reveal
        if command is Command.COMMIT:
            commitment = plans.commitment_of(rating, Side.NODE, task.mark, task.salt)
            return plans.commit(market, rating, Side.NODE, commitment, funds)
        return plans.reveal(market, rating, Side.NODE, task.mark, task.salt, funds)

    def _settlement(self, rating: On[Rating], situation: Situation) -> Plan | None:
        """Never built on a claim, which its client can undo: then it would go with it, and the next claim be first again."""
        claims = (record for record in self.engine.journal.live() if record.kind == TxKind.CLAIM)
        if situation.bond is None or any(claim.status is TxStatus.PENDING for claim in claims):
            return None
        return plans.settle(situation.market, rating, situation.bond, situation.funds)

    # -- other people's

    async def _settle_overdue(self, height: int) -> None:
        """Settle what was left lying: it frees a slot of somebody's bond, and what the box holds beyond the fee is ours."""
        async for rating, bond in self._overdue(height):
            intent = Intent("settle for others", plans.task_id_of(rating))
            # Somebody else may be faster, or the bond move meanwhile: the next listing shows.
            with suppress(DroppedError):
                await self.engine.submitter.transact(intent, partial(_worth, rating, bond))

    async def _overdue(self, height: int) -> AsyncIterator[tuple[On[Rating], On[Bond]]]:
        view, me = self.engine.view, self.engine.signer.public_key
        bonds = {task: bond for bond in await view.bonds() for task in bond.content.open_ids if bond.content.node != me}
        for box in await view.unspent(view.deployment.trees[Guard.RATING]):
            try:
                rating = view.deployment.read(Rating, box)
            except BoxError:
                continue
            bond = bonds.get(plans.task_id_of(rating))
            if bond is None or height <= rating.content.reveal_deadline + SETTLE_GRACE:
                continue
            if await view.node.box(rating.id) is not None and not await self.engine.submitter.contested(bond.id):
                yield rating, bond


def _worth(rating: On[Rating], bond: On[Bond], now: Situation) -> Plan | None:
    """The settlement, if it brings more than its fee takes."""
    plan = plans.settle(now.market, rating, bond, now.funds)
    paid_out = plan.outputs[1].value if rating.content.held else 0
    return plan if rating.value - paid_out > now.funds.fee else None
