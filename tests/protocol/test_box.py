"""Foreign bytes: what is read is what ergo-lib reads, to the bit; what a stranger makes odd is set aside, and nothing native sees it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any, Final

import pytest
from ergo_lib_python.chain import Constant
from hypothesis import given
from hypothesis import strategies as st
from offchain import ERG, coin, digest, signer

from aihd.protocol.box import (
    AMOUNT,
    REGISTERS,
    SIZE,
    TOKENS,
    Box,
    ForgedError,
    Odd,
    box_of,
    box_of_bytes,
    box_of_json,
)
from aihd.protocol.hashes import blake2b256
from aihd.protocol.shapes import ShapeError
from aihd.protocol.wire import Reader, WireError, is_constant, is_point, vlq

ME: Final = signer("node").tree
KEY: Final = signer("node").public_key
PLAIN: Final = box_of(coin(ME, ERG, "plain", ((digest("a"), 5), (digest("b"), 7))))
BOX_OF_NOTHING: Final = b"\x63" + vlq(0) + ME + vlq(20) + b"\0\0" + digest("q") + b"\0"
# Registers that the reference reads or once read, and ergo-lib does not, or not for sure; some of them end the process that asks it.
ODD_REGISTERS: Final = {
    "box": BOX_OF_NOTHING,
    "empty box": b"\x63",
    "option": bytes.fromhex("2801") + b"\x02",
    "two options": bytes.fromhex("850203"),
    "header": bytes.fromhex("82"),
    "context": bytes.fromhex("83"),
    "unsigned": bytes.fromhex("0902ff01"),
    "tree": bytes.fromhex("089600"),
    "abort": bytes.fromhex("ebd79dff40"),
    "deep": b"\x0c" * 200 + b"\x05\x00",
    "any": bytes.fromhex("61"),
    "unit": bytes.fromhex("62"),
    "nothing": b"",
    "long form of a type": bytes.fromhex("0c050104"),
    "long form of a number": bytes.fromhex("048000"),
    "bytes after the end": bytes.fromhex("040400"),
    "no point": b"\x07\x02" + b"\xff" * 32,
    "point at infinity": b"\x07" + b"\0" * 33,
    "more than a key": bytes.fromhex("08d3"),
    "too long": bytes.fromhex("0effff03") + b"\0" * 100,
    "wide BigInt": b"\x06\x21" + b"\x01" * 33,
    "long BigInt": b"\x06\x02\x00\x01",
    "bits too many": bytes.fromhex("0d01ff"),
    "pair of Shorts": bytes.fromhex("570204"),
}


def raw(**changes: Any) -> dict[str, Any]:
    """A box in a node's JSON whose id fits what it says, unless the id is given."""
    fields: dict[str, Any] = {
        "value": ERG,
        "ergoTree": ME.hex(),
        "assets": [],
        "creationHeight": 20,
        "additionalRegisters": {},
        "transactionId": digest("tx").hex(),
        "index": 1,
        **changes,
    }
    held = b"".join(bytes.fromhex(a["tokenId"]) + vlq(a["amount"]) for a in fields["assets"])
    registers = b"".join(bytes.fromhex(text) for text in fields["additionalRegisters"].values())
    data = b"".join(
        (
            vlq(fields["value"]) + bytes.fromhex(fields["ergoTree"]) + vlq(fields["creationHeight"]),
            bytes([len(fields["assets"]) & 255]) + held,
            bytes([len(fields["additionalRegisters"])]) + registers,
            bytes.fromhex(fields["transactionId"]) + vlq(fields["index"]),
        )
    )
    return {"boxId": blake2b256(data).hex(), **fields}


# ---------------------------------------------------------------- what is read


def test_box__when__made_by_ergo_lib__then__the_same_bytes_and_back() -> None:
    box = coin(ME, ERG, "plain", ((digest("a"), 5), (digest("b"), 7)))
    assert PLAIN.to_bytes() == bytes(box)
    assert PLAIN.id == str(box.box_id) and PLAIN.ergo() == box
    assert box_of_bytes(bytes(box), (ME,)) == PLAIN == box_of(PLAIN)


