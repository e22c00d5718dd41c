"""A daemon in this process, put together as `aihd run` does it but stepped by hand, that can be thrown away at any request and built anew.

The only place of the chaos tests that knows how a daemon is wired.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from door import door_of

from aihd import app
from aihd.config import Settings, load_settings
from aihd.ops.notify import Notifier
from aihd.services.engine import Engine, Service
from aihd.services.execute import Execute
from aihd.services.patience import Patience
from aihd.services.reconcile import Reconcile
from aihd.services.report import Report
from aihd.store.journal import Journal

from .front import Front, Trap
from .gateway import Gateway

DATA = "data"


@dataclass(slots=True)
class _Life:
    """The parts of one run of the daemon, from its start to its end."""

    engine: Engine
    reconcile: Reconcile
    execute: Execute
    services: tuple[Service, ...]
    report: Report
    stack: AsyncExitStack
    holder: asyncio.Task[None]  # holds the group in which services run


class Daemon:
    """One daemon and its folder. `troubles` are the errors of the last turn, `deaths` what ended it though nobody killed it."""

    def __init__(self, settings: dict[str, Any], folder: Path, front: Front, gateway: Gateway) -> None:
        self._settings = settings
        self._folder = folder
        self._front = front
        self._gateway = gateway
        self._life: _Life | None = None
        self._lives = 0
        self.troubles: list[Exception] = []
        self.deaths: list[BaseException] = []
        self.starts = 0

    @property
    def up(self) -> bool:
        return self._life is not None

    @property
    def engine(self) -> Engine:
        assert self._life is not None
        return self._life.engine

    @property
    def journal(self) -> Journal:
        return self.engine.journal

    @property
    def data(self) -> Path:
        return self._folder / f"{DATA}-{self._lives}"

    def settings(self) -> Settings:
        return load_settings(None, {}, {**self._settings, "ops.data_dir": str(self.data)})

    async def start(self) -> bool:
        """As `aihd run` starts: True when it is at work, False (with `troubles`) when it cannot be now."""
        stack = AsyncExitStack()
        try:
            self._life = await self._started(stack)
        except Exception as error:  # noqa: BLE001 - kept, and judged by whoever asked for the start
            self.troubles = [error]
            await stack.aclose()
            return False
        except BaseException:
            await stack.aclose()
            raise
        self.starts += 1
        return True

    async def _started(self, stack: AsyncExitStack) -> _Life:
        settings = self.settings()
        told = asyncio.Event()
        told.set()  # what is away at a start is not waited for: the start fails, and is tried again
        impatient = Patience(Notifier({}), told)
        engine = await app._engine(settings, stack, False, impatient)
        runtime = replace(
            await app._runtime(settings, engine, stack, impatient), retry_after=0.0
        )  # no clock runs here but the chain's
        reconcile = Reconcile(engine, settings.chain.poll)
        report = Report(engine, reconcile)
        await stack.enter_async_context(door_of(app._desk(settings, engine), app._terms(settings, engine)))
        await app._open_page(settings, report, stack)
        await reconcile.look()
        holder, group = await _held_group()
        stack.callback(holder.cancel)
        execute = Execute(engine, runtime, group)
        await execute.recover()
        services = (app._stock(settings, engine, runtime), *app._loops(settings, engine, runtime, execute))
        return _Life(engine, reconcile, execute, services, report, stack, holder)

    async def turn(self) -> bool:
        """Look once and let each service work once; True when nothing went wrong. A daemon that is down tries to start."""
        self.troubles = []
        if self._life is None and not await self.start():
            return False
        life = self._life
        assert life is not None
        for step in (life.reconcile.look, *(service.step for service in life.services)):
            try:
                await step()
            except Exception as error:  # noqa: BLE001 - kept, and judged by whoever asked for the turn
                self.troubles.append(error)
        await self._quiet(life)
        if self.up:
            life.report.document()
        return not self.troubles and self.up

    async def _quiet(self, life: _Life) -> None:
        """Wait until no input is fetched, and nothing runs but what a slow service holds: what comes next must not hang on the clock."""
        execute = life.execute

        def busy() -> bool:
            stopping = execute._stopping is not None and not execute._stopping.done()
            return bool(execute._fetching) or stopping or execute.running > self._gateway.waiting

        async with asyncio.timeout(20):
            while busy() and not life.holder.done():
                await asyncio.sleep(0.001)
        if life.holder.done():
            with suppress(asyncio.CancelledError):
                self.deaths += [error for error in (life.holder.exception(),) if error is not None]
            await self.crash()

    async def turn_with_crash(self, requests: int, *, after: bool) -> bool:
        """A turn that ends for good at one of its requests to the chain, before or after that was served; False if it has fewer."""
        trap = self._front.trap = Trap(requests, after)
        turn = asyncio.ensure_future(self.turn())
        sprung = asyncio.ensure_future(trap.sprung.wait())
        try:
            await asyncio.wait({turn, sprung}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._front.trap = None
            sprung.cancel()
        caught = not turn.done()
        if caught:
            await self.crash(turn)
        trap.opened.set()
        with suppress(asyncio.CancelledError):
            await turn
        return caught

    async def crash(self, turn: asyncio.Task[bool] | None = None) -> None:
        """As a power cut: what is on the disk now is all that is left. What the old run does while it is torn down reaches nobody."""
        life, self._life = self._life, None
        before = self.data
        self._lives += 1
        with unlimited():
            if before.exists():
                shutil.copytree(before, self.data)
        if life is None:
            if turn is not None:
                turn.cancel()
            return
        await _cut_off(life)
        if turn is not None:
            turn.cancel()
            await asyncio.wait({turn})
        life.holder.cancel()
        await asyncio.wait({life.holder})
        with suppress(Exception):
            await life.stack.aclose()
        shutil.rmtree(before, ignore_errors=True)

    def shift_clock(self, seconds: int) -> None:
        """What the clock shows moves: to the journal that is as if all that it holds had happened that much earlier."""
        database = self.data / "aihd.sqlite"
        if database.exists():
            with closing(sqlite3.connect(database, isolation_level=None)) as db:
                db.execute("UPDATE transactions SET at = at - ?", (seconds,))

    async def stop(self) -> None:
        """As TERM twice: what runs is cancelled in order."""
        life, self._life = self._life, None
        if life is None:
            return
        await life.execute.cancel()
        life.holder.cancel()
        await asyncio.wait({life.holder})
        await life.stack.aclose()


@contextmanager
def unlimited() -> Iterator[None]:
    """The disk has room while the block runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def _cut_off(life: _Life) -> None:
    """Take the network away from a run before its clean-up code can use it."""
    runtime = life.execute._runtime
    await runtime.gateway.__aexit__(None, None, None)
    await runtime.session.close()
    await life.engine.view.node._session.close()


async def _held_group() -> tuple[asyncio.Task[None], asyncio.TaskGroup]:
    """A task group that lives until its holder is cancelled; the holder ends with what a task in it raised."""
    entered: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with asyncio.TaskGroup() as group:
            entered.set_result(group)
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    return holder, await entered
