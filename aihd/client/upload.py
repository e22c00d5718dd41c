"""What a client sends to a node: salt and envelope, hashed and streamed from a file of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final

from aihd.errors import UsageError
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment

CHUNK: Final = 1 << 20


def chunks_of(path: Path) -> Iterator[bytes]:
    """The file in pieces; UsageError when it cannot be read."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise UsageError(f"input {path}: {error.strerror}") from None


def commitment_of(salt: bytes, config: Mapping[str, str], path: Path) -> bytes:
    """The commitment to a file and a configuration."""
    return input_commitment(salt, envelope.encode(config, chunks_of(path)))


async def upload(salt: bytes, config: Mapping[str, str], path: Path) -> AsyncIterator[bytes]:
    """The body of an upload."""
    yield salt
    for chunk in envelope.encode(config, chunks_of(path)):
        yield chunk


def check_unchanged(salt: bytes, config: Mapping[str, str], path: Path, commitment: bytes, deadline: int) -> None:
    """UsageError when the input is not the one any more that the task's box commits to, or is gone: what to do, and until when."""
    try:
        same = commitment_of(salt, config, path) == commitment
        what = "was changed since the task was posted"
    except UsageError as error:
        same, what = False, str(error).removeprefix(f"input {path}: ")
    if not same:
        raise UsageError(
            f"input {path}: {what}. Put the file back as it was; if it does not reach the node in time, the payment comes back by itself, "
            f"or by `aihd task refund` after height {deadline}"
        )
