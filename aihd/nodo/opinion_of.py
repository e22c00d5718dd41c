"""What to think of a peer: nodo's own experience and the chain's score, combined. For nodo's process to import.

Needs nothing but the standard library, no daemon and no network: it reads nodo's database and a small file that aihd keeps up to date
(`write_scores`). Where aihd has nothing to say, the answer is nodo's own number, to the bit.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aihd.errors import UsageError
from aihd.nodo.addresses import tree_of
from aihd.nodo.database import opened, transaction

PPB: Final = 10**9
DATABASE: Final = Path("/nodo/storage/database.sqlite")  # nodo's main.DATABASE_FILE as it is installed
SCORES: Final = Path("/var/lib/aihd/scores.sqlite")
HALF: Final = 50
"""The points at which nodo's balancer takes half of its maximum into account: it uses r / (|r| + 50)."""
EXPERIENCE: Final = 10
"""Own observations that count as half of a full experience."""
NEAR_ONE: Final = 0.999

_TABLE = """
CREATE TABLE IF NOT EXISTS scores (
    key TEXT PRIMARY KEY,
    score_ppb INTEGER NOT NULL CHECK (score_ppb BETWEEN -1000000000 AND 1000000000),
    confidence_ppb INTEGER NOT NULL CHECK (confidence_ppb BETWEEN 0 AND 1000000000),
    height INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class ChainScore:
    """What the chain says of one key at a height: score from -10^9 to 10^9, confidence from 0 to 10^9 (parts per billion).

    `key` is the Ergo address of the key, in either form in which nodo holds it in `contract_instance`, or a nodo peer id. UsageError
    outside the ranges.
    """

    key: str
    score_ppb: int
    confidence_ppb: int
    height: int

    def __post_init__(self) -> None:
        for name, value, least in (("score", self.score_ppb, -PPB), ("confidence", self.confidence_ppb, 0)):
            if not least <= value <= PPB:
                raise UsageError(f"{name}_ppb of {self.key} is {value}, it lies from {least} to {PPB}")


def write_scores(path: Path, scores: Iterable[ChainScore]) -> None:
    """Replace the file's scores by these, in one transaction; readers see the old ones or the new ones. Errors as `opened`."""
    path.touch(exist_ok=True)
    with opened(path) as connection, transaction(connection):
        connection.execute(_TABLE)
        connection.execute("DELETE FROM scores")
        rows = [(tree_of(score.key), score.score_ppb, score.confidence_ppb, score.height) for score in scores]
        connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", rows)


def compute_reputation(peer: str, *, database: Path = DATABASE, scores: Path = SCORES) -> float:
    """nodo's points for a peer (its id), the chain's score folded in; 0.0 for one that nobody knows.

    The chain's share is its confidence where nodo has no experience of its own, and falls to half of that as experience grows.
    Of a peer with several keys the worst counts; an address that several peers claim counts for none of them. Never raises for a
    missing, locked or damaged file: what cannot be read says nothing. Waits a second for a lock at most.
    """
    score, index = _local(database, peer)
    chain, confidence = _on_chain(database, scores, peer)
    return combined(score, index, chain, confidence)


def combined(score: int, index: int, chain: float, confidence: float) -> float:
    """nodo's points: its own rule, score * (1 + ln(index)), and a chain's score in [-1, 1] with a confidence in [0, 1]."""
    local = score * (1 + math.log(index)) if index >= 1 else float(score)
    if not confidence:
        return local
    share = confidence / (1 + index / (index + EXPERIENCE))
    mixed = (1 - share) * local / (abs(local) + HALF) + share * chain
    mixed = max(-NEAR_ONE, min(NEAR_ONE, mixed))
    return HALF * mixed / (1 - abs(mixed))


def _local(database: Path, peer: str) -> tuple[int, int]:
    rows = _read(database, "SELECT reputation_score, reputation_index FROM peer WHERE id = ?", (peer,))
    score, index = rows[0] if rows else (0, 0)
    return int(score or 0), max(0, int(index or 0))


def _on_chain(database: Path, scores: Path, peer: str) -> tuple[float, float]:
    """(score, confidence) as fractions; no confidence in what is not there. An address and its tree are one key."""
    claims: dict[str, set[str]] = {}
    for address, claimer in _read(
        database, "SELECT address, peer_id FROM contract_instance WHERE length(address) < 200", ()
    ):
        claims.setdefault(tree_of(str(address)), set()).add(str(claimer))
    keys = [peer, *(tree for tree, claimers in claims.items() if claimers == {peer})]
    marks = ", ".join("?" * len(keys))
    rows = _read(
        scores,
        f"SELECT score_ppb, confidence_ppb FROM scores WHERE key IN ({marks}) ORDER BY score_ppb LIMIT 1",  # noqa: S608 - only marks
        tuple(keys),
    )
    return (rows[0][0] / PPB, rows[0][1] / PPB) if rows else (0.0, 0.0)


def _read(path: Path, query: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """The rows, none when the file or a table is not there or cannot be read now."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.Error:
        return []
