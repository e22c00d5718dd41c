"""The part of a node's REST API that takes transactions: each goes to every node, and what each says of it is put into a class."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from ergo_lib_python.transaction import Transaction

from aihd.chain.http import LARGE, Ask, JsonSource, Server, SourceError
from aihd.core.sending import TAKEN, Answer, together
from aihd.errors import one_line
from aihd.protocol.blocks import Mined, transaction_of_json
from aihd.protocol.box import ForgedError
from aihd.protocol.shapes import ShapeError, sequence

PATIENCE: Final = 10.0  # seconds
GRACE: Final = 2.0  # seconds that other nodes still have once one has taken a transaction
WAITING_PAGE: Final = 200  # transactions of the mempool in one answer
_MEMPOOL: Final = "the mempool"

# A node that has not seen the newest block judges scripts by another HEIGHT.
_BY_HEIGHT: Final = "Scripts of all transaction inputs should pass verification"
# Texts change between versions, so parts of them are matched; the first hit counts. What stands here was heard from nodes of version 6.0.4.
_ANSWERS: Final = (
    ("already in the mempool", Answer.KNOWN),
    ("Double spending attempt", Answer.DOUBLE_SPEND),
    ("not all utxos in place yet", Answer.MISSING_INPUT),
    ("should be in UTXO", Answer.MISSING_INPUT),
    ("Missing inputs", Answer.MISSING_INPUT),
    ("Min fee not met", Answer.FEE),
    ("invalidated earlier", Answer.SPOILT),
    ("the mempool is full", Answer.FEE),
    ("being full", Answer.FEE),
    ("not exceeding block height", Answer.EARLY),  # a node that has fallen behind says so of what is valid elsewhere
    (_BY_HEIGHT, Answer.REFUSED),
    ("minValuePerByte", Answer.REFUSED),
    ("reation height", Answer.REFUSED),
    ("creationHeight", Answer.REFUSED),
    ("too large size", Answer.REFUSED),
    ("cost exceeds limit", Answer.REFUSED),
    ("too high cost", Answer.REFUSED),
    ("maxBlockCost", Answer.REFUSED),
    ("Amount of Ergs in inputs should be equal", Answer.REFUSED),
    ("should not exceed", Answer.REFUSED),  # amounts of tokens, sums, sizes, counts
    ("should not be negative", Answer.REFUSED),
    ("should be positive", Answer.REFUSED),
    ("no duplicate inputs", Answer.REFUSED),
    ("should have at least one", Answer.REFUSED),
    ("EIP-27", Answer.REFUSED),
    ("The request content was malformed", Answer.REFUSED),
    ("Can not parse transaction bytes", Answer.REFUSED),
)


def classify(detail: str) -> Answer:
    """The class of a node's refusal; UNKNOWN when the words are not in the table."""
    return next((answer for text, answer in _ANSWERS if text in detail), Answer.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node said to a transaction, in its own words (cut). `sent`: it was handed over, not only asked for."""

    url: str
    answer: Answer
    detail: str = ""
    sent: bool = True


@dataclass(frozen=True, slots=True)
class Submitted:
    """The verdicts of all nodes on a transaction, and what they say together."""

    verdicts: tuple[Verdict, ...]

    @property
    def answer(self) -> Answer:
        return together(verdict.answer for verdict in self.verdicts)

    @property
    def detail(self) -> str:
        """The words of the first node whose answer counts."""
        return next((verdict.detail for verdict in self.verdicts if verdict.answer is self.answer), "")

    @property
    def sent(self) -> bool:
        return any(verdict.sent for verdict in self.verdicts)


class Submission(JsonSource):
    """Nodes that transactions are handed to."""

    async def submit(self, tx: Transaction, *, again: bool = False) -> Submitted:
        """Hand a signed transaction to every node, once; `again`: to those that do not have it.

        A time-out or an unreadable answer is UNKNOWN, never a failure. Nodes that rest are asked too, but not waited for.
        """
        body = json.loads(tx.json())
        height = max(box.creation_height for box in tx.outputs)
        asked = {
            asyncio.ensure_future(self._handed(server, str(tx.id), body, height, again)): server
            for server in self.servers
        }
        try:
            await _heard({task for task, server in asked.items() if not server.rests} or set(asked))
        finally:
            for task in asked:
                task.cancel()
            if asked:
                await asyncio.wait(asked)
        silent = (Verdict(server.url, Answer.UNKNOWN, "it was not waited for") for server in asked.values())
        return Submitted(
            tuple(quiet if task.cancelled() else task.result() for task, quiet in zip(asked, silent, strict=True))
        )

    async def _handed(self, server: Server, tx_id: str, body: Any, height: int, again: bool) -> Verdict:
        """One node's verdict. `height` is that of the newest block which the transaction was made after."""
        try:
            if again and await self._has(server, tx_id):
                return Verdict(server.url, Answer.KNOWN, sent=False)
            status, answer = await self.call_one(server, _ask("/transactions", "POST", body))
            if status == 200:
                return Verdict(server.url, Answer.ACCEPTED)
            detail = _detail(answer)
            early = _BY_HEIGHT in detail and await self._height_of(server) < height
        except SourceError as error:
            never = isinstance(error.__cause__, aiohttp.ClientConnectorError)
            return Verdict(server.url, Answer.UNREACHED if never else Answer.UNKNOWN, one_line(error), sent=not never)
        found = Answer.EARLY if early else Answer.UNKNOWN if status >= 500 else classify(detail)
        return Verdict(server.url, found, one_line(Exception(detail)))

    async def _has(self, server: Server, tx_id: str) -> bool:
        status, _ = await self.call_one(server, _ask(f"/transactions/unconfirmed/byTransactionId/{tx_id}"))
        return status == 200

    async def _height_of(self, server: Server) -> int:
        _, info = await self.call_one(server, _ask("/info"))
        height = info.get("fullHeight") if isinstance(info, dict) else None
        return height if isinstance(height, int) else 0

    async def waiting(self, tree: bytes) -> list[Mined]:
        """Transactions of the mempool that spend or make boxes under a script, with such outputs; what cannot be read is left out."""
        ask: Ask[list[Mined]] = Ask(
            path="/transactions/unconfirmed/byErgoTree",
            parse=lambda raw: [tx for item in sequence(raw) if (tx := _waiting(item, tree)) is not None],
            about=_MEMPOOL,
            method="POST",
            params={"limit": WAITING_PAGE},
            body=tree.hex(),
            most=LARGE,
        )
        return await self.ask(ask) or []


async def _heard(asked: set[asyncio.Future[Verdict]]) -> None:
    """Wait for all of them, for a little while only once one has taken the transaction."""
    waited, has = set(asked), False
    while waited:
        done, waited = await asyncio.wait(waited, timeout=GRACE if has else None, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return
        has = has or any(task.result().answer in TAKEN for task in done)


def _ask(path: str, method: str = "GET", body: Any = None) -> Ask[Any]:
    return Ask(
        path=path, parse=lambda raw: raw, about=_MEMPOOL, method=method, body=body, most=LARGE, patience=PATIENCE
    )


def _waiting(raw: Any, tree: bytes) -> Mined | None:
    try:
        found = transaction_of_json(raw, {tree.hex(): tree})
    except (ShapeError, ForgedError):
        return None
    return found if found.proved else None


def _detail(answer: Any) -> str:
    """A node's reason for a refusal, as text."""
    return str(answer.get("detail") or answer.get("reason") or "") if isinstance(answer, dict) else str(answer)
