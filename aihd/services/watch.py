"""Finds open tasks that match what we offer, and claims those that policy accepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import structlog

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core import policy
from aihd.core.policy import Offer
from aihd.core.task import AT_WORK, Command, Task, Where
from aihd.errors import UsageError, one_line
from aihd.execution.errors import BadInput
from aihd.protocol import plans
from aihd.protocol.boxes import On, TaskEscrow
from aihd.protocol.funding import Plan
from aihd.reputation.history import Role
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Watch(Service):
    """Explorer to journal: every open escrow is considered once a tip, and declined with a reason or accepted."""

    name = "watch"
    commands = frozenset()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._looked_at = ""
        self._at_work = 0
        self._rules = engine.policy
        self._declined: set[str] = set()  # for good: nothing but other rules can change it
        self._waiting: dict[str, str] = {}  # code of what a task waits for on our side, by its id

    async def step(self) -> None:
        engine = self.engine
        if engine.takes_nothing_new() or engine.tip.info.header_id == self._looked_at:
            return
        if engine.policy is not self._rules:
            self._rules = engine.policy
            self._declined.clear()
        open_now = {task.id: task for task in await engine.view.escrows()}
        self._declined &= open_now.keys()
        self._waiting = {key: code for key, code in self._waiting.items() if key in open_now}
        fresh = [task for key, task in open_now.items() if key not in self._declined]
        if fresh:
            situation = await engine.submitter.situation()
            mine = engine.journal.open_tasks()
            known, self._at_work = {task.id for task in mine}, at_work(mine)
            declined: defaultdict[str, list[str]] = defaultdict(list)
            for task in fresh:
                if task.raw_id not in known and (decline := self._consider(task, situation)) is not None:
                    declined[decline.code].append(decline.sentence)
            for code, sentences in declined.items():
                engine.journal.decline(code, sentences[-1], len(sentences))
        self._looked_at = engine.tip.info.header_id

    def _consider(self, task: On[TaskEscrow], situation: Situation) -> policy.Decline | None:
        """Accept a task; or return why not, once, if it is declined for good or waits for something of ours."""
        decline = considered(self.engine, task, situation, self._at_work)
        if decline is None:
            self._accept(task)
        elif not decline.passing:
            self._declined.add(task.id)
        elif not decline.ours or self._waiting.get(task.id) == decline.code:
            return None
        else:
            self._waiting[task.id] = decline.code  # counted once: it waits for what our operator can mend
        if decline is not None:
            log.info("declined", task=task.id, code=decline.code, reason=decline.sentence)
        return decline

    def _accept(self, task: On[TaskEscrow]) -> None:
        terms = task.content
        accepted = Task(
            task.raw_id,
            terms.service_hash,
            terms.input_commitment,
            terms.payment,
            terms.client,
            terms.claim_deadline,
            terms.exec_window,
            terms.locator,
        )
        if self.engine.journal.add(accepted):
            self._at_work += 1
            log.info("accepted", task=task.id, payment=terms.payment)
            self.engine.pulse.beat()


class Claim(Service):
    """Journal to chain: claims what was accepted, if policy still accepts it in the moment of the claim."""

    name = "claim"
    commands = frozenset({Command.CLAIM})

    def __init__(self, engine: Engine, ready: Callable[[Task], bool] = lambda task: True) -> None:
        """`ready` says whether a task's input is here as far as it can be; UsageError or BadInput when it will never be right."""
        super().__init__(engine)
        self._ready = ready

    async def handle(self, task: Task, command: Command) -> None:
        engine = self.engine
        intent = claim_intent(task.id)
        if engine.takes_nothing_new() or engine.submitter.busy(intent):
            return
        try:
            if not self._ready(task):
                return
        except (UsageError, BadInput) as error:
            self._decline(task, one_line(error))
            return
        box = await engine.view.node.box(task.id.hex())
        if box is None or await engine.submitter.contested(task.id.hex()):
            return  # a rival is first, or the node has not seen it yet; the next look decides
        escrow = engine.view.deployment.read(TaskEscrow, box)

        def build(situation: Situation) -> Plan | None:
            others = at_work(engine.journal.open_tasks()) - 1
            decline = considered(engine, escrow, situation, others)
            if decline is not None or situation.bond is None:
                return None
            return plans.claim(situation.market, escrow, situation.bond, situation.funds)

        await engine.submitter.transact(intent, build)

    def _decline(self, task: Task, reason: str) -> None:
        journal = self.engine.journal
        journal.decline("input", reason)
        journal.update(task.id, "declined", where=Where.LOST, final=True, note=reason)
        self.engine.inputs.delete(task.id)
        log.info("declined", task=task.id.hex(), code="input", reason=reason)


def claim_intent(task_id: bytes) -> Intent:
    return Intent("claim", task_id)


def at_work(tasks: Iterable[Task]) -> int:
    """How many tasks keep us busy."""
    return sum(1 for task in tasks if task.state in AT_WORK)


def considered(engine: Engine, task: On[TaskEscrow], situation: Situation, others: int) -> policy.Decline | None:
    """Policy's answer to a task now; `others` is how many others are at work."""
    if situation.bond is None:
        return policy.Decline("no_bond", "this wallet has no bond; open one with `aihd bond open`", passing=True)
    refusal = engine.fetcher.refusal(task.content.locator)
    if refusal is not None:
        return policy.Decline("locator", f"its input locator {task.content.locator[:40]!r}: {refusal}")
    cost = engine.costs.get(task.content.service_hash, None if engine.counts_cost else 0)
    client = engine.scores[-1].score(task.content.client, Role.CLIENT).standing if engine.scores else None
    credit = engine.credit.get(task.content.service_hash)
    offer = Offer(
        task, situation.bond.content, situation.market.height, situation.tip.refs, others, cost, client, credit
    )
    return policy.consider(offer, engine.policy)
