"""Puts what aihd learned about services and peers into nodo's own reputation tables, whichever version of nodo made them.

Where nodo keeps events, a delta is written exactly once for a key, however often the write is repeated: the key is part of the event
that goes in with it, and is looked up in the same transaction. (nodo keeps the last 200 events of a subject; aihd's journal remembers
longer.) Older nodos have only the sum. There a delta is written at most once, and only by a caller who says that its own journal noted
the attempt before: after a crash in between nobody can tell whether the points are in, and points that are missing do less harm than
points that count twice. No subject is invented: peers are nodo's to add, and a service's row is made the way nodo makes it.

nodo itself reads a score and writes the sum in two steps. What another process adds between the two, nodo overwrites: its next event
shows it, and such points are written again. (Where it has no events nobody can tell.) What nodo adds is never lost to us. No write of
nodo's fails because of ours: `quiet_transaction` in database.py says why, and how.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Literal

from aihd.errors import TemporaryError, UsageError
from aihd.nodo.addresses import tree_of
from aihd.nodo.database import columns, identity, opened, quiet_transaction

REASON = "aih_rating"
PATIENCE = 5.0
"""Seconds to wait for a moment when nodo is done with its file."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """Points for one subject. `key` names the rating that they come from: the same points never count twice."""

    kind: SubjectKind
    subject: str
    delta: int
    key: str

    def __post_init__(self) -> None:
        if self.kind == "service" and not _SERVICE_ID.fullmatch(self.subject):
            raise UsageError(f"subject_id {self.subject!r} is no service id, which has 64 lowercase hex digits")
        if not self.key:
            raise UsageError("key is empty; it has to name the rating that the points come from")

    @property
    def reason(self) -> str:
        """How nodo's event is called."""
        return f"{REASON}:{self.key}"


def write_reputation(
    path: Path,
    kind: SubjectKind,
    subject_id: str,
    delta: int,
    *,
    key: str,
    noted: bool = False,
    busy_timeout: float = PATIENCE,
    held: Callable[[float], object] | None = None,
) -> WriteResult:
    """Add `delta` points to a service (64-hex id) or peer: `write_ratings` for one."""
    rating = Rating(kind=kind, subject=subject_id, delta=delta, key=key)
    (result,) = write_ratings(path, [rating], noted=noted, busy_timeout=busy_timeout, held=held)
    return result


def write_ratings(
    path: Path,
    ratings: Sequence[Rating],
    *,
    noted: bool = False,
    again: Sequence[Rating] = (),
    busy_timeout: float = PATIENCE,
    held: Callable[[float], object] | None = None,
) -> list[WriteResult]:
    """Add the points of ratings in one short transaction; what became of each. nodo's own amounts run from -100 to +10.

    `path` is nodo's main.DATABASE_FILE. `noted` says that the caller's journal holds every key, committed, and that this is the first
    attempt since; without it nothing is written where nodo has no events. `again`: ratings that were written before and that nodo may have
    overwritten; those that it has are written again. `held` is told the seconds for which nodo could not write.
    TemporaryError when nodo is never done with the file for `busy_timeout` seconds, or replaced it meanwhile: a repeat counts nothing
    twice. DependencyError when it is missing or may not be written, or when the disk fails: a keyed write may be repeated, of an
    unkeyed one it is not known whether it is in. Blocks: call it from a thread.
    """
    before = identity(path)
    with opened(path, busy_timeout=busy_timeout) as connection:
        promises = {kind: _guarantee(connection, kind) for kind in {rating.kind for rating in (*ratings, *again)}}
        wanted = [rating for rating in ratings if _writes(promises[rating.kind], noted)]
        if not wanted and not again:
            return [WriteResult.UNSUPPORTED] * len(ratings)
        # Looked for before the wait for a quiet moment, in which nodo may prune the events that show it.
        keyed = [rating for rating in again if promises[rating.kind] is Guarantee.EXACTLY_ONCE]
        lost = [rating for rating in keyed if _overwritten(connection, rating)]
        with quiet_transaction(connection, path, busy_timeout, held):
            for rating in lost:
                _rewrite(connection, rating)
            results = [_outcome(connection, rating, promises[rating.kind], noted) for rating in ratings]
    unkeyed = Guarantee.AT_MOST_ONCE in promises.values()
    if identity(path) != before and not unkeyed:
        # The points may be in a file that is gone. With a key the repeat is safe, and the new file is where they belong.
        raise TemporaryError(f"nodo replaced its database {path} while it was written; the write is to be repeated")
    return results


