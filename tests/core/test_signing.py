"""What the key refuses to sign, and that it signs every honest transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from ergo_lib_python.chain import ErgoBoxCandidate
from ergo_lib_python.transaction import DataInput, UnsignedTransaction
from offchain import ERG, FEE, Story, coin, digest, signer

from aihd.core.signing import Permit, Spending, Spent, outflow, refusals
from aihd.protocol import plans
from aihd.protocol.coins import REEMISSION_TOKEN
from aihd.protocol.funding import Funds, Output, Plan, TxKind, balance
from aihd.protocol.trees import p2pk_tree, parse_tree

LIMITS = Spending(max_fee=2 * FEE, per_tx=ERG, per_hour=2 * ERG, per_day=5 * ERG)
NOTHING = Spent(0, 0)
CHANGE = 4  # of a claim: after bond, claimed task, reserve and fee
STRANGER = p2pk_tree(signer("somebody else").public_key)


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


def permit_of(story: Story, **changes: int) -> Permit:
    return story.node.permit(story.deployment, replace(LIMITS, **changes))


def honest(story: Story) -> Plan:
    """A claim by the node."""
    task = story.post()
    return plans.claim(story.market, task, story.bond, story.funds(story.node))


def with_output(plan: Plan, index: int, output: Output) -> Plan:
    return replace(plan, outputs=(*plan.outputs[:index], output, *plan.outputs[index + 1 :]))


def refused(story: Story, plan: Plan, spent: Spent = NOTHING, **limits: int) -> str:
    return "; ".join(refusals(permit_of(story, **limits), plan, plan.unsigned(), spent))


def test_refusals__when__the_claim_is_honest__then__there_are_none(story: Story) -> None:
    plan = honest(story)
    assert refusals(permit_of(story), plan, plan.unsigned(), NOTHING) == []
    assert outflow(permit_of(story), plan.inputs, plan.outputs) == FEE


def _other_inputs(plan: Plan) -> UnsignedTransaction:
    unsigned = plan.unsigned()
    return UnsignedTransaction(unsigned.inputs[:-1], [], unsigned.output_candidates)


def _with_data_input(plan: Plan) -> UnsignedTransaction:
    unsigned = plan.unsigned()
    return UnsignedTransaction(unsigned.inputs, [DataInput(plan.inputs[0].box_id)], unsigned.output_candidates)


def _other_change(plan: Plan) -> UnsignedTransaction:
    unsigned = plan.unsigned()
    *kept, last = unsigned.output_candidates
    thief = ErgoBoxCandidate(value=last.value, script=parse_tree(STRANGER), creation_height=last.creation_height)
    return UnsignedTransaction(unsigned.inputs, [], [*kept, thief])


def _one_more_output(plan: Plan) -> UnsignedTransaction:
    return UnsignedTransaction(
        plan.unsigned().inputs, [], [*plan.unsigned().output_candidates, plan.unsigned().output_candidates[-1]]
    )


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (_other_inputs, "it spends 2 boxes that are not the 3 of the plan"),
        (_with_data_input, "it reads 1 data inputs"),
        (_other_change, "output 4 is not the one of the plan"),
        (_one_more_output, "output 5 is not the one of the plan"),
    ],
)
def test_refusals__when__the_transaction_is_not_the_plan__then__the_difference_is_named(
    story: Story, forge: Callable[[Plan], UnsignedTransaction], reason: str
) -> None:
    plan = honest(story)
    assert reason in "; ".join(refusals(permit_of(story), plan, forge(plan), NOTHING))


def test_refusals__when__the_plan_pays_an_unknown_tree__then__the_output_is_named(story: Story) -> None:
    plan = honest(story)
    forged = with_output(plan, CHANGE, replace(plan.outputs[CHANGE], tree=STRANGER))
    assert "output 4 pays" in refused(story, forged, per_tx=100 * ERG, per_hour=100 * ERG, per_day=100 * ERG)


def test_refusals__when__the_treasury_is_paid_by_a_claim__then__it_has_no_business_there(story: Story) -> None:
    plan = honest(story)
    forged = with_output(plan, CHANGE, replace(plan.outputs[CHANGE], tree=story.deployment.treasury))
    assert "which a claim has no business with" in refused(story, forged)


def test_refusals__when__a_tree_of_version_3_is_paid__then__it_cannot_be_judged(story: Story) -> None:
    plan = honest(story)
    tree = bytes.fromhex("1b0908cd") + signer("somebody else").public_key
    tree = bytes([tree[0], len(tree) - 2]) + tree[2:]
    forged = with_output(plan, CHANGE, replace(plan.outputs[CHANGE], tree=tree))
    reasons = refusals(permit_of(story), forged, plan.unsigned(), NOTHING)
    assert any("is not the one of the plan" in reason for reason in reasons)
    candidate = _candidate_like(plan, tree)
    assert "tree of version 3" in "; ".join(refusals(permit_of(story), plan, candidate, NOTHING))


def _candidate_like(plan: Plan, tree: bytes) -> UnsignedTransaction:
    unsigned = plan.unsigned()
    *kept, last = unsigned.output_candidates
    out = ErgoBoxCandidate(value=last.value, script=parse_tree(tree), creation_height=last.creation_height)
    return UnsignedTransaction(unsigned.inputs, [], [*kept, out])


def test_refusals__when__another_key_is_asked_for__then__both_keys_are_named(story: Story) -> None:
    plan = replace(honest(story), signer=story.client.public_key)
    assert f"it asks for key {story.client.public_key.hex()}" in refused(story, plan)


@pytest.mark.parametrize(
    ("limits", "spent", "reason"),
    [
        ({"max_fee": FEE - 1}, NOTHING, "its fee of 0.0011 ERG is over the limit of 0.001099999 ERG"),
        ({"per_tx": FEE - 1}, NOTHING, "wallet.max_spend_per_tx leaves 0.001099999 ERG"),
        ({}, Spent(2 * ERG - FEE + 1, 0), "wallet.max_spend_per_hour leaves 0.001099999 ERG"),
        ({}, Spent(0, 5 * ERG), "wallet.max_spend_per_day leaves 0 ERG"),
    ],
)
def test_refusals__when__a_limit_is_passed__then__the_limit_and_what_is_left_are_named(
    story: Story, limits: dict[str, int], spent: Spent, reason: str
) -> None:
    assert reason in refused(story, honest(story), spent, **limits)


def test_refusals__when__just_within_each_limit__then__there_are_none(story: Story) -> None:
    spent = Spent(2 * ERG - FEE, 5 * ERG - FEE)
    assert refused(story, honest(story), spent, max_fee=FEE, per_tx=FEE) == ""


def test_by_order__when__a_person_orders__then__only_the_fee_is_limited(story: Story) -> None:
    permit = permit_of(story, max_fee=FEE, per_tx=0, per_hour=0, per_day=0)
    ordered = replace(permit, spending=permit.spending.by_order())
    plan = honest(story)
    assert len(refusals(permit, plan, plan.unsigned(), NOTHING)) == 3
    assert refusals(ordered, plan, plan.unsigned(), Spent(100 * ERG, 100 * ERG)) == []
    dear = replace(ordered, spending=replace(ordered.spending, max_fee=FEE - 1))
    assert "over the limit" in "; ".join(refusals(dear, plan, plan.unsigned(), NOTHING))


def test_refusals__when__a_token_of_the_wallet_vanishes__then__it_is_named(story: Story) -> None:
    token = digest("a token")
    box = coin(story.node.tree, 10 * ERG, "with token", ((token, 5),))
    plan = plans.claim(story.market, story.post(), story.bond, Funds((box,), story.node.tree, FEE))
    assert refused(story, plan) == ""
    burned = with_output(plan, CHANGE, replace(plan.outputs[CHANGE], tokens=()))
    assert f"5 of token {token.hex()[:16]}" in refused(story, burned)


def test_refusals__when__a_box_with_the_reemission_token_is_spent__then__it_is_refused(story: Story) -> None:
    box = coin(story.node.tree, 10 * ERG, "miner", ((REEMISSION_TOKEN, 5),))
    plan = balance(TxKind.SEND, (box,), [], Funds((), story.node.tree, FEE), 1001, signer=None)
    assert "re-emission token" in refused(story, plan)


def test_refusals__when__earnings_go_to_the_payout_tree__then__it_counts_as_ours(story: Story) -> None:
    claimed = story.claim(story.post())
    receipt = plans.receipt_for(claimed, digest("o"), digest("p"), b"s", b"c")
    cold = p2pk_tree(signer("cold").public_key)
    plan = plans.release(story.market, claimed, receipt, story.funds(story.node), payout=cold)
    with_payout = story.node.permit(story.deployment, LIMITS, cold)
    assert refusals(with_payout, plan, plan.unsigned(), NOTHING) == []
    assert outflow(with_payout, plan.inputs, plan.outputs) < 0
    assert "has no business with" in refused(story, plan)
