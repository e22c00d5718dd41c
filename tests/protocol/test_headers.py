"""Headers and blocks as a real chain has them: proved from their bytes, and refused when anything about them is another."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from aihd.protocol.blocks import merkle_root, transactions_of_json
from aihd.protocol.box import Box, ForgedError
from aihd.protocol.hashes import blake2b256
from aihd.protocol.headers import LEAST_DIFFICULTY, WorkError, difficulty_of, head_of_json
from aihd.protocol.shapes import ShapeError

RECORDED: Final = Path(__file__).parents[1] / "devnet" / "recorded" / "node_answers.json"
# Block 471746 of the main chain.
MAINNET: Final = {
    "votes": "040000",
    "timestamp": 1618929697400,
    "stateRoot": "8ad868627ea4f7de6e2a2fe3f98fafe57f914e0f2ef3331c006def36c697f92713",
    "height": 471746,
    "nBits": 117586360,
    "version": 2,
    "id": "4caa17e62fe66ba7bd69597afdc996ae35b1ff12e0ba90c22ff288a4de10e91b",
    "adProofsRoot": "d882aaf42e0a95eb95fcce5c3705adf758e591532f733efe790ac3c404730c39",
    "transactionsRoot": "63eaa9aff76a1de3d71c81e4b2d92e8d97ae572a8e9ab9e66599ed0912dd2f8b",
    "extensionHash": "3f91f3c680beb26615fdec251aee3f81aaf5a02740806c167c0f3c929471df44",
    "powSolutions": {
        "pk": "02b3a06d6eaa8671431ba1db4dd427a77f75a5c2acbd71bfb725d38adc2b55f669",
        "w": "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "n": "5939ecfee6b0d7f4",
        "d": 2**255 + 1,
    },
    "parentId": "6481752bace5fa5acba5d5ef7124d48826664742d46c974c98a2d60ace229a34",
}


def recorded(part: str) -> Any:
    """The first answer of a real node to a path that holds `part`."""
    answers = json.loads(RECORDED.read_text())["answers"]
    return next(answer["body"] for answer in answers if part in answer["path"] and answer["status"] == 200)


def test_head__when__mined_on_the_main_chain__then__proved_at_its_difficulty() -> None:
    head = head_of_json(MAINNET, LEAST_DIFFICULTY["mainnet"])
    assert (head.height, head.difficulty, head.id.hex()) == (471746, 626412390187008, MAINNET["id"])
    assert head.json["powSolutions"]["d"] == 0, "a distance that only its miner knows is not for scripts"


@pytest.mark.parametrize("distance", [0, "0", 2**256, "1" * 90, None, -5], ids=str)
def test_head__when__the_distance_is_anything__then__the_same_header(distance: Any) -> None:
    told = {**MAINNET, "powSolutions": {**MAINNET["powSolutions"], "d": distance}}  # type: ignore[dict-item]
    assert head_of_json(told) == head_of_json(MAINNET)


@pytest.mark.parametrize("name", [name for name in MAINNET if name != "powSolutions"])
def test_head__when__any_field_is_another__then__not_what_it_says(name: str) -> None:
    value = MAINNET[name]
    assert isinstance(value, int | str)
    other = value + 1 if isinstance(value, int) else ("ff" if value[:2] != "ff" else "00") + value[2:]
    with pytest.raises(WorkError, match="is not what it says"):
        head_of_json({**MAINNET, name: other})
    with pytest.raises(ShapeError, match=name):
        head_of_json({key: item for key, item in MAINNET.items() if key != name})


def test_head__when__its_bytes_fit_and_its_nonce_was_made_up__then__not_mined() -> None:
    forged = remade({**MAINNET, "powSolutions": {**MAINNET["powSolutions"], "n": "00" * 8}})  # type: ignore[dict-item]
    with pytest.raises(WorkError, match="was not mined at difficulty 626412390187008"):
        head_of_json(forged)


def test_head__when__its_difficulty_is_too_low_for_the_network__then__refused_though_it_has_its_work() -> None:
    cheap = remade({**MAINNET, "nBits": 0x01010000})
    assert head_of_json(cheap, LEAST_DIFFICULTY["devnet"]).difficulty == 1
    with pytest.raises(WorkError, match=f"has difficulty 1, at least {LEAST_DIFFICULTY['mainnet']} is asked"):
        head_of_json(cheap, LEAST_DIFFICULTY["mainnet"])


def remade(header: dict[str, Any]) -> dict[str, Any]:
    """The header with the id that its bytes have now."""
    from aihd.protocol import headers

    unsolved = headers._unsolved(header)
    solution = headers._solution(header["powSolutions"], header["version"])
    return {**header, "id": blake2b256(unsolved, solution).hex()}


@pytest.mark.parametrize("n_bits", [0, 0x01003456, 0x03800000, 0x01810000, 0xFF7FFFFF, 0x04800001])
def test_difficulty__when__the_number_is_zero_negative_or_absurd__then__none(n_bits: int) -> None:
    assert difficulty_of(n_bits) == 0
    assert (difficulty_of(0x01010000), difficulty_of(0x03000001), difficulty_of(0x04123456)) == (1, 1, 0x12345600)


def test_heads__when__a_real_node_shows_them__then__all_proved_the_first_block_too() -> None:
    shown = [*recorded("/blocks/lastHeaders/2"), *recorded("fromHeight=0&toHeight=5")]
    heads = [head_of_json(raw) for raw in shown if isinstance(raw, dict)]
    assert [head.height for head in heads] == [2985, 2986, 1, 2, 3]
    assert all(child.parent == parent.id for parent, child in pairwise(heads[2:]))


# ---------------------------------------------------------------- blocks


def block() -> dict[str, Any]:
    """A block of three transactions, one of them a claim of a task, as a real node showed it."""
    answers = json.loads(RECORDED.read_text())["answers"]
    found = [a["body"] for a in answers if a["path"].startswith("/blocks/37437") and a["path"].count("/") == 2]
    return dict(copy.deepcopy(found[0]))


def read(raw: dict[str, Any]) -> Any:
    trees = {o["ergoTree"]: bytes.fromhex(o["ergoTree"]) for tx in txs(raw) for o in tx["outputs"]}
    return transactions_of_json(raw["blockTransactions"], head_of_json(raw["header"]), trees)


def txs(raw: dict[str, Any]) -> list[dict[str, Any]]:
    return list(raw["blockTransactions"]["transactions"])


def test_block__when__a_real_node_shows_it__then__every_transaction_and_output_is_proved() -> None:
    mined = read(block())
    assert [tx.id for tx in mined] == [tx["id"] for tx in txs(block())]
    assert all(tx.proved for tx in mined)
    assert [len(tx.outputs) for tx in mined] == [len(tx["outputs"]) for tx in txs(block())]
    assert all(isinstance(box, Box) for tx in mined for box in tx.outputs)


def test_block__when__a_transaction_is_left_out_added_or_exchanged__then__not_what_the_header_binds() -> None:
    changes: tuple[Callable[[list[Any]], Any], ...] = (list.pop, lambda list_: list_.append(list_[0]), list.reverse)
    for change in changes:
        raw = block()
        change(raw["blockTransactions"]["transactions"])
        with pytest.raises(WorkError, match="does not hold the transactions that its header binds"):
            read(raw)


def test_block__when__a_proof_is_another__then__not_what_the_header_binds() -> None:
    raw = block()
    proved = next(item for tx in txs(raw) for item in tx["inputs"] if item["spendingProof"]["proofBytes"])
    proved["spendingProof"]["proofBytes"] = "00" * 56
    with pytest.raises(WorkError):
        read(raw)


def test_block__when__an_output_is_another__then__forged() -> None:
    raw = block()
    txs(raw)[1]["outputs"][0]["value"] += 1
    with pytest.raises(ForgedError):
        read(raw)


def test_block__when__inputs_or_outputs_are_hidden__then__that_transaction_is_not_proved() -> None:
    ways: tuple[Callable[[dict[str, Any]], Any], ...] = (
        lambda tx: tx["inputs"].pop(),
        lambda tx: tx["outputs"].pop(),
        lambda tx: tx["dataInputs"].append(tx["inputs"][0]),
    )
    for hide in ways:
        raw = block()
        hide(txs(raw)[1])
        try:
            mined = read(raw)
        except WorkError:
            continue  # without an input its proofs are others, too
        assert [tx.proved for tx in mined] == [True, False, True]


def test_merkle_root__when__there_is_one_leaf_or_none__then__as_a_node_has_it() -> None:
    assert merkle_root([]) == bytes(32)
    assert merkle_root([b"a"]) != merkle_root([b"a", b"a"])
