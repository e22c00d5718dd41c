"""From named outputs to a balanced transaction: sums hold for ERG and tokens, nothing is dust, and what is missing is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pytest
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction
from hypothesis import assume, given
from hypothesis import strategies as st
from offchain import ERG, FEE, PARAMETERS, coin, digest, signer

from aihd.protocol import rules
from aihd.protocol.boxes import tokens_of
from aihd.protocol.coins import REEMISSION_TOKEN, Entries, size_of, total_of
from aihd.protocol.constants import MIN_BOX
from aihd.protocol.funding import SMALLEST_MAX_COST, Funds, InsufficientFundsError, Output, Plan, TxKind, balance
from aihd.protocol.trees import FEE_TREE
from aihd.protocol.units import format_erg, parse_erg

MINE, THEIRS = signer("node").tree, signer("client").tree
HEIGHT = 1001


def held(*entries: tuple[int, int]) -> list[tuple[bytes, int]]:
    """Tokens of a box by their number and amount, in this order; a number may stand there twice."""
    return [(token(number), amount) for number, amount in entries]


def token(number: int) -> bytes:
    return digest("token", number)


def purse(values: list[int], tokens: list[list[tuple[bytes, int]]] | None = None) -> tuple[ErgoBox, ...]:
    each = tokens or [[]] * len(values)
    return tuple(
        coin(MINE, value, f"purse {number}", some)
        for number, (value, some) in enumerate(zip(values, each, strict=True))
    )


def pay(boxes: Sequence[ErgoBox], value: int = ERG, tokens: Entries = (), *, inputs: Sequence[ErgoBox] = ()) -> Plan:
    funds = Funds(tuple(boxes), MINE, FEE)
    return balance(TxKind.SEND, inputs, [Output(value, THEIRS, tokens)], funds, HEIGHT, signer=None)


def change_of(plan: Plan) -> tuple[Output, ...]:
    return plan.outputs[plan.named + 1 :]


def assert_sound(plan: Plan) -> None:
    """Nothing is lost, nothing is burned but by the plan's word, and a node would take it."""
    assert sum(box.value for box in plan.inputs) == sum(output.value for output in plan.outputs)
    assert total_of(map(tokens_of, plan.inputs)) == total_of(output.tokens for output in plan.outputs) + Counter(
        plan.burned
    )
    assert len({str(box.box_id) for box in plan.inputs}) == len(plan.inputs)
    assert rules.violations(plan.unsigned(), plan.inputs, height=HEIGHT, parameters=PARAMETERS) == ()


# A box may list one id more than once.
some_tokens = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 1000)), max_size=4).map(lambda some: held(*some))
fees = st.integers(MIN_BOX, 2 * FEE)


@given(
    values=st.lists(st.integers(MIN_BOX, 5 * ERG), min_size=1, max_size=6),
    data=st.data(),
    wanted=st.integers(MIN_BOX, 20 * ERG),
    fee=fees,
)
def test_balance__when__it_plans__then__sums_hold_and_no_rule_is_broken(
    values: list[int], data: st.DataObject, wanted: int, fee: int
) -> None:
    boxes = purse(values, [data.draw(some_tokens) for _ in values])
    try:
        plan = balance(TxKind.SEND, (), [Output(wanted, THEIRS)], Funds(boxes, MINE, fee), HEIGHT, signer=MINE[3:])
    except InsufficientFundsError:
        left = sum(values) - wanted - fee
        assert left < 100_000 and (left < 0 or any(box.tokens for box in boxes))
        return
    assert_sound(plan)
    assert plan.outputs[0] == Output(wanted, THEIRS)
    crumbs = plan.fee - fee
    assert plan.outputs[1] == Output(plan.fee, FEE_TREE)
    assert 0 <= crumbs < 100_000 and not (crumbs and change_of(plan))
    if any(output.value < MIN_BOX for output in change_of(plan)) or crumbs:
        assert set(map(str, (box.box_id for box in plan.inputs))) == {str(box.box_id) for box in boxes}


