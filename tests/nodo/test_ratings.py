"""Ratings handed to nodo's process: counted once, whatever ends in the middle, and whichever of the two ways an operator changes to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.devnet.nodo_writer import NodoConnection
from aihd.nodo.ratings import Ledger, Outbox, Taken, ledger_of, take
from aihd.nodo.reputation import Rating, WriteResult, read_scores, write_ratings

PEER, SERVICE, NOBODY = "9" * 64, "5" * 64, "7" * 64
RATING = Rating(kind="peer", subject=PEER, delta=7, key="k")
VERSIONS = [NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW]


class Place:
    def __init__(self, folder: Path, version: NodoVersion) -> None:
        self.path = create_database(folder, version)
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO peer (id) VALUES (?)", (PEER,))
        self.events = version is NodoVersion.VNEW
        self.outbox, self.ledger = Outbox(folder / "ratings.sqlite"), ledger_of(self.path)
        self.nodo = NodoConnection(self.path)

    def take(self) -> int:
        return take(self.outbox, self.ledger, self.nodo)

    @property
    def score(self) -> int:
        return read_scores(self.path, "peer").get(PEER, 0)

    @property
    def state(self) -> Taken | None:
        (state,) = self.ledger.states().values() or (None,)
        return state


@pytest.fixture(params=VERSIONS)
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    found = Place(tmp_path, request.param)
    yield found
    found.nodo.close()


def test_take__when__offered_repeatedly__then__counted_once_and_said_so(place: Place) -> None:
    assert place.take() == 0, "nothing is there yet, not even the files"
    for _ in range(3):
        place.outbox.offer([RATING])
        place.take()
    assert (place.score, place.state) == (7, Taken.COUNTED)
    place.outbox.withdraw([RATING])
    assert place.outbox.offered() == []


def test_take__when__nodo_keeps_no_such_subject__then__said_so_and_nothing_is_invented(place: Place) -> None:
    stranger = Rating(kind="peer", subject=NOBODY, delta=7, key="k")
    service = Rating(kind="service", subject=SERVICE, delta=3, key="s")
    place.outbox.offer([stranger, service])
    place.take()
    assert place.ledger.state(stranger) is Taken.NO_SUBJECT
    with closing(sqlite3.connect(place.path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM peer").fetchone() == (1,)
    expected = {SERVICE: 3} if place.events else {}
    if place.events:
        assert read_scores(place.path, "service") == expected


@pytest.mark.parametrize("counted", [False, True], ids=["before it was counted", "after it was counted"])
def test_take__when__nodo_ended_in_the_middle__then__never_counted_twice(place: Place, counted: bool) -> None:
    place.outbox.offer([RATING])
    place.ledger.note(RATING, Taken.BEGUN)
    if counted:
        place.nodo.update_reputation_peer(PEER, 7, RATING.reason)
    place.take()
    if place.events:
        assert (place.score, place.state) == (7, Taken.COUNTED), "its event tells"
    else:
        assert (place.score, place.state) == (7 if counted else 0, Taken.UNKNOWN), "nobody can tell"


def test_take__when__withdrawn_meanwhile__then__not_counted_and_not_noted(place: Place) -> None:
    place.outbox.offer([RATING])

    class Late(Ledger):
        """A ledger whose note comes just before aihd takes the rating back."""

        def note(self, rating: Rating, state: Taken | None) -> None:
            super().note(rating, state)
            if state is Taken.BEGUN:
                place.outbox.withdraw([rating])

    take(place.outbox, Late(place.ledger._path), place.nodo)
    assert (place.score, place.state) == (0, None)


def test_take__when__nodo_cannot_write__then__on_offer_still_and_counted_later(place: Place) -> None:
    place.outbox.offer([RATING])
    with closing(sqlite3.connect(place.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        place.nodo._connection.execute("PRAGMA busy_timeout = 50")
        with pytest.raises(sqlite3.OperationalError):
            place.take()
        other.execute("ROLLBACK")
    assert place.take() == 1
    assert (place.score, place.state) == (7, Taken.COUNTED)


def test_both_ways__when__one_has_counted__then__the_other_finds_it(place: Place) -> None:
    if not place.events:
        pytest.skip("without events the bridge holds the two ways against each other: tests/services/test_bridge.py")
    assert write_ratings(place.path, [RATING]) == [WriteResult.WRITTEN]
    place.outbox.offer([RATING])
    place.take()
    assert (place.score, place.state) == (7, Taken.COUNTED)
    assert write_ratings(place.path, [RATING]) == [WriteResult.ALREADY]
    assert place.score == 7


def test_files__when__damaged_or_not_there__then__nothing_is_taken(place: Place, tmp_path: Path) -> None:
    (tmp_path / "ratings.sqlite").write_bytes(b"no database" * 100)
    assert place.take() == 0
    assert place.score == 0
