"""Writing reputation into nodo's database, on real files with nodo's schemas."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from aihd.devnet.nodo_schema import create_database
from aihd.errors import DependencyError, TemporaryError, UsageError
from aihd.nodo.database import holds_instance
from aihd.nodo.reputation import (
    Rating,
    SubjectKind,
    WriteResult,
    overwritten,
    read_scores,
    read_service_reputation,
    write_ratings,
    write_reputation,
)

SERVICE, PEER = "5" * 64, "9" * 64


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = create_database(tmp_path)
    query(path, "INSERT INTO peer (id) VALUES (?)", PEER)
    return path


def query(path: Path, sql: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield other


def test_write__when__service_is_new__then__row_and_event(database: Path) -> None:
    assert read_service_reputation(database, SERVICE) is None
    assert write_reputation(database, "service", SERVICE, 10, key="task-1") is WriteResult.WRITTEN
    assert write_reputation(database, "service", SERVICE, -25, key="task-2") is WriteResult.WRITTEN
    assert read_service_reputation(database, SERVICE) == (-15, 2)
    rows = query(database, "SELECT subject_kind, subject_id, amount, reason, score_after FROM reputation_events")
    assert rows == [
        ("service", SERVICE, 10, "aih_rating:task-1", 10),
        ("service", SERVICE, -25, "aih_rating:task-2", -15),
    ]


@pytest.mark.parametrize(("kind", "subject"), [("service", SERVICE), ("peer", PEER)])
def test_write__when__key_was_written_before__then__nothing_changes(
    database: Path, kind: SubjectKind, subject: str
) -> None:
    assert write_reputation(database, kind, subject, 10, key="k") is WriteResult.WRITTEN
    before = query(database, "SELECT * FROM service_reputation, peer")
    assert write_reputation(database, kind, subject, 10, key="k") is WriteResult.ALREADY
    assert query(database, "SELECT * FROM service_reputation, peer") == before
    assert query(database, "SELECT COUNT(*) FROM reputation_events") == [(1,)]


@pytest.mark.parametrize(("score", "index", "expected"), [(None, None, (7, 1)), (3, 4, (10, 5)), (0, -9, (7, 1))])
def test_write__when__peer_has_odd_or_missing_numbers__then__index_is_at_least_one(
    database: Path, score: int | None, index: int | None, expected: tuple[int, int]
) -> None:
    query(database, "UPDATE peer SET reputation_score = ?, reputation_index = ?", score, index)
    assert write_reputation(database, "peer", PEER, 7, key="k") is WriteResult.WRITTEN
    assert query(database, "SELECT reputation_score, reputation_index FROM peer") == [expected]


def test_write__when__service_row_has_a_negative_index__then__index_is_one(database: Path) -> None:
    query(database, "INSERT INTO service_reputation VALUES (?, 5, -3)", SERVICE)
    write_reputation(database, "service", SERVICE, 1, key="k")
    assert read_service_reputation(database, SERVICE) == (6, 1)


def test_write__when__peer_is_unknown__then__no_subject_and_no_trace(database: Path) -> None:
    assert write_reputation(database, "peer", "8" * 64, 7, key="k") is WriteResult.NO_SUBJECT
    assert query(database, "SELECT COUNT(*) FROM peer") == [(1,)]
    assert query(database, "SELECT COUNT(*) FROM reputation_events") == [(0,)]


@pytest.mark.parametrize(("kind", "subject"), [("service", SERVICE), ("peer", PEER)])
def test_write__when__schema_has_no_events__then__unsupported_and_untouched(
    tmp_path: Path, kind: SubjectKind, subject: str
) -> None:
    old = tmp_path / "old.sqlite"
    query(old, "CREATE TABLE peer (id TEXT PRIMARY KEY, reputation_score INTEGER, reputation_index INTEGER)")
    query(old, "INSERT INTO peer VALUES (?, 1, 1)", PEER)
    assert write_reputation(old, kind, subject, 7, key="k") is WriteResult.UNSUPPORTED
    assert query(old, "SELECT * FROM peer") == [(PEER, 1, 1)]
    assert read_service_reputation(old, SERVICE) is None


def test_write__when__nodo_holds_the_lock_too_long__then__temporary_error_and_nothing_written(database: Path) -> None:
    with locked(database), pytest.raises(TemporaryError, match="is busy"):
        write_reputation(database, "service", SERVICE, 1, key="k", busy_timeout=0.05)
    assert read_service_reputation(database, SERVICE) is None


def test_write__when__nodo_ends_its_write_in_time__then__waits_and_writes(database: Path) -> None:
    with locked(database) as other:
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        release.start()
        assert write_reputation(database, "service", SERVICE, 1, key="k", busy_timeout=10) is WriteResult.WRITTEN
        release.join()


def test_write__when__two_writers_race_with_one_key__then__one_write(database: Path) -> None:
    results: list[WriteResult] = []
    start = threading.Barrier(4)

    def write() -> None:
        start.wait()
        results.append(write_reputation(database, "service", SERVICE, 5, key="k"))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.value for result in results) == ["already", "already", "already", "written"]
    assert read_service_reputation(database, SERVICE) == (5, 1)


def test_write__when__file_is_missing__then__error_and_no_file_is_made(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    with pytest.raises(DependencyError, match="does not exist"):
        write_reputation(path, "service", SERVICE, 1, key="k")
    assert not path.exists()


def test_write__when__file_is_no_database__then__dependency_error(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.raises(DependencyError, match="not a database"):
        write_reputation(path, "service", SERVICE, 1, key="k")


def test_write__when__file_allows_reading_only__then__dependency_error(database: Path) -> None:
    # The format's own read-only mark (write version above what SQLite knows): it stops root, too.
    with database.open("r+b") as file:
        file.seek(18)
        file.write(b"\x03")
    with pytest.raises(DependencyError, match="may not be written"):
        write_reputation(database, "service", SERVICE, 1, key="k")


def test_write__when__done__then__journal_mode_is_still_nodo_s(database: Path) -> None:
    write_reputation(database, "service", SERVICE, 1, key="k")
    assert query(database, "PRAGMA journal_mode") == [("delete",)]
    assert [path.name for path in database.parent.iterdir()] == [database.name]


@pytest.mark.parametrize(("subject", "key"), [("abc", "k"), (SERVICE.upper() + "A", "k"), (SERVICE, "")])
def test_write__when__subject_or_key_is_wrong__then__usage_error(database: Path, subject: str, key: str) -> None:
    with pytest.raises(UsageError, match=r"subject_id|key"):
        write_reputation(database, "service", subject, 1, key=key)


def test_holds_instance__when__token_is_local_delegated_or_unknown__then__says_so(database: Path) -> None:
    query(database, "INSERT INTO local_instances (id, name) VALUES ('local', 'n')")
    query(database, "INSERT INTO delegated_instances (token_delegation, id) VALUES ('at-peer', 'given-out')")
    assert [holds_instance(database, token) for token in ("local", "at-peer", "given-out", "other")] == [
        True,
        True,
        True,
        False,
    ]


def test_overwritten__when__nodo_read_before_and_wrote_after_us__then__seen_in_its_next_event_and_written_again(
    database: Path,
) -> None:
    ours = [Rating(kind="peer", subject=PEER, delta=7, key=key) for key in ("a", "b")]

    def nodo_adds(score: int, amount: int) -> None:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("UPDATE peer SET reputation_score = ? WHERE id = ?", (score + amount, PEER))
            event = (PEER, amount, "payment_communicated", score + amount)
            sql = "INSERT INTO reputation_events (subject_kind, subject_id, amount, reason, score_after) VALUES ('peer', ?, ?, ?, ?)"
            connection.execute(sql, event)

    nodo_adds(0, 10)
    write_ratings(database, ours[:1])
    nodo_adds(17, 1)  # it read after us
    assert overwritten(database, ours) == []
    write_ratings(database, ours[1:])
    nodo_adds(18, 1)  # it read before our second
    assert overwritten(database, ours) == ours[1:]
    write_ratings(database, [], again=ours)
    assert overwritten(database, ours) == []
    assert read_scores(database, "peer") == {PEER: 26}
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT SUM(amount) FROM reputation_events").fetchone() == (26,), "events add up"
        assert connection.execute("SELECT COUNT(*) FROM reputation_events WHERE reason LIKE 'aih%'").fetchone() == (2,)
    assert write_ratings(database, ours) == [WriteResult.ALREADY] * 2