@given(
    guarded=some_tokens,
    wallet=st.lists(some_tokens, max_size=3),
    named=some_tokens,
    burned=st.sets(st.integers(0, 2).map(token)) | st.dictionaries(st.integers(0, 2).map(token), st.integers(1, 500)),
)
def test_balance__when__tokens_are_named_or_burned__then__each_by_its_amount_and_none_of_the_wallets(
    guarded: list[tuple[bytes, int]],
    wallet: list[list[tuple[bytes, int]]],
    named: list[tuple[bytes, int]],
    burned: set[bytes] | dict[bytes, int],
) -> None:
    first = coin(THEIRS, 10 * ERG, "guarded", guarded)
    boxes = purse([ERG] * len(wallet), wallet)
    output = Output(ERG, THEIRS, tuple(named))
    before, out = total_of([tokens_of(first)]), total_of([output.tokens])
    try:
        plan = balance(TxKind.SEND, (first,), [output], Funds(boxes, MINE, FEE), HEIGHT, signer=None, burned=burned)
    except InsufficientFundsError as error:
        asked = out + Counter(burned if isinstance(burned, dict) else {})
        short = asked - before - total_of(map(tokens_of, boxes))
        assert short and "is short of" in str(error)
        return
    assert_sound(plan)
    if isinstance(burned, dict):
        assert plan.burned == burned
    else:
        assert Counter(plan.burned) == Counter({token: before[token] - out[token] for token in burned}) + Counter()
    missing = out + Counter(plan.burned) - before
    assert bool(missing) == (len(plan.inputs) > 1), "no box of the wallet is taken but for tokens"


@given(values=st.lists(st.integers(MIN_BOX, ERG), max_size=4), missing=st.integers(1, ERG))
def test_balance__when__funds_are_short__then__the_error_says_by_how_much(values: list[int], missing: int) -> None:
    wanted = sum(values) - FEE + missing
    assume(wanted > 0)
    with pytest.raises(InsufficientFundsError) as caught:
        pay(purse(values), wanted)
    assert f"short of {format_erg(missing)}: {format_erg(wanted + FEE)} are needed" in str(caught.value)


def test_balance__when__a_box_lists_one_id_twice__then__every_unit_comes_back() -> None:
    plan = pay(purse([20 * ERG], [held((1, 5), (1, 7), (2, 1), (1, 2**62))]))
    assert_sound(plan)
    assert change_of(plan)[0].tokens == ((token(1), 12 + 2**62), (token(2), 1))


@pytest.mark.parametrize("other", [[], [(2, 1), (3, 1)]], ids=["plain", "with tokens"])
def test_balance__when__an_exact_fit_has_tokens__then__another_box_is_taken(other: list[tuple[int, int]]) -> None:
    boxes = purse([ERG + FEE, 100 * ERG], [held((1, 1)), held(*other)])
    plan = pay(boxes)
    assert_sound(plan)
    assert plan.inputs == boxes
    assert len(change_of(plan)) == 1


@pytest.mark.parametrize("left", [1, 26_000, 33_000, MIN_BOX - 1])
def test_balance__when__the_wallet_leaves_less_than_the_usual_change__then__a_small_box_or_crumbs_for_the_miner(
    left: int,
) -> None:
    plan = pay(purse([ERG + FEE + left]))
    assert_sound(plan)
    small = left > 30_000
    assert [output.value for output in change_of(plan)] == ([left] if small else [])
    assert plan.fee == (FEE if small else FEE + left)