def test_box_of_json__when__a_node_and_an_explorer_show_it__then__the_same_box() -> None:
    of_node = raw(additionalRegisters={"R4": "0402", "R5": "0e0141"}, assets=[{"tokenId": "ab" * 32, "amount": 9}])
    registers = {
        name: {"serializedValue": text, "sigmaType": "SInt", "renderedValue": "1"}
        for name, text in of_node["additionalRegisters"].items()
    }
    of_explorer = {**of_node, "additionalRegisters": registers, "value": str(ERG), "address": "9f…"}
    found = box_of_json(of_node, (ME,))
    assert isinstance(found, Box) and found == box_of_json(of_explorer)
    assert found.tree is ME
    assert (found.registers, found.tokens) == ((b"\x04\x02", b"\x0e\x01A"), ((b"\xab" * 32, 9),))


@pytest.mark.parametrize(
    "change",
    [{"value": ERG + 1}, {"index": 2}, {"creationHeight": 21}, {"additionalRegisters": {"R5": "0402"}}],
    ids=str,
)
def test_box_of_json__when__a_field_is_another__then__forged(change: dict[str, Any]) -> None:
    with pytest.raises(ForgedError, match="is not what it says"):
        box_of_json({**raw(additionalRegisters={"R4": "0402"}), **change})


@pytest.mark.parametrize(
    "name", ["boxId", "value", "ergoTree", "assets", "creationHeight", "additionalRegisters", "index"]
)
@pytest.mark.parametrize(
    "value", [None, -1, 1.5, True, "zz", "", [], {}, [[]], "9" * 200, 2**70, float("nan")], ids=str
)
def test_box_of_json__when__a_field_is_of_another_kind__then__its_name_is_told_or_the_box_is_forged(
    name: str, value: Any
) -> None:
    whole = raw()
    if whole[name] == value or (name, value) in (("ergoTree", ""), ("additionalRegisters", {}), ("assets", [])):
        pytest.skip("it is right")
    with pytest.raises((ShapeError, ForgedError)):
        box_of_json({**whole, name: value})
    missing = {key: item for key, item in whole.items() if key != name}
    with pytest.raises(ShapeError, match=name):
        box_of_json(missing)


# ---------------------------------------------------------------- what is odd


@pytest.mark.parametrize("name", ODD_REGISTERS)
@pytest.mark.parametrize("place", ["R4", "R5"])
def test_box_of_json__when__a_register_is_odd__then__set_aside_by_its_kind(name: str, place: str) -> None:
    before = {"R4": "0402"} if place == "R5" else {}
    found = box_of_json(raw(additionalRegisters={**before, place: ODD_REGISTERS[name].hex()}), (ME,))
    assert isinstance(found, Odd)
    assert (found.tree, found.kind) == (ME, REGISTERS)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"value": 0}, AMOUNT),
        ({"assets": [{"tokenId": "ab" * 32, "amount": 0}]}, AMOUNT),
        ({"assets": [{"tokenId": f"{n:064x}", "amount": 1} for n in range(123)]}, TOKENS),
        ({"additionalRegisters": {"R4": "0e" + vlq(5000).hex() + "00" * 5000}}, SIZE),
    ],
    ids=["no value", "no amount", "tokens", "bytes"],
)
def test_box_of_json__when__it_could_not_be_spent__then__set_aside(change: dict[str, Any], kind: str) -> None:
    found = box_of_json(raw(**change))
    assert isinstance(found, Odd) and found.kind == kind


def test_box_of_json__when__as_large_as_can_be_spent__then__a_box() -> None:
    found = box_of_json(raw(value=10**12, assets=[{"tokenId": f"{n:064x}", "amount": 2**63 - 1} for n in range(80)]))
    assert isinstance(found, Box) and str(found.ergo().box_id) == found.id


# ---------------------------------------------------------------- constants


def _coll(item: st.SearchStrategy[Constant]) -> st.SearchStrategy[Constant]:
    return st.lists(item, min_size=1, max_size=4).map(Constant)


