"""Two processes write one database: the bridge, and one that behaves as nodo."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from aihd.devnet.nodo_schema import NodoVersion, create_database, write_as_nodo
from aihd.nodo.reputation import WriteResult, read_service_reputation, write_reputation

SHARED, OURS = "9" * 64, "8" * 64  # nodo writes to the first peer all the time
SERVICE = "5" * 64
MANY = 10**6  # ours are multiples of it, nodo's are single points


@pytest.mark.parametrize("version", [NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW])
@pytest.mark.parametrize("seconds", [1.5, pytest.param(60.0, marks=pytest.mark.slow)])
def test_write__when__nodo_writes_at_the_same_time__then__nothing_of_nodo_s_is_lost_and_it_is_never_locked_out(
    tmp_path: Path, version: NodoVersion, seconds: float
) -> None:
    path = create_database(tmp_path, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executemany("INSERT INTO peer (id) VALUES (?)", [(SHARED,), (OURS,)])
    rounds = 0
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        nodo = pool.submit(write_as_nodo, path, SHARED, seconds)
        while not nodo.done():
            for peer in (SHARED, OURS):
                result = write_reputation(path, "peer", peer, MANY, key=str(rounds), noted=True)
                assert result is (WriteResult.WRITTEN if version is NodoVersion.VNEW else WriteResult.WRITTEN_UNKEYED)
            if version is NodoVersion.VNEW:
                write_reputation(path, "service", SERVICE, MANY, key=str(rounds))
            rounds += 1
            time.sleep(0.005)
        theirs = nodo.result()  # an error of its own, "database is locked" for one, would be raised here
    with closing(sqlite3.connect(path)) as connection:
        scores = dict(connection.execute("SELECT id, reputation_score FROM peer"))
    assert theirs.updates > 0
    assert scores[SHARED] % MANY == theirs.updates
    assert scores[SHARED] // MANY <= rounds  # nodo reads and writes in two steps: between them it overwrites ours
    assert scores[OURS] == rounds * MANY
    if version is NodoVersion.VNEW:
        assert read_service_reputation(path, SERVICE) == (rounds * MANY, rounds)
