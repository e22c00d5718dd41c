"""Takes back what lies in our old receipts, once the protocol allows it."""

from __future__ import annotations

from typing import Final

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core.life import read_life
from aihd.core.task import Task, Where
from aihd.protocol import plans
from aihd.protocol.boxes import FailureReceipt, On, Receipt
from aihd.protocol.constants import RECEIPT_RETENTION
from aihd.protocol.funding import Plan
from aihd.services.engine import Engine, Service

EVERY: Final = 30  # blocks
AT_ONCE: Final = 5  # it is a thousandth of an ERG each: nothing that could not wait for the next time


class Reclaim(Service):
    """Looks at closed tasks in their order; each is asked for until its receipt is spent."""

    name = "reclaim"
    commands = frozenset()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._looked = -EVERY
        self._done: set[bytes] = set()

    async def step(self) -> None:
        engine, height = self.engine, self.engine.tip.height
        if height < self._looked + EVERY or engine.stopping.is_set():
            return
        due = [task for task in engine.journal.tasks(-1) if self._is_due(task, height)]
        for task in due[-AT_ONCE:]:  # the oldest
            await self._reclaim(task)
        self._looked = height

    def _is_due(self, task: Task, height: int) -> bool:
        ended = task.final and task.where in (Where.SETTLED, Where.FAILURE_SETTLED) and task.since is not None
        # The receipt is older than the end of its task, so what is due by that is due for sure.
        return ended and height > (task.since or 0) + RECEIPT_RETENTION and task.id not in self._done

    async def _reclaim(self, task: Task) -> None:
        engine = self.engine
        intent = Intent("reclaim", task.id)
        if engine.submitter.busy(intent):
            return
        # So old a box is not kept by the follower.
        life = read_life(engine.view.deployment, await engine.view.sources.life(task.id))
        receipt = life.receipt or life.failure
        if receipt is None or await engine.view.node.box(receipt.id) is None:
            self._done.add(task.id)
            return
        if await engine.submitter.transact(intent, lambda s: _worth(receipt, s)) is None:
            self._done.add(task.id)


def _worth(receipt: On[Receipt] | On[FailureReceipt], now: Situation) -> Plan | None:
    """The reclaim, if it brings more than its fee takes: a failure receipt's value seldom does, and is left to whoever wants it."""
    return plans.reclaim(now.market, receipt, now.funds) if receipt.value > now.funds.fee else None
