"""The bridge in each known version of nodo's database: what it can promise there, and whom it finds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.errors import DependencyError, TemporaryError
from aihd.nodo.reputation import (
    Guarantee,
    SubjectKind,
    WriteResult,
    find_peer,
    guarantee,
    read_scores,
    write_reputation,
)

PEER, OTHER, SERVICE = "9" * 64, "8" * 64, "5" * 64
ADDRESS = "9hPoYNQwVDbtAyt5uhYyKttye7ZPzZ7ePcc6d2rgKr9fiZm6DhD"


def query(path: Path, sql: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql, values).fetchall()


def database(folder: Path, version: NodoVersion, *peers: str) -> Path:
    path = create_database(folder, version)
    for peer in peers or (PEER,):
        query(path, "INSERT INTO peer (id) VALUES (?)", peer)
    return path


PROMISES: list[tuple[NodoVersion, SubjectKind, Guarantee]] = [
    (NodoVersion.V24, "peer", Guarantee.NEVER),
    (NodoVersion.V24, "service", Guarantee.NEVER),
    (NodoVersion.VFEB, "peer", Guarantee.AT_MOST_ONCE),
    (NodoVersion.VFEB, "service", Guarantee.NEVER),
    (NodoVersion.VJUL, "peer", Guarantee.AT_MOST_ONCE),
    (NodoVersion.VJUL, "service", Guarantee.NEVER),
    (NodoVersion.VNEW, "peer", Guarantee.EXACTLY_ONCE),
    (NodoVersion.VNEW, "service", Guarantee.EXACTLY_ONCE),
]


@pytest.mark.parametrize(("version", "kind", "promise"), PROMISES)
@pytest.mark.parametrize("noted", [False, True])
def test_write__when__schema_is_known__then__keeps_the_promise_it_states(
    tmp_path: Path, version: NodoVersion, kind: SubjectKind, promise: Guarantee, noted: bool
) -> None:
    path = database(tmp_path, version)
    before = list(query(path, "SELECT * FROM peer"))
    assert guarantee(path, kind) is promise
    result = write_reputation(path, kind, PEER if kind == "peer" else SERVICE, 7, key="k", noted=noted)
    if promise is Guarantee.EXACTLY_ONCE:
        assert result is WriteResult.WRITTEN
        assert write_reputation(path, kind, PEER if kind == "peer" else SERVICE, 7, key="k") is WriteResult.ALREADY
    elif promise is Guarantee.AT_MOST_ONCE and noted:
        assert result is WriteResult.WRITTEN_UNKEYED
    else:
        assert result is WriteResult.UNSUPPORTED
        assert query(path, "SELECT * FROM peer") == before
        return
    assert read_scores(path, kind) == {PEER if kind == "peer" else SERVICE: 7}
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


@pytest.mark.parametrize("version", [NodoVersion.VFEB, NodoVersion.VJUL])
def test_write__when__unkeyed_and_peer_is_unknown__then__no_peer_is_made(tmp_path: Path, version: NodoVersion) -> None:
    path = database(tmp_path, version)
    assert write_reputation(path, "peer", OTHER, 7, key="k", noted=True) is WriteResult.NO_SUBJECT
    assert query(path, "SELECT id FROM peer") == [(PEER,)]


@pytest.mark.parametrize("version", [NodoVersion.VFEB, NodoVersion.VJUL])
def test_write__when__unkeyed_and_nodo_is_busy__then__nothing_written_and_the_repeat_counts_once(
    tmp_path: Path, version: NodoVersion
) -> None:
    path = database(tmp_path, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as nodo:
        nodo.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryError, match="is busy"):
            write_reputation(path, "peer", PEER, 7, key="k", noted=True, busy_timeout=0.05)
        nodo.execute("ROLLBACK")
    write_reputation(path, "peer", PEER, 7, key="k", noted=True)
    assert read_scores(path, "peer") == {PEER: 7}


def test_write__when__a_reader_keeps_the_commit_waiting__then__nothing_written(tmp_path: Path) -> None:
    path = database(tmp_path, NodoVersion.VFEB)
    with closing(sqlite3.connect(path, isolation_level=None)) as nodo:
        nodo.execute("BEGIN")
        nodo.execute("SELECT * FROM peer").fetchone()  # a shared lock: ours is granted, its commit is not
        with pytest.raises(TemporaryError, match="is busy"):
            write_reputation(path, "peer", PEER, 7, key="k", noted=True, busy_timeout=0.05)
    assert read_scores(path, "peer") == {}


def test_write__when__nodo_migrated_between_two_writes__then__the_new_file_is_written(tmp_path: Path) -> None:
    path = database(tmp_path, NodoVersion.VJUL)
    write_reputation(path, "peer", PEER, 7, key="first", noted=True)
    path.unlink()
    with pytest.raises(DependencyError, match="does not exist"):
        write_reputation(path, "peer", PEER, 7, key="second", noted=True)
    database(tmp_path, NodoVersion.VNEW)
    assert write_reputation(path, "peer", PEER, 7, key="second", noted=True) is WriteResult.WRITTEN
    assert read_scores(path, "peer") == {PEER: 7}


def test_write__when__nodo_migrates_during_the_write__then__asks_for_a_repeat_which_lands_in_the_new_file(
    tmp_path: Path,
) -> None:
    path = database(tmp_path, NodoVersion.VNEW)

    def migrate(_: float) -> None:
        path.rename(tmp_path / "gone")  # its inode lives on, so that the new file gets another
        database(tmp_path, NodoVersion.VNEW)

    with pytest.raises(TemporaryError, match="replaced its database"):
        write_reputation(path, "peer", PEER, 7, key="k", held=migrate)
    assert write_reputation(path, "peer", PEER, 7, key="k") is WriteResult.WRITTEN
    assert read_scores(path, "peer") == {PEER: 7}


def advertise(path: Path, version: NodoVersion, peer: str, address: str) -> None:
    ledger = {NodoVersion.V24: "ledger_id", NodoVersion.VNEW: "ledger"}.get(version, "ledger_hash")
    sql = f"INSERT INTO contract_instance (address, {ledger}, contract_hash, peer_id) VALUES (?, 'ergo', ?, ?)"
    for contract in ("one", "two"):  # a peer may be paid there in several ways
        query(path, sql, address, contract, peer)


@pytest.mark.parametrize("version", NodoVersion)
def test_find_peer__when__one_several_or_none_are_paid_at_an_address__then__only_the_one(
    tmp_path: Path, version: NodoVersion
) -> None:
    path = database(tmp_path, version, PEER, OTHER)
    assert find_peer(path, ADDRESS) is None
    advertise(path, version, PEER, ADDRESS)
    assert find_peer(path, ADDRESS) == PEER
    advertise(path, version, OTHER, ADDRESS)
    assert find_peer(path, ADDRESS) is None
    assert find_peer(path, ADDRESS, {ADDRESS: OTHER}) == OTHER


def test_find_peer__when__nodo_forgot_the_peer__then__none(tmp_path: Path) -> None:
    path = database(tmp_path, NodoVersion.VNEW)
    advertise(path, NodoVersion.VNEW, OTHER, ADDRESS)
    assert find_peer(path, ADDRESS) is None
