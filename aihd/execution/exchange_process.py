"""The exchange as a process of its own: what strangers reach, and the daemon's money and health do not depend on.

    python -m aihd.execution.exchange_process LINE LISTENER…      started by `aihd run`: numbers of open descriptors
    aihd exchange                                                 a unit or container of its own, which finds the daemon by a socket

It holds no key and opens no database. It has limits for everything that a stranger can make it spend, and ends itself rather than go on
after one of them was passed: whoever started it starts it again.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import structlog

from aihd.errors import AihdError, Exit, TemporaryError, one_line
from aihd.execution.exchange import Folders, exchange_app
from aihd.execution.inbox import Inbox
from aihd.execution.line import MAX_CARD, ExchangeEnd
from aihd.ops.listener import Bounds, Listener, listen, served
from aihd.ops.logs import setup_logging

REPORT_EVERY: Final = 2.0  # seconds
SPARE_FILES: Final = 64  # descriptors for what is no connection
FILES_EACH: Final = 2  # descriptors that a connection may use: itself, and the file it is about

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the daemon tells its exchange; folders are paths, sizes bytes. `memory` bounds what the process may hold."""

    host: str
    port: int
    inbox: str
    content: str
    receipts: str
    genesis_id: str
    max_input: int
    quota: int
    memory: int
    connections: int
    per_address: int
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)

    @property
    def bounds(self) -> Bounds:
        """What strangers may take, within the descriptors that this process has."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = max(8, (files - SPARE_FILES) // FILES_EACH)
        return Bounds(connections=min(self.connections, room), per_address=self.per_address)


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sockets: list[socket.socket] | None = None
) -> None:
    """Serve until the daemon hangs up. Without `sockets` it listens itself where the daemon says.

    TemporaryError when memory is used up, and what `listen` raises.
    """
    end = ExchangeEnd(reader, writer)
    async with asyncio.TaskGroup() as group:
        line = group.create_task(end.run(), name="line")
        serving = group.create_task(_serve(end, sockets), name="serve")
        await line
        serving.cancel()


async def _serve(end: ExchangeEnd, sockets: list[socket.socket] | None) -> None:
    terms = Terms.read(await end.terms)
    setup_logging(terms.log_level, terms.log_format)
    _confine(terms.memory)
    sockets = sockets or await listen(terms.host, terms.port, "exchange.listen")
    listener = Listener(terms.bounds)
    inbox = Inbox(Path(terms.inbox), limit=terms.max_input, quota=terms.quota)
    folders = Folders(content=Path(terms.content), receipts=Path(terms.receipts))
    app = exchange_app(end, inbox, folders, bytes.fromhex(terms.genesis_id), listener)
    await end.synced.wait()
    async with served(app, sockets, listener):
        while True:
            held = memory()
            end.report(
                {
                    "connections": len(listener),
                    "refused": listener.refused,
                    "closed": listener.closed,
                    "uploads": inbox.held,
                    "memory": held,
                }
            )
            if held > terms.memory:
                raise TemporaryError(f"the exchange holds {held} bytes of memory, at most {terms.memory} are allowed")
            await asyncio.sleep(REPORT_EVERY)


def memory() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def _confine(limit: int) -> None:
    """Bound what this process can get, as far as it is allowed to; and be the first to go when the machine runs out of memory."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (2 * limit, 2 * limit))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        os.nice(5)  # the daemon's work comes first
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


@asynccontextmanager
async def called(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The line to a daemon that listens on a socket of the file system; TemporaryError when none does."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_CARD)
    except OSError as error:
        raise TemporaryError(f"{path}: no daemon listens there ({error.strerror})") from None
    try:
        yield reader, writer
    finally:
        writer.close()


async def _inherited(descriptors: Sequence[int]) -> None:
    line, *listening = (socket.socket(fileno=number) for number in descriptors)
    reader, writer = await asyncio.open_unix_connection(sock=line, limit=MAX_CARD)
    await exchange(reader, writer, listening)


def main(arguments: Sequence[str]) -> int:
    """Serve for the daemon that started us; the exit code."""
    return ended(_inherited([int(word) for word in arguments]))


def ended(work: Coroutine[Any, Any, None]) -> int:
    """Do the work; its exit code, with a line of log when that is not 0."""
    try:
        asyncio.run(work)
    except (BaseExceptionGroup, AihdError, MemoryError) as error:
        cause = _first(error)
        if not isinstance(cause, AihdError | MemoryError):
            raise
        log.error("the exchange ends", reason=one_line(cause))
        return int(cause.exit_code if isinstance(cause, AihdError) else Exit.TEMPORARY)
    except KeyboardInterrupt:
        return 130
    return int(Exit.OK)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
