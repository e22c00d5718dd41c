from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ergo_lib_python.chain import BoxId, Constant, ErgoBox, ErgoBoxCandidate, NonMandatoryRegisterId, Token, TokenId
from ergo_lib_python.transaction import DataInput, Transaction, TxId, UnsignedInput, UnsignedTransaction

from aihd.protocol.rules import MIN_FEE, POLICY, Rule, fee_of, violations
from aihd.protocol.trees import FEE_TREE, GENERATOR, p2pk_tree, parse_tree

P2PK = p2pk_tree(GENERATOR)
HEIGHT = 1000
ERG = 10**9
TOKEN = "44" * 32
PARAMETERS = {"minValuePerByte": 360}


def out(
    value: int,
    tree: bytes = P2PK,
    height: int = HEIGHT,
    tokens: Sequence[tuple[str, int]] = (),
    register: bytes | None = None,
) -> ErgoBoxCandidate:
    return ErgoBoxCandidate(
        value=value,
        script=parse_tree(tree),
        creation_height=height,
        tokens=[Token(TokenId(token_id), amount) for token_id, amount in tokens] or None,
        registers=None if register is None else {NonMandatoryRegisterId.R4: Constant(register)},
    )


def box(value: int = ERG, height: int = 900, tokens: Sequence[tuple[str, int]] = (), index: int = 0) -> ErgoBox:
    return ErgoBox.from_box_candidate(out(value, height=height, tokens=tokens), TxId("aa" * 32), index)


def spend(boxes: Sequence[ErgoBox], *outputs: ErgoBoxCandidate, fee: int = MIN_FEE) -> UnsignedTransaction:
    return UnsignedTransaction([UnsignedInput(b.box_id) for b in boxes], [], [*outputs, out(fee, FEE_TREE)])


def broken(tx: Transaction | UnsignedTransaction, *boxes: ErgoBox) -> list[Rule]:
    return [found.code for found in violations(tx, boxes, height=HEIGHT, parameters=PARAMETERS)]


def text_of(tx: Transaction | UnsignedTransaction, *boxes: ErgoBox) -> str:
    return " | ".join(found.text for found in violations(tx, boxes, height=HEIGHT, parameters=PARAMETERS))


def patched(tx: UnsignedTransaction, output: int, **changes: Any) -> UnsignedTransaction:
    """The transaction with fields of an output that ergo-lib's own builder would not allow."""
    body = json.loads(tx.json())
    body["outputs"][output].update(changes)
    return UnsignedTransaction.from_json(body)


def test_rules__when__all_is_right__then__nothing_is_found() -> None:
    tx = spend([box()], out(ERG - MIN_FEE))
    assert broken(tx, box()) == []
    assert broken(Transaction.from_unsigned_tx(tx, [b"\x00" * 56]), box()) == []


def test_rules__when__value_is_at_the_dust_limit__then__one_below_is_refused() -> None:
    size = len(bytes(spend([box()], out(27_000)).outputs[0]))
    for value, expected in ((360 * size, []), (360 * size - 1, [Rule.DUST])):
        assert broken(spend([box()], out(value), out(ERG - MIN_FEE - value)), box()) == expected
    text = text_of(spend([box()], out(20_000), out(ERG - MIN_FEE - 20_000)), box())
    assert "Every output of the transaction should contain at least <minValuePerByte * outputSize> nanoErgs" in text


def test_rules__when__box_is_at_4096_bytes__then__one_more_is_refused() -> None:
    def sized(length: int) -> UnsignedTransaction:
        return spend([box()], out(ERG - MIN_FEE, register=bytes(length)))

    fits = 4096 - len(bytes(sized(1000).outputs[0])) + 1000
    assert len(bytes(sized(fits).outputs[0])) == 4096
    assert broken(sized(fits), box()) == []
    assert broken(sized(fits + 1), box()) == [Rule.BOX_SIZE]


def test_rules__when__proposition_is_too_large__then__it_and_its_box_are_refused() -> None:
    tree = b"\x10\x01\x0e" + bytes([4100 & 0x7F | 0x80, 4100 >> 7]) + bytes(4100) + b"\xd1\x93\x73\x00\x73\x00"
    tx = patched(spend([box()], out(ERG - MIN_FEE)), 0, ergoTree=tree.hex())
    assert broken(tx, box()) == [Rule.PROPOSITION_SIZE, Rule.BOX_SIZE]


@pytest.mark.parametrize("tree", ["1b0408d1730000", "1100d193a3a3"])
def test_rules__when__tree_is_version_3_or_lacks_its_size__then__refused(tree: str) -> None:
    tx = patched(spend([box()], out(ERG - MIN_FEE)), 0, ergoTree=tree)
    assert broken(tx, box()) == [Rule.TREE_VERSION]


def test_rules__when__creation_height_leaves_its_range__then__future_or_falling() -> None:
    assert broken(spend([box()], out(ERG - MIN_FEE, height=HEIGHT + 1)), box()) == [Rule.FUTURE_HEIGHT]
    old = box(height=950)
    assert broken(spend([old], out(ERG - MIN_FEE, height=950)), old) == []
    assert broken(spend([old], out(ERG - MIN_FEE, height=949)), old) == [Rule.FALLING_HEIGHT]
    assert "creationHeight not exceeding block height" in text_of(spend([old], out(ERG, height=1001)), old)


