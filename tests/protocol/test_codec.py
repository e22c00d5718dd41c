"""Registers are read strictly: an error names box, register, value and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ergo_lib_python.chain import Constant, ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import TxId
from hypothesis import given
from hypothesis import strategies as st
from offchain import signer

from aihd.errors import Exit
from aihd.protocol import codec
from aihd.protocol.codec import INT_RANGE, LONG_RANGE, BoxError, Registers
from aihd.protocol.trees import parse_tree

KEY = signer("node").public_key
TREE = parse_tree(signer("node").tree)
# (Long, Int) and other values that no protocol register may hold
PAIR = Constant.from_bytes(bytes.fromhex("59") + b"\x02\x02")


def box(*registers: Constant) -> ErgoBox:
    candidate = ErgoBoxCandidate(
        value=10**9,
        script=TREE,
        creation_height=1,
        registers=dict(zip(codec.REGISTER_IDS, registers, strict=False)) or None,
    )
    return ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0)


def reader(*registers: Constant) -> Registers:
    return Registers("Bond", box(*registers))


Read = Callable[[Registers], Any]
READS: dict[str, tuple[Read, Constant, Any]] = {
    "Int": (lambda r: r.int_value("R4"), codec.int_constant(-7), -7),
    "Long": (lambda r: r.long_value("R4"), codec.long_constant(2**40), 2**40),
    "Coll[Byte]": (lambda r: r.coll_byte("R4", size=3), codec.coll_byte(b"abc"), b"abc"),
    "Coll[Int]": (lambda r: r.ints("R4", 2), codec.coll_int((1, -2)), (1, -2)),
    "Coll[Long]": (lambda r: r.longs("R4", 2), codec.coll_long((1, -2)), (1, -2)),
    "Coll[Coll[Byte]]": (
        lambda r: r.byte_strings("R4", size=2, most=2),
        codec.coll_coll_byte((b"ab", b"cd")),
        (b"ab", b"cd"),
    ),
    "SigmaProp": (lambda r: r.public_key("R4"), codec.sigma_prop(KEY), KEY),
}


@pytest.mark.parametrize("wanted", READS)
@pytest.mark.parametrize("given", READS)
def test_read__when__a_register_has_a_type__then__only_that_type_is_read(wanted: str, given: str) -> None:
    read, _, _ = READS[wanted]
    _, constant, value = READS[given]
    registers = reader(constant)
    if wanted == given:
        assert read(registers) == value
        return
    with pytest.raises(BoxError) as caught:
        read(registers)
    text = str(caught.value)
    assert text.startswith(f"Bond box {box(constant).box_id}: R4 is {bytes(constant).hex()[:80]}, expected ")
    assert wanted in text
    assert caught.value.exit_code is Exit.USAGE


@pytest.mark.parametrize("wanted", READS)
def test_read__when__the_register_is_missing__then__the_error_names_it(wanted: str) -> None:
    read, _, _ = READS[wanted]
    with pytest.raises(BoxError, match=r"^Bond box [0-9a-f]{64}: R4 is missing, expected .*") as caught:
        read(reader())
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("read", "constant", "says"),
    [
        (lambda r: r.coll_byte("R4", size=32), codec.coll_byte(bytes(31)), "expected Coll[Byte] of 32 bytes"),
        (lambda r: r.coll_byte("R4", size=32), codec.coll_byte(bytes(33)), "expected Coll[Byte] of 32 bytes"),
        (lambda r: r.coll_byte("R4", most=4), codec.coll_byte(bytes(5)), "expected Coll[Byte] of at most 4 bytes"),
        (lambda r: r.text("R4", most=9), codec.coll_byte(b"\xff\xfe"), "R4 is fffe, expected UTF-8 text"),
        (lambda r: r.longs("R4", 7), codec.coll_long((1,) * 6), "expected Coll[Long] of 7 numbers"),
        (lambda r: r.longs("R4", 7), codec.coll_long((1,) * 8), "expected Coll[Long] of 7 numbers"),
        (lambda r: r.longs("R4", 1), codec.coll_long(()), "expected Coll[Long] of 1 numbers"),
        (lambda r: r.ints("R4", 4), codec.coll_int(()), "expected Coll[Int] of 4 numbers"),
        (
            lambda r: r.byte_strings("R4", size=32, most=1),
            codec.coll_coll_byte((bytes(32), bytes(32))),
            "expected Coll[Coll[Byte]] of at most 1 items of 32 bytes",
        ),
        (lambda r: r.byte_strings("R4", size=32, most=9), codec.coll_coll_byte((bytes(31),)), "items of 32 bytes"),
        (lambda r: r.int_value("R4"), PAIR, "expected Int"),
        (lambda r: r.coll_byte("R4", size=2), PAIR, "expected Coll[Byte] of 2 bytes"),
    ],
)
def test_read__when__length_or_range_is_wrong__then__the_error_says_what_is_right(
    read: Read, constant: Constant, says: str
) -> None:
    with pytest.raises(BoxError) as caught:
        read(reader(constant))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("proposition", ["d3", "9602cd" + KEY.hex() + "cd" + KEY.hex()], ids=["true", "and"])
def test_public_key__when__the_proposition_is_not_one_key__then__refused(proposition: str) -> None:
    with pytest.raises(BoxError, match=f"R4 is 08{proposition[:40]}.*, expected SigmaProp of a single public key"):
        reader(Constant.from_bytes(bytes.fromhex("08" + proposition))).public_key("R4")


def test_count__when__registers_are_set__then__their_number() -> None:
    assert [reader().count, reader(codec.int_constant(1), codec.int_constant(2)).count] == [0, 2]


@pytest.mark.parametrize("value", [INT_RANGE[0] - 1, INT_RANGE[1] + 1])
def test_int_constant__when__out_of_range__then__refused_with_the_value(value: int) -> None:
    with pytest.raises(BoxError, match=f"{value} does not fit a register of type Int"):
        codec.coll_int((0, value))


@pytest.mark.parametrize("value", [LONG_RANGE[0] - 1, LONG_RANGE[1] + 1])
def test_long_constant__when__out_of_range__then__refused_with_the_value(value: int) -> None:
    with pytest.raises(BoxError, match=f"{value} does not fit a register of type Long"):
        codec.coll_long((0, value))


@pytest.mark.parametrize("size", [0, 32, 34])
def test_sigma_prop__when__the_key_has_another_length__then__refused(size: int) -> None:
    with pytest.raises(BoxError, match=f"{size} bytes, a compressed key has 33"):
        codec.sigma_prop(bytes(size))


@given(
    longs=st.lists(st.integers(*LONG_RANGE), max_size=8),
    ints=st.lists(st.integers(*INT_RANGE), max_size=8),
    strings=st.lists(st.binary(min_size=4, max_size=4), max_size=8),
    raw=st.binary(max_size=300),
)
def test_registers__when__written_and_read__then__the_same(
    longs: list[int], ints: list[int], strings: list[bytes], raw: bytes
) -> None:
    registers = reader(
        codec.coll_long(longs), codec.coll_int(ints), codec.coll_coll_byte(strings), codec.coll_byte(raw)
    )
    assert registers.longs("R4", len(longs)) == tuple(longs)
    assert registers.ints("R5", len(ints)) == tuple(ints)
    assert registers.byte_strings("R6", size=4, most=8) == tuple(strings)
    assert registers.coll_byte("R7", most=300) == raw
