from __future__ import annotations

import hashlib

import pytest

from aihd.devnet.blocks import Making, blake2b, header_bytes, make_block, merkle_proof, merkle_root


def test_header__when__any_field_changes__then__another_id() -> None:
    parent = make_block(None, [], Making(timestamp=1_000, salt=b"seed"))
    header = make_block(parent, [], Making(timestamp=2_000, salt=b"seed")).header
    assert header["parentId"] == parent.block_id and header["height"] == 2
    assert header["id"] == hashlib.blake2b(header_bytes(header), digest_size=32).hexdigest()
    assert header["size"] == len(header_bytes(header))
    for changed in ({"timestamp": 2_001}, {"height": 3}, {"nBits": 2}, {"version": 3}, {"votes": "010000"}):
        assert header_bytes({**header, **changed}) != header_bytes(header)


def test_header__when__salt_differs__then__another_block_of_the_same_height() -> None:
    parent = make_block(None, [], Making(timestamp=1_000, salt=b"seed"))
    blocks = [make_block(parent, [], Making(timestamp=2_000, salt=salt)) for salt in (b"a", b"b", b"a")]
    assert blocks[0].block_id != blocks[1].block_id
    assert blocks[0].block_id == blocks[2].block_id


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_merkle_root__when__leaves_change__then__another_root_and_an_odd_node_is_hashed_alone(count: int) -> None:
    leaves = [bytes([i]) * 32 for i in range(count)]
    root = merkle_root(leaves)
    assert root != merkle_root([*leaves[:-1], b"\xff" * 32])
    if count == 3:
        hashed = [blake2b(b"\x00" + leaf) for leaf in leaves]
        pair, single = blake2b(b"\x01" + hashed[0] + hashed[1]), blake2b(b"\x01" + hashed[2])
        assert root == blake2b(b"\x01" + pair + single)


def test_merkle_root__when__no_leaves__then__zeros() -> None:
    assert merkle_root([]) == bytes(32)


@pytest.mark.parametrize("count", range(1, 10))
def test_merkle_proof__when__followed_from_a_leaf__then__ends_at_the_root(count: int) -> None:
    leaves = [bytes([number]) * 32 for number in range(count)]
    for index, leaf in enumerate(leaves):
        digest = blake2b(b"\x00" + leaf)
        for sibling, side in merkle_proof(leaves, index):
            digest = blake2b(b"\x01" + (sibling + digest if side else digest + sibling))
        assert digest == merkle_root(leaves)
