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


STORY = (
    Step(1, block(1), None, (box(1),)),
    Step(2, block(2), box(1), (box(2), box(3))),
    Step(5, block(5), box(3), (box(4),), Claimed(b"t" * 32, b"s" * 32, CLIENT, NODE, 10**9)),
    Step(9, block(9), box(4), (box(5),), Ended(b"t" * 32, Outcome.COMPLETED, 5, 4, True, True)),
    Step(9, block(9), box(5), (box(6),), Claimed(b"u" * 32, b"s" * 32, CLIENT, NODE, 10**8)),
    Step(12, block(12), box(6), (box(7),), Ended(b"u" * 32, Outcome.FAILED)),
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
    first = TaskRecord(9, b"t" * 32, CLIENT, NODE, 10**9, Outcome.COMPLETED, 5, 4, True, True, BANK, None)
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
    journal.history.add([Step(9, block(9), box(4), (box(5),), Ended(b"x" * 32, Outcome.COMPLETED, 5, 5, True, True))])
    assert (journal.history.records(), journal.history.unfunded(), journal.history.last()) == ([], [], 0)


def test_migrate__when__the_database_is_of_schema_2__then__the_history_is_there_and_empty(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(
            f"{MIGRATIONS[0]}; {MIGRATIONS[1]}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 2;"
        )
    with Journal(path) as journal:
        assert (journal.history.heads(), journal.history.newest(), journal.history.records()) == ([], 0, [])
