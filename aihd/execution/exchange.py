"""The node's public door: clients bring inputs and take outputs and receipts.

Only the client of a task can make an upload, for it is signed with the client's key and has to be the preimage of the
commitment in the task box; only the client can read the output, for it is sealed for that key. Routes:

    PUT /aih/1/tasks/{task id}/input            salt ‖ envelope, sealed for the node; AIH-Signature: hex
    GET /aih/1/tasks/{task id}                  state, output hash, receipt CID
    GET /aih/1/outputs/{sha3-256}?task={id}     the output, sealed for the client; range requests served
    GET /aih/1/receipts/{CID}                   the full receipt

Without the node's `Keys` nothing is signed or sealed: uploads and outputs are plain, for whoever knows their hashes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from aihd.core.task import Stage, State, Task
from aihd.errors import AihdError, UsageError, one_line
from aihd.execution import seal
from aihd.execution.auth import SIGNATURE_HEADER, signed, upload_message
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.execution.seal import Agree, Sealer, SealError
from aihd.execution.sealed_file import give_sealed

PREFIX: Final = "/aih/1"
CHUNK: Final = 1 << 18
MAX_UPLOADS: Final = 8  # at the same time, for one task


class TaskBook(Protocol):
    """Where tasks are looked up."""

    def find(self, task_id: bytes) -> Task | None: ...


@dataclass(frozen=True, slots=True)
class Keys:
    """The node's key as the door needs it: its public half (33 bytes), `agree` with the secret one, and the chain's genesis id."""

    public_key: bytes
    agree: Agree
    genesis_id: bytes


def exchange_app(
    book: TaskBook,
    inputs: InputStore,
    content: ContentStore,
    receipts: Path,
    on_input: Callable[[bytes], None],
    keys: Keys | None = None,
) -> web.Application:
    """The application; `on_input` is called with the task id once an input is stored and matches."""
    door = _Door(book, inputs, content, receipts, on_input, keys)
    app = web.Application(client_max_size=0, middlewares=[_errors_as_json])
    app.router.add_put(f"{PREFIX}/tasks/{{id}}/input", door.take_input)
    app.router.add_get(f"{PREFIX}/tasks/{{id}}", door.show_task)
    app.router.add_get(f"{PREFIX}/outputs/{{digest}}", door.give_output)
    app.router.add_get(f"{PREFIX}/receipts/{{cid}}", door.give_receipt)
    return app


class _Door:
    def __init__(
        self,
        book: TaskBook,
        inputs: InputStore,
        content: ContentStore,
        receipts: Path,
        on_input: Callable[[bytes], None],
        keys: Keys | None,
    ) -> None:
        self._book = book
        self._inputs = inputs
        self._content = content
        self._receipts = receipts
        self._on_input = on_input
        self._keys = keys
        self._receiving: Counter[bytes] = Counter()

    async def take_input(self, request: web.Request) -> web.Response:
        task = self._task(request)
        self._check_client(task, request)
        fresh = self._inputs.get(task.id) is None
        if fresh:
            await self._receive(task, request)
            task = self._task(request)  # its time may have run out on the way
        if task.state is State.AWAITING_INPUT:
            # Also when it lay there already: a crash may have come between the disk and the journal.
            self._on_input(task.id)
        elif task.stage is Stage.BROKEN:
            raise _takes_none(task)
        return web.json_response({"stored": True}, status=201 if fresh else 200)

    async def _receive(self, task: Task, request: web.Request) -> None:
        """Uploads race: one that dribbles, or replays the client's signature, must not keep the client's out."""
        if task.state is not State.AWAITING_INPUT:
            raise _takes_none(task)
        if self._receiving[task.id] >= MAX_UPLOADS:
            raise web.HTTPConflict(text=f"{MAX_UPLOADS} other uploads for this task are under way")
        self._receiving[task.id] += 1
        try:
            await self._inputs.receive(task.id, task.input_commitment, self._plain(task, request))
        except SealError as error:
            raise UsageError(one_line(error)) from None
        finally:
            self._receiving[task.id] -= 1
            self._receiving += Counter()  # forgets those at zero

    def _plain(self, task: Task, request: web.Request) -> AsyncIterable[bytes]:
        pieces = request.content.iter_chunked(CHUNK)
        if self._keys is None:
            return pieces
        return seal.unseal(self._keys.agree, self._keys.public_key, seal.input_context(task.id), pieces)

    def _check_client(self, task: Task, request: web.Request) -> None:
        """Before a byte of the body is read, and of what strangers send none is."""
        if self._keys is None:
            return
        if request.content_type != seal.CONTENT_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"an upload has to be sealed: {seal.CONTENT_TYPE}")
        try:
            signature = bytes.fromhex(request.headers.get(SIGNATURE_HEADER, ""))
        except ValueError:
            signature = b""
        if not signed(task.client, upload_message(self._keys.genesis_id, task.id), signature):
            raise web.HTTPForbidden(text=f"{SIGNATURE_HEADER} has to be the task's client's signature over this upload")

    async def show_task(self, request: web.Request) -> web.Response:
        task = self._task(request)
        answer: dict[str, Any] = {
            "id": task.id.hex(),
            "state": str(task.state),
            "output_hash": task.output_hash.hex() if task.output_hash else None,
            "receipt_cid": task.receipt_cid.hex() if task.receipt_cid else None,
            "note": task.note,
        }
        return web.json_response(answer)

    async def give_output(self, request: web.Request) -> web.StreamResponse:
        digest = _hex(request.match_info["digest"], 32, "output hash")
        path = self._content.path(digest)
        task = self._reader(digest, request) if self._keys is not None else None
        if not path.is_file():
            raise web.HTTPNotFound(text="no output with this hash is kept here")
        if self._keys is not None and task is not None:
            context = seal.output_context(task.id, digest)
            key = seal.derived_key(self._keys.public_key, self._keys.agree, task.client, context)
            return await give_sealed(request, path, Sealer(task.client, context, key))
        return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})

    def _reader(self, digest: bytes, request: web.Request) -> Task:
        """The task whose client the output is sealed for: two tasks may have the same output and not the same client."""
        task = self._book.find(_hex(request.query.get("task", ""), 32, "task"))
        if task is None or task.output_hash != digest:
            raise web.HTTPNotFound(text="this node works on no task with this id and output")
        return task

    async def give_receipt(self, request: web.Request) -> web.StreamResponse:
        path = self._receipts / _hex(request.match_info["cid"], 38, "receipt CID").hex()
        if not path.is_file():
            raise web.HTTPNotFound(text="no receipt with this CID is kept here")
        return web.FileResponse(path, headers={"Content-Type": "application/json"})

    def _task(self, request: web.Request) -> Task:
        task = self._book.find(_hex(request.match_info["id"], 32, "task id"))
        if task is None:
            raise web.HTTPNotFound(text="this node does not work on a task with this id")
        return task


def _takes_none(task: Task) -> web.HTTPConflict:
    return web.HTTPConflict(text=f"the task is {task.state}, it takes no input now")


def _hex(text: str, size: int, name: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise UsageError(f"{name} {text[:80]!r}: expected {size} bytes in hex")
    return value


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except UsageError as error:
        return web.json_response({"error": one_line(error)}, status=400)
    except AihdError as error:
        return web.json_response({"error": one_line(error)}, status=503)
    except web.HTTPException as error:
        extra = {name: error.headers[name] for name in ("Allow", "Content-Range") if name in error.headers}
        return web.json_response({"error": error.text or error.reason}, status=error.status, headers=extra)
    return response