def test_rules__when__fee_is_below_the_minimum__then__policy_alone() -> None:
    tx = spend([box()], out(ERG - MIN_FEE + 1), fee=MIN_FEE - 1)
    assert broken(tx, box()) == [Rule.MIN_FEE]
    assert {Rule.MIN_FEE} <= POLICY
    assert text_of(tx, box()) == "Min fee not met: 0.001 ergs required, 0.000999999 given"
    split = spend([box()], out(MIN_FEE // 2, FEE_TREE), out(ERG - MIN_FEE), fee=MIN_FEE // 2)
    assert fee_of(split.outputs) == MIN_FEE and broken(split, box()) == []


def test_rules__when__token_is_new__then__only_the_id_of_the_first_input() -> None:
    first, second = box(), box(index=1)
    for token_id, expected in (
        (str(first.box_id), []),
        (str(second.box_id), [Rule.ASSET_CONSERVATION]),
        (TOKEN, [Rule.ASSET_CONSERVATION]),
    ):
        tx = spend([first, second], out(2 * ERG - MIN_FEE, tokens=[(token_id, 5)]))
        assert broken(tx, first, second) == expected, token_id


def test_rules__when__tokens_move__then__fewer_are_allowed_and_more_are_not() -> None:
    holder = box(tokens=[(TOKEN, 5)])
    for amount, expected in ((5, []), (3, []), (6, [Rule.ASSET_CONSERVATION])):
        assert broken(spend([holder], out(ERG - MIN_FEE, tokens=[(TOKEN, amount)])), holder) == expected
    assert broken(spend([holder], out(ERG - MIN_FEE)), holder) == []
    split = spend([holder], out(ERG // 2, tokens=[(TOKEN, 3)]), out(ERG // 2 - MIN_FEE, tokens=[(TOKEN, 3)]))
    assert broken(split, holder) == [Rule.ASSET_CONSERVATION]


def test_rules__when__token_sum_passes_a_long__then__overflow() -> None:
    first = box()
    most = [(str(first.box_id), 2**63 - 1)]
    tx = spend([first], out(ERG // 2, tokens=most), out(ERG // 2 - MIN_FEE, tokens=most))
    assert broken(tx, first) == [Rule.OVERFLOW]


def test_rules__when__erg_is_made_or_lost__then__refused() -> None:
    for change in (1, -1):
        tx = spend([box()], out(ERG - MIN_FEE + change))
        assert broken(tx, box()) == [Rule.ERG_CONSERVATION]
        assert "Amount of Ergs in inputs should be equal to amount of Erg in outputs." in text_of(tx, box())


def test_rules__when__erg_sum_passes_a_long__then__overflow_on_that_side() -> None:
    rich = [box(2**62, index=index) for index in range(2)]
    tx = spend(rich, out(2**62), out(2**62 - MIN_FEE))
    assert broken(tx, *rich) == [Rule.OVERFLOW, Rule.OVERFLOW]


def test_rules__when__an_input_stands_twice__then__refused() -> None:
    tx = spend([box(), box()], out(2 * ERG - MIN_FEE))
    assert broken(tx, box()) == [Rule.DUPLICATE_INPUT]


def test_rules__when__boxes_are_not_there__then__their_indices_are_named_and_sums_left_alone() -> None:
    boxes = [box(index=index) for index in range(3)]
    tx = spend(boxes, out(17 * ERG))
    assert broken(tx, boxes[1]) == [Rule.MISSING_INPUT]
    assert "Every input of the transaction should be in UTXO. Missing inputs: 0, 2" in text_of(tx, boxes[1])


def test_rules__when__data_input_is_not_there__then__refused_until_it_is_given() -> None:
    fund, read = box(), box(index=7)
    outputs = [out(ERG - MIN_FEE), out(MIN_FEE, FEE_TREE)]
    tx = UnsignedTransaction([UnsignedInput(fund.box_id)], [DataInput(BoxId(bytes(read.box_id)))], outputs)
    assert broken(tx, fund) == [Rule.MISSING_DATA_INPUT]
    assert violations(tx, [fund], height=HEIGHT, parameters=PARAMETERS, data_inputs=[read]) == ()


def test_rules__when__transaction_is_above_98304_bytes__then__policy_refuses() -> None:
    outputs = [out(3 * ERG, register=bytes(3900)) for _ in range(26)]
    rich = box(26 * 3 * ERG + MIN_FEE)
    tx = spend([rich], *outputs)
    assert broken(tx, rich) == [Rule.TX_SIZE]
    assert "has too large size" in text_of(tx, rich)
    assert broken(Transaction.from_unsigned_tx(tx, [b""]), rich) == [Rule.TX_SIZE]


def test_rules__when__token_amount_is_zero__then__refused() -> None:
    holder = box(tokens=[(TOKEN, 5)])
    tx = spend([holder], out(ERG - MIN_FEE, tokens=[(TOKEN, 5)]))
    tx = patched(tx, 0, assets=[{"tokenId": TOKEN, "amount": 0}])  # ergo-lib's JSON lets it pass
    assert broken(tx, holder) == [Rule.ASSET_AMOUNT]
