"""Transactions out of JSON: the same bytes as ergo-lib makes, and the node's words for what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from devnet_wallet import ERG, FEE, funded, key, out, pay, sign
from ergo_lib_python.chain import Constant
from hypothesis import given
from hypothesis import strategies as st

from aihd.devnet import Chain
from aihd.devnet.decode import decoded
from aihd.devnet.http import HttpError
from aihd.devnet.refusals import java_double
from aihd.devnet.views import view_transaction
from aihd.devnet.wire import vlq
from aihd.protocol.trees import FEE_TREE

A, B = key(1), key(2)
HEAD = "The request content was malformed:\n"


def test_decoded__of_what_ergo_lib_writes__has_the_same_bytes_ids_and_facts() -> None:
    chain = Chain()
    first, second = funded(chain, A), funded(chain, A)
    registers = [
        Constant(b"N" * 300),
        Constant.from_i64(-(2**63)),
        Constant(True),
        Constant([Constant(b"a"), Constant(b"")]),
    ]
    tokens = [(str(first.box_id), 2**63 - 1)]
    height = chain.height
    outputs = [
        out(ERG, B.tree, height, tokens=tokens, registers=registers),
        out(second.value + first.value - ERG - FEE, A.tree, height),
        out(FEE, FEE_TREE, height),
    ]
    data = funded(chain, B)
    tx = sign(chain, [A], [first, second], outputs, data=[data])
    assert decoded(json.loads(tx.json())) == view_transaction(tx)
    chain.submit(decoded(json.loads(tx.json())))
    assert len(chain.pool) == 1


def _body() -> Any:
    chain = Chain()
    return json.loads(pay(chain, A, funded(chain, A), B.tree, ERG).json())


def _bent(path: tuple[str | int, ...], value: Any) -> Any:
    body = _body()
    place = body
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return body


OUT = "DownField(outputs)"


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("inputs",), None, "Attempt to decode value on failed cursor: DownField(inputs)"),
        (("inputs",), 5, "C[A]: DownField(inputs)"),
        (("dataInputs",), None, "Attempt to decode value on failed cursor: DownField(dataInputs)"),
        (("outputs", 0, "value"), True, f"Long: DownField(value),DownArray,{OUT}"),
        (("outputs", 0, "value"), 0.5, f"Long: DownField(value),DownArray,{OUT}"),
        (("outputs", 0, "value"), 2**63, f"Long: DownField(value),DownArray,{OUT}"),
        (("outputs", 1, "creationHeight"), 2**31, f"Int: DownField(creationHeight),MoveRight,DownArray,{OUT}"),
        (("outputs", 2, "ergoTree"), 5, f"String: DownField(ergoTree),MoveRight,MoveRight,DownArray,{OUT}"),
        (
            ("outputs", 0, "ergoTree"),
            "abc",
            f"java.io.IOException: invalid length 3 of Hex data: DownField(ergoTree),DownArray,{OUT}",
        ),
        (("outputs", 0, "additionalRegisters"), {"R5": "0402"}, "Couldn't decode key."),
        (("inputs", 0, "spendingProof", "extension"), {"300": "0402"}, "Couldn't decode key."),
    ],
)
def test_decoded__of_what_is_no_transaction__names_the_way_to_the_value(
    path: tuple[str | int, ...], value: Any, text: str
) -> None:
    with pytest.raises(HttpError) as refusal:
        decoded(_bent(path, value))
    assert refusal.value.status == 400 and str(refusal.value).startswith(HEAD + text)


def test_decoded__of_numbers_as_texts__reads_them() -> None:
    body = _body()
    expected = decoded(body)
    for made in body["outputs"]:
        made["value"] = str(made["value"])
    assert decoded(body) == expected


@given(st.integers(0, 2**63 - 1))
def test_vlq__of_any_number__gives_it_back(number: int) -> None:
    value = 0
    for place, byte in enumerate(vlq(number)):
        value |= (byte & 0x7F) << 7 * place
    assert value == number and len(vlq(-1)) == 10


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.0"), (10**5, "1.0E-4"), (999_999, "9.99999E-4"), (10**6, "0.001"), (1_100_000, "0.0011"), (1, "1.0E-9")],
)
def test_java_double__prints_as_java_does(nano: int, text: str) -> None:
    assert java_double(nano / 10**9) == text
