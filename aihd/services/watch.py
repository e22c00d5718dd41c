"""Finds open tasks that match what we offer, and claims those that policy accepts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.core import policy
from aihd.core.assets import show_amount
from aihd.core.policy import Offer
from aihd.core.task import AT_WORK, Command, Task, Where, decide
from aihd.core.words import count
from aihd.errors import UsageError, one_line
from aihd.execution.errors import BadInput
from aihd.protocol import plans
from aihd.protocol.boxes import On, TaskEscrow
from aihd.protocol.funding import Plan
from aihd.reputation.history import Role
from aihd.services.engine import Engine, Service

log = structlog.get_logger()

MOST_TOLD: Final = 10  # tasks that are named in the log at one look; strangers can post as many as they like
YIELD_FOR: Final = 3  # blocks that claims wait for a settlement that does not go out


@dataclass(slots=True)
class PassedOver:
    """An open task that something stands against for now: blocks by reason, and the newest objection. `until` is its claim deadline."""

    until: int
    blocks: Counter[str] = field(default_factory=Counter)
    last: policy.Decline | None = None

    def longest(self, last: policy.Decline) -> policy.Decline:
        """The reason that held longest, in the newest words where these are its own."""
        ((code, blocks),) = self.blocks.most_common(1)
        return (
            last
            if last.code == code
            else policy.Decline(code, f"for {count(blocks, 'block')}; at last: {last.sentence}")
        )


class Watch(Service):
    """Explorer to journal: every open escrow is considered once a tip, and declined with a reason or accepted."""

    name = "watch"
    commands = frozenset()

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._looked_at = ""
        self._at_work = 0
        self._rules = engine.policy
        self._declined: set[bytes] = set()  # for good: nothing but other rules can change it
        self._passed_over: dict[bytes, PassedOver] = {}

    async def step(self) -> None:
        engine = self.engine
        if engine.tip.info.header_id == self._looked_at or engine.stopping.is_set():
            return
        if engine.policy is not self._rules:
            self._rules = engine.policy
            self._declined.clear()
        self._count_turned_down()
        open_now = {task.raw_id: task for task in await engine.view.escrows()}
        self._declined &= open_now.keys()
        self._forget(open_now)
        fresh = [task for key, task in open_now.items() if key not in self._declined]
        if fresh:
            situation = await engine.submitter.situation()
            mine = engine.journal.open_tasks()
            known, self._at_work = {task.id for task in mine}, at_work(mine)
            for task in fresh:
                if task.raw_id not in known:
                    self._consider(task, situation)
        engine.waiting = self._waiting()
        self._looked_at = engine.tip.info.header_id

    def _consider(self, task: On[TaskEscrow], situation: Situation) -> None:
        """Accept a task, decline it for good, or note what stands against it for now."""
        decline = self._paused() or considered(self.engine, task, situation, self._at_work)
        if decline is None:
            self._passed_over.pop(task.raw_id, None)
            self._accept(task)
        elif decline.passing:
            over = self._passed_over.setdefault(task.raw_id, PassedOver(task.content.claim_deadline))
            over.blocks[decline.code] += 1
            over.last = decline
        else:
            self._passed_over.pop(task.raw_id, None)
            self._declined.add(task.raw_id)
            self._count(task.raw_id, decline, task.content.claim_deadline)

    def _count_turned_down(self) -> None:
        """Escrows that the view did not keep: what stands against them was plain at the first look."""
        turned_down, self.engine.view.turned_down = self.engine.view.turned_down, {}
        known = {task.id for task in self.engine.journal.open_tasks()}
        rows = [(key, why.code, why.sentence, until) for key, (why, until) in turned_down.items() if key not in known]
        counted = self.engine.journal.decline_tasks(rows)
        for key in counted[:MOST_TOLD]:
            why, _ = turned_down[key]
            log.info("declined", task=key.hex(), code=why.code, reason=why.sentence)
        if len(counted) > MOST_TOLD:
            log.info("declined", tasks=len(counted) - MOST_TOLD, reason="as those before")

    def _paused(self) -> policy.Decline | None:
        if self.engine.short:
            return policy.Decline("disk", self.engine.short, passing=True)
        if self.engine.journal.paused() is None:
            return None
        return policy.Decline("paused", "the operator said `aihd pause`", passing=True)

    def _forget(self, open_now: Collection[bytes]) -> None:
        """A task that is open no more was passed over for the reason that held longest."""
        for task_id in self._passed_over.keys() - set(open_now):
            over = self._passed_over.pop(task_id)
            if over.last is not None and self.engine.journal.find(task_id) is None:
                self._count(task_id, over.longest(over.last), over.until)

    def _count(self, task_id: bytes, decline: policy.Decline, until: int) -> None:
        if self.engine.journal.decline_task(task_id, decline.code, decline.sentence, until):
            log.info("declined", task=task_id.hex(), code=decline.code, reason=decline.sentence)

    def _waiting(self) -> dict[str, tuple[int, str]]:
        """How many open tasks are passed over for now, with the last sentence, by reason."""
        counts: dict[str, tuple[int, str]] = {}
        for over in self._passed_over.values():
            if over.last is not None:
                number, _ = counts.get(over.last.code, (0, ""))
                counts[over.last.code] = (number + 1, over.last.sentence)
        return counts

    def _accept(self, task: On[TaskEscrow]) -> None:
        terms = task.content
        accepted = Task(
            id=task.raw_id,
            service_hash=terms.service_hash,
            input_commitment=terms.input_commitment,
            worth=terms.worth,
            payment=terms.payment,
            asset=terms.asset,
            holdback_bps=terms.holdback_bps,
            client=terms.client,
            claim_deadline=terms.claim_deadline,
            exec_window=terms.exec_window,
            locator=terms.locator,
        )
        if self.engine.journal.add(accepted):
            self._at_work += 1
            log.info(
                "accepted", task=task.id, payment=show_amount(self.engine.policy.assets, terms.asset, terms.payment)
            )
            self.engine.pulse.beat()


class Claim(Service):
    """Journal to chain: claims what was accepted, if policy still accepts it in the moment of the claim."""

    name = "claim"
    commands = frozenset({Command.CLAIM})

    def __init__(self, engine: Engine, ready: Callable[[Task], bool] = lambda task: True) -> None:
        """`ready` says whether a task's input is here as far as it can be; UsageError or BadInput when it will never be right."""
        super().__init__(engine)
        self._ready = ready
        self._due: dict[bytes, int] = {}  # height at which each settlement was first seen due and not sent

    async def step(self) -> None:
        """Settlements first: one that had to wait for the block of a claim would wait for ever beside a stream of them."""
        if not self._behind_settlements():
            await super().step()

    def _behind_settlements(self) -> bool:
        engine, height = self.engine, self.engine.tip.next_height
        due = (task for task in engine.journal.open_tasks() if decide(task, height, engine.limits) is Command.SETTLE)
        waiting = [task.id for task in due if not engine.submitter.busy(settle_intent(task.id))]
        self._due = {task_id: self._due.get(task_id, height) for task_id in waiting}
        return any(height - since < YIELD_FOR for since in self._due.values())

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
        journal.decline_task(task.id, "input", reason, task.claim_deadline)
        journal.update(task.id, "declined", where=Where.LOST, final=True, note=reason)
        self.engine.inputs.delete(task.id)
        log.info("declined", task=task.id.hex(), code="input", reason=reason)


def settle_intent(task_id: bytes) -> Intent:
    return Intent(str(Command.SETTLE), task_id)


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
        task=task,
        bond=situation.bond.content,
        height=situation.market.height,
        headers=situation.tip.refs,
        at_work=others,
        cost=cost,
        client=client,
        credit=credit,
    )
    return policy.consider(offer, engine.policy)
