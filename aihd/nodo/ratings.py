"""Finished ratings handed to nodo's own process, which counts them with its own functions: no second program writes its database.

Two files, each written by one side only and read by the other. aihd keeps the *outbox*: ratings that may be counted. The payment
process, which runs in nodo (`payment_process.manager`), keeps the *ledger* beside nodo's database: what it has begun with and what it has
counted.

Exactly once, also when an operator changes between this way and `write_ratings`, which writes from outside: the plug-in notes a rating
in the ledger before it looks whether the outbox still offers it, and aihd withdraws a rating from the outbox before it looks whether the
ledger has it. So of the two at least one sees the other. Where nodo keeps events, the rating's key is in its event, which both ways look
for first.

Needs nothing but the standard library and aihd.nodo.database, since nodo's process imports it.
"""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

from aihd.nodo.database import opened, transaction
from aihd.nodo.reputation import Rating

LEDGER: Final = "aihd_ratings.sqlite"
"""The ledger's name, in the folder of nodo's database."""

_OUTBOX_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    kind TEXT NOT NULL, key TEXT NOT NULL, subject TEXT NOT NULL, delta INTEGER NOT NULL, PRIMARY KEY (kind, subject, key)
) STRICT
"""
_LEDGER_TABLE = """
CREATE TABLE IF NOT EXISTS ledger (
    kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL, PRIMARY KEY (kind, subject, key)
) STRICT
"""


Name: TypeAlias = tuple[str, str, str]
"""Kind, subject and key of a rating."""


def _name(rating: Rating) -> Name:
    return rating.kind, rating.subject, rating.key


class Taken(StrEnum):
    """What the ledger says of a rating."""

    BEGUN = "begun"
    COUNTED = "counted"
    NO_SUBJECT = "no subject"  # nodo knows no such peer, or keeps no such reputation
    UNKNOWN = (
        "unknown"  # nodo ended in the middle of it, and keeps no events: it may be counted, and is never counted again
    )


class Outbox:
    """Ratings on offer to nodo's process. Written by aihd only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def offer(self, ratings: Iterable[Rating]) -> None:
        """Offer ratings; one that is on offer already stays as it is. Errors as `opened`."""
        rows = [(rating.kind, rating.key, rating.subject, rating.delta) for rating in ratings]
        with self._changed() as connection:
            connection.executemany("INSERT OR IGNORE INTO outbox (kind, key, subject, delta) VALUES (?, ?, ?, ?)", rows)

    def withdraw(self, ratings: Iterable[Rating]) -> None:
        """Offer ratings no more. Errors as `opened`."""
        if self._path.exists():
            with self._changed() as connection:
                rows = [_name(rating) for rating in ratings]
                connection.executemany("DELETE FROM outbox WHERE kind = ? AND subject = ? AND key = ?", rows)

    def offered(self) -> list[Rating]:
        """Everything on offer; nothing when there is no outbox, or it cannot be read now."""
        rows = _read(self._path, "SELECT kind, subject, delta, key FROM outbox ORDER BY rowid")
        return [Rating(kind=row[0], subject=row[1], delta=row[2], key=row[3]) for row in rows]

    @contextmanager
    def _changed(self) -> Iterator[sqlite3.Connection]:
        self._path.touch(exist_ok=True)
        with opened(self._path) as connection, transaction(connection):
            connection.execute(_OUTBOX_TABLE)
            yield connection


class Ledger:
    """What nodo's process has done with ratings. Written by it only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def states(self) -> dict[Name, Taken]:
        """The state of each rating it knows; nothing when there is no ledger, or it cannot be read now."""
        rows = _read(self._path, "SELECT kind, subject, key, state FROM ledger")
        return {(row[0], row[1], row[2]): Taken(row[3]) for row in rows}

    def state(self, rating: Rating) -> Taken | None:
        """The state of one; None when nothing was begun."""
        return self.states().get(_name(rating))

    def note(self, rating: Rating, state: Taken | None) -> None:
        """Write a state down, or with None that nothing was begun."""
        self._path.touch(exist_ok=True)
        with opened(self._path) as connection, transaction(connection):
            connection.execute(_LEDGER_TABLE)
            connection.execute("DELETE FROM ledger WHERE kind = ? AND subject = ? AND key = ?", _name(rating))
            if state is not None:
                row = (*_name(rating), str(state))
                connection.execute("INSERT INTO ledger (kind, subject, key, state) VALUES (?, ?, ?, ?)", row)


def ledger_of(database: Path) -> Ledger:
    """The ledger beside nodo's database."""
    return Ledger(database.parent / LEDGER)


