"""The journal: what it returned from is on the disk, one live transaction for an intent, and nobody else's database is touched."""

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
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from aihd.core.task import Stage, State, Task, Where
from aihd.errors import ConfigError, InvariantError, TemporaryError
from aihd.store.journal import HEADERS_KEPT, Header, Journal, TxRecord, TxStatus
from aihd.store.schema import APPLICATION_ID, MIGRATIONS

TASK = Task(b"\1" * 32, b"\2" * 32, b"\3" * 32, 10**9, b"\4" * 33, 100, 60, "data:")
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


# ---------------------------------------------------------------- tasks


def test_add__when__known_already__then__false_and_the_first_stays(journal: Journal) -> None:
    assert journal.add(TASK)
    assert not journal.add(replace(TASK, payment=1))
    assert journal.task(TASK.id) == TASK
    assert [event for _, event, _ in journal.events(TASK.id)] == ["accepted"]


def test_task__when__every_field_is_set__then__read_back_the_same(journal: Journal) -> None:
    full = replace(
        TASK,
        where=Where.COMMITTED,
        stage=Stage.DONE,
        since=1,
        final=True,
        claim_height=2,
        claim_block=b"\5" * 32,
        exec_deadline=3,
        commit_deadline=4,
        reveal_deadline=5,
        may_reveal=True,
        instance="token",
        output_hash=b"\6" * 32,
        receipt_cid=b"\7" * 38,
        params_hash=b"\x08" * 32,
        mark=5,
        salt=b"\x09" * 32,
        client_mark=4,
        bridged=True,
        note="a note",
    )
    journal.add(full)
    assert asdict(journal.task(TASK.id)) == asdict(full)


def test_update__when__fields_change__then__stored_and_journalled_and_the_salt_is_not_shown(
    journal: Journal, path: Path
) -> None:
    journal.add(TASK)
    after = journal.update(TASK.id, "mark chosen", stage=Stage.DONE, output_hash=b"\xab", salt=b"secret salt")
    assert after == replace(TASK, stage=Stage.DONE, output_hash=b"\xab", salt=b"secret salt")
    assert journal.find(TASK.id) == after
    assert journal.events(TASK.id)[-1][1:] == ("mark chosen", {"stage": "done", "output_hash": "ab"})
    assert all("salt" not in data for _, _, data in journal.events(TASK.id))
    assert raw(path, "SELECT json_extract(data, '$.salt') FROM journal ORDER BY seq") == [
        (None,),
        (b"secret salt".hex(),),
    ]


@pytest.mark.parametrize("changes", [{}, {"wher": "open"}, {"final": True, "colour": 1}])
def test_update__when__a_field_is_unknown_or_none_is_given__then__nothing_changes(
    journal: Journal, changes: dict[str, object]
) -> None:
    journal.add(TASK)
    with pytest.raises(InvariantError, match="task fields to change"):
        journal.update(TASK.id, "x", **changes)
    assert journal.task(TASK.id) == TASK
    assert len(journal.events(TASK.id)) == 1


def test_update__when__the_task_is_unknown__then__refused_and_not_journalled(journal: Journal) -> None:
    with pytest.raises(InvariantError, match=f"task {TASK.id.hex()} is not in the journal"):
        journal.update(TASK.id, "x", final=True)
    assert journal.events(TASK.id) == []
    with pytest.raises(InvariantError):
        journal.task(TASK.id)
    assert journal.find(TASK.id) is None


def test_update__when__a_value_does_not_fit__then__rolled_back_with_its_event(journal: Journal) -> None:
    journal.add(TASK)
    with pytest.raises(sqlite3.IntegrityError):
        journal.update(TASK.id, "x", payment="much")
    assert journal.task(TASK.id) == TASK
    assert len(journal.events(TASK.id)) == 1
    assert journal.add(replace(TASK, id=b"\x0a" * 32))  # the journal works on


def test_states__when__tasks_stand_in_many_places__then__counted_as_the_operator_sees_them(journal: Journal) -> None:
    places = [
        (Where.OPEN, Stage.WANTED, False),
        (Where.OPEN, Stage.RUNNING, False),
        (Where.CLAIMED, Stage.RUNNING, False),
        (Where.SETTLED, Stage.DONE, False),
        (Where.SETTLED, Stage.DONE, True),
        (Where.SETTLED, Stage.BROKEN, True),
        (Where.LOST, Stage.WANTED, True),
    ]
    for number, (where, stage, final) in enumerate(places):
        journal.add(replace(TASK, id=bytes([number]) * 32, where=where, stage=stage, final=final))
    assert journal.states() == {
        State.CLAIMING: 2,
        State.RUNNING: 1,
        State.SETTLED: 1,
        State.PAID: 2,
        State.LOST: 1,
    }
    assert [task.id[0] for task in journal.open_tasks()] == [0, 1, 2, 3]
    assert [task.id[0] for task in journal.tasks(3)] == [6, 5, 4]


