from __future__ import annotations

import hashlib

import pytest
from ergo_lib_python.chain import NetworkPrefix
from hypothesis import given
from hypothesis import strategies as st

from aihd.protocol.trees import (
    FEE_TREE,
    GENERATOR,
    address_of,
    explorer_template_hash,
    lacks_size_bit,
    node_template_hash,
    p2pk_tree,
    parse_tree,
    reward_tree,
    template_of,
    tree_of,
    tree_version,
)

DEADLINE_TREE = bytes.fromhex(
    "100204000400d802d601e4c6a70504d602b2a5730000ea02d1ed8fa37201eded92c17202e4c6b2db6501fe730100040593c27202c2a793"
    "e4c6720205047201e4c6a70408"
)
EIP3_ADDRESS = "9eatpGQdYNjTi5ZZLK7Bo7C3ms6oECPnxbQTRn6sDcBNLMYSCa8"  # first address of the EIP-3 test mnemonic


def test_fee_tree__when__shown_as_address__then__the_well_known_one() -> None:
    assert address_of(FEE_TREE) == (
        "2iHkR7CWvD1R4j1yZg5bkeDRQavjAaVPeTDFGGLZduHyfWMuYpmhHocX8GJoaieTx78FntzJbCBVL6rf96ocJoZdmWBL2fci7NqWgAirppPQ"
        "mZ7fN9V6z13Ay6brPriBKYqLp1bT2Fk4FkFLCfdPpe"
    )
    assert reward_tree(GENERATOR) in FEE_TREE


def test_template__when__constants_are_segregated__then__header_and_constants_are_gone() -> None:
    assert template_of(DEADLINE_TREE) == DEADLINE_TREE[len(bytes.fromhex("100204000400")) :]


def test_template__when__tree_states_its_size__then__the_same_as_without() -> None:
    tail = DEADLINE_TREE[1:]
    sized = bytes([0x19, len(tail)]) + tail
    assert template_of(sized) == template_of(DEADLINE_TREE)
    assert tree_version(sized) == 1


def test_template__when__nothing_is_segregated__then__all_after_the_header() -> None:
    assert template_of(p2pk_tree(GENERATOR)) == b"\x08\xcd" + GENERATOR


def test_template_hash__when__explorer_and_node__then__different_functions_of_one_template() -> None:
    template = template_of(DEADLINE_TREE)
    assert explorer_template_hash(DEADLINE_TREE) == hashlib.sha256(template).hexdigest()
    assert node_template_hash(DEADLINE_TREE) == hashlib.blake2b(template, digest_size=32).hexdigest()


@given(st.binary(max_size=60))
def test_template__when__bytes_are_random__then__answer_or_value_error_and_nothing_else(data: bytes) -> None:
    try:
        assert data.endswith(template_of(data))
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize("text", ["", "10", "1001", "10ff", "1005040004"])
def test_template__when__tree_is_cut_short__then__value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"[tT]ree"):
        template_of(bytes.fromhex(text))


def test_parse__when__bytes_follow_the_tree__then__value_error() -> None:
    tree = p2pk_tree(GENERATOR)
    assert bytes(parse_tree(tree)) == tree
    with pytest.raises(ValueError, match="bytes after its end"):
        parse_tree(tree + b"\x00")


def test_address__when__made_from_its_tree__then__the_same_on_its_network_only() -> None:
    tree = tree_of(EIP3_ADDRESS)
    assert address_of(tree) == EIP3_ADDRESS
    testnet = address_of(tree, NetworkPrefix.Testnet)
    assert testnet.startswith("3W") and tree_of(testnet, NetworkPrefix.Testnet) == tree
    with pytest.raises(ValueError, match=r"[Nn]etwork"):
        tree_of(testnet)


def test_p2pk_tree__when__key_is_no_33_bytes__then__value_error() -> None:
    with pytest.raises(ValueError, match="33 bytes, this one 32"):
        p2pk_tree(bytes(32))


@pytest.mark.parametrize(
    ("header", "lacks"), [(0x00, False), (0x10, False), (0x11, True), (0x19, False), (0x1B, False)]
)
def test_size_bit__when__version_is_above_0__then__it_must_be_there(header: int, lacks: bool) -> None:
    assert lacks_size_bit(bytes([header])) is lacks
