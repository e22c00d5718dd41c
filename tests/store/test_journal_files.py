"""The journal's file: ours and whole or refused, shared without harm, and never half written, whatever the disk or a signal does."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import made
import pytest

from aihd.errors import ConfigError, TemporaryError
from aihd.store.journal import Journal, TxRecord
from aihd.store.schema import APPLICATION_ID, MIGRATIONS

TASK = made.task(locator="data:")
HELPERS = {**os.environ, "PYTHONPATH": str(Path(made.__file__).parent)}  # for a process of its own
TX = TxRecord("aa" * 32, "claim:01", "claim", TASK.id, b"bytes", 1_100_000, 1_100_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aihd.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as opened:
        yield opened


def raw(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement).fetchall()


def test_open__when__new__then__wal_full_sync_and_marked_as_ours(path: Path, journal: Journal) -> None:
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]
    assert raw(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert raw(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]


@pytest.mark.parametrize("read_only", [False, True])
def test_open__when__a_database_of_another_program__then__refused_and_untouched(path: Path, read_only: bool) -> None:
    raw(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"ops.data_dir: {path} is a database of another program"):
        Journal(path, read_only=read_only)
    assert path.read_bytes() == before
    assert raw(path, "SELECT name FROM sqlite_master") == [("theirs",)]


@pytest.mark.parametrize("read_only", [False, True])
def test_open__when__written_by_a_newer_aihd__then__refused(path: Path, read_only: bool) -> None:
    Journal(path).close()
    raw(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(ConfigError, match=rf"written by a newer aihd \(schema {len(MIGRATIONS) + 1}, this one knows"):
        Journal(path, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("content", [b"not a database, but long enough for a header" * 40, b"SQLite format 3\0" * 64])
def test_open__when__the_file_is_no_database__then__one_line_says_so(
    path: Path, content: bytes, read_only: bool
) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"ops.data_dir: {path} is not a usable database: .*not a database"):
        Journal(path, read_only=read_only)


def test_open__when__a_page_is_damaged__then__refused(path: Path) -> None:
    with Journal(path) as journal:
        for number in range(50):
            journal.add(replace(TASK, id=bytes([number]) * 32))
    content = bytearray(path.read_bytes())
    content[4096 * 2 : 4096 * 4] = b"\xa5" * 4096 * 2
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ops.data_dir: .* is (damaged|not a usable database)"):
        Journal(path)


@pytest.mark.parametrize("read_only", [False, True])
def test_open__when__the_folder_is_missing__then__refused(path: Path, read_only: bool) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Journal(path.parent / "missing" / "aihd.sqlite", read_only=read_only)


def test_open__when__read_only_and_empty__then__refused_and_not_made(path: Path) -> None:
    path.touch()
    with pytest.raises(ConfigError, match=f"ops.data_dir: {path} has schema 0, this aihd reads {len(MIGRATIONS)}"):
        Journal(path, read_only=True)
    assert path.read_bytes() == b""


def test_read_only__when__a_writer_is_open__then__sees_what_is_committed_and_cannot_write(
    path: Path, journal: Journal
) -> None:
    journal.add(TASK)
    with Journal(path, read_only=True) as reader:
        assert reader.task(TASK.id) == TASK
        journal.update(TASK.id, "x", final=True)
        assert reader.task(TASK.id).final
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.decline_task(TASK.id, "x", "y", 1)


def test_read_only__when__no_writer_is_left__then__still_read(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(TASK)
    with Journal(path, read_only=True) as reader:
        assert reader.open_tasks() == [TASK]


def test_write__when__another_process_holds_the_database__then__temporary(path: Path, journal: Journal) -> None:
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            ready.set()
            done.wait(30)
            db.execute("ROLLBACK")

    journal._db.execute("PRAGMA busy_timeout = 50")
    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(10)
    try:
        with pytest.raises(TemporaryError, match="cannot be written now"):
            journal.add(TASK)
    finally:
        done.set()
        holder.join()
    assert journal.add(TASK)


def test_guest__when__the_owner_is_at_work__then__writes_beside_it_and_never_migrates(
    path: Path, journal: Journal
) -> None:
    with Journal(path, guest=True) as guest:
        guest.remember("paused", "now")
    assert journal.meta()["paused"] == "now"
    raw(path, f"PRAGMA user_version = {len(MIGRATIONS) - 1}")
    with pytest.raises(ConfigError, match=f"has schema {len(MIGRATIONS) - 1}, this aihd reads {len(MIGRATIONS)}"):
        Journal(path, guest=True)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Journal(path.with_name("missing"), guest=True)


def test_write__when__the_disk_is_full__then__temporary_and_nothing_half_written(path: Path, journal: Journal) -> None:
    journal.add(TASK)
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    written = 0
    with pytest.raises(TemporaryError, match=r"cannot be written now, and nothing was: the disk is full"):
        for number in range(2, 200):
            journal.add(replace(TASK, id=bytes([number]) * 32))
            written += 1
    assert len(journal.tasks()) == written + 1
    assert journal.audit() == []
    journal._db.execute("PRAGMA max_page_count = 100000")
    assert journal.add(replace(TASK, id=b"\xff" * 32))  # there is room again: it works on


LIMITED = """
    import resource, sys
    from dataclasses import replace
    from pathlib import Path
    import made
    from aihd.errors import TemporaryError
    from aihd.store.journal import Journal

    task = made.task(id=b"t" * 32)
    with Journal(Path(sys.argv[1])) as journal:
        journal.add(task)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        wal = Path(sys.argv[1] + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal + 2000, hard))
        try:
            journal.add(replace(task, id=b"u" * 32))
        except TemporaryError as error:
            print(error)
        assert journal.tasks() == [task] and journal.audit() == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert journal.add(replace(task, id=b"u" * 32))