# ---------------------------------------------------------------- transactions


def test_record__when__the_intent_is_live__then__refused_until_it_is_dropped(journal: Journal) -> None:
    journal.record(TX)
    second = replace(TX, id="bb" * 32)
    for status in (TxStatus.PENDING, TxStatus.MINED, TxStatus.FINAL):
        journal.mark(TX.id, status)
        with pytest.raises(InvariantError, match="intent claim:01 already has a live transaction"):
            journal.record(second)
        assert journal.has_live("claim:01")
    journal.mark(TX.id, TxStatus.DROPPED, note="input gone")
    assert not journal.has_live("claim:01")
    journal.record(second)
    assert [(tx.id, tx.status) for tx in journal.transactions(TASK.id)] == [
        (TX.id, TxStatus.DROPPED),
        (second.id, TxStatus.PENDING),
    ]


def test_record__when__written__then__read_back_with_its_bytes(journal: Journal) -> None:
    journal.record(TX)
    journal.count_send(TX.id)
    journal.count_send(TX.id)
    journal.mark(TX.id, TxStatus.MINED, height=7, note="n")
    assert journal.transactions() == [replace(TX, status=TxStatus.MINED, height=7, sent=2, note="n")]
    assert [event for _, event, _ in journal.events(TASK.id)] == ["signed", "mined"]


def test_live__when__some_ended__then__the_others_in_the_order_of_signing(journal: Journal) -> None:
    for number, status in enumerate((TxStatus.FINAL, TxStatus.MINED, TxStatus.DROPPED, TxStatus.PENDING)):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number)))
        journal.mark(f"{number:064}", status)
    assert [int(tx.id) for tx in journal.live()] == [1, 3]


def test_spent_since__when__some_are_old_dropped_or_earn__then__left_out(journal: Journal, path: Path) -> None:
    for number, spent in enumerate((5, 70, -1000, 900, 4000)):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number), spent=spent))
    journal.mark(f"{3:064}", TxStatus.DROPPED)
    raw(path, f"UPDATE transactions SET at = at - 3700 WHERE id = '{4:064}'")
    assert journal.spent_since(3600) == 75
    assert journal.spent_since(24 * 3600) == 4075
    assert journal.spent_since(0) == 0


def test_record__when__it_replaces_a_pending_one__then__that_one_makes_room_in_the_same_commit(
    journal: Journal,
) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, spent=5, replaces=TX.id))
    first, second = journal.transactions(TASK.id)
    assert (first.status, first.note) == (TxStatus.REPLACED, f"replaced by {second.id}")
    assert (second.status, second.replaces) == (TxStatus.PENDING, first.id)
    assert [tx.id for tx in journal.live()] == [second.id]
    assert [tx.id for tx in journal.replaced()] == [first.id]
    assert journal.has_live(TX.intent)
    assert (journal.spent_since(3600), journal.reserved()) == (5, 5)
    assert [event for _, event, _ in journal.events(TASK.id)] == ["signed", "replaced", "signed"]


@pytest.mark.parametrize("status", [TxStatus.MINED, TxStatus.FINAL, TxStatus.DROPPED, None])
def test_record__when__what_it_replaces_is_not_pending_or_of_another_intent__then__refused_whole(
    journal: Journal, status: TxStatus | None
) -> None:
    journal.record(TX if status else replace(TX, intent="other"))
    if status:
        journal.mark(TX.id, status)
    before = journal.transactions()
    with pytest.raises(InvariantError, match="not a pending transaction for claim:01"):
        journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    assert journal.transactions() == before


def test_mark__when__the_replaced_one_is_mined_after_all__then__it_takes_its_place_back(journal: Journal) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [(tx.id, tx.status) for tx in journal.transactions()] == [
        (TX.id, TxStatus.MINED),
        ("bb" * 32, TxStatus.REPLACED),
    ]
    assert [tx.id for tx in journal.replaced()] == ["bb" * 32]
    journal.mark(TX.id, TxStatus.FINAL, height=9)
    assert journal.replaced() == []


def test_mark__when__the_replacement_was_dropped_first__then__the_replaced_one_is_still_followed(
    journal: Journal,
) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark("bb" * 32, TxStatus.DROPPED)
    assert not journal.has_live(TX.intent)
    assert [tx.id for tx in journal.replaced()] == [TX.id]
    journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [tx.id for tx in journal.live()] == [TX.id]


def test_mark__when__the_replacement_is_mined_already__then__the_other_cannot_be(journal: Journal) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark("bb" * 32, TxStatus.MINED, height=8)
    with pytest.raises(InvariantError, match="not a pending transaction"):
        journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [tx.status for tx in journal.transactions()] == [TxStatus.REPLACED, TxStatus.MINED]


