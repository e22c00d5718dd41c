"""Puts what aihd learned about services and peers into nodo's own reputation tables, whichever version of nodo made them.

Where nodo keeps events, a delta is written exactly once for a key, however often the write is repeated: the key is part of the event
that goes in with it, and is looked up in the same transaction. (nodo keeps the last 200 events of a subject; aihd's journal remembers
longer.) Older nodos have only the sum. There a delta is written at most once, and only by a caller who says that its own journal noted
the attempt before: after a crash in between nobody can tell whether the points are in, and points that are missing do less harm than
points that count twice. No subject is invented: peers are nodo's to add, and a service's row is made the way nodo makes it.

nodo itself reads a score and writes the sum in two steps. What another process adds between the two, nodo overwrites: such points are
lost to nodo's race, which no writer beside it can prevent. What nodo adds is never lost to us.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from pathlib import Path
from typing import Literal

from aihd.errors import TemporaryError, UsageError
from aihd.nodo.database import BUSY_TIMEOUT, columns, identity, opened, transaction

REASON = "aih_rating"
_SERVICE_ID = re.compile(r"[0-9a-f]{64}")
SubjectKind = Literal["service", "peer"]


class Guarantee(StrEnum):
    """How often a delta can end up in nodo's tables when its write is interrupted and repeated."""

    EXACTLY_ONCE = "exactly once"
    AT_MOST_ONCE = "at most once"
    NEVER = "never"  # this nodo keeps no reputation for such a subject


class WriteResult(Enum):
    """What became of a write."""

    WRITTEN = "written"  # exactly once
    WRITTEN_UNKEYED = "written_unkeyed"  # nothing in nodo's tables tells it from its repeat: never write this key again
    ALREADY = "already"  # this key was written before; nothing changed
    NO_SUBJECT = "no_subject"  # nodo does not know this peer
    UNSUPPORTED = "unsupported"  # this nodo keeps no such reputation, or only at most once and that was not allowed


def guarantee(path: Path, kind: SubjectKind) -> Guarantee:
    """What this nodo's tables allow for a kind of subject. Errors as `write_reputation`."""
    with opened(path) as connection:
        return _guarantee(connection, kind)


def write_reputation(
    path: Path,
    kind: SubjectKind,
    subject_id: str,
    delta: int,
    *,
    key: str,
    noted: bool = False,
    busy_timeout: float = BUSY_TIMEOUT,
    held: Callable[[float], object] | None = None,
) -> WriteResult:
    """Add `delta` points to a service (64-hex id) or peer. nodo's own amounts run from -100 to +10.

    `path` is nodo's main.DATABASE_FILE. `noted` says that the caller's journal holds `key`, committed, and that this is the first
    attempt since; without it nothing is written where nodo has no events. `held` is told the seconds for which nodo could not write.
    TemporaryError when nodo holds the file longer than `busy_timeout` seconds, or replaced it meanwhile: a repeat counts nothing
    twice. DependencyError when it is missing or may not be written, or when the disk fails: a keyed write may be repeated, of an
    unkeyed one it is not known whether it is in. Blocks: call it from a thread.
    """
    if kind == "service" and not _SERVICE_ID.fullmatch(subject_id):
        raise UsageError(f"subject_id {subject_id!r} is no service id, which has 64 lowercase hex digits")
    if not key:
        raise UsageError("key is empty; it has to name the rating that the points come from")
    before = identity(path)
    with opened(path, busy_timeout=busy_timeout) as connection:
        promise = _guarantee(connection, kind)
        if promise is Guarantee.EXACTLY_ONCE:
            with transaction(connection, held):
                result = _write(connection, kind, subject_id, delta, f"{REASON}:{key}")
        elif promise is Guarantee.AT_MOST_ONCE and noted:
            with transaction(connection, held):
                written = _add_to_peer(connection, subject_id, delta) is not None
            return WriteResult.WRITTEN_UNKEYED if written else WriteResult.NO_SUBJECT
        else:
            return WriteResult.UNSUPPORTED
    if identity(path) != before:
        # The points may be in a file that is gone. With a key the repeat is safe, and the new file is where they belong.
        raise TemporaryError(f"nodo replaced its database {path} while it was written; the write is to be repeated")
    return result


def read_service_reputation(path: Path, service_id: str) -> tuple[int, int] | None:
    """(score, index) of a service in nodo's tables; None when it has none. Errors as `write_reputation`."""
    with opened(path) as connection:
        if not columns(connection, "service_reputation"):
            return None
        row = connection.execute(
            "SELECT reputation_score, reputation_index FROM service_reputation WHERE service_id = ?", (service_id,)
        ).fetchone()
    return None if row is None else (row[0], row[1])


def read_scores(path: Path, kind: SubjectKind) -> dict[str, int]:
    """nodo's points for every subject of a kind that has any, by its id. Errors as `write_reputation`."""
    table, name = ("service_reputation", "service_id") if kind == "service" else ("peer", "id")
    with opened(path) as connection:
        if "reputation_score" not in columns(connection, table):
            return {}
        query = f"SELECT {name}, reputation_score FROM {table} WHERE reputation_score <> 0"  # noqa: S608 - from the line above
        return {str(row[0]): int(row[1]) for row in connection.execute(query)}


def find_peer(path: Path, address: str, named: Mapping[str, str] | None = None) -> str | None:
    """The id of the one peer that is paid at an Ergo address; None when nodo knows none, or several.

    `named` (address to peer id) is the operator's word and goes before what peers say. A peer advertises its address without proof, so
    one that names another's address takes the points meant for it until the other turns up too: name the peers that matter.
    """
    if named and address in named:
        return named[address]
    with opened(path) as connection:
        if not columns(connection, "contract_instance"):
            return None
        rows = connection.execute(
            "SELECT DISTINCT peer.id FROM contract_instance JOIN peer ON peer.id = contract_instance.peer_id"
            " WHERE contract_instance.address = ? LIMIT 2",
            (address,),
        ).fetchall()
    return str(rows[0][0]) if len(rows) == 1 else None


def _guarantee(connection: sqlite3.Connection, kind: SubjectKind) -> Guarantee:
    table = "service_reputation" if kind == "service" else "peer"
    if not {"reputation_score", "reputation_index"} <= columns(connection, table):
        return Guarantee.NEVER
    event = {"subject_kind", "subject_id", "amount", "reason", "score_after"}
    if event <= columns(connection, "reputation_events"):
        return Guarantee.EXACTLY_ONCE
    return Guarantee.AT_MOST_ONCE if kind == "peer" else Guarantee.NEVER


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
