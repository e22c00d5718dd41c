"""Quantities are exact, need their unit, and survive being written and read again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.errors import Exit
from aihd.protocol.units import (
    MAX_LONG,
    UnitError,
    format_duration,
    format_erg,
    format_size,
    format_units,
    parse_duration,
    parse_erg,
    parse_quantity,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("0.05 ERG", 50_000_000),
        ("50000000 nanoERG", 50_000_000),
        ("50_000_000 nanoerg", 50_000_000),
        ("1ERG", 1_000_000_000),
        (" 0.000000001 erg ", 1),
        ("0 ERG", 0),
        ("9223372036.854775807 ERG", MAX_LONG),
        # a float would make 9007199254740992 of it
        ("9007199.254740993 ERG", 9_007_199_254_740_993),
    ],
)
def test_parse_erg__when__amount_has_a_unit__then__it_is_exact(text: str, nano: int) -> None:
    assert parse_erg(text) == nano


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.05", "is not a number with a unit"),
        (0.05, "0.05 has no unit"),
        (50_000_000, "50000000 has no unit"),
        (True, "has no unit"),
        ("-1 ERG", "is not a number with a unit"),
        ("1e3 ERG", "is not a number with a unit"),
        ("1,5 ERG", "is not a number with a unit"),
        ("٣ ERG", "is not a number with a unit"),
        ("", "is not a number with a unit"),
        ("ERG", "is not a number with a unit"),
        ("1 BTC", "unknown unit"),
        ("0.0000000001 ERG", "finer than 1 nanoERG"),
        ("0.5 nanoERG", "finer than 1 nanoERG"),
        ("9223372036.854775808 ERG", "more than the largest possible"),
        ("1" + "0" * 100 + " ERG", "is not a number with a unit"),
    ],
)
def test_parse_erg__when__text_is_wrong__then__error_names_it_and_what_is_right(text: object, says: str) -> None:
    with pytest.raises(UnitError, match=says) as caught:
        parse_erg(text)
    assert isinstance(caught.value, ValueError)
    assert caught.value.exit_code is Exit.USAGE
    assert repr(text) in str(caught.value)


def test_parse_erg__when__unit_is_missing__then__error_shows_a_right_amount() -> None:
    with pytest.raises(UnitError, match=r'write an amount as "0\.05 ERG" or "50000000 nanoERG"'):
        parse_erg("5")


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0 ERG"), (1, "0.000000001 ERG"), (50_000_000, "0.05 ERG"), (10**10, "10 ERG"), (-1_100_000, "-0.0011 ERG")],
)
def test_format_erg__when__amount_given__then__shortest_exact_text(nano: int, text: str) -> None:
    assert format_erg(nano) == text


@given(st.integers(0, MAX_LONG))
def test_erg__when__written_and_read__then__same_amount(nano: int) -> None:
    assert parse_erg(format_erg(nano)) == nano
    assert parse_erg(f"{nano} nanoERG") == nano


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30 s", 30), ("5 min", 300), ("2 h", 7200), ("1 d", 86400), ("500 ms", 0.5), ("1.5 h", 5400), ("0 s", 0)],
)
def test_parse_duration__when__unit_given__then__seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("100 MB", 10**8), ("1 GiB", 2**30), ("1.5 KiB", 1536), ("7 B", 7)])
def test_parse_size__when__unit_given__then__bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["30", 30, "30 x", "-1 s", "0.1 ms"])
def test_parse_duration__when__wrong__then__error_names_it(text: object) -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_format__when__largest_unit_divides__then__it_is_used() -> None:
    assert [format_duration(s) for s in (15, 300, 7200, 0.25, 90, 0)] == [
        "15 s",
        "5 min",
        "2 h",
        "250 ms",
        "90 s",
        "0 ms",
    ]
    assert [format_size(n) for n in (10**8, 2**30, 1500, 0)] == ["100 MB", "1 GiB", "1500 B", "0 B"]


@given(st.integers(0, 2**53))
def test_durations_and_sizes__when__written_and_read__then__same_value(count: int) -> None:
    assert parse_size(format_size(count)) == count
    milliseconds = count % 10**12
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "decimals", "smallest", "shown"),
    [
        ("0.10 SigUSD", 2, 10, "0.1 SigUSD"),
        ("5 SigUSD", 2, 500, "5 SigUSD"),
        ("1_000.5 Gold", 1, 10_005, "1000.5 Gold"),
        ("7 Gold", 0, 7, "7 Gold"),
        ("0 Gold", 18, 0, "0 Gold"),
        ("0.000000000000000001 Dust", 18, 1, "0.000000000000000001 Dust"),
        ("9223372036854775807 Gold", 0, 2**63 - 1, "9223372036854775807 Gold"),
    ],
)
def test_quantity__when__its_decimals_are_known__then__exact_and_shown_in_full(
    text: str, decimals: int, smallest: int, shown: str
) -> None:
    quantity = parse_quantity(text)
    assert quantity.smallest(decimals) == smallest
    assert str(quantity) == shown
    assert parse_quantity(str(quantity)) == quantity


@pytest.mark.parametrize(
    ("text", "decimals", "says"),
    [
        ("0.001 SigUSD", 2, "'0.001 SigUSD' is finer than the 2 decimals that SigUSD has"),
        ("0.1 Gold", 0, "'0.1 Gold' is finer than the 0 decimals that Gold has"),
        ("9223372036854775808 Gold", 0, "'9223372036854775808 Gold' is more than the largest possible, 9223372036854775807"),
        ("92233720368547758.08 SigUSD", 2, "is more than the largest possible"),
    ],
)  # fmt: skip
def test_quantity__when__too_fine_or_too_much__then__the_error_names_it(text: str, decimals: int, says: str) -> None:
    with pytest.raises(UnitError) as error:
        parse_quantity(text).smallest(decimals)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "text", [None, 5, "5", "SigUSD", "-5 SigUSD", "5 Sig USD", "1e3 SigUSD", "5 S1gUSD", "٣ SigUSD", ""]
)
def test_parse_quantity__when__it_is_none__then__refused_with_a_right_one(text: object) -> None:
    with pytest.raises(UnitError, match=r'write a number with its unit, as "0.05 ERG" or "0.10 SigUSD"'):
        parse_quantity(text)


@given(st.integers(0, 2**63 - 1), st.integers(0, 18))
def test_format_units__when__read_back__then__the_same_amount(amount: int, decimals: int) -> None:
    text = format_units(amount, decimals)
    assert parse_quantity(f"{text} Gold").smallest(decimals) == amount
    assert not text.endswith(".") and (decimals == 0 or "." not in text or not text.endswith("0"))
    assert format_units(-amount, decimals) == (f"-{text}" if amount else "0")
