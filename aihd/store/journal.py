"""The daemon's memory: tasks, signed transactions, what happened and what was declined.

SQLite in WAL with synchronous=FULL: what a method returned from is on the disk. Everything runs on the thread that opened it, one
statement group at a time, so no two decisions interleave. A transaction is recorded here before it is sent anywhere.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from aihd.core.task import Stage, State, Task, Where
from aihd.errors import ConfigError, InvariantError, TemporaryError
from aihd.ops.failpoints import reach
from aihd.store.schema import check_current, migrate

_COLUMNS: Final = tuple(field.name for field in fields(Task))
_FLAGS: Final = frozenset({"final", "may_reveal", "bridged"})


class TxStatus(StrEnum):
    PENDING = "pending"  # to be resent until it is mined
    MINED = "mined"  # in a block that a reorg could still undo
    FINAL = "final"
    DROPPED = "dropped"  # can never be mined: an input went elsewhere


@dataclass(frozen=True, slots=True)
class TxRecord:
    """A signed transaction. `intent` names what it is for; `body` is its bytes; `fee` and `spent` (what left the wallet) are nanoERG."""

    id: str
    intent: str
    kind: str
    task_id: bytes | None
    body: bytes
    fee: int
    spent: int
    status: TxStatus = TxStatus.PENDING
    height: int | None = None
    sent: int = 0
    note: str = ""


_TX_COLUMNS: Final = tuple(field.name for field in fields(TxRecord))


class Journal:
    """One open database."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open, check and migrate; `read_only` is for looking at it beside a running daemon."""
        self._path = path
        target = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        try:
            self._db = sqlite3.connect(target, uri=True, isolation_level=None, timeout=10)
        except sqlite3.OperationalError as error:
            raise ConfigError(f"ops.data_dir: {path} cannot be opened: {error}") from None
        self._db.row_factory = sqlite3.Row
        try:
            self._prepare(read_only)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise ConfigError(f"ops.data_dir: {path} is not a usable database: {error}") from None
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, read_only: bool) -> None:
        if read_only:
            check_current(self._db, str(self._path))
        else:
            migrate(self._db, str(self._path))
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
        broken = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if broken != "ok":
            raise ConfigError(f"ops.data_dir: {self._path} is damaged: {broken}")

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _atomic(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise TemporaryError(f"{self._path} cannot be written now: {error}") from None
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        reach("journal: before commit")
        self._db.execute("COMMIT")
        reach("journal: after commit")

    # -- identity

    def bind(self, **identity: str) -> None:
        """Remember genesis, wallet and market at first use; ConfigError when the database belongs to others."""
        with self._atomic() as db:
            known = dict(db.execute("SELECT key, value FROM meta").fetchall())
            for key, value in identity.items():
                if key not in known:
                    db.execute("INSERT INTO meta VALUES (?, ?)", (key, value))
                elif known[key] != value:
                    raise ConfigError(
                        f"ops.data_dir: {self._path} belongs to {key} {known[key]}, the configuration has {value}"
                    )

    def meta(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT key, value FROM meta").fetchall())

    def remember(self, key: str, value: str) -> None:
        """Keep a fact beside the identity: our client id at the gateway, the last report."""
        with self._atomic() as db:
            db.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
            )

    # -- tasks

    def add(self, task: Task) -> bool:
        """Record a task that policy accepted; False when it is known already."""
        marks = ", ".join("?" * len(_COLUMNS))
        with self._atomic() as db:
            done = db.execute(f"INSERT OR IGNORE INTO tasks VALUES ({marks})", _task_row(task))  # noqa: S608
            if done.rowcount:
                self._log(db, task.id, "accepted", {"payment": task.payment})
        return bool(done.rowcount)

    def update(self, task_id: bytes, event: str, **changes: Any) -> Task:
        """Change fields of a task and journal it, in one commit; the task as it is now."""
        unknown = changes.keys() - set(_COLUMNS)
        if unknown or not changes:
            raise InvariantError(f"task fields to change: {sorted(changes) or 'none'}, unknown: {sorted(unknown)}")
        assignments = ", ".join(f'"{name}" = ?' for name in changes)
        with self._atomic() as db:
            done = db.execute(f"UPDATE tasks SET {assignments} WHERE id = ?", (*changes.values(), task_id))  # noqa: S608
            if done.rowcount != 1:
                raise InvariantError(f"task {task_id.hex()} is not in the journal")
            self._log(db, task_id, event, {name: _plain(value) for name, value in changes.items() if name != "salt"})
        return self.task(task_id)

    def task(self, task_id: bytes) -> Task:
        found = self.find(task_id)
        if found is None:
            raise InvariantError(f"task {task_id.hex()} is not in the journal")
        return found

    def find(self, task_id: bytes) -> Task | None:
        row = self._db.execute("SELECT * FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return _task(row) if row else None

    def open_tasks(self) -> list[Task]:
        """Tasks without a final end, oldest first."""
        return [_task(row) for row in self._db.execute("SELECT * FROM tasks WHERE final = 0 ORDER BY rowid")]

    def tasks(self, limit: int = 1000) -> list[Task]:
        """The newest tasks, newest first."""
        return [_task(row) for row in self._db.execute("SELECT * FROM tasks ORDER BY rowid DESC LIMIT ?", (limit,))]

    def states(self) -> dict[State, int]:
        """How many tasks are in each state."""
        rows = self._db.execute('SELECT "where", stage, final, count(*) AS n FROM tasks GROUP BY 1, 2, 3')
        counts: dict[State, int] = {}
        for row in rows:
            probe = Task(
                b"", b"", b"", 0, b"", 0, 0, "", Where(row["where"]), Stage(row["stage"]), final=bool(row["final"])
            )
            counts[probe.state] = counts.get(probe.state, 0) + row["n"]
        return counts

    # -- transactions

    def record(self, tx: TxRecord) -> None:
        """Commit a signed transaction before it is sent; InvariantError when its intent already has a live one.

        One that was dropped may be recorded again: built anew at the same tip, it has the same id.
        """
        marks = ", ".join("?" * len(_TX_COLUMNS))
        values = tuple(getattr(tx, name) for name in _TX_COLUMNS)
        with self._atomic() as db:
            try:
                db.execute("DELETE FROM transactions WHERE id = ? AND status = 'dropped'", (tx.id,))
                db.execute(f"INSERT INTO transactions ({', '.join(_TX_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608
            except sqlite3.IntegrityError:
                raise InvariantError(f"intent {tx.intent} already has a live transaction") from None
            self._log(db, tx.task_id, "signed", {"tx": tx.id, "kind": tx.kind, "intent": tx.intent})

    def mark(self, tx_id: str, status: TxStatus, *, height: int | None = None, note: str = "") -> None:
        with self._atomic() as db:
            db.execute(
                "UPDATE transactions SET status = ?, height = ?, note = ? WHERE id = ?", (status, height, note, tx_id)
            )
            task = db.execute("SELECT task_id FROM transactions WHERE id = ?", (tx_id,)).fetchone()
            self._log(db, task["task_id"], status, {"tx": tx_id, "height": height, "note": note})

    def count_send(self, tx_id: str) -> None:
        with self._atomic() as db:
            db.execute("UPDATE transactions SET sent = sent + 1 WHERE id = ?", (tx_id,))

    def live(self) -> list[TxRecord]:
        """Pending and mined transactions in the order in which they were signed."""
        rows = self._db.execute("SELECT * FROM transactions WHERE status IN ('pending', 'mined') ORDER BY seq")
        return [_tx(row) for row in rows]

    def has_live(self, intent: str) -> bool:
        found = self._db.execute("SELECT 1 FROM transactions WHERE intent = ? AND status <> 'dropped'", (intent,))
        return found.fetchone() is not None

    def spent_since(self, seconds: int) -> int:
        """nanoERG that our transactions of the last `seconds` take out of the wallet, dropped ones left out."""
        row = self._db.execute(
            "SELECT COALESCE(sum(max(spent, 0)), 0) FROM transactions WHERE status <> 'dropped' AND at > unixepoch() - ?",
            (seconds,),
        ).fetchone()
        return int(row[0])

    def transactions(self, task_id: bytes | None = None) -> list[TxRecord]:
        """All transactions, of one task if asked, in order."""
        where, values = ("", ()) if task_id is None else (" WHERE task_id = ?", (task_id,))
        return [_tx(row) for row in self._db.execute(f"SELECT * FROM transactions{where} ORDER BY seq", values)]  # noqa: S608

    # -- posts of a client

    def save_post(self, post_id: bytes, data: Mapping[str, Any]) -> None:
        """Add or replace what is kept of a task that we posted."""
        with self._atomic() as db:
            db.execute("INSERT OR REPLACE INTO posts VALUES (?, ?)", (post_id, json.dumps(data)))

    def post(self, post_id: bytes) -> dict[str, Any] | None:
        row = self._db.execute("SELECT data FROM posts WHERE id = ?", (post_id,)).fetchone()
        return json.loads(row["data"]) if row else None

    def posts(self) -> list[bytes]:
        """Ids of the tasks that we posted, newest first."""
        return [row["id"] for row in self._db.execute("SELECT id FROM posts ORDER BY rowid DESC")]

    # -- declines and events

    def decline(self, code: str, sentence: str) -> None:
        with self._atomic() as db:
            db.execute(
                "INSERT INTO declines VALUES (?, 1, ?) ON CONFLICT (code) DO UPDATE SET count = count + 1, last = excluded.last",
                (code, sentence),
            )

    def declines(self) -> dict[str, tuple[int, str]]:
        """Per reason code: how often, and the newest sentence."""
        return {
            row["code"]: (row["count"], row["last"]) for row in self._db.execute("SELECT * FROM declines ORDER BY code")
        }

    def events(self, task_id: bytes) -> list[tuple[str, str, dict[str, Any]]]:
        """(time, event, data) of one task, in order."""
        rows = self._db.execute("SELECT at, event, data FROM journal WHERE task_id = ? ORDER BY seq", (task_id,))
        return [(row["at"], row["event"], json.loads(row["data"])) for row in rows]

    def _log(self, db: sqlite3.Connection, task_id: bytes | None, event: str, data: Mapping[str, Any]) -> None:
        db.execute(
            "INSERT INTO journal (task_id, event, data) VALUES (?, ?, ?)",
            (task_id, event, json.dumps(data, separators=(",", ":"))),
        )


def _task_row(task: Task) -> tuple[Any, ...]:
    return tuple(getattr(task, name) for name in _COLUMNS)


def _task(row: sqlite3.Row) -> Task:
    values: dict[str, Any] = {name: bool(row[name]) if name in _FLAGS else row[name] for name in _COLUMNS}
    values.update(where=Where(row["where"]), stage=Stage(row["stage"]))
    return Task(**values)


def _tx(row: sqlite3.Row) -> TxRecord:
    return TxRecord(**{**{name: row[name] for name in _TX_COLUMNS}, "status": TxStatus(row["status"])})


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
