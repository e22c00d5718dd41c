"""The arithmetic of the guards at its boundaries. That the guards compute the same is tested where transactions are evaluated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offchain import digest, signer

from aihd.protocol import guards
from aihd.protocol.boxes import Bond, Rating
from aihd.protocol.constants import COMPLETED, FAILED, MAX_MINER_FEE, MAX_PAYMENT, MIN_BOX, SLACK

ERG = 10**9
NODE, CLIENT = signer("node").public_key, signer("client").public_key
BOND = Bond(NODE, 5 * ERG, 7, 11, 1, 2, 3, 900, active=2, last_activity=950, open_ids=(digest(1), digest(2)))
amounts = st.integers(0, 2**62)


@pytest.mark.parametrize(
    ("payment", "weight"),
    [
        (0, 1),
        (ERG // 100 - 1, 1),
        (ERG // 100, 2),
        (ERG // 10 - 1, 2),
        (ERG // 10, 4),
        (ERG - 1, 4),
        (ERG, 8),
        (10 * ERG - 1, 8),
        (10 * ERG, 16),
        (2**63 - 1, 16),
    ],
)
def test_weight__when__at_a_boundary__then__the_step_is_right_there(payment: int, weight: int) -> None:
    assert guards.weight(payment) == weight


@pytest.mark.parametrize(
    ("payment", "fee"),
    [(0, 0), (100 * MIN_BOX - 1, 0), (100 * MIN_BOX, MIN_BOX), (100 * MIN_BOX + 99, MIN_BOX), (ERG, ERG // 100)],
)
def test_treasury_fee__when__under_the_smallest_box__then__skipped(payment: int, fee: int) -> None:
    assert guards.treasury_fee(payment) == fee


@given(payment=amounts)
def test_treasury_fee__when__due__then__one_percent_rounded_down(payment: int) -> None:
    fee = guards.treasury_fee(payment)
    assert fee == 0 or (fee * 100 <= payment < (fee + 1) * 100 and fee >= MIN_BOX)


@pytest.mark.parametrize(
    ("bond", "payment", "slash"),
    [(ERG, ERG, ERG // 10), (ERG // 10, ERG, ERG // 10), (ERG // 10 - 1, ERG, ERG // 10 - 1), (0, ERG, 0), (ERG, 9, 0)],
)
def test_slash__when__the_bond_is_small__then__at_most_the_bond(bond: int, payment: int, slash: int) -> None:
    assert guards.slash(bond, payment) == slash


def rating(client: int = 0, node: int = 0, client_said: bool = False, node_said: bool = False) -> Rating:
    commitment = {True: digest("c"), False: b""}
    return Rating(
        client=CLIENT,
        node=NODE,
        worth=ERG,
        commit_deadline=1,
        reveal_deadline=2,
        client_mark=client,
        node_mark=node,
        client_commitment=commitment[client_said],
        node_commitment=commitment[node_said],
    )


@pytest.mark.parametrize(
    ("found", "points"),
    [
        (rating(), 0),
        *((rating(mark, 5, True, True), 8 * (mark - 3)) for mark in range(1, 6)),
        (rating(5, 0, True, False), 16),  # the node said nothing: no promise broken
        (rating(5, 0, True, True), 16 - 8),  # the node committed and did not reveal
        (rating(1, 0, True, True), -16 - 8),
        (rating(0, 0, True, True), 0),  # both broke their commitment
        (rating(0, 0, False, True), -8),
        (rating(0, 5, True, True), 0),
    ],
)
def test_settle_points__when__sides_reveal_or_not__then__only_the_nodes_broken_word_costs(
    found: Rating, points: int
) -> None:
    assert guards.settle_points(found) == points


def test_after_claim__when__a_task_is_taken__then__counted_listed_and_promised() -> None:
    after = guards.after_claim(BOND, digest(9), ERG, 1000)
    assert after == replace(
        BOND, committed=7 + ERG, active=3, last_activity=1000 + SLACK // 2, open_ids=(digest(1), digest(2), digest(9))
    )


def test_after_timeout__when__anybody_calls__then__slashed_and_nothing_the_caller_could_choose_changes() -> None:
    after = guards.after_timeout(BOND, digest(2), ERG)
    assert after == replace(
        BOND,
        amount=5 * ERG - ERG // 10,
        committed=7 - ERG,
        score=11 - 80,
        timed_out=4,
        active=1,
        open_ids=(digest(1),),
    )


@pytest.mark.parametrize(
    ("outcome", "counted"), [(COMPLETED, {"completed": 2}), (FAILED, {"failed": 3})], ids=["completed", "failed"]
)
def test_after_settle__when__folded__then__counted_by_its_outcome_and_the_task_is_over(
    outcome: int, counted: dict[str, Any]
) -> None:
    after = guards.after_settle(BOND, digest(1), replace(rating(4, 5, True, True), outcome=outcome))
    assert after == replace(BOND, score=11 + 8, committed=7 - ERG, active=1, open_ids=(digest(2),), **counted)


@pytest.mark.parametrize(("add", "born"), [(0, 900), (1, 1000 + guards.BIRTH_LEAD)])
def test_after_raise__when__the_stake_grows__then__the_bond_is_born_anew(add: int, born: int) -> None:
    assert guards.after_raise(BOND, add, 1000) == replace(BOND, amount=5 * ERG + add, born=born)


@pytest.mark.parametrize(
    ("worth", "payment", "in_token", "value"),
    [
        (ERG, ERG, False, ERG + 6_000_000),
        (ERG, 1, True, ERG // 100 + 8_000_000),
        (100 * MIN_BOX - 1, 1, True, 8_000_000),
        (MAX_PAYMENT, MAX_PAYMENT, True, MAX_PAYMENT // 100 + 8_000_000),
    ],
)
def test_escrow_value__when__paid_in_a_token__then__what_its_release_costs_is_locked_in_erg(
    worth: int, payment: int, in_token: bool, value: int
) -> None:
    assert guards.escrow_value(worth, payment, in_token=in_token) == value


@pytest.mark.parametrize(
    ("payment", "bps", "held"),
    [
        (ERG, 0, 0),
        (ERG, 10_000, ERG - ERG // 100 - MAX_MINER_FEE),
        (ERG, 5_000, (ERG - ERG // 100 - MAX_MINER_FEE) // 2),
        (ERG, 1, 0),  # 98,800 nanoERG are no box
        (3 * MIN_BOX, 10_000, MIN_BOX),
        (3 * MIN_BOX - 1, 10_000, 0),
        (1, 10_000, 0),
        (MAX_PAYMENT, 10_000, MAX_PAYMENT - MAX_PAYMENT // 100 - MAX_MINER_FEE),
    ],
)
def test_held_share__when__in_erg__then__of_what_the_release_leaves_and_never_dust(
    payment: int, bps: int, held: int
) -> None:
    assert guards.held_share(payment, payment, bps, in_token=False) == held


@pytest.mark.parametrize(
    ("payment", "bps", "held"), [(1, 9_999, 0), (1, 10_000, 1), (3, 5_000, 1), (10_000, 1, 1), (9_999, 1, 0)]
)
def test_held_share__when__in_a_token__then__rounded_down_to_units(payment: int, bps: int, held: int) -> None:
    assert guards.held_share(ERG, payment, bps, in_token=True) == held


@given(payment=st.integers(1, MAX_PAYMENT), bps=st.integers(0, 10_000))
def test_held_share__when__of_any_payment__then__the_release_still_pays_for_itself(payment: int, bps: int) -> None:
    held = guards.held_share(payment, payment, bps, in_token=False)
    assert held == 0 or MIN_BOX <= held <= payment - guards.treasury_fee(payment) - MAX_MINER_FEE
    assert payment * 10_000 < 2**63
