"""A backup: whole or not there, its owner's alone, made beside a writer, and it says that it is one."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import made
import pytest

from aihd.errors import ConfigError, UsageError
from aihd.store.backup import back_up
from aihd.store.journal import Journal
from aihd.store.schema import APPLICATION_ID, MIGRATIONS

TASK = made.task(locator="data:")
HELPERS = {**os.environ, "PYTHONPATH": str(Path(made.__file__).parent)}  # for a process of its own


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "aihd.sqlite"


def test_backup__when__made_beside_an_open_journal__then__the_copy_has_what_was_committed(
    path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "copy"
    with Journal(path) as journal:
        journal.bind(market="m")
        journal.add(TASK)
        journal.backup(target)
        journal.add(replace(TASK, id=b"\2" * 32))
        assert journal.restored_from() is None
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {entry.name for entry in tmp_path.iterdir()} == {"data", "copy"}
    with Journal(target) as copy:
        assert copy.tasks() == [TASK]
        assert copy.meta()["market"] == "m"
        assert copy.audit() == []


def test_restored__when__a_backup_is_put_back__then__told_until_cleared_and_noted(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(TASK)
        journal.backup(path.with_name("copy"))
    path.with_name("copy").rename(path)
    for _ in range(2):
        with Journal(path) as journal:
            made_at = journal.restored_from()
            assert made_at is not None
            assert datetime.fromisoformat(made_at) <= datetime.now(UTC)
    with Journal(path) as journal:
        journal.clear_restored()
        journal.clear_restored()
        assert journal.restored_from() is None
        assert journal.audit() == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT task_id, event FROM journal WHERE event = 'restored'").fetchall() == [
            (None, "restored")
        ]


def test_backup__when__of_a_backup__then__it_has_its_own_time(path: Path) -> None:
    with Journal(path) as journal:
        journal.backup(path.with_name("one"))
    with Journal(path.with_name("one")) as journal:
        journal.remember("backup_made_at", "2001-01-01T00:00:00+00:00")
        journal.backup(path.with_name("two"))
    with Journal(path.with_name("two")) as copy:
        made_at = copy.restored_from()
        assert made_at is not None and not made_at.startswith("2001")


def test_backup__when__the_target_is_there__then__refused_and_untouched(path: Path) -> None:
    target = path.with_name("copy")
    target.write_text("mine")
    with Journal(path) as journal, pytest.raises(UsageError, match="is there already: a backup overwrites nothing"):
        journal.backup(target)
    assert target.read_text() == "mine"
    dangling = path.with_name("link")
    dangling.symlink_to("nowhere")
    with pytest.raises(UsageError, match="is there already"):
        back_up(path, dangling)


def test_backup__when__the_folder_is_missing__then__usage(path: Path) -> None:
    Journal(path).close()
    with pytest.raises(UsageError, match="cannot be made"):
        back_up(path, path.parent / "missing" / "copy")


@pytest.mark.parametrize("content", [None, b"no database, but long enough for a header" * 40])
def test_backup__when__there_is_no_database_of_ours__then__config_and_nothing_is_left(
    path: Path, content: bytes | None
) -> None:
    if content:
        path.write_bytes(content)
    before = set(path.parent.iterdir())
    with pytest.raises(ConfigError, match=r"ops\.data_dir"):
        back_up(path, path.with_name("copy"))
    assert set(path.parent.iterdir()) == before


def test_backup__when__the_database_is_of_an_older_schema__then__copied_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(f"{MIGRATIONS[0]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
    back_up(path, path.with_name("copy"))
    with closing(sqlite3.connect(path.with_name("copy"))) as copy:
        assert copy.execute("PRAGMA user_version").fetchone() == (1,)
        assert copy.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    with Journal(path.with_name("copy")) as opened:
        assert opened.restored_from() is not None


def test_backup__when__the_disk_has_no_room__then__temporary_and_nothing_is_left(path: Path) -> None:
    with Journal(path) as journal:
        journal.add(TASK)
    script = """
        import resource, sys
        from pathlib import Path
        from aihd.errors import TemporaryError
        from aihd.store.backup import back_up

        resource.setrlimit(resource.RLIMIT_FSIZE, (40960, 40960))
        try:
            back_up(Path(sys.argv[1]), Path(sys.argv[1] + ".copy"))
        except TemporaryError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be copied to" in done.stdout
    assert not [entry for entry in path.parent.iterdir() if "copy" in entry.name]


def test_backup__when__a_writer_goes_on__then__every_copy_is_one_state(path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        import made
        from aihd.store.journal import Journal

        with Journal(Path(sys.argv[1])) as journal:
            print("open", flush=True)
            for number in range(10**6):
                journal.add(made.task(id=number.to_bytes(32, "big")))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], stdout=subprocess.PIPE, text=True, env=HELPERS
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "open\n"
        counts = []
        for number in range(5):
            back_up(path, path.with_name(f"copy{number}"))
            with Journal(path.with_name(f"copy{number}")) as copy:
                assert copy.audit() == []
                counts.append(len(copy.tasks(10**6)))
        writer.kill()
    assert counts == sorted(counts)
