"""The daemon's memory: tasks, signed transactions, what happened and what was declined.

SQLite in WAL with synchronous=FULL: what a method returned from is on the disk, and what one raised from is not there at all.
Everything runs on the thread that opened it, one statement group at a time, so no two decisions interleave. A transaction is recorded
here before it is sent anywhere. Every change of a task is also an event, and the events alone make the tasks again (`audit`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from aihd.core.task import State, Task
from aihd.errors import ConfigError, InvariantError, TemporaryError
from aihd.ops.failpoints import reach
from aihd.store import backup, fold
from aihd.store.fold import COLUMNS, task_of
from aihd.store.history import History
from aihd.store.schema import check_current, migrate
from aihd.store.transactions import Transactions
from aihd.store.transactions import TxRecord as TxRecord
from aihd.store.transactions import TxStatus as TxStatus

HEADERS_KEPT: Final = 720
DECLINES_KEPT: Final = 10_000
GATEWAY_CLIENT: Final = "gateway_client"  # meta key of the client id that nodo gave us
PAUSED: Final = "paused"  # the key of the flag, and since when it is set
# What is not our doing: nothing was written, and the same may go well later.
_PASSING: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk fails, or its quota is used up",
    sqlite3.SQLITE_BUSY: "another process holds it",
    sqlite3.SQLITE_LOCKED: "another process holds it",
}

Header = tuple[int, bytes, bytes]


class Journal(Transactions):
    """One open database."""

    def __init__(self, path: Path, *, read_only: bool = False, guest: bool = False) -> None:
        """Open, check and migrate. `read_only` is for looking at it beside a running daemon; a `guest` writes beside it: no migration."""
        self._path = path
        target = f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw' if guest else 'rwc'}"
        if not read_only:
            _close_to_others(path, make=not guest)
        try:
            self._db = sqlite3.connect(target, uri=True, isolation_level=None, timeout=10)
        except sqlite3.OperationalError as error:
            raise ConfigError(f"ops.data_dir: {path} cannot be opened: {error}") from None
        self._db.row_factory = sqlite3.Row
        try:
            self._prepare(read_only, guest)
        except sqlite3.DatabaseError as error:
            self._db.close()
            if cause := _passing(error):
                raise TemporaryError(f"{path} cannot be used now: {cause} ({error})") from None
            raise ConfigError(f"ops.data_dir: {path} is not a usable database: {error}") from None
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, read_only: bool, guest: bool) -> None:
        if read_only or guest:
            check_current(self._db, str(self._path))
        else:
            migrate(self._db, str(self._path))
        if not read_only:
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
    def _atomic(self, what: str) -> Iterator[sqlite3.Connection]:
        """One commit; `what` names it for the crash tests."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            reach(f"journal {what}: before commit")
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full disk may have ended it already
                self._db.execute("ROLLBACK")
            cause = _passing(error)
            if cause is None:
                raise
            raise TemporaryError(f"{self._path} cannot be written now, and nothing was: {cause} ({error})") from None
        reach(f"journal {what}: after commit")

    # -- identity

    def bind(self, **identity: str) -> None:
        """Remember genesis, wallet and market at first use; ConfigError when the database belongs to others."""
        with self._atomic("identity") as db:
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
        with self._atomic(key) as db:
            db.execute(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
            )

    def forget(self, key: str) -> None:
        """Undo `remember`."""
        with self._atomic(key) as db:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))

    def paused(self) -> str | None:
        """Since when the operator wants no new task, as an ISO time; None when he does not mind."""
        return self.meta().get(PAUSED)

    @property
    def history(self) -> History:
        """What was read from the chain about the whole market."""
        return History(self._db, partial(self._atomic, "history"))

    # -- copies

    def backup(self, target: Path) -> None:
        """Copy what is committed to a new file while this one is written on; errors as `aihd.store.backup.back_up`."""
        backup.back_up(self._path, target)

    def restored_from(self) -> str | None:
        """When the backup was made that this database was put back from; None when it is no backup, or was looked after since."""
        return self.meta().get(backup.MADE_AT)

    def clear_restored(self) -> None:
        """The chain has been looked at in full: what happened after the backup is known again."""
        made_at = self.restored_from()
        if made_at is not None:
            with self._atomic("restored") as db:
                db.execute("DELETE FROM meta WHERE key = ?", (backup.MADE_AT,))
                self._log(db, None, "restored", {backup.MADE_AT: made_at})

    def audit(self) -> list[str]:
        """Where the events, folded, do not make the tasks that the table has: one sentence each, none when all is well."""
        with self._reading() as db:
            rows = db.execute("SELECT task_id, event, data FROM journal ORDER BY seq")
            told = fold.fold((row["task_id"], row["event"], json.loads(row["data"])) for row in rows)
            stored = {row["id"]: _task(row) for row in db.execute("SELECT * FROM tasks")}
        return fold.differences(told, stored)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the database for several questions, whatever is written meanwhile."""
        self._db.execute("BEGIN")
        try:
            yield self._db
        finally:
            self._db.execute("ROLLBACK")

    # -- headers

    def headers(self) -> list[Header]:
        """(height, id, parent id) of the newest blocks that we followed, newest first."""
        rows = self._db.execute("SELECT height, id, parent FROM headers ORDER BY height DESC")
        return [(row["height"], row["id"], row["parent"]) for row in rows]

    def replace_headers(self, from_height: int, rows: Iterable[Header]) -> None:
        """Forget the headers from a height on, put these in their place, and keep the newest HEADERS_KEPT, in one commit."""
        new = list(rows)
        if any(height < from_height for height, _, _ in new):
            raise InvariantError(f"headers from height {from_height} on, but the lowest given is {min(new)[0]}")
        with self._atomic("headers") as db:
            db.execute("DELETE FROM headers WHERE height >= ?", (from_height,))
            db.executemany("INSERT INTO headers VALUES (?, ?, ?)", new)
            db.execute("DELETE FROM headers WHERE height <= (SELECT max(height) FROM headers) - ?", (HEADERS_KEPT,))

    # -- tasks

    def add(self, task: Task) -> bool:
        """Record a task that policy accepted; False when it is known already."""
        row = asdict(task)
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
        with self._atomic("accepted") as db:
            done = db.execute(f"INSERT OR IGNORE INTO tasks ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608
            if done.rowcount:
                self._log(db, task.id, "accepted", fold.plain(row))
        return bool(done.rowcount)

    def update(self, task_id: bytes, event: str, **changes: Any) -> Task:
        """Change fields of a task and journal it, in one commit; the task as it is now."""
        unknown = changes.keys() - set(COLUMNS)
        if unknown or not changes:
            raise InvariantError(f"task fields to change: {sorted(changes) or 'none'}, unknown: {sorted(unknown)}")
        assignments = ", ".join(f'"{name}" = ?' for name in changes)
        with self._atomic(event) as db:
            done = db.execute(f"UPDATE tasks SET {assignments} WHERE id = ?", (*changes.values(), task_id))  # noqa: S608
            if done.rowcount != 1:
                raise InvariantError(f"task {task_id.hex()} is not in the journal")
            self._log(db, task_id, event, fold.plain(changes))
        return self.task(task_id)

    def task(self, task_id: bytes) -> Task:
        found = self.find(task_id)
        if found is None:
            raise InvariantError(f"task {task_id.hex()} is not in the journal")
        return found

    def find(self, task_id: bytes) -> Task | None:
        row = self._db.execute("SELECT * FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return _task(row) if row else None

    def named(self, prefix: str) -> list[bytes]:
        """Ids of the tasks here, taken, declined or posted, that begin with these hexadecimal digits; at most three."""
        rows = self._db.execute(
            "SELECT id FROM (SELECT id FROM tasks UNION SELECT task AS id FROM declined UNION SELECT id FROM posts) "
            "WHERE lower(hex(id)) LIKE ? || '%' LIMIT 3",
            (prefix,),
        )
        return [row["id"] for row in rows]

    def open_tasks(self) -> list[Task]:
        """Tasks without a final end, oldest first."""
        return [_task(row) for row in self._db.execute("SELECT * FROM tasks WHERE final = 0 ORDER BY rowid")]

    def tasks(self, limit: int = 1000) -> list[Task]:
        """The newest tasks, newest first; all of them with a limit of -1."""
        return [_task(row) for row in self._db.execute("SELECT * FROM tasks ORDER BY rowid DESC LIMIT ?", (limit,))]

    def touched(self, after: int) -> tuple[int, set[bytes]]:
        """The number of the newest event, and the ids of the tasks that events after number `after` were about."""
        rows = self._db.execute("SELECT seq, task_id FROM journal WHERE seq > ?", (after,)).fetchall()
        newest = max((row["seq"] for row in rows), default=after)
        return newest, {row["task_id"] for row in rows if row["task_id"] is not None}

    def newest_event(self) -> int:
        """The number of the newest event; 0 before the first."""
        return int(self._db.execute("SELECT COALESCE(max(seq), 0) FROM journal").fetchone()[0])

    def states(self) -> dict[State, int]:
        """How many tasks are in each state."""
        # Tasks with the same of these are in the same state, but where something was held back: that may be burned.
        same = '"where", stage, final, iif(holdback_bps > 0 AND client_mark > 0, rowid, 0)'
        rows = self._db.execute(f"SELECT *, count(*) AS number FROM tasks GROUP BY {same}")  # noqa: S608
        counts: Counter[State] = Counter()
        for row in rows:
            counts[_task(row).state] += row["number"]
        return dict(counts)

    # -- posts of a client

    def save_post(self, post_id: bytes, data: Mapping[str, Any]) -> None:
        """Add or replace what is kept of a task that we posted."""
        with self._atomic("post") as db:
            db.execute("INSERT OR REPLACE INTO posts VALUES (?, ?)", (post_id, json.dumps(data)))

    def post(self, post_id: bytes) -> dict[str, Any] | None:
        row = self._db.execute("SELECT data FROM posts WHERE id = ?", (post_id,)).fetchone()
        return json.loads(row["data"]) if row else None

    def posts(self) -> list[bytes]:
        """Ids of the tasks that we posted, newest first."""
        return [row["id"] for row in self._db.execute("SELECT id FROM posts ORDER BY rowid DESC")]

    # -- declines and events

    def decline_task(self, task_id: bytes, code: str, sentence: str, until: int) -> bool:
        """Count a task as declined, once whatever is asked how often; False when it was counted before.

        `until` is its claim deadline, a height. Of the tasks the DECLINES_KEPT that were declined last are remembered.
        """
        return bool(self.decline_tasks([(task_id, code, sentence, until)]))

    def decline_tasks(self, rows: Iterable[tuple[bytes, str, str, int]]) -> list[bytes]:
        """As `decline_task`, for many (task id, code, sentence, claim deadline) at once; those that were not counted before."""
        counted: list[bytes] = []
        with self._atomic("decline") as db:
            for row in rows:
                if not db.execute("INSERT OR IGNORE INTO declined VALUES (?, ?, ?, ?)", row).rowcount:
                    continue
                counted.append(row[0])
                db.execute(
                    "INSERT INTO declines VALUES (?, 1, ?) ON CONFLICT (code) DO UPDATE SET count = count + 1, last = excluded.last",
                    row[1:3],
                )
            db.execute("DELETE FROM declined WHERE rowid <= (SELECT max(rowid) FROM declined) - ?", (DECLINES_KEPT,))
        return counted

    def declined(self, task_id: bytes) -> tuple[str, str] | None:
        """Code and sentence of a task that was not taken."""
        row = self._db.execute("SELECT code, sentence FROM declined WHERE task = ?", (task_id,)).fetchone()
        return (row["code"], row["sentence"]) if row else None

    def slashed(self) -> list[Task]:
        """Tasks whose missed deadline cost us, and that no operator has acknowledged yet."""
        rows = self._db.execute("SELECT * FROM tasks WHERE \"where\" = 'timed_out' AND acknowledged = 0 ORDER BY rowid")
        return [_task(row) for row in rows]

    def declines(self) -> dict[str, tuple[int, str]]:
        """Per reason code: how often, and the newest sentence."""
        return {
            row["code"]: (row["count"], row["last"]) for row in self._db.execute("SELECT * FROM declines ORDER BY code")
        }

    def events(self, task_id: bytes) -> list[tuple[str, str, dict[str, Any]]]:
        """(time, event, data) of one task, in order, fit to be shown: without its salt."""
        rows = self._db.execute("SELECT at, event, data FROM journal WHERE task_id = ? ORDER BY seq", (task_id,))
        return [(row["at"], row["event"], fold.shown(json.loads(row["data"]))) for row in rows]

    def _log(self, db: sqlite3.Connection, task_id: bytes | None, event: str, data: Mapping[str, Any]) -> None:
        db.execute(
            "INSERT INTO journal (task_id, event, data) VALUES (?, ?, ?)",
            (task_id, event, json.dumps(data, separators=(",", ":"))),
        )


def _close_to_others(path: Path, *, make: bool) -> None:
    """Mode 0600, whatever the umask says: it holds salts. What SQLite puts beside it takes its mode over."""
    # Never opened and closed where it is there: that would end the locks that this process has on it.
    with suppress(OSError):  # SQLite will say what is wrong
        if not make or path.exists():
            if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)


def _passing(error: BaseException) -> str | None:
    """Why an error of SQLite may be over later; None for one that is not of that kind."""
    return _PASSING.get(error.sqlite_errorcode & 0xFF) if isinstance(error, sqlite3.OperationalError) else None


def _task(row: sqlite3.Row) -> Task:
    return task_of(dict(row))
