"""Reads and writes nodo's database as nodo's own process does: one connection for seven threads, and a lock around each statement only.

So a SELECT of one thread may be open while another one writes. On a connection that reads already SQLite does not wait for somebody
else's write lock: nodo's write fails at once, and nodo does not repeat it. And a score is read in one statement and written in another, so
what somebody else adds in between is lost.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aihd.nodo.database import columns

EVENTS_KEPT = 200
EVENTS_PRUNED_EVERY = 50


class NodoConnection:
    """nodo's `SQLConnection`, as far as the bridge meets it: the same names, statements and lock."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.Lock()
        self._events = bool(columns(self._connection, "reputation_events"))

    def close(self) -> None:
        self._connection.close()

    def _execute(self, query: str, params: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        with self._lock:
            try:
                cursor = self._connection.cursor()
                cursor.execute(query, params)
                self._connection.commit()
            except sqlite3.Error:
                self._connection.rollback()
                raise
            return cursor

    def _batch(self, queries: list[tuple[str, tuple[Any, ...]]]) -> None:
        with self._lock:
            try:
                for query, params in queries:
                    self._connection.execute(query, params)
                self._connection.commit()
            except sqlite3.Error:
                self._connection.rollback()
                raise

    def peer_exists(self, peer_id: str) -> bool:
        return bool(self._execute("SELECT COUNT(*) FROM peer WHERE id = ?", (peer_id,)).fetchone()[0])

    def update_reputation_peer(self, peer_id: str, amount: int, reason: str = "operator_adjustment") -> bool:
        """Read in one statement, written in another; with an event where this version has them."""
        sql = "SELECT reputation_score, reputation_index FROM peer WHERE id = ?"
        row = self._execute(sql, (peer_id,)).fetchone()
        if row is None:
            return False
        score, index = (row[0] or 0) + amount, (row[1] or 0) + 1
        update = ("UPDATE peer SET reputation_score = ?, reputation_index = ? WHERE id = ?", (score, index, peer_id))
        self._write("peer", peer_id, amount, reason, (score, index), update)
        return True

    def update_reputation_service(self, service_id: str, amount: int, reason: str = "operator_adjustment") -> bool:
        """As a peer's, but the row is made when there is none."""
        sql = "SELECT reputation_score, reputation_index FROM service_reputation WHERE service_id = ?"
        row = self._execute(sql, (service_id,)).fetchone()
        score, index = (row[0] if row else 0) + amount, (row[1] if row else 0) + 1
        sql = "INSERT OR REPLACE INTO service_reputation (service_id, reputation_score, reputation_index) VALUES (?, ?, ?)"
        self._write("service", service_id, amount, reason, (score, index), (sql, (service_id, score, index)))
        return True

    def _write(
        self,
        kind: str,
        subject: str,
        amount: int,
        reason: str,
        after: tuple[int, int],
        update: tuple[str, tuple[Any, ...]],
    ) -> None:
        queries = [update]
        if self._events:
            sql = "INSERT INTO reputation_events (subject_kind, subject_id, amount, reason, score_after) VALUES (?, ?, ?, ?, ?)"
            queries.append((sql, (kind, subject, amount, reason, after[0])))
            if after[1] % EVENTS_PRUNED_EVERY == 0:
                sql = (
                    "DELETE FROM reputation_events WHERE subject_kind = ? AND subject_id = ? AND id NOT IN (SELECT id FROM"
                    " reputation_events WHERE subject_kind = ? AND subject_id = ? ORDER BY id DESC LIMIT ?)"
                )
                queries.append((sql, (kind, subject, kind, subject, EVENTS_KEPT)))
        self._batch(queries)


@dataclass
class NodoWrites:
    """What seven threads did: statements that went well and those that failed, by what they were; points given to each peer."""

    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)


def work_as_nodo(
    path: Path,
    peers: tuple[str, ...],
    seconds: float,
    *,
    pause: float,
    beside: Callable[[NodoConnection], None] | None = None,
) -> NodoWrites:
    """Work on nodo's database for some seconds with seven threads: they write instances, credit and points, and leave SELECTs open.

    `pause` in seconds between two statements of a thread. `beside` is called now and then by an eighth.
    """
    with closing(NodoConnection(path)) as connection:
        return _Work(connection, peers, time.monotonic() + seconds, pause).run(beside)


class _Work:
    def __init__(self, connection: NodoConnection, peers: tuple[str, ...], until: float, pause: float) -> None:
        self._connection, self._peers, self._until, self._pause = connection, peers, until, pause
        self._writes = NodoWrites()
        names = columns(connection._connection, "clients")
        self._balance = "balance_mu" if "balance_mu" in names else "gas"

    def run(self, beside: Callable[[NodoConnection], None] | None) -> NodoWrites:
        self._connection._execute(f"INSERT OR IGNORE INTO clients (id, {self._balance}) VALUES ('nodo-0', '0')")  # noqa: S608
        jobs = [
            self._instances,
            self._credit,
            self._credit,
            self._reputation,
            self._reputation,
            self._reads,
            self._reads,
        ]
        threads = [threading.Thread(target=self._again, args=(job, number)) for number, job in enumerate(jobs)]
        if beside is not None:
            threads.append(threading.Thread(target=self._manager, args=(beside,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._writes

    def _again(self, job: Callable[[int, int], None], thread: int) -> None:
        turn = 0
        while time.monotonic() < self._until:
            name = job.__name__.strip("_")
            try:
                job(thread, turn)
                self._writes.done[name] += 1
            except sqlite3.OperationalError:
                self._writes.failed[name] += 1
            turn += 1
            time.sleep(self._pause)

    def _manager(self, beside: Callable[[NodoConnection], None]) -> None:
        while time.monotonic() < self._until:
            beside(self._connection)
            time.sleep(0.05)
        beside(self._connection)

    def _instances(self, thread: int, turn: int) -> None:
        sql = "INSERT OR REPLACE INTO local_instances (id, name, father_id) VALUES (?, ?, 'nodo')"
        self._connection._execute(sql, (f"nodo-{turn % 20}", f"name-{turn % 20}"))

    def _credit(self, thread: int, turn: int) -> None:
        sql = f"UPDATE clients SET {self._balance} = ? WHERE id = 'nodo-0'"  # noqa: S608
        self._connection._execute(sql, (str(turn),))

    def _reputation(self, thread: int, turn: int) -> None:
        peer = self._peers[(turn + thread) % len(self._peers)]
        with (
            _ONE_AT_A_TIME
        ):  # nodo's own threads overwrite each other's points, too: what is counted here is what others lose
            self._connection.update_reputation_peer(peer, 1, "payment_communicated")
            self._writes.points[peer] += 1

    def _reads(self, thread: int, turn: int) -> None:
        cursor = self._connection._execute("SELECT id FROM peer")
        cursor.fetchone()
        time.sleep(self._pause / 2 or 0.0005)
        cursor.fetchall()


_ONE_AT_A_TIME = threading.Lock()
