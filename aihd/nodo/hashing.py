"""The hash algorithms by which a nodo may name its services."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

HASH_BYTES: Final = 32
DEFAULT: Final = "sha3_256"
_READ: Final = 1 << 20

_NEW: Final[Mapping[str, Callable[[], Any]]] = {
    "sha3_256": hashlib.sha3_256,
    "sha256": hashlib.sha256,
    "shake_256": hashlib.shake_256,
    "blake2b": lambda: hashlib.blake2b(digest_size=HASH_BYTES),
}


def _digest(name: str) -> Callable[[bytes], bytes]:
    def digest(data: bytes) -> bytes:
        state = _NEW[name]()
        state.update(data)
        return _end(name, state)

    return digest


def _end(name: str, state: Any) -> bytes:
    return bytes(state.digest(HASH_BYTES) if name == "shake_256" else state.digest())


ALGORITHMS: Final[Mapping[str, Callable[[bytes], bytes]]] = {name: _digest(name) for name in _NEW}
"""By the names of nodo's `hashing.HASH`; each gives 32 bytes."""


def algorithm_named(text: str) -> str | None:
    """The algorithm that `hashing.HASH` says: a name, or the hash of nothing in hex; None when it is neither."""
    wanted = text.strip().lower().replace("-", "_")
    by_id = {hash_of(b"").hex(): name for name, hash_of in ALGORITHMS.items()}
    aliases = {"shake256": "shake_256", "sha3256": "sha3_256", "sha_256": "sha256", "blake2b_256": "blake2b"}
    wanted = aliases.get(wanted, wanted)
    return wanted if wanted in ALGORITHMS else by_id.get(wanted)


def hash_file(path: Path, name: str) -> bytes:
    """The hash of a file's content, read in pieces; OSError when it cannot be read."""
    state = _NEW[name]()
    with path.open("rb") as file:
        while data := file.read(_READ):
            state.update(data)
    return _end(name, state)
