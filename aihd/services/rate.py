"""Rates the client and lets itself be rated: commit, reveal, settle."""

from __future__ import annotations

import secrets

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core.task import Command, Task
from aihd.protocol import plans
from aihd.protocol.boxes import On, Rating
from aihd.protocol.funding import Plan
from aihd.protocol.plans import Side
from aihd.services.engine import Service

# A client whose task we could run to the end gave a valid input in time and paid: nothing to complain of.
FAIR = 5


class Rate(Service):
    """Our half of the rating, and the folding of the whole into our bond."""

    name = "rate"
    commands = frozenset({Command.COMMIT, Command.REVEAL, Command.SETTLE})

    async def handle(self, task: Task, command: Command) -> None:
        engine = self.engine
        intent = Intent(str(command), task.id)
        if engine.submitter.busy(intent):
            return
        rating = (await engine.view.life(task.id)).rating
        if rating is None or await engine.view.node.box(rating.id) is None:
            return
        if await engine.submitter.contested(rating.id):
            return  # the other side moves first; its successor box is ours to build on after the next block
        if command is Command.COMMIT and task.salt is None:
            # On the disk before anybody can see the commitment: a lost salt is a broken promise.
            task = engine.journal.update(task.id, "mark chosen", mark=FAIR, salt=secrets.token_bytes(32))
        await engine.submitter.transact(intent, lambda situation: self._plan(task, command, rating, situation))

    def _plan(self, task: Task, command: Command, rating: On[Rating], situation: Situation) -> Plan | None:
        market, funds = situation.market, situation.funds
        if command is Command.SETTLE:
            return None if situation.bond is None else plans.settle(market, rating, situation.bond, funds)
        if task.mark is None or task.salt is None:
            return None  # committed by nobody we know of: there is nothing to reveal
        if command is Command.COMMIT:
            commitment = plans.commitment_of(rating, Side.NODE, task.mark, task.salt)
            return plans.commit(market, rating, Side.NODE, commitment, funds)
        return plans.reveal(market, rating, Side.NODE, task.mark, task.salt, funds)
