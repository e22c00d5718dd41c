"""The node's public door: clients bring inputs and take outputs and receipts.

Only the client of a task can make an upload, for it is signed with the client's key and has to be the preimage of the
commitment in the task box; only the client can read the output, for it is sealed for that key. Routes:

    PUT /aih/1/tasks/{task id}/input            salt ‖ envelope, sealed for the node; AIH-Signature: hex
    GET /aih/1/tasks/{task id}                  state, code of a failure, output hash, receipt CID; a note, sealed for the client
    GET /aih/1/outputs/{sha3-256}?task={id}     the output, sealed for the client; range requests served
    GET /aih/1/receipts/{CID}                   the full receipt

It runs in a process of its own (aihd/execution/exchange_process.py), holds no key, and asks the daemon by a `Clerk`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from aihd.errors import AihdError, UsageError, one_line
from aihd.execution import seal
from aihd.execution.auth import SIGNATURE_HEADER, signed, upload_message
from aihd.execution.cards import Card, Clerk, RefusedError
from aihd.execution.inbox import Inbox
from aihd.execution.seal import Sealer, SealError
from aihd.execution.sealed_file import give_sealed
from aihd.ops.listener import Listener

PREFIX: Final = "/aih/1"
PIECE: Final = 1 << 16
MAX_RECEIPT: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where outputs lie under their hash, and receipts under their CID."""

    content: Path
    receipts: Path


def exchange_app(
    clerk: Clerk, inbox: Inbox, folders: Folders, genesis_id: bytes, listener: Listener
) -> web.Application:
    """The application, to be served by `listener`."""
    door = _Door(clerk, inbox, folders, genesis_id, listener)
    app = web.Application(client_max_size=0, middlewares=[listener.middleware(), _errors_as_json])
    app.router.add_put(f"{PREFIX}/tasks/{{id}}/input", door.take_input, expect_handler=door.expect)
    app.router.add_get(f"{PREFIX}/tasks/{{id}}", door.show_task)
    app.router.add_get(f"{PREFIX}/outputs/{{digest}}", door.give_output)
    app.router.add_get(f"{PREFIX}/receipts/{{cid}}", door.give_receipt)
    return app


class _Door:
    def __init__(self, clerk: Clerk, inbox: Inbox, folders: Folders, genesis_id: bytes, listener: Listener) -> None:
        self._clerk = clerk
        self._inbox = inbox
        self._folders = folders
        self._genesis_id = genesis_id
        self._listener = listener

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Who asks before he sends is told to go on once his upload may come, or why it may not."""

        try:
            self._check_client(self._card(request), request)
        except AihdError as error:
            return _refusal(error)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
        return None

    async def take_input(self, request: web.Request) -> web.Response:
        card = self._card(request)
        self._check_client(card, request)
        if card.has_input:
            return web.json_response({"stored": True})
        if not card.takes_input:
            raise RefusedError(409, f"the task is {card.state}, it takes no input now")
        peer = self._listener.peer_of(request)
        peer.trusted = True
        async with self._inbox.receive(card.id, card.commitment, self._plain(card, request)) as name:
            with peer.ours():
                fresh = await self._clerk.take(card.id, name)
        return web.json_response({"stored": True}, status=201 if fresh else 200)

    async def _plain(self, card: Card, request: web.Request) -> AsyncIterator[bytes]:
        async def key_of(ephemeral: bytes) -> bytes:
            with self._listener.peer_of(request).ours():
                return await self._clerk.input_key(card.id, ephemeral)

        try:
            async for plain in seal.open_with(key_of, request.content.iter_chunked(PIECE)):
                yield plain
        except SealError as error:
            raise RefusedError(400, one_line(error)) from None

    def _check_client(self, card: Card, request: web.Request) -> None:
        """Before a byte of the body is read, and of what strangers send none is."""
        if request.content_type != seal.CONTENT_TYPE or "Content-Encoding" in request.headers:
            raise RefusedError(415, f"an upload has to be sealed, and nothing else: {seal.CONTENT_TYPE}")
        if (request.content_length or 0) > seal.sealed_size(self._inbox.limit):
            raise RefusedError(413, f"input: it is larger than the {self._inbox.limit} bytes that this node takes")
        try:
            signature = bytes.fromhex(request.headers.get(SIGNATURE_HEADER, ""))
        except ValueError:
            signature = b""
        if not signed(card.client, upload_message(self._genesis_id, card.id), signature):
            raise RefusedError(403, f"{SIGNATURE_HEADER} has to be the task's client's signature over this upload")

    async def show_task(self, request: web.Request) -> web.Response:
        card = self._card(request)
        answer: dict[str, Any] = {
            "id": card.id.hex(),
            "state": card.state,
            "code": card.code,
            "output_hash": card.output_hash.hex() or None,
            "receipt_cid": card.receipt_cid.hex() or None,
            "note": card.note.hex() or None,
        }
        return web.json_response(answer)

    async def give_output(self, request: web.Request) -> web.StreamResponse:
        digest = _hex(request.match_info["digest"], 32, "output hash")
        card = self._clerk.card(_hex(request.query.get("task", ""), 32, "task"))
        if card is not None and not card.output_hash:
            raise RefusedError(409, "not yet: an output is given out once its release cannot be lost any more")
        # Two tasks may have the same output and not the same client.
        if card is None or card.output_hash != digest:
            raise RefusedError(404, "this node gives out no output with this hash for this task")
        peer = self._listener.peer_of(request)
        with peer.ours():
            key = await self._clerk.output_key(card.id, digest)
        path = self._folders.content / digest.hex()
        if not path.is_file():
            raise RefusedError(404, "no output with this hash is kept here")
        return await give_sealed(request, path, Sealer(key), peer)

    async def give_receipt(self, request: web.Request) -> web.StreamResponse:
        path = self._folders.receipts / _hex(request.match_info["cid"], 38, "receipt CID").hex()
        if not path.is_file():
            raise RefusedError(404, "no receipt with this CID is kept here")
        with path.open("rb") as file:
            return web.Response(body=file.read(MAX_RECEIPT), content_type="application/json")

    def _card(self, request: web.Request) -> Card:
        card = self._clerk.card(_hex(request.match_info["id"], 32, "task id"))
        if card is None:
            raise RefusedError(404, "this node does not work on a task with this id")
        return card


def _hex(text: str, size: int, name: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise UsageError(f"{name} {text[:80]!r}: expected {size} bytes in hex")
    return value


def _refusal(error: AihdError) -> web.Response:
    status = error.status if isinstance(error, RefusedError) else 400 if isinstance(error, UsageError) else 503
    return web.json_response({"error": one_line(error)}, status=status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except AihdError as error:
        return _refusal(error)
    except web.HTTPException as error:
        extra = {name: error.headers[name] for name in ("Allow", "Content-Range") if name in error.headers}
        return web.json_response({"error": error.text or error.reason}, status=error.status, headers=extra)
    return response
