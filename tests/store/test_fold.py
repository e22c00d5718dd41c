"""The events alone make the tasks again: in any order of work, after a migration, and where they do not, it is told."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aihd.core.sending import Origin
from aihd.core.task import Stage, Task, Where
from aihd.store.fold import fold, plain
from aihd.store.journal import Journal, TxRecord, TxStatus
from aihd.store.schema import APPLICATION_ID, MIGRATIONS

TASK = made.task(locator="data:")
HEIGHTS = st.none() | st.integers(0, 2**40)
HASHES = st.none() | st.binary(min_size=32, max_size=32)
CHANGES = st.fixed_dictionaries(
    {"stage": st.sampled_from(Stage)},
    optional={
        "where": st.sampled_from(Where),
        "since": HEIGHTS,
        "final": st.booleans(),
        "claim_block": HASHES,
        "may_reveal": st.booleans(),
        "instance": st.none() | st.text(),
        "output_hash": HASHES,
        "mark": st.none() | st.integers(1, 5),
        "salt": HASHES,
        "bridged": st.booleans(),
        "claim_tx": HASHES,
        "release_height": HEIGHTS,
        "client_mark": st.integers(0, 5),
        "acknowledged": st.booleans(),
        "note": st.text(),
    },
)
WORK = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.text(max_size=20)),
        st.tuples(st.just("update"), st.integers(0, 3), CHANGES),
        st.tuples(st.just("sign"), st.integers(0, 3), st.sampled_from(TxStatus)),
    ),
    max_size=25,
)


def do(journal: Journal, verb: str, number: int, value: Any) -> None:
    task_id = bytes([number]) * 32
    if verb == "add":
        journal.add(replace(TASK, id=task_id, locator=value))
    elif verb == "update" and journal.find(task_id) is not None:
        journal.update(task_id, "changed", **value)
    elif verb == "sign" and not journal.has_live(str(number)):
        tx = TxRecord(f"{len(journal.transactions())}", str(number), "claim", task_id, b"x", 1, 1)
        journal.record(tx)
        journal.mark(tx.id, value, height=7, note="a transaction's note is not the task's")


@given(WORK)
@settings(max_examples=60, deadline=None)
def test_audit__when__any_work_was_done__then__the_events_make_the_tasks(work: list[tuple[str, int, Any]]) -> None:
    with TemporaryDirectory() as folder, Journal(Path(folder, "db")) as journal:
        for step in work:
            do(journal, *step)
        assert journal.audit() == []
        assert len(journal.tasks()) == len({number for verb, number, _ in work if verb == "add"})


def tampered(path: Path, statement: str, *values: object) -> list[str]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, values)
    with Journal(path, read_only=True) as journal:
        return journal.audit()


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE tasks SET payment = 5", "payment is 5 in the table, 1000000000 by its events"),
        ("UPDATE tasks SET output_hash = x'ab'", "output_hash is 'ab' in the table, None by its events"),
        ("UPDATE tasks SET salt = x'ab'", "its salt in the table is not that of its events"),
        ("DELETE FROM tasks", "its events tell of it, the table does not"),
        ("DELETE FROM journal WHERE event = 'accepted'", "it is in the table, its events do not tell of it"),
    ],
)
def test_audit__when__the_table_or_the_events_were_changed_by_hand__then__told(
    tmp_path: Path, statement: str, says: str
) -> None:
    with Journal(tmp_path / "db") as journal:
        journal.add(TASK)
        journal.update(TASK.id, "changed", salt=b"\5" * 32)
        assert journal.audit() == []
    assert tampered(tmp_path / "db", statement) == [f"task {TASK.id.hex()}: {says}"]


def test_fold__when__a_field_is_newer_than_the_event__then__it_has_its_default() -> None:
    row = plain(asdict(TASK))
    del row["bridged"]
    assert fold([(TASK.id, "snapshot", row)]) == {TASK.id: TASK}


# ---------------------------------------------------------------- a database of schema 1

OLD = replace(
    TASK,
    where=Where.COMMITTED,
    stage=Stage.DONE,
    since=50,
    claim_height=40,
    claim_block=b"\5" * 32,
    may_reveal=True,
    output_hash=b"\6" * 32,
    mark=4,
    salt=b"\7" * 32,
    note='it\'s "so"',
)


# What an older aihd had no column for.
NEWER = {"worth", "asset", "holdback_bps", "claim_tx", "release_height", "acknowledged"}


def older(task: Task) -> dict[str, Any]:
    """The fields that a database of schema 1 to 3 has of a task."""
    return {name: value for name, value in asdict(task).items() if name not in NEWER}


def insert(db: sqlite3.Connection, task: Task) -> None:
    values = older(task)
    names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
    db.execute(f"INSERT INTO tasks ({names}) VALUES ({marks})", tuple(values.values()))


def schema_1(path: Path) -> None:
    """What aihd wrote before migration 2: events without the whole row, and without salts."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(f"{MIGRATIONS[0]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
        for task in (OLD, replace(TASK, id=b"\x09" * 32, final=True)):
            insert(db, task)
            db.execute(
                "INSERT INTO journal (task_id, event, data) VALUES (?, 'accepted', ?)",
                (task.id, json.dumps({"payment": task.payment})),
            )
        db.execute("INSERT INTO journal (task_id, event, data) VALUES (?, 'mark chosen', '{\"mark\":4}')", (OLD.id,))
        for number, status in enumerate(("final", "pending", "dropped")):
            db.execute(
                "INSERT INTO transactions (seq, id, intent, kind, task_id, body, fee, spent, status, height, sent, at, note) "
                "VALUES (?, ?, 'i' || ?, 'claim', ?, x'00', 1, 2, ?, 7, 3, 1234, 'n')",
                (number + 5, f"{number:064}", number, OLD.id, status),
            )
        db.execute("INSERT INTO meta VALUES ('market', 'm')")
        db.execute("INSERT INTO posts VALUES (x'01', '{\"salt\":1}')")
        db.execute("INSERT INTO declines VALUES ('price', 3, 'too little')")


def test_migrate__when__a_database_of_schema_1_has_rows__then__all_are_kept_and_its_events_tell_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    schema_1(path)
    with Journal(path) as journal:
        assert journal.task(OLD.id) == OLD
        assert [event for _, event, _ in journal.events(OLD.id)] == ["accepted", "mark chosen", "snapshot"]
        assert journal.audit() == []
        assert [(tx.status, tx.sent, tx.replaces) for tx in journal.transactions(OLD.id)] == [
            (TxStatus.FINAL, 3, None),
            (TxStatus.PENDING, 3, None),
            (TxStatus.DROPPED, 3, None),
        ]
        assert (journal.meta(), journal.declines()) == ({"market": "m"}, {"price": (3, "too little")})
        assert journal.post(b"\1") == {"salt": 1}
        assert [(tx.origin, tx.tip, tx.parents) for tx in journal.transactions(OLD.id)] == [
            (Origin.DAEMON, tx.height - 1 if tx.height else 0, ()) for tx in journal.transactions(OLD.id)
        ]
        journal.record(replace(journal.live()[0], id="r" * 64, replaces=journal.live()[0].id))
        journal.update(OLD.id, "revealed", where=Where.REVEALED)
        assert journal.audit() == []
    with Journal(path) as again:
        assert [event for _, event, _ in again.events(OLD.id)].count("snapshot") == 1
        assert again.headers() == []


def test_migrate__when__it_is_killed_half_way__then__the_old_database_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "db"
    schema_1(path)
    half = MIGRATIONS[1][: MIGRATIONS[1].index("ALTER TABLE")]
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"BEGIN IMMEDIATE; {half}")
    db.close()  # without COMMIT, as a crash would
    with Journal(path) as journal:
        assert journal.task(OLD.id) == OLD
        assert len(journal.transactions()) == 3


