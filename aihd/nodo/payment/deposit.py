"""What ties a task to one of nodo's deposit tokens: the salt of its input.

A payment's input is small and travels in the escrow's own locator. Its salt is the hash of the token, and every input's commitment
covers its salt: so a task pays for exactly one token, the chain shows for which, and does not show the token.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aihd.errors import UsageError
from aihd.execution.inputs import DATA_LOCATOR, data_locator
from aihd.protocol import envelope
from aihd.protocol.boxes import TaskEscrow
from aihd.protocol.constants import MAX_LOCATOR
from aihd.protocol.hashes import blake2b256, input_commitment

_PREFIX: Final = b"aih:deposit:1"
MAX_UPLOAD: Final = (MAX_LOCATOR - len(DATA_LOCATOR)) // 4 * 3
"""Bytes of salt, configuration and input that fit into a locator."""


def salt_of(token: str) -> bytes:
    """The salt (32 bytes) of the input of the task that pays for a deposit token."""
    return blake2b256(_PREFIX, token.encode())


@dataclass(frozen=True, slots=True)
class PaidInput:
    """The input of a payment: the escrow's locator, and the commitment to what it carries."""

    locator: str
    commitment: bytes


def paid_input(token: str, path: Path | None, environment: Mapping[str, str]) -> PaidInput:
    """The input of the task that pays for a token; UsageError when the file cannot be read or does not fit into a locator."""
    try:
        content = path.read_bytes() if path else b""
    except OSError as error:
        raise UsageError(f"input {path}: {error.strerror}") from None
    body = b"".join(envelope.encode(environment, [content]))
    upload = salt_of(token) + body
    if len(upload) > MAX_UPLOAD:
        raise UsageError(
            f"input and environment of a payment travel in its escrow: {len(upload)} bytes with their frame, at most {MAX_UPLOAD} fit"
        )
    return PaidInput(data_locator(upload), input_commitment(salt_of(token), [body]))


def pays_for(task: TaskEscrow, token: str) -> bool:
    """Whether a task pays for this token: its locator carries an input with the token's salt, and its commitment is that input's."""
    if not task.locator.startswith(DATA_LOCATOR):
        return False
    try:
        upload = base64.b64decode(task.locator[len(DATA_LOCATOR) :], validate=True)
    except ValueError:
        return False
    salt, body = upload[: envelope.SALT_SIZE], upload[envelope.SALT_SIZE :]
    return salt == salt_of(token) and task.input_commitment == input_commitment(salt, [body])
