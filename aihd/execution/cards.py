"""What the exchange knows of a task: a card that the daemon fills in, with nothing on it that strangers may not know.

What a service said about an input may quote it, so the note is sealed for the client; what everybody may know is a code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self

from aihd.errors import AihdError
from aihd.execution.seal import SealKey

_BYTES = frozenset({"id", "client", "commitment", "output_hash", "receipt_cid", "note"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A task for the exchange; hashes, ids and keys are raw bytes, `note` is sealed for the client (empty when there is nothing to say).

    `output_hash` and `receipt_cid` are there once the output may be given out. `code` is the kind of failure, or nothing.
    """

    id: bytes
    state: str
    client: bytes
    commitment: bytes
    takes_input: bool
    has_input: bool
    output_hash: bytes = b""
    receipt_cid: bytes = b""
    code: str = ""
    note: bytes = b""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {key: value.hex() if isinstance(value, bytes) else value for key, value in asdict(self).items()}

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """The card that `plain` was made of."""
        known = {field.name for field in fields(cls)} & data.keys()
        values: dict[str, Any] = {key: bytes.fromhex(data[key]) if key in _BYTES else data[key] for key in known}
        return cls(**values)


class RefusedError(AihdError):
    """What was asked for is not to be had; `status` is that of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Clerk(Protocol):
    """Who answers the exchange's questions: the daemon's `Desk`, or a line to it. All but `card` raise RefusedError."""

    def card(self, task_id: bytes) -> Card | None:
        """What is known of a task."""

    async def input_key(self, task_id: bytes, ephemeral: bytes) -> bytes:
        """The key of the chunks of one upload, for a task that awaits its input."""

    async def output_key(self, task_id: bytes, digest: bytes) -> SealKey:
        """What seals the output of a task for its client, once it may be given out."""

    async def take(self, task_id: bytes, name: str) -> bool:
        """The daemon takes an upload out of the inbox; False when it had the input already."""