"""


@pytest.mark.slow  # it waits as long as SQLite is told to
def test_open__when__another_process_holds_it_for_a_migration__then__temporary_not_a_wrong_configuration(
    path: Path,
) -> None:
    script = """
        import sys, sqlite3
        db = sqlite3.connect(sys.argv[1], isolation_level=None)
        db.execute("BEGIN EXCLUSIVE")
        print("held", flush=True)
        sys.stdin.readline()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TemporaryError, match="cannot be used now: another process holds it"):
            Journal(path)
        holder.stdin.close()
    Journal(path).close()


def test_write__when__the_commit_itself_fails_on_the_disk__then__temporary_and_the_next_one_works(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=HELPERS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written now, and nothing was: the disk fails, or its quota is used up" in done.stdout
    with Journal(path) as journal:
        assert [task.id[:1] for task in journal.tasks()] == [b"u", b"t"]


WRITER = """
    import sys
    from pathlib import Path
    import made
    from aihd.store.journal import Journal, TxRecord

    journal = Journal(Path(sys.argv[1]))
    for number in range(10**6):
        task_id = number.to_bytes(32, "big")
        journal.add(made.task(id=task_id))
        journal.record(TxRecord(str(number), str(number), "claim", task_id, b"tx", 1, 1))
        journal.update(task_id, "noted", note=str(number))
        print(number, flush=True)
"""


def test_journal__when__its_writer_is_killed__then__all_that_it_returned_from_is_there(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True, env=HELPERS
    ) as writer:
        assert writer.stdout is not None
        told = 0
        for line in writer.stdout:
            told = int(line)
            if told == 60:
                os.kill(writer.pid, signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    with Journal(path) as journal:
        tasks = journal.tasks(10**6)
        assert len(tasks) >= told + 1 >= 61
        for number in range(told + 1):
            task_id = number.to_bytes(32, "big")
            assert journal.task(task_id).note == str(number)
            assert [tx.intent for tx in journal.transactions(task_id)] == [str(number)]
            assert [event for _, event, _ in journal.events(task_id)] == ["accepted", "signed", "noted"]