def test_reserved__when__some_are_mined_or_earn__then__pending_outflow_only(journal: Journal) -> None:
    assert journal.reserved() == 0
    for number, spent in enumerate((5, 70, -1000, 900)):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number), spent=spent))
    journal.mark(f"{3:064}", TxStatus.MINED, height=1)
    assert journal.reserved() == 75


# ---------------------------------------------------------------- headers


def header(height: int, branch: int = 0) -> Header:
    return (
        height,
        bytes([branch]) * 28 + height.to_bytes(4, "big"),
        bytes([branch]) * 28 + (height - 1).to_bytes(4, "big"),
    )


def test_headers__when__a_branch_is_replaced__then__newest_first_without_the_old_one(
    journal: Journal, path: Path
) -> None:
    assert journal.headers() == []
    journal.replace_headers(10, [header(10), header(11), header(12)])
    journal.replace_headers(11, [header(11, 1)])
    with Journal(path, read_only=True) as reader:
        assert reader.headers() == [header(11, 1), header(10)]
    journal.replace_headers(11, [])
    assert journal.headers() == [header(10)]


def test_headers__when__more_than_are_kept__then__the_oldest_go(journal: Journal) -> None:
    journal.replace_headers(1, [header(height) for height in range(1, HEADERS_KEPT + 5)])
    journal.replace_headers(HEADERS_KEPT + 5, [header(HEADERS_KEPT + 5)])
    kept = journal.headers()
    assert len(kept) == HEADERS_KEPT
    assert (kept[0], kept[-1]) == (header(HEADERS_KEPT + 5), header(6))


def test_headers__when__one_lies_below_or_is_given_twice__then__nothing_changes(journal: Journal) -> None:
    journal.replace_headers(10, [header(10)])
    with pytest.raises(InvariantError, match="headers from height 10 on, but the lowest given is 9"):
        journal.replace_headers(10, [header(10, 1), header(9, 1)])
    with pytest.raises(sqlite3.IntegrityError):
        journal.replace_headers(10, [header(10, 1), header(10, 2)])
    assert journal.headers() == [header(10)]


# ---------------------------------------------------------------- posts, facts, declines


def test_post__when__saved_again__then__replaced(journal: Journal) -> None:
    assert journal.post(b"\1") is None
    journal.save_post(b"\1", {"salt": "aa"})
    journal.save_post(b"\2", {"salt": "bb"})
    journal.save_post(b"\1", {"salt": "aa", "mark": 5})
    assert journal.post(b"\1") == {"salt": "aa", "mark": 5}
    assert set(journal.posts()) == {b"\1", b"\2"}


def test_decline__when__counted__then__the_newest_sentence_stays(journal: Journal) -> None:
    for sentence in ("first", "second"):
        journal.decline("price", sentence)
    journal.decline("own", "mine")
    assert journal.declines() == {"own": (1, "mine"), "price": (2, "second")}


def test_bind__when__the_same_again__then__fine_and_another_wallet_is_refused(path: Path) -> None:
    with Journal(path) as journal:
        journal.bind(genesis="g", wallet="w")
        journal.bind(genesis="g", wallet="w", market="m")
    with Journal(path) as journal:
        with pytest.raises(ConfigError, match="belongs to wallet w, the configuration has other"):
            journal.bind(genesis="g", wallet="other", added="x")
        assert journal.meta() == {"genesis": "g", "wallet": "w", "market": "m"}
        journal.remember("report", "1")
        journal.remember("report", "2")
        assert journal.meta()["report"] == "2"
        journal.forget("report")
        assert "report" not in journal.meta()


# ---------------------------------------------------------------- files


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
            reader.decline("x", "y")


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
    from aihd.core.task import Task
    from aihd.errors import TemporaryError
    from aihd.store.journal import Journal

    task = Task(b"t" * 32, b"s", b"i", 1, b"c", 1, 1, "")
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
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written now, and nothing was: the disk fails, or its quota is used up" in done.stdout
    with Journal(path) as journal:
        assert [task.id[:1] for task in journal.tasks()] == [b"u", b"t"]


WRITER = """
    import sys
    from pathlib import Path
    from aihd.core.task import Task
    from aihd.store.journal import Journal, TxRecord

    journal = Journal(Path(sys.argv[1]))
    for number in range(10**6):
        task_id = number.to_bytes(32, "big")
        journal.add(Task(task_id, b"s", b"i", 1, b"c", 1, 1, ""))
        journal.record(TxRecord(str(number), str(number), "claim", task_id, b"tx", 1, 1))
        journal.update(task_id, "noted", note=str(number))
        print(number, flush=True)
"""


def test_journal__when__its_writer_is_killed__then__all_that_it_returned_from_is_there(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(path)], stdout=subprocess.PIPE, text=True
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