# ---------------------------------------------------------------- a database of schema 3


def schema_3(path: Path) -> None:
    """What aihd wrote while every payment was in ERG: whole rows in the events, without a word of worth."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        scripts = "; ".join(MIGRATIONS[:3])
        db.executescript(f"{scripts}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 3;")
        for task in (OLD, replace(OLD, id=b"\x09" * 32, payment=7, worth=7)):
            insert(db, task)
            row = json.dumps(plain(older(task)))
            db.execute("INSERT INTO journal (task_id, event, data) VALUES (?, 'accepted', ?)", (task.id, row))
        db.execute("INSERT INTO declines VALUES ('price', 3, 'too little')")


def test_migrate__when__a_database_of_schema_3_has_rows__then__worth_is_the_payment_and_its_events_say_so_too(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    schema_3(path)
    with Journal(path) as journal:
        small = journal.task(b"\x09" * 32)
        assert (small.payment, small.worth, small.asset, small.holdback_bps) == (7, 7, None, 0)
        assert journal.task(OLD.id) == OLD
        assert journal.audit() == []  # the old events fold to the new rows
        assert journal.declines() == {"price": (3, "too little")}
        assert journal.declined(OLD.id) is None
        journal.update(OLD.id, "claim seen", claim_tx=b"\x0a" * 32, release_height=51)
        journal.add(replace(TASK, id=b"\x0b" * 32, asset=b"\x0c" * 32, payment=5, holdback_bps=10_000))
        assert journal.audit() == []
    with Journal(path) as again:
        token = again.task(b"\x0b" * 32)
        assert (token.asset, token.payment, token.worth) == (b"\x0c" * 32, 5, TASK.worth)
        assert again.audit() == []


def test_migrate__when__it_is_killed_before_the_worth_is_set__then__it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "db"
    schema_3(path)
    half = MIGRATIONS[3][: MIGRATIONS[3].index("UPDATE tasks")]
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(f"BEGIN IMMEDIATE; {half}")
    db.close()
    with Journal(path) as journal:
        assert journal.task(OLD.id) == OLD


def test_fold__when__a_row_of_an_old_event_has_no_worth__then__it_is_the_payment_and_a_newer_one_keeps_its_own() -> (
    None
):
    row = plain(older(OLD))
    assert fold([(OLD.id, "accepted", row)]) == {OLD.id: OLD}
    token = replace(OLD, asset=b"\x0c" * 32, payment=5)
    assert fold([(OLD.id, "accepted", plain(asdict(token)))]) == {OLD.id: token}
