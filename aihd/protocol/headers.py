"""A block's header, proved from its own bytes: id, link to its parent, and the work that it cost (Autolykos, version 2).

Nobody can show a header that was not mined at the difficulty that it states. What difficulty a network's headers have at least is a rule
of the network; without it a chain of cheap headers could be made for a reader who knows nothing yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from aihd.protocol.hashes import blake2b256
from aihd.protocol.shapes import ShapeError, hexed, hexed_any, mapped, mapped_in, whole
from aihd.protocol.trees import GENERATOR
from aihd.protocol.wire import is_point, vlq

LEAST_DIFFICULTY: Final[Mapping[str, int]] = {"mainnet": 10**13, "testnet": 1, "devnet": 1}
"""By network. Mainnet's is a twentieth of what it was in 2026; a private network's miners may have no work to do at all."""

# Autolykos 2: the order of the group, elements of one solution, and the size of the table and how it grows.
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_ELEMENTS: Final = 32
_TABLE: Final = 1 << 26
_GROWS_FROM, _GROWS_EVERY, _GROWS_UNTIL = 600 * 1024, 50 * 1024, 4_198_400
_PADDING: Final = b"".join(number.to_bytes(8, "big") for number in range(1024))


class WorkError(ValueError):
    """A header that does not have the id, the link or the work that it states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A proved header. `timestamp` is ms since 1970; `json` holds what scripts may see of it, in the form that ergo-lib reads."""

    height: int
    id: bytes
    parent: bytes
    timestamp: int
    difficulty: int
    transactions_root: bytes
    json: Mapping[str, Any] = field(repr=False, compare=False)


def head_of_json(raw: Any, least_difficulty: int = 1) -> Head:
    """A header of a node's JSON. ShapeError where it is none, WorkError where its bytes or its work are not what it says."""
    fields = mapped(raw)
    header_id = hexed(fields, "id", 32)
    unsolved, solution = _unsolved(fields), mapped_in(fields, "powSolutions")
    version, height = whole(fields, "version", 1, 127), whole(fields, "height", 1, 2**31 - 1)
    key, nonce = hexed(solution, "pk", 33), hexed(solution, "n", 8)
    if blake2b256(unsolved, _solution(solution, version)) != header_id:
        raise WorkError(f"header {header_id.hex()} is not what it says")
    difficulty = difficulty_of(whole(fields, "nBits", 0, 2**32 - 1))
    if difficulty < least_difficulty:
        raise WorkError(f"header {header_id.hex()} has difficulty {difficulty}, at least {least_difficulty} is asked")
    if not is_point(key):
        raise WorkError(f"header {header_id.hex()} names a miner whose key is no point of the curve")
    # Version 1 is of before 2021; where there is no work to do it can still be the first block of a private network.
    if not (version == 1 and difficulty == 1) and not (version > 1 and has_work(unsolved, nonce, height, difficulty)):
        raise WorkError(f"header {header_id.hex()} was not mined at difficulty {difficulty}")
    return Head(
        height=height,
        id=header_id,
        parent=hexed(fields, "parentId", 32),
        timestamp=whole(fields, "timestamp", 0, 2**63 - 1),
        difficulty=difficulty,
        transactions_root=hexed(fields, "transactionsRoot", 32),
        json=_for_scripts(fields),
    )


def difficulty_of(n_bits: int) -> int:
    """The difficulty that a header's compact number stands for; 0 for what cannot be one."""
    size, mantissa = n_bits >> 24, n_bits & 0xFFFFFF
    if mantissa & 0x800000 or size > 33:
        return 0
    return mantissa << 8 * (size - 3) if size > 3 else mantissa >> 8 * (3 - size)


def has_work(unsolved: bytes, nonce: bytes, height: int, difficulty: int) -> bool:
    """Whether a nonce (8 bytes) solves a header, serialized without its solution, at a difficulty."""
    if difficulty < 1:
        return False
    message, at, size = blake2b256(unsolved), height.to_bytes(4, "big"), _table_size(height)
    first = int.from_bytes(blake2b256(message, nonce)[24:], "big") % size
    seed = _element(first, at)[1:] + message + nonce
    digest = blake2b256(seed)
    stretched = digest + digest[:3]
    indices = (int.from_bytes(stretched[n : n + 4], "big") % size for n in range(_ELEMENTS))
    total = sum(int.from_bytes(_element(index, at)[1:], "big") for index in indices)
    return int.from_bytes(blake2b256(total.to_bytes(32, "big")), "big") < _ORDER // difficulty


def _element(index: int, at: bytes) -> bytes:
    return blake2b256(index.to_bytes(4, "big"), at, _PADDING)


@lru_cache(maxsize=64)
def _table_size(height: int) -> int:
    size = _TABLE
    grown = min(height, _GROWS_UNTIL)
    if grown >= _GROWS_FROM:
        for _ in range((grown - _GROWS_FROM) // _GROWS_EVERY + 1):
            size = size // 100 * 105
    return size


def _unsolved(fields: Mapping[str, Any]) -> bytes:
    version = whole(fields, "version", 1, 127)
    rest = hexed_any(fields, "unparsedBytes") if fields.get("unparsedBytes") else b""
    if len(rest) > 255:
        raise ShapeError(f"unparsedBytes has {len(rest)} bytes, expected at most 255")
    return b"".join(
        (
            bytes([version]),
            *(hexed(fields, name, 32) for name in ("parentId", "adProofsRoot", "transactionsRoot")),
            hexed(fields, "stateRoot", 33),
            vlq(whole(fields, "timestamp", 0, 2**63 - 1)),
            hexed(fields, "extensionHash", 32),
            whole(fields, "nBits", 0, 2**32 - 1).to_bytes(4, "big"),
            vlq(whole(fields, "height", 1, 2**31 - 1)),
            hexed(fields, "votes", 3),
            bytes([len(rest)]) + rest if version > 1 else b"",
        )
    )


def _solution(solution: Mapping[str, Any], version: int) -> bytes:
    key, nonce = hexed(solution, "pk", 33), hexed(solution, "n", 8)
    if version > 1:
        return key + nonce
    distance = whole(solution, "d", 0, 2**2040)
    size = max(1, (distance.bit_length() + 7) // 8)
    return key + hexed(solution, "w", 33) + nonce + bytes([size]) + distance.to_bytes(size, "big")


def _for_scripts(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a header's bytes bind. A node shows more of those that it mined itself, a distance of 256 bits, which others do not know."""
    hashes = ("id", "parentId", "stateRoot", "adProofsRoot", "transactionsRoot", "extensionHash", "votes")
    numbers = ("version", "height", "timestamp", "nBits")
    solution = fields["powSolutions"]
    return {
        **{name: fields[name] for name in hashes},
        **{name: whole(fields, name, 0, 2**63 - 1) for name in numbers},
        "powSolutions": {"pk": solution["pk"], "w": GENERATOR.hex(), "n": solution["n"], "d": 0},
    }
