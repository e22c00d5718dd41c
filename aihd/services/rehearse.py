"""A dry run: says of every open escrow what the daemon would do about it, and does nothing."""

from __future__ import annotations

import structlog

from aihd.core.assets import show_amount
from aihd.core.policy import Decline
from aihd.services.engine import Engine, Service
from aihd.services.watch import at_work, considered

log = structlog.get_logger()


class Rehearse(Service):
    """One line for each escrow, and another when the answer changes."""

    name = "rehearse"
    commands = frozenset()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._said: dict[str, str] = {}  # code of the newest answer by task id

    async def step(self) -> None:
        engine = self.engine
        engine.sighted[:] = [await engine.view.sync()]
        escrows = await engine.view.escrows()
        self._said = {task.id: self._said[task.id] for task in escrows if task.id in self._said}
        if not escrows:
            return
        situation, mine = await engine.submitter.situation(), engine.journal.open_tasks()
        known, busy = {task.id for task in mine}, at_work(mine)
        for task in escrows:
            if task.raw_id not in known:
                payment = show_amount(engine.policy.assets, task.content.asset, task.content.payment)
                self._say(task.id, payment, considered(engine, task, situation, busy))

    def _say(self, task_id: str, payment: str, decline: Decline | None) -> None:
        code = decline.code if decline else ""
        if self._said.get(task_id) == code:
            return
        self._said[task_id] = code
        if decline is None:
            log.info("would claim", task=task_id, payment=payment)
        else:
            log.info("would decline", task=task_id, payment=payment, code=code, reason=decline.sentence)