@pytest.mark.parametrize(("each", "count", "amount"), [(1, 121, 1), (100, 2, 1), (100, 9, 2**60), (120, 5, 300)])
def test_balance__when__the_change_has_many_tokens__then__split_over_boxes_that_the_chain_takes(
    each: int, count: int, amount: int
) -> None:
    tokens = [held(*((number * each + i, amount) for i in range(each))) for number in range(count)]
    plan = pay(purse([ERG // 10] * count, tokens), ERG // 10 * (count - 1), inputs=())
    assert_sound(plan)
    change = change_of(plan)
    assert len(change) == -(-each * count // len(change[0].tokens))
    assert all(len(bytes(box)) > 3_000 for box in plan.unsigned().outputs[plan.named + 1 : -1])
    # The money is in one of them: the others hold what their bytes ask for.
    assert all(output.value < 1_500_000 for output in change[:-1])


def test_balance__when__there_is_too_little_to_carry_the_tokens_back__then__the_price_of_it_is_told() -> None:
    boxes = purse([ERG + FEE + 1_000_000], [held(*((i, 1) for i in range(100)))])
    with pytest.raises(InsufficientFundsError, match=r"short of 0.0002\d+ ERG: .* of it to carry tokens back"):
        pay(boxes)


def test_balance__when__a_token_is_paid__then__the_boxes_that_hold_most_of_it_and_its_change_comes_back() -> None:
    boxes = purse(
        [50 * ERG, ERG, ERG, ERG], [[], held((1, 10), (2, 4)), held((1, 100), (1, 150)), held((1, 40), (1, 30))]
    )
    plan = pay(boxes, ERG // 10, ((token(1), 300),))
    assert_sound(plan)
    assert plan.inputs == (boxes[2], boxes[3])
    assert [output.tokens for output in change_of(plan)] == [((token(1), 20),)]


@pytest.mark.parametrize("wanted", [81, 10**9])
def test_balance__when__a_token_is_short__then__the_error_says_how_much_of_which(wanted: int) -> None:
    boxes = purse([ERG, ERG], [held((1, 30)), held((1, 40), (1, 10))])
    with pytest.raises(InsufficientFundsError, match=f"short of {wanted - 80} of token {token(1).hex()}"):
        pay(boxes, ERG // 10, ((token(1), wanted),))


def test_balance__when__named_inputs_pay_for_all__then__no_box_of_the_wallet_is_taken() -> None:
    named = coin(THEIRS, ERG, "claimed", held((1, 2), (2, 70)))
    boxes = purse([ERG, 2 * ERG], [held((2, 5)), []])
    for left in (0, 10_000, 900_000, ERG // 2):
        plan = pay(boxes, ERG - FEE - left, ((token(2), 70), (token(1), 2)), inputs=[named])
        assert_sound(plan)
        assert plan.inputs == (named,)


def test_balance__when__a_named_input_leaves_tokens__then__the_wallet_gets_them() -> None:
    named = coin(THEIRS, ERG, "claimed", held((1, 2), (2, 70)))
    plan = pay((), ERG // 2, ((token(2), 30),), inputs=[named])
    assert_sound(plan)
    assert total_of(output.tokens for output in change_of(plan)) == {token(1): 2, token(2): 40}


def test_balance__when__a_token_has_the_id_of_a_box_of_the_wallet__then__it_is_made_from_that_box() -> None:
    boxes = purse([ERG] * 30, [[]] * 30)
    minted = bytes(boxes[7].box_id)
    for value in (ERG // 2, 25 * ERG):
        plan = pay(boxes, value, ((minted, 5),))
        assert plan.inputs[0] == boxes[7]
        assert rules.violations(plan.unsigned(), plan.inputs, height=HEIGHT, parameters=PARAMETERS) == ()


def test_balance__when__boxes_have_to_be_spent__then__they_are_whatever_else_would_do() -> None:
    boxes = purse([ERG, 2 * ERG, 3 * ERG])
    funds = Funds(boxes, MINE, FEE, first=(boxes[2],))
    plan = balance(TxKind.SEND, (), [Output(4 * ERG, THEIRS)], funds, HEIGHT, signer=None)
    assert_sound(plan)
    assert plan.inputs == (boxes[2], *boxes[:2])
    plan = balance(TxKind.SEND, boxes[2:], [Output(ERG, THEIRS)], funds, HEIGHT, signer=None)
    assert plan.inputs == boxes[2:]


def test_balance__when__the_first_input_gives_its_id_to_a_token__then__the_wallet_is_not_asked_for_it() -> None:
    (box,) = purse([ERG])
    minted = bytes(box.box_id)
    plan = pay((), ERG // 2, ((minted, 2**62),), inputs=[box])
    assert plan.outputs[0].tokens == ((minted, 2**62),)
    with pytest.raises(InsufficientFundsError, match=f"short of 1 of token {minted.hex()}"):
        pay((), ERG // 2, ((minted, 1),), inputs=[coin(MINE, ERG, "another"), box])


# ---------------------------------------------------------------- thousands of boxes


@pytest.mark.parametrize("tokens", [0, 1, 5])
@pytest.mark.parametrize("max_cost", [SMALLEST_MAX_COST, 4_900_000])
def test_balance__when__the_wallet_is_of_small_boxes__then__what_fits_is_sent_and_more_is_refused_with_the_amount(
    tokens: int, max_cost: int
) -> None:
    entries = held(*((number, 1) for number in range(tokens)))
    boxes = tuple(coin(MINE, 1_500_000, f"small {n}", entries) for n in range(1500))
    funds = Funds(boxes, MINE, FEE, max_cost=max_cost)
    with pytest.raises(InsufficientFundsError, match=r"has room for \d+ with [\d.]+ ERG.*wallet consolidate") as caught:
        balance(TxKind.SEND, (), [Output(2 * ERG, THEIRS)], funds, HEIGHT, signer=None)
    room = re.search(r"has room for (\d+) with ([\d.]+ ERG)", str(caught.value))
    assert room is not None
    count, most = int(room[1]), parse_erg(room[2])
    assert most == count * 1_500_000
    plan = balance(TxKind.SEND, (), [Output(most - 2 * FEE, THEIRS)], funds, HEIGHT, signer=None)
    assert_sound(plan)
    assert len(plan.inputs) == count > 100
    signed = Transaction.from_unsigned_tx(plan.unsigned(), [b"\1" * 56] * count)
    assert len(bytes(signed)) < rules.MAX_TX_SIZE


def test_balance__when__a_large_box_does_what_hundreds_would__then__it_is_taken_for_all_its_tokens() -> None:
    small = tuple(coin(MINE, 1_500_000, f"small {n}") for n in range(1500))
    large = coin(MINE, 10 * ERG, "large", held((1, 1), (2, 2)))
    plan = pay((*small, large))
    assert_sound(plan)
    assert plan.inputs == (large,)
    assert pay((*small[:10], large), 10_000_000).inputs == small[:9], "a few plain boxes leave the tokens alone"


def test_balance__when__boxes_hold_the_re_emission_token__then__they_are_left_alone() -> None:
    owing = coin(MINE, 100 * ERG, "miner", ((REEMISSION_TOKEN, 5),))
    (plain,) = purse([2 * ERG])
    assert pay((owing, plain)).inputs == (plain,)
    with pytest.raises(InsufficientFundsError, match="short of"):
        pay((owing, plain), 3 * ERG)


@given(
    entries=st.lists(st.integers(1, 2**63 - 1), max_size=100),
    value=st.integers(10**6, 2**62),
    height=st.integers(0, 2**30),
)
def test_size_of__when__compared_with_the_real_box__then__never_too_small_and_close(
    entries: list[int], value: int, height: int
) -> None:
    tokens = [(token(number), amount) for number, amount in enumerate(entries)]
    real = len(bytes(coin(MINE, value, "size", tokens, height)))
    assert real <= size_of(MINE, tuple(tokens)) <= real + 16


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
