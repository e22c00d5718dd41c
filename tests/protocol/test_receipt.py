"""The full receipt: one canonical document, and nothing else parses."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from offchain import digest, signer

from aihd.errors import UsageError
from aihd.protocol.hashes import receipt_cid
from aihd.protocol.receipt import FullReceipt

RECEIPT = FullReceipt(
    task_id=digest("t").hex(),
    service_hash=digest("s").hex(),
    node=signer("node").public_key.hex(),
    input_commitment=digest("i").hex(),
    output_hash=digest("o").hex(),
    output_size=3,
    claim_block=digest("b").hex(),
    seed=digest("x").hex(),
    exec_params_hash=digest("p").hex(),
    executed_height=1000,
    node_sig="ab" * 56,
)


def changed(**values: Any) -> bytes:
    return json.dumps({**asdict(RECEIPT), **values}, sort_keys=True, separators=(",", ":")).encode()


def test_parse__when__its_own_document__then__the_same_receipt_and_cid() -> None:
    document = RECEIPT.document()
    assert document == changed()
    assert FullReceipt.parse(document) == RECEIPT
    assert RECEIPT.cid == receipt_cid(document)


def test_cid__when__anything_differs__then__another() -> None:
    others = replace(RECEIPT, output_size=4), replace(RECEIPT, seed=digest("y").hex())
    assert len({receipt.cid for receipt in (RECEIPT, *others)}) == 3


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not a receipt document"),
        (b"\xff", "not a receipt document"),
        (b"[" * 100_000, "not a receipt document"),
        (b"[]", "not a receipt document"),
        (b"null", "not a receipt document"),
        (b"{}", "not a receipt document"),
        (changed(extra=1), "not a receipt document"),
        (changed(output_size="3"), "output_size is '3', expected int"),
        (changed(output_size=True), "output_size is True, expected int"),
        (changed(seed=None), "seed is None, expected str"),
        (changed(seed="zz"), "seed is 'zz', expected hex"),
        (changed(node="ABCD"), "node is 'ABCD', expected hex"),
        (changed() + b"\n", "canonical"),
        (json.dumps(asdict(RECEIPT)).encode(), "canonical"),
    ],
)
def test_parse__when__not_exactly_a_receipt__then__refused_with_the_reason(document: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        FullReceipt.parse(document)
