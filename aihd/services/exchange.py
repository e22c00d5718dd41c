"""Keeps the exchange at work: starts its process, tells it what becomes of tasks, and starts it again when it ends or falls silent.

Promise: whatever becomes of that process, the daemon goes on; while it is down the status says so.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from aihd.core.task import Task
from aihd.errors import AihdError, ConfigError, DependencyError, one_line
from aihd.execution.cards import Card
from aihd.execution.desk import Desk
from aihd.execution.exchange_process import Terms
from aihd.execution.line import MAX_QUESTION, DaemonEnd
from aihd.services.engine import Engine

log = structlog.get_logger()

NAME: Final = "exchange"
FIRST_PAUSE: Final = 0.25  # seconds until it is started again
LONGEST_PAUSE: Final = 5.0  # whoever can end it again and again must not gain more than that
STEADY: Final = 10.0  # seconds of work after which an end is a first one again
SILENCE: Final = 30.0  # seconds without a word after which it is ended
LOOK: Final = 0.2  # seconds between two looks for what has changed
# What the child gets of our environment: nothing that says where a secret is, or speaks for us to the service manager.
_PASSED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TMPDIR", "TZ")


@dataclass(slots=True)
class _Told:
    """What one exchange was told of tasks: how far in the journal, at which tip, and the cards of those that are open."""

    event: int
    tip: str
    cards: dict[bytes, Card] = field(default_factory=dict)


class Exchange:
    """A loop like the other services, with a process at the end of it. `sockets` listen already where clients come.

    With `meeting` the process is another unit's, which finds us at that path; without, it is our own child.
    """

    name = NAME

    def __init__(
        self, engine: Engine, desk: Desk, terms: Terms, sockets: list[socket.socket], meeting: Path | None = None
    ) -> None:
        self._engine = engine
        self._desk = desk
        self._terms = terms
        self._sockets = sockets
        self._meeting = meeting
        self._heard = 0.0
        self.facts: Mapping[str, Any] = {}  # what it last said of itself
        self.pid: int | None = None

    async def run(self) -> None:
        """Forever."""
        pause = FIRST_PAUSE
        while True:
            begun = time.monotonic()
            try:
                why = await (self._child() if self._meeting is None else self._meet(self._meeting))
            except AihdError as error:
                why = one_line(error)
            pause = FIRST_PAUSE if time.monotonic() - begun > STEADY else pause
            self._engine.health[NAME] = f"{why}; clients are kept waiting, and it is started again"
            log.warning("the exchange is down", reason=why, again_in=round(pause, 1))
            again, pause = pause, min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(again * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret

    # -- a process of ours

    async def _child(self) -> str:
        """Start it, and keep it company until it ends: why it did."""
        ours, theirs = socket.socketpair()
        try:
            process = await self._started(theirs)
        except OSError as error:
            ours.close()
            return f"it cannot be started ({error.strerror})"
        finally:
            theirs.close()
        self.pid = process.pid
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_QUESTION)
            trouble = await self._talk(reader, writer)
            return trouble or await _last_words(process)
        finally:
            self.pid = None
            await _ended(process)

    async def _started(self, line: socket.socket) -> asyncio.subprocess.Process:
        numbers = [line.fileno(), *(sock.fileno() for sock in self._sockets)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aihd.execution.exchange_process", *map(str, numbers)),
            stdin=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED if name in os.environ},
            pass_fds=numbers,
            start_new_session=True,  # a Ctrl-C is for us: who drains needs his exchange
        )

    # -- a process of another unit

    async def _meet(self, path: Path) -> str:
        self._engine.health[NAME] = f"no exchange has come to {path} yet: start `aihd exchange`"
        turn = asyncio.Lock()

        async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if turn.locked():
                writer.close()
                return
            async with turn:
                why = await self._talk(reader, writer) or "it hung up"
                self._engine.health[NAME] = f"{why}; clients are kept waiting until `aihd exchange` runs again"
                log.warning("the exchange is down", reason=why)

        async with _listening(path, come):
            await asyncio.Event().wait()
        return ""

    # -- either of them

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Answer it and tell it what changes, until it hangs up, falls silent or talks nonsense; what was wrong, if it was that."""
        self._heard = time.monotonic()
        end = DaemonEnd(self._desk, reader, writer, self._terms.plain(), self._report)
        answering = asyncio.create_task(end.run(), name="exchange line")
        telling = asyncio.create_task(self._tell(end), name="exchange cards")
        try:
            await asyncio.wait((answering, telling), return_when=asyncio.FIRST_COMPLETED)
            for task in (answering, telling):
                if task.done() and (error := task.exception()) is not None:
                    if not isinstance(error, AihdError):
                        log.error("defect", service=NAME, exc_info=error)
                    return one_line(error)
            return ""
        finally:
            answering.cancel()
            telling.cancel()
            await asyncio.wait((answering, telling))

    def _report(self, facts: Mapping[str, Any]) -> None:
        self._heard = time.monotonic()
        self.facts = facts
        self._engine.health.pop(NAME, None)

    async def _tell(self, end: DaemonEnd) -> None:
        """All cards at the beginning, and then what changes; DependencyError when nothing was heard for too long."""
        async with asyncio.timeout(SILENCE):
            await end.greeted.wait()
        journal = self._engine.journal
        told = _Told(journal.newest_event(), self._tip)
        await end.synced(self._desk.cards(journal.tasks(-1)))
        while time.monotonic() - self._heard < SILENCE:
            await asyncio.sleep(LOOK)
            end.show(self._changed(told))
        raise DependencyError(f"nothing was heard of it for {SILENCE:.0f} s")

    def _changed(self, told: _Told) -> list[Card]:
        """Cards that are not what they were: of tasks that something happened to, and at a new tip of all that are open."""
        journal = self._engine.journal
        told.event, ids = journal.touched(told.event)
        tasks: dict[bytes, Task] = {}
        if told.tip != self._tip:
            told.tip = self._tip
            self._desk.recover(journal.open_tasks())
            tasks = {task.id: task for task in journal.open_tasks()}
            told.cards = {key: card for key, card in told.cards.items() if key in tasks}
        tasks |= {key: task for key in ids if (task := journal.find(key)) is not None}
        changed = [card for card in map(self._desk.card_of, tasks.values()) if told.cards.get(card.id) != card]
        told.cards |= {card.id: card for card in changed}
        return changed

    @property
    def _tip(self) -> str:
        return self._engine.tip.info.header_id if self._engine.sighted else ""


async def _last_words(process: asyncio.subprocess.Process) -> str:
    """How a process that hung up ended."""
    try:
        code = await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        return "it hung up and did not end"
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with code {code}"


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()  # it keeps nothing that would have to be put away
        await process.wait()


@asynccontextmanager
async def _listening(path: Path, come: Any) -> AsyncIterator[None]:
    """A socket of the file system that only we may talk to."""
    with suppress(FileNotFoundError):
        path.unlink()
    before = os.umask(0o177)
    try:
        server = await asyncio.start_unix_server(come, str(path), limit=MAX_QUESTION)
    except OSError as error:
        raise ConfigError(f"{path} cannot be listened on ({one_line(error)})") from None
    finally:
        os.umask(before)
    try:
        yield
    finally:
        server.close()
        with suppress(OSError):
            path.unlink()