def _read(path: Path, query: str) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.Error:
        return []


# -- In nodo's process.


class NodoDatabase(Protocol):
    """nodo's `SQLConnection`: its one connection, with its lock around each statement."""

    def _execute(self, query: str, params: tuple[Any, ...] = ()) -> sqlite3.Cursor: ...

    def peer_exists(self, peer_id: str) -> bool: ...

    @property
    def update_reputation_peer(self) -> Callable[..., object]: ...


def take(outbox: Outbox, ledger: Ledger, nodo: NodoDatabase) -> int:
    """Count what is on offer with nodo's own functions; how many were counted now. What nodo cannot write now stays on offer."""
    one_at_a_time(type(nodo))
    offered, known = outbox.offered(), ledger.states()
    count = 0
    for rating in offered:
        state = known.get(_name(rating))
        if state in (None, Taken.BEGUN):
            count += _take(rating, state, outbox, ledger, nodo) is Taken.COUNTED
    return count


def _take(rating: Rating, before: Taken | None, outbox: Outbox, ledger: Ledger, nodo: NodoDatabase) -> Taken | None:
    events = _has(nodo, "reputation_events")
    if before is Taken.BEGUN and not events:
        ledger.note(rating, Taken.UNKNOWN)
        return Taken.UNKNOWN
    ledger.note(rating, Taken.BEGUN)
    if rating not in outbox.offered():
        ledger.note(rating, None)  # it was withdrawn meanwhile
        return None
    try:
        state = _count(rating, nodo, events)
    except sqlite3.Error:
        state = None  # nodo rolled it back
    ledger.note(rating, state)
    return state


def _count(rating: Rating, nodo: NodoDatabase, events: bool) -> Taken | None:
    if events and _is_counted(rating, nodo):
        return Taken.COUNTED
    if rating.kind == "peer":
        if not nodo.peer_exists(rating.subject):
            return Taken.NO_SUBJECT
        update: Callable[..., object] | None = nodo.update_reputation_peer
    else:
        update = getattr(nodo, "update_reputation_service", None) if _has(nodo, "service_reputation") else None
    if update is None:
        return Taken.NO_SUBJECT
    done = update(rating.subject, rating.delta, *([rating.reason] if events else []))
    return Taken.COUNTED if done else None


def _is_counted(rating: Rating, nodo: NodoDatabase) -> bool:
    sql = "SELECT 1 FROM reputation_events WHERE subject_kind = ? AND subject_id = ? AND reason = ?"
    return bool(nodo._execute(sql, (rating.kind, rating.subject, rating.reason)).fetchall())


def _has(nodo: NodoDatabase, table: str) -> bool:
    return bool(nodo._execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall())


_TURN: Final = threading.RLock()
_MARK: Final = "_aihd_one_at_a_time"


def one_at_a_time(database: type) -> None:
    """Let the threads of nodo that give points take turns: nodo reads a score and writes the sum in two steps, and one that comes in
    between loses the other's points, or ours. Done once for a class; what its functions do and give stays as it is.
    """
    for name in ("update_reputation_peer", "update_reputation_service"):
        function = getattr(database, name, None)
        if callable(function) and not hasattr(function, _MARK):
            setattr(database, name, _in_turn(function))


def _in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def turn(*parts: Any, **named: Any) -> Any:
        with _TURN:
            return function(*parts, **named)

    setattr(turn, _MARK, True)
    return turn
