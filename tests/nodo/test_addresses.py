"""An address and its tree are one key, in every version's rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offchain import signer

from aihd.devnet.nodo_schema import NodoVersion, add_paid_peer, create_database
from aihd.nodo.addresses import tree_of
from aihd.nodo.opinion_of import PPB, ChainScore, compute_reputation, write_scores
from aihd.nodo.reputation import find_peer
from aihd.protocol.trees import address_of

PEER, OTHER = "9" * 64, "8" * 64
CLIENT = signer("client")
ADDRESS = address_of(CLIENT.tree)


def test_tree_of__when__address_or_hex__then__the_tree_and_else_the_text() -> None:
    assert tree_of(ADDRESS) == tree_of(CLIENT.tree.hex()) == tree_of(CLIENT.tree.hex().upper()) == CLIENT.tree.hex()
    for text in ("", "9address", ADDRESS[:-1], ADDRESS + "1", "0OIl", "9" * 10_000, "LOCAL"):
        assert tree_of(text) == text


@given(st.text(max_size=60))
def test_tree_of__when__any_text__then__never_raises(text: str) -> None:
    assert isinstance(tree_of(text), str)


@pytest.mark.parametrize("version", NodoVersion)
def test_find_peer__when__nodo_keeps_it_as_its_version_does__then__found(tmp_path: Path, version: NodoVersion) -> None:
    path = create_database(tmp_path, version)
    add_paid_peer(path, PEER, ADDRESS, CLIENT.tree)
    assert find_peer(path, ADDRESS) == PEER
    assert find_peer(path, ADDRESS, {CLIENT.tree.hex(): OTHER}) == OTHER
    add_paid_peer(path, OTHER, CLIENT.tree.hex(), CLIENT.tree)
    assert find_peer(path, ADDRESS) is None, "two peers, whatever the forms"


@pytest.mark.parametrize("version", [NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW])
@pytest.mark.parametrize("key", [ADDRESS, CLIENT.tree.hex()], ids=["address", "tree"])
def test_compute_reputation__when__scores_and_rows_have_different_forms__then__the_chain_counts(
    tmp_path: Path, version: NodoVersion, key: str
) -> None:
    path, scores = create_database(tmp_path, version), tmp_path / "scores.sqlite"
    add_paid_peer(path, PEER, ADDRESS, CLIENT.tree)
    write_scores(scores, [ChainScore(key, -PPB // 2, PPB, 1)])
    assert compute_reputation(PEER, database=path, scores=scores) == pytest.approx(-50)
