"""What nodo would import: its own points and the chain's score as one number, without a daemon."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.errors import UsageError
from aihd.nodo.opinion_of import HALF, NEAR_ONE, PPB, ChainScore, combined, compute_reputation, write_scores

PEER, OTHER, ADDRESS, SECOND = "9" * 64, "8" * 64, "9address", "9second"


def nodo(
    folder: Path, score: int | None, index: int | None, *addresses: str, version: NodoVersion = NodoVersion.VNEW
) -> Path:
    path = create_database(folder, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO peer (id, reputation_score, reputation_index) VALUES (?, ?, ?)", (PEER, score, index)
        )
        connection.execute("INSERT INTO peer (id) VALUES (?)", (OTHER,))
        sql = "INSERT INTO contract_instance (address, ledger, peer_id) VALUES (?, 'ergo', ?)"
        connection.executemany(sql, [(address, PEER) for address in addresses])
    return path


def reputation(folder: Path, *scores: ChainScore, peer: str = PEER) -> float:
    file = folder / "scores.sqlite"
    if scores:
        write_scores(file, scores)
    return compute_reputation(peer, database=folder / "database.sqlite", scores=file)


@pytest.mark.parametrize(
    ("score", "index", "expected"), [(7, 1, 7.0), (-5, 9, -5 * (1 + math.log(9))), (3, 0, 3.0), (None, None, 0.0)]
)
def test_compute__when__the_chain_says_nothing__then__nodo_s_own_number(
    tmp_path: Path, score: int | None, index: int | None, expected: float
) -> None:
    nodo(tmp_path, score, index, ADDRESS)
    assert reputation(tmp_path) == expected
    assert reputation(tmp_path, ChainScore(ADDRESS, PPB, 0, 1)) == expected
    assert reputation(tmp_path, ChainScore("9somebody", -PPB, PPB, 1)) == expected


def test_compute__when__chain_is_surer_or_own_experience_smaller__then__the_chain_counts_more(tmp_path: Path) -> None:
    nodo(tmp_path, 40, 4, ADDRESS)
    own = reputation(tmp_path)
    found = [reputation(tmp_path, ChainScore(ADDRESS, -PPB, sure, 1)) for sure in (PPB // 10, PPB // 2, PPB)]
    assert own > found[0] > found[1] > found[2]
    (tmp_path / "new").mkdir()
    nodo(tmp_path / "new", 0, 0, ADDRESS)
    assert reputation(tmp_path / "new", ChainScore(ADDRESS, PPB // 2, PPB, 1)) == pytest.approx(50)
    (tmp_path / "old").mkdir()
    nodo(tmp_path / "old", 0, 10**6, ADDRESS)
    assert 0 < reputation(tmp_path / "old", ChainScore(ADDRESS, PPB // 2, PPB, 1)) < 20


def test_compute__when__a_peer_has_several_keys__then__the_worst_counts(tmp_path: Path) -> None:
    nodo(tmp_path, 0, 0, ADDRESS, SECOND)
    good, bad = ChainScore(ADDRESS, PPB, PPB, 1), ChainScore(SECOND, -PPB // 2, PPB, 1)
    assert reputation(tmp_path, good, bad) == reputation(tmp_path, bad) < 0


def test_compute__when__two_peers_claim_one_address__then__it_counts_for_neither(tmp_path: Path) -> None:
    path = nodo(tmp_path, 0, 0, ADDRESS)
    score = ChainScore(ADDRESS, PPB, PPB, 1)
    assert reputation(tmp_path, score) > 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO contract_instance (address, ledger, peer_id) VALUES (?, 'ergo', ?)", (ADDRESS, OTHER)
        )
    assert [reputation(tmp_path, score, peer=peer) for peer in (PEER, OTHER)] == [0, 0]


def test_compute__when__files_are_missing_damaged_or_locked__then__what_is_left(tmp_path: Path) -> None:
    assert reputation(tmp_path) == 0.0
    nodo(tmp_path, 7, 1, ADDRESS)
    (tmp_path / "scores.sqlite").write_bytes(b"not a database" * 100)
    assert reputation(tmp_path) == 7.0
    (tmp_path / "scores.sqlite").unlink()
    write_scores(tmp_path / "scores.sqlite", [ChainScore(PEER, PPB, PPB, 1)])
    with closing(sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert reputation(tmp_path) == 7.0
    assert reputation(tmp_path) > 7.0


def test_compute__when__nodo_is_of_2024__then__the_chain_alone(tmp_path: Path) -> None:
    create_database(tmp_path, NodoVersion.V24)
    assert reputation(tmp_path, ChainScore(PEER, PPB // 2, PPB, 1)) == pytest.approx(50)


@given(st.integers(-(10**9), 10**9), st.integers(0, 10**6), st.floats(-1, 1), st.floats(0, 1))
def test_combined__when__drawn__then__lies_between_nodo_and_chain_as_the_balancer_sees_them(
    score: int, index: int, chain: float, confidence: float
) -> None:
    def seen(points: float) -> float:
        return points / (abs(points) + HALF)

    own = combined(score, index, chain, 0.0)
    assert own == score * (1 + math.log(index or 1))
    low, high = sorted((seen(own), chain))
    edge = 1 - NEAR_ONE + 1e-9  # no peer becomes infinitely good
    assert low - edge <= seen(combined(score, index, chain, confidence)) <= high + edge


def test_write_scores__when__written_again__then__only_the_new_ones(tmp_path: Path) -> None:
    nodo(tmp_path, 0, 0, ADDRESS)
    assert reputation(tmp_path, ChainScore(ADDRESS, PPB, PPB, 1)) > 0
    assert reputation(tmp_path, ChainScore(SECOND, PPB, PPB, 2)) == 0


@pytest.mark.parametrize(("score", "sure"), [(PPB + 1, 0), (-PPB - 1, 0), (0, -1), (0, PPB + 1)])
def test_chain_score__when__out_of_range__then__usage_error(score: int, sure: int) -> None:
    with pytest.raises(UsageError, match="_ppb of key is"):
        ChainScore("key", score, sure, 1)


def test_import__when__in_nodo_s_process__then__standard_library_alone(tmp_path: Path) -> None:
    nodo(tmp_path, 7, 1)
    code = (
        "import sys; from pathlib import Path; from aihd.nodo.opinion_of import compute_reputation;"
        f"print(compute_reputation({PEER!r}, database=Path({str(tmp_path / 'database.sqlite')!r}), scores=Path('none')));"
        "print(sorted({m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names - {'aihd', '__main__'}))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.splitlines() == ["7.0", "[]"]
