from __future__ import annotations

import pytest

from aihd.devnet.render import render, tree_constants
from aihd.protocol.trees import FEE_TREE, GENERATOR

KEY = GENERATOR.hex()


@pytest.mark.parametrize(
    ("serialized", "sigma_type", "text"),
    [
        ("0e0568656c6c6f", "Coll[SByte]", "68656c6c6f"),
        ("0409", "SInt", "-5"),
        ("05c801", "SLong", "100"),
        ("0602ff00", "SBigInt", "-256"),
        ("0101", "SBoolean", "true"),
        ("0d0201", "Coll[SBoolean]", "[true,false]"),
        (f"07{KEY}", "SGroupElement", KEY),
        (f"08cd{KEY}", "SSigmaProp", KEY),
        ("400e020178", "(SInt, Coll[SByte])", "[1,78]"),
        ("11020204", "Coll[SLong]", "[1,2]"),
        ("1100", "Coll[SLong]", "[]"),
        ("1a020161026263", "Coll[Coll[SByte]]", "[61,6263]"),
        ("62", "SUnit", "()"),
    ],
)
def test_render__when__type_is_known__then__as_the_explorer_writes_it(
    serialized: str, sigma_type: str, text: str
) -> None:
    assert render(serialized) == (sigma_type, text)


@pytest.mark.parametrize("serialized", ["08d3", "090105", "ff", "zz", "", f"089602cd{KEY}cd{KEY}"])
def test_render__when__it_cannot_be_shown__then__both_null(serialized: str) -> None:
    assert render(serialized) == (None, None)


def test_tree_constants__when__tree_has_some__then__rendered_in_order_and_none_for_what_is_no_tree() -> None:
    assert tree_constants(FEE_TREE.hex())[:2] == ("0", "0")
    assert len(tree_constants(FEE_TREE.hex())) == 5
    assert tree_constants("10ff") == ()
