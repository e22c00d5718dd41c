"""Draws sequences with hypothesis, plays each on a fresh start of one world, and keeps count of what was met."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp.web_app import _cached_build_middleware
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from aihd.core.task import State

from .history import History
from .logs import Heard, hearing
from .rules import BY_NAME, DECK
from .world import World, world

T = TypeVar("T")
Step = tuple[str, int, int]
SHORTEST, LONGEST = 10, 24
ENDS: Final = (State.PAID, State.BURNED, State.LOST, State.FAILED, State.TIMED_OUT)
MEMORY: Final = Path("/dev/shm")  # where files cost no disk

digits = st.integers(0, 9)
steps = st.lists(st.tuples(st.sampled_from(DECK), digits, digits), min_size=SHORTEST, max_size=LONGEST)


@dataclass(slots=True)
class Tally:
    """How often each rule did something, each end was met, each error was felt."""

    sequences: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    felt: Counter[str] = field(default_factory=Counter)

    def missing(self) -> list[str]:
        """Rules and ends that were never met."""
        rules = [name for name in BY_NAME if not self.rules[name]]
        return rules + [str(end) for end in ENDS if not self.ends[str(end)]]


class Stage:
    """One world and one event loop for all sequences."""

    def __init__(self, runner: asyncio.Runner, made: World, session: aiohttp.ClientSession, heard: Heard) -> None:
        self._runner = runner
        self.world = made
        self._session = session
        self.heard = heard
        self.tally = Tally()
        self.failed: Sequence[Step] = ()

    def play(self, sequence: Sequence[Step]) -> None:
        """One sequence to its end; BrokenPromise where one was broken."""
        try:
            self._runner.run(self._play(sequence))
        except BaseException:
            self.failed = sequence
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Something else in the same loop."""
        return self._runner.run(work)

    async def _play(self, sequence: Sequence[Step]) -> None:
        (daemon,) = self.world.again()
        self.heard.lines.clear()
        self.heard.defects.clear()
        history = History(self.world, daemon, self._session, self.heard)
        try:
            await daemon.start()
            for name, a, b in sequence:
                did = await BY_NAME[name](history, a, b)
                self.tally.rules[name] += did
            tasks = await history.end()
        finally:
            history.calm()
            await daemon.crash()
            shutil.rmtree(daemon.data.parent)
            _cached_build_middleware.cache_clear()  # aiohttp's own, and process-wide: it would hold on to every daemon that there was
        self.tally.sequences += 1
        self.tally.ends.update(str(task.state) for task in tasks.values())
        self.tally.felt.update(history.felt + Counter(self.world.gateway.met))


@contextmanager
def stage() -> Iterator[Stage]:
    """The world, ready for sequences."""
    where = MEMORY if MEMORY.is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="aihd-chaos-", dir=where) as folder,
        hearing() as heard,
        asyncio.Runner() as runner,
    ):
        stack = AsyncExitStack()

        async def entered() -> tuple[World, aiohttp.ClientSession]:
            made = await stack.enter_async_context(world(Path(folder)))
            return made, await stack.enter_async_context(aiohttp.ClientSession())

        made, session = runner.run(entered())
        try:
            yield Stage(runner, made, session, heard)
        finally:
            runner.run(stack.aclose())


def explore(on: Stage, count: int, start: int) -> None:
    """Play `count` sequences; the smallest that breaks a promise is raised with its steps. `start` is their seed."""

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=False,
    )
    @given(steps)
    def sequences(sequence: list[Step]) -> None:
        on.play(sequence)

    sequences()