LONGS: Final = st.integers(-(2**63), 2**63 - 1).map(Constant.from_i64)
INTS: Final = st.integers(-(2**31), 2**31 - 1).map(Constant.from_i32)
SHORTS: Final = st.integers(-(2**15), 2**15 - 1).map(Constant.from_i16)
PRIMITIVES: Final = st.one_of(
    LONGS,
    INTS,
    st.integers(-(2**7), 2**7 - 1).map(Constant.from_i8),
    st.booleans().map(Constant),
    st.binary(max_size=20).map(Constant),
)
CONSTANTS: Final = st.one_of(
    PRIMITIVES,
    SHORTS,
    _coll(SHORTS),
    st.tuples(SHORTS, INTS).map(Constant),
    _coll(LONGS),
    _coll(INTS),
    _coll(st.booleans().map(Constant)),
    _coll(st.binary(max_size=5).map(Constant)),
    st.tuples(PRIMITIVES, PRIMITIVES).map(Constant),
    st.tuples(st.tuples(LONGS, INTS).map(Constant), PRIMITIVES).map(Constant),
    st.just(Constant.from_bytes(b"\x08\xcd" + KEY)),
)


@given(CONSTANTS)
def test_is_constant__when__ergo_lib_wrote_it__then__known_and_nothing_shorter_or_longer_is(constant: Constant) -> None:
    data = bytes(constant)
    assert is_constant(data)
    assert not is_constant(data + b"\0")
    assert not is_constant(data[:-1])


_CHILD: Final = """
import json, sys
from ergo_lib_python.chain import Constant
for line in sys.stdin:
    data = bytes.fromhex(line.strip())
    try:
        same = bytes(Constant.from_bytes(data)) == data
    except BaseException as error:
        same = type(error).__name__
    print(json.dumps([data.hex(), same]), flush=True)
"""


def _mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(3):
            case 0 if place < len(changed):
                changed[place] = chance.randrange(256)
            case 1 if place < len(changed) > 1:
                del changed[place]
            case _:
                changed.insert(place, chance.choice((0, 1, 2, 5, 8, 12, 24, 60, 72, 84, 0x80, 0xCD, 0xFF)))
    return bytes(changed)


@pytest.mark.parametrize("count", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_is_constant__when__bytes_are_mutated__then__what_it_knows_ergo_lib_reads_to_the_same_bytes(count: int) -> None:
    chance = random.Random(count)
    seeds = [
        "0402",
        "0500",
        "0e03010203",
        "11020204",
        "1a020161026263",
        "400e020178",
        "0d0203",
        "0602ff7f",
        "3c0e0e01410142",
    ]
    pool = [bytes.fromhex(seed) for seed in seeds] + [b"\x08\xcd" + KEY, b"\x07" + KEY, b"\x13\x01" + KEY]
    tried = {_mutated(chance, chance.choice(pool)) for _ in range(count)}
    known = [data for data in tried if is_constant(data)]
    assert len(known) > count // 50, "the mutations must leave something to compare"
    # In a process of its own: nobody knows what else native code does not survive.
    told = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input="\n".join(map(bytes.hex, known)),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(answers) == len(known)
    assert [answer for answer in answers if answer[1] is not True] == []


def test_reader__when__numbers_are_not_in_their_shortest_form_or_too_wide__then__refused() -> None:
    assert Reader(b"\x80\x01").vlq(16) == 128
    for data in (b"\x80\x00", b"\x81\x80\x00", b"\x80\x80\x04", b"\xff" * 20, b"\x80", b""):
        with pytest.raises(WireError):
            Reader(data).vlq(16)


def test_is_point__when__on_the_curve_or_not__then__told() -> None:
    assert is_point(KEY)
    assert not is_point(b"\x04" + KEY[1:]) and not is_point(KEY[:-1]) and not is_point(bytes(33))
    assert not is_point(b"\x02" + (5).to_bytes(32, "big"))  # 5^3 + 7 is no square