def overwritten(path: Path, ratings: Sequence[Rating]) -> list[Rating]:
    """Those of the ratings written before whose points nodo has overwritten: it read the score before and wrote the sum after us.

    nodo's next event of the subject shows it. Where it has no events nobody can tell. Errors as `write_ratings`.
    """
    with opened(path) as connection:
        keyed = [rating for rating in ratings if _guarantee(connection, rating.kind) is Guarantee.EXACTLY_ONCE]
        return [rating for rating in keyed if _overwritten(connection, rating)]


def _writes(promise: Guarantee, noted: bool) -> bool:
    return promise is Guarantee.EXACTLY_ONCE or (promise is Guarantee.AT_MOST_ONCE and noted)


def _outcome(connection: sqlite3.Connection, rating: Rating, promise: Guarantee, noted: bool) -> WriteResult:
    if not _writes(promise, noted):
        return WriteResult.UNSUPPORTED
    if promise is Guarantee.EXACTLY_ONCE:
        return _write(connection, rating)
    written = _add_to_peer(connection, rating.subject, rating.delta) is not None
    return WriteResult.WRITTEN_UNKEYED if written else WriteResult.NO_SUBJECT


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
    one that names another's address takes the points meant for it until the other turns up too: name the peers that matter. Versions
    differ in whether they keep the address or its tree; both are found, and one peer in both forms is one.
    """
    tree = tree_of(address)
    for known, peer in (named or {}).items():
        if tree_of(known) == tree:
            return peer
    with opened(path) as connection:
        if not columns(connection, "contract_instance"):
            return None
        rows = connection.execute(
            "SELECT DISTINCT peer.id FROM contract_instance JOIN peer ON peer.id = contract_instance.peer_id"
            " WHERE lower(contract_instance.address) = ? OR contract_instance.address = ? LIMIT 2",
            (tree, address),
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


def _write(connection: sqlite3.Connection, rating: Rating) -> WriteResult:
    query = "SELECT 1 FROM reputation_events WHERE subject_kind = ? AND subject_id = ? AND reason = ?"
    if connection.execute(query, (rating.kind, rating.subject, rating.reason)).fetchone():
        return WriteResult.ALREADY
    return WriteResult.WRITTEN if _add(connection, rating) else WriteResult.NO_SUBJECT


def _add(connection: sqlite3.Connection, rating: Rating) -> bool:
    """Points and their event; False when nodo does not know the subject."""
    update = _add_to_service if rating.kind == "service" else _add_to_peer
    score = update(connection, rating.subject, rating.delta)
    if score is None:
        return False
    connection.execute(
        "INSERT INTO reputation_events (subject_kind, subject_id, reason, amount, score_after) VALUES (?, ?, ?, ?, ?)",
        (rating.kind, rating.subject, rating.reason, rating.delta, score),
    )
    return True


def _overwritten(connection: sqlite3.Connection, rating: Rating) -> bool:
    """Whether the next event of nodo's own counts from a score without our points.

    Ours may stand in a row; nodo's then counts from the score before the row, before one in the middle of it, or behind it.
    """
    events = connection.execute(
        "SELECT reason, amount, score_after FROM reputation_events WHERE subject_kind = ? AND subject_id = ? ORDER BY id",
        (rating.kind, rating.subject),
    ).fetchall()
    at = next((number for number, event in enumerate(events) if event[0] == rating.reason), None)
    if at is None or rating.delta == 0:
        return False
    after = next((number for number in range(at, len(events)) if not _is_ours(events[number])), None)
    if after is None:
        return False
    counted_from = events[after][2] - events[after][1]
    if counted_from == events[after - 1][2]:
        return False
    first = next((number + 1 for number in range(at, -1, -1) if not _is_ours(events[number])), 0)
    return any(counted_from == events[number][2] - events[number][1] for number in range(first, at + 1))


def _is_ours(event: tuple[str, int, int]) -> bool:
    return event[0].startswith(f"{REASON}:")


def _rewrite(connection: sqlite3.Connection, rating: Rating) -> None:
    """The same points once more, with their event behind nodo's: so the events go on adding up to the score."""
    connection.execute(
        "DELETE FROM reputation_events WHERE subject_kind = ? AND subject_id = ? AND reason = ?",
        (rating.kind, rating.subject, rating.reason),
    )
    _add(connection, rating)


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
