"""The line between the daemon and the exchange: JSON, one object a line, over a socket that nobody else holds.

    exchange: {"hello": 1}                              daemon: {"terms": {…}}, {"card": {…}} for each task, {"synced": true}
    exchange: {"n": 7, "ask": "input key", …}           daemon: {"n": 7, "ok": {…}}, or {"n": 7, "refused": [status, text]}
    exchange: {"report": {…}}, every few seconds        daemon: {"card": {…}} whenever one has changed

Promise of the daemon's end: whatever comes over it costs the daemon one short line at a time and the answer to one question; a line that
is too long or no question ends the connection. Promise of the exchange's end: what strangers ask about tasks is answered from the cards,
so that no flood of theirs reaches the daemon.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from aihd.errors import AihdError, DependencyError, one_line
from aihd.execution.cards import Card, RefusedError
from aihd.execution.desk import Desk
from aihd.execution.seal import SealKey

MAX_QUESTION: Final = 4096  # bytes
MAX_CARD: Final = 1 << 17
MAX_UNREAD: Final = 1 << 22
AT_ONCE: Final = 32  # questions that wait for their answer
PATIENCE: Final = 120.0  # seconds until an answer has to come: an input of any size is hashed and written in it
KEYS_KEPT: Final = 256

log = structlog.get_logger()

Report = Mapping[str, Any]


class DaemonEnd:
    """One connection of an exchange, as the daemon sees it. `on_report` gets what the exchange says of itself."""

    def __init__(
        self,
        desk: Desk,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        terms: Mapping[str, Any],
        on_report: Callable[[Report], None],
    ) -> None:
        self._desk = desk
        self._reader = reader
        self._writer = writer
        self._terms = terms
        self._on_report = on_report
        self._answering: set[asyncio.Task[None]] = set()
        self.greeted = asyncio.Event()

    async def run(self) -> None:
        """Answer until the exchange hangs up; DependencyError when it says what no exchange would."""
        try:
            while line := await self._reader.readline():
                await self._heard(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DependencyError(f"the exchange says what cannot be read: {one_line(error, 100)}") from None
        except ConnectionError:
            pass
        finally:
            for task in self._answering:
                task.cancel()
            self._writer.close()

    def show(self, cards: Iterable[Card]) -> None:
        """Tell the exchange what has become of tasks."""
        for card in cards:
            self._send({"card": card.plain()})

    async def synced(self, cards: Iterable[Card]) -> None:
        """All that there is to know at the beginning."""
        self._send({"terms": dict(self._terms)})
        for card in cards:
            self._send({"card": card.plain()})
            await self._writer.drain()
        self._send({"synced": True})

    async def _heard(self, line: bytes) -> None:
        said = json.loads(line)
        if "hello" in said:
            self.greeted.set()
        elif "report" in said:
            self._on_report({str(key): value for key, value in said["report"].items()})
        else:
            number, question = int(said["n"]), str(said["ask"])
            while len(self._answering) >= AT_ONCE:
                await asyncio.wait(self._answering, return_when=asyncio.FIRST_COMPLETED)
            task = asyncio.create_task(self._reply(number, question, said))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _reply(self, number: int, question: str, said: Mapping[str, Any]) -> None:
        try:
            self._send({"n": number, "ok": await self._answer(question, said)})
        except RefusedError as error:
            self._send({"n": number, "refused": [error.status, one_line(error)]})
        except AihdError as error:
            self._send({"n": number, "refused": [503, one_line(error)]})
        except (ValueError, KeyError, TypeError):
            self._send({"n": number, "refused": [400, "the question cannot be read"]})
        except Exception as error:
            # A defect of ours: shown in the log, and the exchange has an answer.
            log.exception("defect", what=question[:40])
            self._send({"n": number, "refused": [500, type(error).__name__]})

    async def _answer(self, question: str, said: Mapping[str, Any]) -> dict[str, Any]:
        task_id = bytes.fromhex(said["task"])
        if question == "input key":
            return {"key": (await self._desk.input_key(task_id, bytes.fromhex(said["ephemeral"]))).hex()}
        if question == "output key":
            key = await self._desk.output_key(task_id, bytes.fromhex(said["digest"]))
            return {"ephemeral": key.ephemeral.hex(), "chunks": key.chunks.hex()}
        if question == "take":
            return {"fresh": await self._desk.take(task_id, str(said["name"]))}
        raise RefusedError(400, "no such question")

    def _send(self, message: Mapping[str, Any]) -> None:
        """What the exchange does not read is not kept for it."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self._writer.transport.abort()
        with suppress(ConnectionError, RuntimeError):
            self._writer.write(json.dumps(message).encode() + b"\n")


class ExchangeEnd:
    """The `Clerk` of an exchange: cards as the daemon last sent them, and questions over the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._cards: dict[bytes, Card] = {}
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._keys: dict[tuple[bytes, bytes], SealKey] = {}
        self.terms: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Until the daemon hangs up."""
        self._send({"hello": 1})
        try:
            while line := await self._reader.readline():
                self._heard(json.loads(line))
        except ConnectionError:
            pass
        finally:
            self._writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(RefusedError(503, "the daemon is away: try again later"))

    def report(self, facts: Report) -> None:
        """Tell the daemon that this exchange lives, and how it does."""
        self._send({"report": dict(facts)})

    def card(self, task_id: bytes) -> Card | None:
        return self._cards.get(task_id)

    async def input_key(self, task_id: bytes, ephemeral: bytes) -> bytes:
        answer = await self._ask("input key", task_id, ephemeral=ephemeral.hex())
        return bytes.fromhex(answer["key"])

    async def output_key(self, task_id: bytes, digest: bytes) -> SealKey:
        """Asked for once as long as the task's card stays as it is: anybody may ask for an output, again and again."""
        if (task_id, digest) not in self._keys:
            answer = await self._ask("output key", task_id, digest=digest.hex())
            if len(self._keys) >= KEYS_KEPT:
                del self._keys[next(iter(self._keys))]
            self._keys[task_id, digest] = SealKey(bytes.fromhex(answer["ephemeral"]), bytes.fromhex(answer["chunks"]))
        return self._keys[task_id, digest]

    async def take(self, task_id: bytes, name: str) -> bool:
        return bool((await self._ask("take", task_id, name=name))["fresh"])

    def _heard(self, said: dict[str, Any]) -> None:
        if "card" in said:
            card = Card.read(said["card"])
            self._cards[card.id] = card
            for key in [key for key in self._keys if key[0] == card.id]:
                del self._keys[key]
        elif "terms" in said:
            self.terms.set_result(said["terms"])
        elif "synced" in said:
            self.synced.set()
        elif (future := self._waiting.pop(int(said["n"]), None)) is not None and not future.done():
            if "ok" in said:
                future.set_result(said["ok"])
            else:
                future.set_exception(RefusedError(*said["refused"]))

    async def _ask(self, question: str, task_id: bytes, **what: str) -> dict[str, Any]:
        if len(self._waiting) >= 4 * AT_ONCE or self._writer.is_closing():
            raise RefusedError(503, "the daemon is busy or away: try again later")
        self._number += 1
        number = self._number
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._send({"n": number, "ask": question, "task": task_id.hex(), **what})
        try:
            async with asyncio.timeout(PATIENCE):
                return await future
        except TimeoutError:
            raise RefusedError(503, "the daemon gives no answer: try again later") from None
        finally:
            self._waiting.pop(number, None)

    def _send(self, message: Mapping[str, Any]) -> None:
        with suppress(ConnectionError, RuntimeError):
            self._writer.write(json.dumps(message).encode() + b"\n")
