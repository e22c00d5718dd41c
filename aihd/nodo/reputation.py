"""Puts what aihd learned about services and peers into nodo's own reputation tables.

A delta is written once for a key, however often the write is repeated: the key is part of the event that goes in with
it, and is looked up in the same transaction. (nodo keeps the last 200 events of a subject; aihd's journal remembers
longer.) No subject is invented: peers are nodo's to add, and a service's row is made the way nodo makes it.
"""

from __future__ import annotations

import re
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Literal

from aihd.errors import UsageError
from aihd.nodo.database import BUSY_TIMEOUT, columns, opened, transaction

REASON = "aih_rating"
_SERVICE_ID = re.compile(r"[0-9a-f]{64}")
SubjectKind = Literal["service", "peer"]


class WriteResult(Enum):
    """What became of a write."""

    WRITTEN = "written"
    ALREADY = "already"  # this key was written before; nothing changed
    NO_SUBJECT = "no_subject"  # nodo does not know this peer
    UNSUPPORTED = "unsupported"  # a nodo without events (before July 2026): a write could not be told from its repeat


def write_reputation(
    path: Path, kind: SubjectKind, subject_id: str, delta: int, *, key: str, busy_timeout: float = BUSY_TIMEOUT
) -> WriteResult:
    """Add `delta` points to a service (64-hex id) or peer. nodo's own amounts run from -100 to +10.

    `path` is nodo's main.DATABASE_FILE. TemporaryError when nodo holds it longer than `busy_timeout` seconds,
    DependencyError when it is missing or may not be written. Blocks: call it from a thread.
    """
    if kind == "service" and not _SERVICE_ID.fullmatch(subject_id):
        raise UsageError(f"subject_id {subject_id!r} is no service id, which has 64 lowercase hex digits")
    if not key:
        raise UsageError("key is empty; it has to name the rating that the points come from")
    with opened(path, busy_timeout=busy_timeout) as connection:
        if not _supported(connection, kind):
            return WriteResult.UNSUPPORTED
        with transaction(connection):
            return _write(connection, kind, subject_id, delta, f"{REASON}:{key}")


def read_service_reputation(path: Path, service_id: str) -> tuple[int, int] | None:
    """(score, index) of a service in nodo's tables; None when it has none. Errors as `write_reputation`."""
    with opened(path) as connection:
        if not columns(connection, "service_reputation"):
            return None
        row = connection.execute(
            "SELECT reputation_score, reputation_index FROM service_reputation WHERE service_id = ?", (service_id,)
        ).fetchone()
    return None if row is None else (row[0], row[1])


def _supported(connection: sqlite3.Connection, kind: SubjectKind) -> bool:
    needed = "service_reputation" if kind == "service" else "peer"
    return all(
        names <= columns(connection, table)
        for table, names in (
            ("reputation_events", {"subject_kind", "subject_id", "amount", "reason", "score_after"}),
            (needed, {"reputation_score", "reputation_index"}),
        )
    )


def _write(connection: sqlite3.Connection, kind: SubjectKind, subject_id: str, delta: int, reason: str) -> WriteResult:
    event = (kind, subject_id, reason)
    query = "SELECT 1 FROM reputation_events WHERE subject_kind = ? AND subject_id = ? AND reason = ?"
    if connection.execute(query, event).fetchone():
        return WriteResult.ALREADY
    update = _add_to_service if kind == "service" else _add_to_peer
    score = update(connection, subject_id, delta)
    if score is None:
        return WriteResult.NO_SUBJECT
    connection.execute(
        "INSERT INTO reputation_events (subject_kind, subject_id, reason, amount, score_after) VALUES (?, ?, ?, ?, ?)",
        (*event, delta, score),
    )
    return WriteResult.WRITTEN


# Both return the new score. nodo computes score * (1 + ln(index)): an index below 1 would break its balancer.


def _add_to_service(connection: sqlite3.Connection, service_id: str, delta: int) -> int | None:
    row = connection.execute(
        "INSERT INTO service_reputation (service_id, reputation_score, reputation_index) VALUES (?, ?, 1)"
        " ON CONFLICT (service_id) DO UPDATE SET reputation_score = reputation_score + excluded.reputation_score,"
        " reputation_index = MAX(reputation_index, 0) + 1 RETURNING reputation_score",
        (service_id, delta),
    ).fetchone()
    return int(row[0])


def _add_to_peer(connection: sqlite3.Connection, peer_id: str, delta: int) -> int | None:
    row = connection.execute(
        "UPDATE peer SET reputation_score = COALESCE(reputation_score, 0) + ?,"
        " reputation_index = MAX(COALESCE(reputation_index, 0), 0) + 1 WHERE id = ? RETURNING reputation_score",
        (delta, peer_id),
    ).fetchone()
    return None if row is None else int(row[0])
