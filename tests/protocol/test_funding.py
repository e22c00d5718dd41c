"""From named outputs to a balanced transaction: sums hold for ERG and tokens, nothing is dust, and what is missing is told."""

from __future__ import annotations

from collections import Counter

import pytest
from ergo_lib_python.chain import ErgoBox, Token, TokenId
from hypothesis import assume, given
from hypothesis import strategies as st
from offchain import ERG, FEE, PARAMETERS, coin, digest, signer

from aihd.protocol import rules
from aihd.protocol.constants import MIN_BOX
from aihd.protocol.funding import Funds, InsufficientFundsError, Output, Plan, TxKind, balance
from aihd.protocol.trees import FEE_TREE
from aihd.protocol.units import format_erg

MINE, THEIRS = signer("node").tree, signer("client").tree
TOKENS = [digest("token", number) for number in range(3)]
HEIGHT = 1001


def purse(values: list[int], tokens: list[dict[int, int]] | None = None) -> tuple[ErgoBox, ...]:
    held = tokens or [{}] * len(values)
    return tuple(
        coin(MINE, value, f"purse {number}", [Token(TokenId(TOKENS[i]), n) for i, n in some.items()] or None)
        for number, (value, some) in enumerate(zip(values, held, strict=True))
    )


def totals(boxes: tuple[ErgoBox, ...]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for box in boxes:
        for token in box.tokens:
            found[bytes(token.token_id)] += token.amount
    return found


def planned(plan: Plan) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for output in plan.outputs:
        found.update(dict(output.tokens))
    return found


some_tokens = st.dictionaries(st.integers(0, 2), st.integers(1, 1000), max_size=3)


@given(
    values=st.lists(st.integers(MIN_BOX, 5 * ERG), min_size=1, max_size=6),
    data=st.data(),
    wanted=st.integers(MIN_BOX, 20 * ERG),
    fee=st.integers(MIN_BOX, 2 * FEE),
    burned=st.sets(st.sampled_from(TOKENS)),
)
def test_balance__when__it_plans__then__sums_hold_nothing_is_dust_and_no_rule_is_broken(
    values: list[int], data: st.DataObject, wanted: int, fee: int, burned: set[bytes]
) -> None:
    boxes = purse(values, [data.draw(some_tokens) for _ in values])
    try:
        plan = balance(
            TxKind.SEND,
            (),
            [Output(wanted, THEIRS)],
            Funds(boxes, MINE, fee),
            HEIGHT,
            signer=MINE[3:],
            burned=burned,
        )
    except InsufficientFundsError:
        left = sum(values) - wanted - fee
        assert left < MIN_BOX and (left != 0 or totals(boxes))
        return
    assert sum(box.value for box in plan.inputs) == sum(output.value for output in plan.outputs)
    kept = Counter({token: n for token, n in totals(plan.inputs).items() if token not in burned})
    assert planned(plan) == kept
    assert len({str(box.box_id) for box in plan.inputs}) == len(plan.inputs)
    assert plan.outputs[0] == Output(wanted, THEIRS)
    assert plan.outputs[1] == Output(fee, FEE_TREE)
    assert all(output.value >= MIN_BOX for output in plan.outputs)
    assert rules.violations(plan.unsigned(), plan.inputs, height=HEIGHT, parameters=PARAMETERS) == ()


@given(values=st.lists(st.integers(MIN_BOX, ERG), max_size=4), missing=st.integers(1, ERG))
def test_balance__when__funds_are_short__then__the_error_says_by_how_much(values: list[int], missing: int) -> None:
    wanted = sum(values) - FEE - MIN_BOX + missing
    assume(wanted > 0 and missing != MIN_BOX)
    with pytest.raises(InsufficientFundsError) as caught:
        balance(TxKind.SEND, (), [Output(wanted, THEIRS)], Funds(purse(values), MINE, FEE), HEIGHT, signer=None)
    assert f"short of {format_erg(missing)}: {format_erg(wanted + FEE)} are needed" in str(caught.value)


def test_balance__when__nothing_is_left__then__no_change_box() -> None:
    plan = balance(TxKind.SEND, (), [Output(ERG, THEIRS)], Funds(purse([ERG + FEE]), MINE, FEE), HEIGHT, signer=None)
    assert plan.outputs == (Output(ERG, THEIRS), Output(FEE, FEE_TREE))


def test_balance__when__the_first_boxes_do__then__the_others_are_left_alone() -> None:
    boxes = purse([ERG, ERG, ERG])
    plan = balance(TxKind.SEND, (), [Output(ERG, THEIRS)], Funds(boxes, MINE, FEE), HEIGHT, signer=None)
    assert plan.inputs == boxes[:2]


def test_balance__when__an_input_is_in_the_wallet_too__then__it_is_spent_once() -> None:
    boxes = purse([ERG, 2 * ERG])
    plan = balance(TxKind.SEND, boxes[:1], [Output(2 * ERG, THEIRS)], Funds(boxes, MINE, FEE), HEIGHT, signer=None)
    assert plan.inputs == boxes


def test_balance__when__tokens_would_have_no_box__then__refused() -> None:
    boxes = purse([ERG + FEE], [{0: 5}])
    with pytest.raises(InsufficientFundsError, match="no nanoERG are left to carry 1 tokens"):
        balance(TxKind.SEND, (), [Output(ERG, THEIRS)], Funds(boxes, MINE, FEE), HEIGHT, signer=None)


@pytest.mark.parametrize(("oldest", "expected"), [(900, HEIGHT - 1), (HEIGHT - 1, HEIGHT - 1), (HEIGHT, HEIGHT)])
def test_balance__when__inputs_have_heights__then__outputs_are_never_below_them(oldest: int, expected: int) -> None:
    boxes = (coin(MINE, 2 * ERG, "old", height=oldest),)
    plan = balance(TxKind.SEND, (), [Output(ERG, THEIRS)], Funds(boxes, MINE, FEE), HEIGHT, signer=None)
    assert plan.creation_height == expected
    assert {box.creation_height for box in plan.unsigned().outputs} == {expected}


def test_tx_id__when__planned_twice__then__the_same() -> None:
    funds = Funds(purse([2 * ERG]), MINE, FEE)
    first, second = (balance(TxKind.SEND, (), [Output(ERG, THEIRS)], funds, HEIGHT, signer=None) for _ in range(2))
    assert first.tx_id == second.tx_id == str(first.unsigned().id)
