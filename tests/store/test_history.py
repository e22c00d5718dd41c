"""The market's history in the store: taken in and taken back, and what is left is what a shorter chain would have given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aihd.errors import TemporaryError
from aihd.reputation.history import Outcome, TaskRecord
from aihd.store.history import Claimed, Ended, Funding, Step
from aihd.store.journal import Journal
from aihd.store.schema import APPLICATION_ID, MIGRATIONS

CLIENT, NODE, BANK = b"\2" * 33, b"\3" * 33, b"\4" * 32


def block(height: int, branch: str = "a") -> bytes:
    return f"{branch}{height}".encode().ljust(32)


def box(number: int) -> bytes:
    return bytes([number]) * 32


def claimed(task: bytes, worth: int, payment: int = 0, asset: bytes | None = None) -> Claimed:
    parties = {"service": b"s" * 32, "client": CLIENT, "node": NODE}
    return Claimed(task=task * 32, **parties, worth=worth, payment=payment or worth, asset=asset)


def ended(task: bytes, mark: int, held: int = 0) -> Ended:
    return Ended(
        task=task * 32,
        outcome=Outcome.COMPLETED,
        held=held,
        client_mark=mark,
        node_mark=4,
        client_committed=True,
        node_committed=True,
    )


STORY = (
    Step(1, block(1), None, (box(1),)),
    Step(2, block(2), box(1), (box(2), box(3))),
    Step(5, block(5), box(3), (box(4),), claimed(b"t", 10**9)),
    Step(9, block(9), box(4), (box(5),), ended(b"t", 5, held=10**8)),
    Step(9, block(9), box(5), (box(6),), claimed(b"u", 10**8)),
    Step(12, block(12), box(6), (box(7),), Ended(task=b"u" * 32, outcome=Outcome.FAILED)),
    Step(15, block(15), box(7), ()),
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "aihd.sqlite") as opened:
        yield opened


def dump(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return [
            row
            for table in ("history", "history_boxes", "history_blocks", "funding")
            for row in db.execute(f"SELECT * FROM {table} ORDER BY 1")
        ]


def test_records__when__tasks_ended__then__in_the_order_found_with_their_funding(journal: Journal) -> None:
    history = journal.history
    history.add(STORY)
    history.fund([Funding(CLIENT, BANK, 3, public=False), Funding(NODE, BANK, 4, public=True)])
    first = TaskRecord(
        9, b"t" * 32, CLIENT, NODE, 10**9, Outcome.COMPLETED, 5, 4, True, True, BANK, None, held=10**8, asset=None
    )
    second = TaskRecord(12, b"u" * 32, CLIENT, NODE, 10**8, Outcome.FAILED, client_funding=BANK)
    assert history.records() == [first, second]
    assert history.records(after=1) == [second]
    assert [record.client_funding for record in history.records(public={BANK})] == [None, None]
    assert (history.last(), history.newest(), history.heads()) == (2, 15, [box(2)])
    assert history.unfunded() == []


@pytest.mark.parametrize("height", range(16))
def test_rollback__when__to_any_height__then__as_if_nothing_had_come_after(tmp_path: Path, height: int) -> None:
    fundings = [Funding(CLIENT, BANK, 3, public=False), Funding(NODE, BANK, 14, public=False)]
    for name, steps in (("long", STORY), ("short", [step for step in STORY if step.height <= height])):
        with Journal(tmp_path / name) as journal:
            journal.history.add(steps)
            journal.history.fund(funding for funding in fundings if name == "long" or funding.height <= height)
            if name == "long":
                journal.history.rollback(height)
    assert dump(tmp_path / "long") == dump(tmp_path / "short")


def test_add__when__steps_are_of_two_branches__then__refused_whole(journal: Journal) -> None:
    history = journal.history
    history.add(STORY[:3])
    before = history.heads()
    with pytest.raises(TemporaryError, match="height 5 of the market's history is of block"):
        history.add([Step(6, block(6), box(4), (box(8),)), Step(5, block(5, "b"), box(2), (box(9),))])
    assert history.heads() == before
    assert history.blocks(0, 100) == {1: block(1), 2: block(2), 5: block(5)}


def test_add__when__the_claim_was_of_no_escrow__then__its_end_is_no_record(journal: Journal) -> None:
    journal.history.add([Step(9, block(9), box(4), (box(5),), ended(b"x", 5))])
    assert (journal.history.records(), journal.history.unfunded(), journal.history.last()) == ([], [], 0)


@pytest.mark.parametrize(("mark", "burned"), [(1, 10**9 // 3), (2, 0), (0, 0)])
def test_records__when__a_token_was_held_back__then__as_much_of_the_worth_as_of_the_payment(
    journal: Journal, mark: int, burned: int
) -> None:
    steps = [
        Step(1, block(1), None, (box(1),), claimed(b"t", 10**9, payment=300, asset=BANK)),
        Step(2, block(2), box(1), (box(2),), ended(b"t", mark, held=100)),
    ]
    journal.history.add(steps)
    (record,) = journal.history.records()
    assert (record.worth, record.held, record.asset, record.burned) == (10**9, 10**9 // 3, BANK, burned)


def test_migrate__when__the_history_is_of_another_version__then__it_is_read_again_and_the_rest_stays(
    tmp_path: Path,
) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"{';'.join(MIGRATIONS[:4])}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 4;"
        )
        db.executescript("""
            INSERT INTO history (task, claimed, service, client, node, value) VALUES (x'01', 5, x'02', x'03', x'04', 9);
            INSERT INTO history_boxes VALUES (x'01', 5, NULL);
            INSERT INTO history_blocks VALUES (5, x'01');
            INSERT INTO funding VALUES (x'03', x'04', 5, 0);
            INSERT INTO meta VALUES ('history', '77'), ('other', 'stays');
        """)
    with Journal(path) as journal:
        assert (journal.history.heads(), journal.history.newest(), journal.history.records()) == ([], 0, [])
        assert {"history", "other"} & journal.meta().keys() == {"other"}
        journal.history.add(STORY)
        assert journal.history.unfunded() == sorted([CLIENT, NODE])
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_migrate__when__the_database_is_of_schema_2__then__the_history_is_there_and_empty(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"{MIGRATIONS[0]}; {MIGRATIONS[1]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2;"
        )
    with Journal(path) as journal:
        assert (journal.history.heads(), journal.history.newest(), journal.history.records()) == ([], 0, [])
