"""Finds open tasks that match what we offer, and claims those that policy accepts."""

from __future__ import annotations

import structlog

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core import policy
from aihd.core.policy import Offer
from aihd.core.task import AT_WORK, Command, Task
from aihd.execution.inputs import can_fetch
from aihd.protocol import plans
from aihd.protocol.boxes import On, TaskEscrow
from aihd.protocol.funding import Plan
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Watch(Service):
    """Explorer to journal: every open escrow is considered once a tip, and declined with a reason or accepted."""

    name = "watch"
    commands = frozenset()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._looked_at = ""
        self._declined: set[tuple[str, str]] = set()

    async def step(self) -> None:
        engine = self.engine
        if engine.stopping.is_set() or engine.tip.info.header_id == self._looked_at:
            return
        situation = await engine.submitter.situation()
        for task in await engine.view.escrows():
            if engine.journal.find(task.raw_id) is None:
                self._consider(task, situation)
        self._looked_at = engine.tip.info.header_id

    def _consider(self, task: On[TaskEscrow], situation: Situation) -> None:
        decline = considered(self.engine, task, situation)
        if decline is None:
            self._accept(task)
        elif not decline.passing and (task.id, decline.code) not in self._declined:
            self._declined.add((task.id, decline.code))
            self.engine.journal.decline(decline.code, decline.sentence)
            log.info("declined", task=task.id, code=decline.code, reason=decline.sentence)

    def _accept(self, task: On[TaskEscrow]) -> None:
        terms = task.content
        self.engine.journal.add(
            Task(
                task.raw_id,
                terms.service_hash,
                terms.input_commitment,
                terms.payment,
                terms.client,
                terms.claim_deadline,
                terms.exec_window,
                terms.locator,
            )
        )
        log.info("accepted", task=task.id, payment=terms.payment)
        self.engine.pulse.beat()


class Claim(Service):
    """Journal to chain: claims what was accepted, if policy still accepts it in the moment of the claim."""

    name = "claim"
    commands = frozenset({Command.CLAIM})

    async def handle(self, task: Task, command: Command) -> None:
        engine = self.engine
        intent = claim_intent(task.id)
        if engine.stopping.is_set() or engine.journal.has_live(intent.key):
            return
        box = await engine.view.node.box(task.id.hex())
        if box is None or await engine.view.node.is_spent_in_mempool(task.id.hex()):
            return  # a rival is first, or the node has not seen it yet; the next look decides
        escrow = engine.view.deployment.read(TaskEscrow, box)

        def build(situation: Situation) -> Plan | None:
            decline = considered(engine, escrow, situation, ours=1)
            if decline is not None or situation.bond is None:
                return None
            return plans.claim(situation.market, escrow, situation.bond, situation.funds)

        await engine.submitter.transact(intent, build)


def claim_intent(task_id: bytes) -> Intent:
    return Intent("claim", task_id)


def considered(engine: Engine, task: On[TaskEscrow], situation: Situation, *, ours: int = 0) -> policy.Decline | None:
    """Policy's answer to a task now; `ours` of those at work are this one."""
    if situation.bond is None:
        return policy.Decline("no_bond", "this wallet has no bond; open one with `aihd bond open`", passing=True)
    if not can_fetch(task.content.locator):
        return policy.Decline(
            "locator", f"its input locator {task.content.locator[:40]!r} is of a kind not supported here"
        )
    at_work = sum(1 for known in engine.journal.open_tasks() if known.state in AT_WORK) - ours
    offer = Offer(task, situation.bond.content, situation.market.height, situation.tip.refs, at_work)
    return policy.consider(offer, engine.policy)
