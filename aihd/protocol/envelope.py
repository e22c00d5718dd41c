"""The one canonical encoding of a task's input: configuration and input bytes together.

`envelope = length (4 bytes, big endian) ‖ configuration ‖ input`, where the configuration is a JSON object of strings (the
environment that the service sees), sorted by key, without spaces, UTF-8. An upload is `salt (32) ‖ envelope`: its hash is the
commitment in the task box, so only somebody who knows the preimage can deliver it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aihd.errors import UsageError

SALT_SIZE: Final = 32
MAX_CONFIG: Final = 64 * 1024
HEADER_SIZE: Final = SALT_SIZE + 4


def canonical_config(config: Mapping[str, str]) -> bytes:
    """The bytes of a configuration; UsageError when a name is empty, a text has no UTF-8 or the whole is over 64 KiB."""
    if any(not name for name in config):
        raise UsageError("config: a variable has an empty name")
    try:
        raw = json.dumps(dict(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError("config: a text holds a lone surrogate, which has no UTF-8") from None
    if len(raw) > MAX_CONFIG:
        raise UsageError(f"config: {len(raw)} bytes, at most {MAX_CONFIG} fit")
    return raw


def encode(config: Mapping[str, str], chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The envelope as a stream of chunks."""
    raw = canonical_config(config)
    yield len(raw).to_bytes(4, "big") + raw
    yield from chunks


def config_size(header: bytes) -> int:
    """Size of the configuration that follows `salt ‖ length` (36 bytes); UsageError when it is over 64 KiB."""
    size = int.from_bytes(header[SALT_SIZE:HEADER_SIZE], "big")
    if len(header) != HEADER_SIZE or size > MAX_CONFIG:
        raise UsageError(f"input: the configuration claims {size} bytes, at most {MAX_CONFIG} are allowed")
    return size


def decode_config(raw: bytes) -> dict[str, str]:
    """The configuration from its bytes; UsageError unless they are exactly the canonical encoding of an object of strings."""
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"input: the configuration is not JSON: {error}") from None
    if not isinstance(config, dict) or not all(isinstance(value, str) for value in config.values()):
        raise UsageError("input: the configuration must be a JSON object whose values are strings")
    if canonical_config(config) != raw:
        raise UsageError("input: the configuration is not in its canonical encoding (sorted keys, no spaces, UTF-8)")
    return config
