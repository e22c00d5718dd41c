from __future__ import annotations

from typing import Any

import pytest
from ergo_lib_python.chain import BoxId, ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import ReducedTransaction, TxId, UnsignedInput, UnsignedTransaction

from aihd.errors import DependencyError
from aihd.protocol.context import next_header, state_context
from aihd.protocol.trees import GENERATOR, p2pk_tree, parse_tree

PARAMETERS = {
    **{"outputCost": 298, "tokenAccessCost": 100, "maxBlockCost": 8_001_091, "height": 0, "maxBlockSize": 1_271_009},
    **{"dataInputCost": 100, "blockVersion": 4, "inputCost": 2407, "storageFeeFactor": 1_250_000},
    **{"subblocksPerBlock": 30, "minValuePerByte": 360},
}


def header(height: int, d: int | str = 0) -> dict[str, Any]:
    solution = {"pk": GENERATOR.hex(), "w": GENERATOR.hex(), "n": "00" * 8, "d": d}
    roots = dict.fromkeys(("adProofsRoot", "transactionsRoot", "extensionHash"), "00" * 32)
    return {
        **{"id": f"{height:064x}", "parentId": f"{height - 1:064x}", "version": 4, "height": height},
        **{"timestamp": 1_000 * height, "nBits": 1, "votes": "000000", "stateRoot": "00" * 33, **roots},
        "powSolutions": solution,
    }


def headers(tip: int, count: int = 10, d: int | str = 0) -> list[dict[str, Any]]:
    return [header(height, d) for height in range(tip, tip - count, -1)]


def holds_at(newest_first: list[dict[str, Any]], height: int) -> bool:
    """Whether the script sigmaProp(HEIGHT == height && ...) is true in the context."""
    zigzag = 2 * height
    constant = bytes([0x04, zigzag & 0x7F | 0x80, zigzag >> 7])
    tree = b"\x10\x01" + constant + bytes.fromhex("d1ed93a37300ed93a37300ed93a3730093a37300")
    candidate = ErgoBoxCandidate(value=10**12, script=parse_tree(tree), creation_height=1)
    box = ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0)
    output = ErgoBoxCandidate(value=10**12, script=parse_tree(p2pk_tree(GENERATOR)), creation_height=1)
    unsigned = UnsignedTransaction([UnsignedInput(BoxId(bytes(box.box_id)))], [], [output])
    reduced = ReducedTransaction.from_unsigned_tx(unsigned, [box], [], state_context(newest_first, PARAMETERS))
    return bytes(reduced)[-3] == 0xD3  # the proposition, before its cost and the number of further fields


def test_context__when__script_reads_height__then__it_is_that_of_the_next_block() -> None:
    assert holds_at(headers(1000), 1001)
    assert not holds_at(headers(1000), 1000)


@pytest.mark.parametrize("d", [0, 2**63 - 1, 2**63, 2**64, 2**255, 2**256 - 1])
@pytest.mark.parametrize("written", [int, str])
def test_context__when__the_distance_is_of_any_size_as_number_or_text__then__understood(
    d: int, written: type[int | str]
) -> None:
    assert holds_at(headers(500, d=written(d)), 501)


@pytest.mark.parametrize("d", [None, "abc", [], float("nan"), float("inf")])
def test_context__when__a_header_cannot_be_read__then__it_is_named_and_no_guard_is_blamed(d: Any) -> None:
    with pytest.raises(DependencyError, match="the header at height 500 cannot be read"):
        state_context([header(500, d), *headers(499, 9)], PARAMETERS)


def test_context__when__more_than_ten_headers__then__the_newest_ten_are_taken() -> None:
    assert holds_at(headers(1000, count=15), 1001)


def test_context__when__too_few_headers__then__says_how_many() -> None:
    with pytest.raises(DependencyError, match="gave 9 headers where scripts need the last 10"):
        state_context(headers(1000, count=9), PARAMETERS)


def test_context__when__headers_come_oldest_first__then__refused() -> None:
    with pytest.raises(DependencyError, match="heights 991 and 992 do not follow each other"):
        state_context(headers(1000)[::-1], PARAMETERS)


def test_context__when__a_header_is_of_another_branch__then__refused() -> None:
    broken = headers(1000)
    broken[4] = {**broken[4], "id": "ff" * 32}
    with pytest.raises(DependencyError, match="heights 997 and 996"):
        state_context(broken, PARAMETERS)


def test_next_header__when__made__then__as_a_node_assumes_it() -> None:
    upcoming = next_header(header(1000))
    assert upcoming["height"] == 1001
    assert upcoming["timestamp"] == header(1000)["timestamp"] + 1
    assert upcoming["parentId"] == header(1000)["id"]
    assert upcoming["powSolutions"]["pk"] == GENERATOR.hex()
