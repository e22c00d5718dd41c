"""What the services share, and the loop that each of them is.

A service names the commands it carries out. Its loop wakes on every pulse (a new tip, a stored input, an ended execution), asks the core
what each open task needs, and carries out what is its own. A loop that fails backs off and shows in the status; it takes no other with it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

import structlog

from aihd.chain.signer import Signer
from aihd.chain.submitter import Submitter
from aihd.chain.view import ChainView, Tip
from aihd.core import policy
from aihd.core.policy import Credit
from aihd.core.task import Command, Limits, Task, decide, may_be_served
from aihd.errors import AihdError, one_line
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.execution.locator import Fetcher
from aihd.execution.template import Template
from aihd.reputation.engine import Engine as Scores
from aihd.store.journal import Journal

log = structlog.get_logger()

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 60.0


class Pulse:
    """Wakes every loop that waits; a beat while a loop is busy is not lost."""

    def __init__(self) -> None:
        self._beats = 0
        self._changed = asyncio.Condition()
        self._pending: set[asyncio.Task[None]] = set()

    def beat(self) -> None:
        self._beats += 1
        task = asyncio.create_task(self._notify())
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def after(self, seen: int) -> int:
        """Wait until there was a beat after number `seen`; the number of the newest."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._beats > seen)
        return self._beats


@dataclass(frozen=True, slots=True)
class Offered:
    """A service of the local nodo that we run for money; without a template over HTTP, at its slot and path."""

    name: str
    slot: int
    path: str
    template: Template | None = None

    @property
    def expected_duration(self) -> float:
        """Seconds that a run is expected to take."""
        return self.template.expected_duration if self.template else 0.0


@dataclass(slots=True)
class Engine:
    """The daemon's parts, put together in app.py. Only what is offered changes while it runs: `services` and `policy`, by the stock."""

    view: ChainView
    signer: Signer
    submitter: Submitter
    journal: Journal
    content: ContentStore
    inputs: InputStore
    receipts: Path
    services: dict[bytes, Offered]
    policy: policy.Limits
    limits: Limits
    genesis_id: str
    costs: dict[bytes, int] = field(default_factory=dict)  # nanoERG that nodo asks for a run, by service hash
    credit: dict[bytes, Credit] = field(default_factory=dict)  # ours at nodo for a run, by service hash
    counts_cost: bool = False  # whether a service whose cost nodo has not said yet is not offered
    fetcher: Fetcher = field(default_factory=Fetcher)
    pulse: Pulse = field(default_factory=Pulse)
    health: dict[str, str] = field(default_factory=dict)  # loops in trouble, with the reason
    short: str = ""  # why the disk has no room for new work
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    sighted: list[Tip] = field(default_factory=list)  # the newest tip, once there is one
    waiting: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # open escrows passed over for now, by reason
    scores: list[Scores] = field(default_factory=list)  # of everybody in the market, once its history is read

    @property
    def tip(self) -> Tip:
        return self.sighted[-1]

    def may_be_served(self, task: Task) -> bool:
        """Whether a task's output may be handed out now."""
        return bool(self.sighted) and may_be_served(task, self.tip.next_height, self.limits)

    def takes_nothing_new(self) -> bool:
        """Whether no task is to be accepted or claimed now: we stop, the disk is full, or the operator said `aihd pause`."""
        return self.stopping.is_set() or bool(self.short) or self.journal.paused() is not None


class Service:
    """One loop. Subclasses set `name` and `commands` and define `handle`."""

    name: ClassVar[str]
    commands: ClassVar[frozenset[Command]]

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def run(self) -> None:
        """Forever: wait for a beat, take a step; after a failure wait a while longer each time."""
        seen, pause = 0, FIRST_PAUSE
        while True:
            seen = await self.engine.pulse.after(seen)
            if await guarded(self.engine, self.name, self.step()):
                pause = FIRST_PAUSE
            else:
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
                pause = min(2 * pause, LONGEST_PAUSE)
                self.engine.pulse.beat()

    async def step(self) -> None:
        """Carry out what is ours of every open task; one task's trouble does not keep the others waiting."""
        troubles: list[Exception] = []
        for task in self.engine.journal.open_tasks():
            command = decide(task, self.engine.tip.next_height, self.engine.limits)
            if command in self.commands:
                try:
                    await self.handle(task, command)
                except AihdError as error:
                    log.warning(
                        "failed", service=self.name, task=task.id.hex(), command=str(command), error=one_line(error)
                    )
                    troubles.append(error)
                except Exception as error:
                    log.exception("defect", service=self.name, task=task.id.hex(), command=str(command))
                    troubles.append(error)
        if troubles:
            raise troubles[0]

    async def handle(self, task: Task, command: Command) -> None:
        raise TypeError(f"{type(self).__name__} names commands but does not handle them")


async def guarded(engine: Engine, name: str, step: Awaitable[object]) -> bool:
    """Await one step; True if it went well. What went wrong is put where the status shows it."""
    try:
        await step
    except AihdError as error:
        text = one_line(error)
        if engine.health.get(name) != text:
            log.warning("in trouble", what=name, reason=text)
        engine.health[name] = text
        return False
    except Exception as error:
        # Not ours, so a defect: shown and logged with its trace, and the loop goes on.
        log.exception("defect", service=name)
        engine.health[name] = f"defect: {one_line(error)}"
        return False
    engine.health.pop(name, None)
    return True
