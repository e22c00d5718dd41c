"""Beside a process that works as nodo does (seven threads, one connection, open SELECTs): nothing of nodo's fails, no point is lost."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.devnet.nodo_writer import NodoConnection, NodoWrites, work_as_nodo
from aihd.errors import TemporaryError
from aihd.nodo.ratings import Outbox, ledger_of, take
from aihd.nodo.reputation import Rating, overwritten, write_ratings

SHARED, OURS = "9" * 64, "8" * 64  # nodo writes to the first peer all the time
SERVICE = "5" * 64
MANY = 10**6  # ours are multiples of it, nodo's are single points
WITH_REPUTATION = [NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW]
SECONDS = pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
PAUSES = pytest.mark.parametrize("pause", [0.0, 0.05], ids=["full load", "with pauses"])
VERSIONS = pytest.mark.parametrize("version", WITH_REPUTATION)


def database(folder: Path, version: NodoVersion) -> Path:
    path = create_database(folder, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executemany("INSERT INTO peer (id) VALUES (?)", [(SHARED,), (OURS,)])
    return path


def ratings(number: int, version: NodoVersion) -> list[Rating]:
    found = [Rating(kind="peer", subject=peer, delta=MANY, key=str(number)) for peer in (SHARED, OURS)]
    if version is NodoVersion.VNEW:
        found.append(Rating(kind="service", subject=SERVICE, delta=MANY, key=str(number)))
    return found


def scores(path: Path, version: NodoVersion) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        found = dict(connection.execute("SELECT id, COALESCE(reputation_score, 0) FROM peer"))
        if version is NodoVersion.VNEW:
            found |= dict(connection.execute("SELECT service_id, reputation_score FROM service_reputation"))
    return found


def worked(path: Path, seconds: float, pause: float, meanwhile: Callable[[Future[NodoWrites]], None]) -> NodoWrites:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        nodo = pool.submit(work_as_nodo, path, (SHARED,), seconds, pause=pause)
        meanwhile(nodo)
        found = nodo.result()
    for name in ("instances", "credit", "reputation", "reads"):
        assert found.done[name] > 0, "the harness works"
    return found


@VERSIONS
@PAUSES
@SECONDS
def test_write__when__nodo_is_at_work__then__none_of_its_writes_fails_and_what_it_overwrites_is_written_again(
    tmp_path: Path, version: NodoVersion, seconds: float, pause: float
) -> None:
    path = database(tmp_path, version)
    written: list[Rating] = []
    counts: Counter[str] = Counter()
    pace = 0.25  # the daemon's own is a minute

    def meanwhile(nodo: Future[NodoWrites]) -> None:
        while not nodo.done():
            fresh, again = ratings(counts["batches"], version), overwritten(path, written)
            try:
                write_ratings(path, fresh, noted=True, again=again)
            except TemporaryError:
                counts["busy"] += 1
            else:
                counts["batches"] += 1
                counts["rewritten"] += len(again)
                written.extend(fresh)
            time.sleep(pace)

    theirs = worked(path, seconds, pause, meanwhile)
    while again := overwritten(path, written):  # nodo is still now: what it overwrote last is written again
        counts["rewritten"] += len(again)
        write_ratings(path, [], again=again)
    found = scores(path, version)
    print(version, f"pause {pause}", dict(theirs.done), "failed", dict(theirs.failed), dict(counts), "busy")
    # At this pace, hundreds of times the daemon's own, a moment may once be gone between the look and the lock.
    assert theirs.failed.total() <= (1 if seconds > 10 else 0), "no failed writes of nodo"
    assert counts["batches"] > 0
    assert found[SHARED] % MANY == theirs.points[SHARED], "0 points of nodo's lost"
    assert found[OURS] == counts["batches"] * MANY
    if version is NodoVersion.VNEW:
        assert found[SHARED] // MANY == found[SERVICE] // MANY == counts["batches"], "and none of ours"
    else:
        assert found[SHARED] // MANY <= counts["batches"], "nobody can tell there what nodo overwrote"


def plug_in(outbox: Path, database: Path, connection: NodoConnection) -> None:
    """What the payment process's manager does, called as nodo calls it."""
    take(Outbox(outbox), ledger_of(database), connection)


@VERSIONS
@PAUSES
@SECONDS
def test_take__when__nodo_s_own_process_counts_the_ratings__then__nothing_fails_and_no_point_is_lost_on_either_side(
    tmp_path: Path, version: NodoVersion, seconds: float, pause: float
) -> None:
    path, outbox = database(tmp_path, version), tmp_path / "ratings.sqlite"
    for number in range(20):
        Outbox(outbox).offer(ratings(number, version))
    theirs = work_as_nodo(path, (SHARED,), seconds, pause=pause, beside=partial(plug_in, outbox, path))
    found = scores(path, version)
    print(version, f"pause {pause}", dict(theirs.done), "failed", dict(theirs.failed))
    assert theirs.failed == {}
    expected = {SHARED: 20 * MANY + theirs.points[SHARED], OURS: 20 * MANY}
    assert found == (expected | {SERVICE: 20 * MANY} if version is NodoVersion.VNEW else expected)


def test_harness__when__a_rival_writes_as_one_should_not__then__writes_of_nodo_fail_and_points_are_lost(
    tmp_path: Path,
) -> None:
    """The harness can tell: with a plain BEGIN IMMEDIATE, held a while, nodo's own writes fail at once."""
    path = database(tmp_path, NodoVersion.VNEW)

    def meanwhile(nodo: Future[NodoWrites]) -> None:
        with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as rival:
            while not nodo.done():
                rival.execute("BEGIN IMMEDIATE")
                rival.execute("UPDATE peer SET reputation_score = reputation_score + 1 WHERE id = ?", (OURS,))
                time.sleep(0.02)
                try:
                    rival.execute("COMMIT")
                except sqlite3.OperationalError:
                    rival.execute("ROLLBACK")
                time.sleep(0.02)

    rounds = (worked(path, 1.5, 0.0, meanwhile).failed.total() for _ in range(20))
    assert any(rounds), "on a busy machine the two may miss each other for a while"
