"""The daemon's side of the exchange: it says which tasks there are, gives one key for one transfer, and takes uploads in.

The exchange is a process of its own without the wallet's key. What it may ask for is bounded here: the key of one upload for a task that
awaits its input, and the key that seals one output for the task's client once `may_serve` says so. Neither opens anything else, and
nothing that it says is believed: an upload counts when the daemon has hashed it itself.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from aihd.core.task import Stage, State, Task, Where
from aihd.errors import AihdError, UsageError, one_line
from aihd.execution import seal
from aihd.execution.cards import Card, RefusedError
from aihd.execution.failures import LABELS, failure_of
from aihd.execution.inputs import InputStore
from aihd.execution.seal import Agree, Sealer, SealError, SealKey

NOTE_BLOCK: Final = 256  # bytes: a note's length says nothing about what it quotes
NOTES_KEPT: Final = 1024
_NAME: Final = re.compile(r"[0-9a-f]{64}\.[A-Za-z0-9_]{1,32}")
_HAVE_INPUT: Final = frozenset({Stage.INPUT, Stage.RUNNING, Stage.DONE})


class TaskBook(Protocol):
    """Where tasks are looked up."""

    def find(self, task_id: bytes) -> Task | None: ...


@dataclass(frozen=True, slots=True)
class Keys:
    """The node's key as the desk needs it: its public half (33 bytes), `agree` with the secret one, and the chain's genesis id."""

    public_key: bytes
    agree: Agree
    genesis_id: bytes


def executed(task: Task) -> bool:
    """The rule by which an output is given out: there is one."""
    return task.output_hash is not None


class Desk:
    """Answers for the tasks in a book; `on_input` is called with the task id once an input is stored and matches."""

    def __init__(
        self,
        book: TaskBook,
        inputs: InputStore,
        inbox: Path,
        keys: Keys,
        on_input: Callable[[bytes], None],
        *,
        may_serve: Callable[[Task], bool] = executed,
    ) -> None:
        self._book = book
        self._inputs = inputs
        self._inbox = inbox
        self._keys = keys
        self._on_input = on_input
        self._may_serve = may_serve
        self._notes: OrderedDict[tuple[bytes, str], bytes] = OrderedDict()

    def card(self, task_id: bytes) -> Card | None:
        """What the exchange may know of a task."""
        task = self._book.find(task_id)
        return None if task is None else self.card_of(task)

    def card_of(self, task: Task) -> Card:
        served = self._may_serve(task)
        return Card(
            id=task.id,
            state=str(task.state),
            client=task.client,
            commitment=task.input_commitment,
            takes_input=task.state is State.AWAITING_INPUT,
            has_input=task.stage in _HAVE_INPUT,
            output_hash=task.output_hash or b"" if served else b"",
            receipt_cid=task.receipt_cid or b"" if served else b"",
            code=LABELS[failure_of(task.note)] if task.stage is Stage.BROKEN else "",
            note=self._sealed_note(task),
        )

    def cards(self, tasks: Iterable[Task]) -> Iterable[Card]:
        """Those of the tasks that clients may ask for: not those that others got."""
        return (self.card_of(task) for task in tasks if not (task.final and task.where is Where.LOST))

    def recover(self, tasks: Iterable[Task]) -> None:
        """Note the inputs that lie here whole though the journal does not say so: a full disk, or a crash, came between the two."""
        for task in tasks:
            if task.state is State.AWAITING_INPUT and self._inputs.get(task.id) is not None:
                self._on_input(task.id)

    async def input_key(self, task_id: bytes, ephemeral: bytes) -> bytes:
        task = self._task(task_id)
        if task.state is not State.AWAITING_INPUT:
            raise takes_none(str(task.state))
        try:
            return seal.chunk_key(self._keys.agree, self._keys.public_key, seal.input_context(task.id), ephemeral)
        except SealError as error:
            raise RefusedError(400, one_line(error)) from None

    async def output_key(self, task_id: bytes, digest: bytes) -> SealKey:
        task = self._task(task_id)
        if task.output_hash != digest or not self._may_serve(task):
            raise RefusedError(404, "this node gives out no output with this hash for this task")
        keys, context = self._keys, seal.output_context(task.id, digest)
        return seal.seal_key(task.client, context, seal.derived_key(keys.public_key, keys.agree, task.client, context))

    async def take(self, task_id: bytes, name: str) -> bool:
        """Take an upload in, if it is what the task's box commits to; it is gone from the inbox afterwards."""
        if _NAME.fullmatch(name) is None or not name.startswith(task_id.hex()):
            raise RefusedError(400, f"upload {name[:80]!r}: expected the task id and a word")
        path = self._inbox / name
        try:
            return await self._take(self._task(task_id), path)
        except UsageError as error:
            raise RefusedError(400, one_line(error)) from None
        except AihdError as error:
            raise error if isinstance(error, RefusedError) else RefusedError(503, one_line(error)) from None
        finally:
            path.unlink(missing_ok=True)

    async def _take(self, task: Task, path: Path) -> bool:
        fresh = self._inputs.get(task.id) is None
        if fresh:
            if task.state is not State.AWAITING_INPUT:
                raise takes_none(str(task.state))
            with _opened(path) as file:
                await self._inputs.copy(task.id, task.input_commitment, file)
            task = self._task(task.id)  # its time may have run out on the way
        if task.state is State.AWAITING_INPUT:
            # Also when it lay there already: a crash may have come between the disk and the journal.
            self._on_input(task.id)
        elif task.stage is Stage.BROKEN:
            raise takes_none(str(task.state))
        return fresh

    def _task(self, task_id: bytes) -> Task:
        task = self._book.find(task_id)
        if task is None:
            raise RefusedError(404, "this node does not work on a task with this id")
        return task

    def _sealed_note(self, task: Task) -> bytes:
        """The note for the client's eyes: made once, for sealing it takes time."""
        if not task.note:
            return b""
        key = (task.id, task.note)
        if key not in self._notes:
            try:
                self._notes[key] = note_for(task.client, task.id, task.note)
            except SealError:
                return b""  # the client's key is none: nobody could read it
            if len(self._notes) > NOTES_KEPT:
                self._notes.popitem(last=False)
        return self._notes[key]


def note_for(client: bytes, task_id: bytes, note: str) -> bytes:
    """A note sealed for a client's key."""
    text = note.encode()[: 16 * NOTE_BLOCK]
    padded = text + b"\0" * (-len(text) % NOTE_BLOCK)
    return Sealer(seal.seal_key(client, seal.note_context(task_id), seal.fresh_key())).small(padded)


def takes_none(state: str) -> RefusedError:
    """The refusal of an upload that comes at the wrong time."""
    return RefusedError(409, f"the task is {state}, it takes no input now")


def _opened(path: Path) -> BinaryIO:
    """A file of the inbox, which has to be one: no link, no pipe."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RefusedError(503, f"the upload is gone ({error.strerror}): send it again") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise RefusedError(400, "the upload is not a file")
    return os.fdopen(handle, "rb")
