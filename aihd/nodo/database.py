"""nodo's SQLite file as a guest uses it: opened for one operation, closed at once, its settings left alone.

nodo replaces the file when it migrates, so no connection is kept. Its journal mode is never changed: write-ahead
logging would leave files behind that belong to another user than nodo's.
"""

from __future__ import annotations

import grp
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aihd.errors import AihdError, DependencyError, TemporaryError, one_line

BUSY_TIMEOUT = 30.0
"""Seconds to wait for nodo to end its own write."""

_LOCKS = Path("/proc/locks")
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextmanager
def opened(path: Path, *, busy_timeout: float = BUSY_TIMEOUT) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode to an existing file, never a new one.

    TemporaryError while nodo holds the file longer than `busy_timeout` seconds; DependencyError when the file is
    missing, may not be written or is no database.
    """
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=busy_timeout, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise _translated(path, error) from error


@contextmanager
def quiet_transaction(
    connection: sqlite3.Connection, path: Path, patience: float, held: Callable[[float], object] | None = None
) -> Iterator[None]:
    """A short transaction in a moment when nobody else reads or writes, so that no statement of nodo's can fail because of it.

    nodo has one connection for many threads. While a SELECT of one of them is open, a write of another that meets our lock fails at once,
    instead of waiting; so ours is taken only when none is open, and then whoever comes waits, as SQLite makes a connection wait that holds
    nothing. TemporaryError when there is no such moment within `patience` seconds. `held` is told for how many seconds nodo had to wait.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    end = time.monotonic() + patience
    while True:
        try:
            if not _in_use(path):
                connection.execute("BEGIN EXCLUSIVE")
                break
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _BUSY:
                raise
        if time.monotonic() >= end:
            raise TemporaryError(f"nodo's database {path} is busy: nodo was never done with it within {patience:g} s")
        time.sleep(random.uniform(0.0005, 0.005))  # noqa: S311 - jitter, not a secret
    yield from _committed(connection, held)


def _in_use(path: Path) -> bool:
    """Whether another process holds a lock on a file, as far as the system shows it. Looking takes none itself."""
    found = path.stat()
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        return any(name in line.split() for line in _LOCKS.read_text().splitlines())
    except OSError:
        return False


@contextmanager
def transaction(connection: sqlite3.Connection, held: Callable[[float], object] | None = None) -> Iterator[None]:
    """All or nothing. The write lock is taken first, so that what is read inside is still true when it is written.

    `held` is told for how many seconds nodo could not write.
    """
    connection.execute("BEGIN IMMEDIATE")
    yield from _committed(connection, held)


def _committed(connection: sqlite3.Connection, held: Callable[[float], object] | None) -> Iterator[None]:
    since = time.perf_counter()
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    if held is not None:
        held(time.perf_counter() - since)


def identity(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path now; None when there is none. nodo's `migrate` puts a new one there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def columns(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Names of a table's columns; empty when this version of nodo has no such table."""
    return frozenset(row[0] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def holds_instance(path: Path, token: str, *, busy_timeout: float = BUSY_TIMEOUT) -> bool:
    """Whether nodo still counts the instance with this token as running, here or on one of its peers.

    DependencyError for a database without such tables, which the nodo of 2024 makes: it cannot tell.
    """
    with opened(path, busy_timeout=busy_timeout) as connection:
        tables = _instance_tables(connection)
        if tables is None:
            raise DependencyError(
                f"nodo's database {path} has no table of instances, so it cannot tell whether one runs"
            )
        here, there, key = tables
        row = connection.execute(
            f"SELECT EXISTS (SELECT 1 FROM {here} WHERE id = :token)"  # noqa: S608 - names from here
            f" OR EXISTS (SELECT 1 FROM {there} WHERE :token IN ({key[1]}, {key[0]}))",
            {"token": token},
        ).fetchone()
    return bool(row[0])


def instances_of(path: Path, client_id: str, *, busy_timeout: float = BUSY_TIMEOUT) -> tuple[str, ...]:
    """Tokens of the instances that nodo runs for one of its clients, here or on its peers; none where its database has no such tables."""
    with opened(path, busy_timeout=busy_timeout) as connection:
        tables = _instance_tables(connection)
        if tables is None:
            return ()
        here, there, key = tables
        rows = connection.execute(
            f"SELECT id FROM {here} WHERE father_id = :client"  # noqa: S608 - names from here
            f" UNION SELECT {key[0]} FROM {there} WHERE {key[2]} = :client",
            {"client": client_id},
        ).fetchall()
    return tuple(str(row[0]) for row in rows)


def is_unmetered(path: Path, client_id: str) -> bool:
    """Whether nodo charges this client nothing, which it says since July 2026. Errors as `opened`."""
    with opened(path) as connection:
        if "unmetered" not in columns(connection, "clients"):
            return False
        row = connection.execute("SELECT unmetered FROM clients WHERE id = ?", (client_id,)).fetchone()
    return bool(row and row[0])


def _instance_tables(connection: sqlite3.Connection) -> tuple[str, str, tuple[str, str, str]] | None:
    """(instances here, instances on peers, the latter's columns of our token, the peer's token and our client id); None without them."""
    if columns(connection, "local_instances"):
        return "local_instances", "delegated_instances", ("token_delegation", "id", "father_id")
    if columns(connection, "internal_services"):  # 2025
        return "internal_services", "external_services", ("token_hash", "token", "client_id")
    return None


def unwritable(folder: Path) -> str | None:
    """A sentence when files may not be made in a folder; None when they may."""
    if os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return None
    return f"nodo's folder {folder} may not be written"


def join_group(path: Path) -> str:
    """What lets aihd write there: its group, as a command."""
    try:
        number = path.stat().st_gid
    except OSError:
        return "aihd has to run in nodo's group"
    try:
        group = grp.getgrgid(number).gr_name
    except KeyError:
        group = str(number)
    return f"aihd has to run in nodo's group, which may write: chmod g+rwX {path} && usermod -aG {group} aihd"


def _translated(path: Path, error: sqlite3.Error) -> AihdError:
    # The low byte is the kind of error, the rest says more about it.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return TemporaryError(f"nodo's database {path} is busy: nodo did not end its own write in time")
    if not path.is_file():
        return DependencyError(f"nodo's database {path} does not exist; it should be nodo's main.DATABASE_FILE")
    if closed := unwritable(path.parent):
        return DependencyError(f"{closed}, and SQLite puts its journal there; {join_group(path.parent)}")
    if code == sqlite3.SQLITE_READONLY:
        return DependencyError(f"nodo's database {path} may not be written; {join_group(path)}")
    return DependencyError(f"nodo's database {path}: {one_line(error)}")
