"""Plans: what goes in and out by index, who signs, who gets how much. Each plan is signed, so its guards are evaluated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from offchain import ERG, FEE, OUTPUT, PARAMS, Story, digest

from aihd.chain.signer import SigningError
from aihd.errors import UsageError
from aihd.protocol import codec, guards, plans
from aihd.protocol.boxes import Bond, ClaimedTask, On, Rating, tokens_of
from aihd.protocol.constants import (
    BOND_RESERVE,
    BURN,
    COOLDOWN,
    DUST,
    FAILED,
    MAX_MINER_FEE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    RECEIPT_VALUE,
    SETTLE_GRACE,
)
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Funds, Plan
from aihd.protocol.plans import Side
from aihd.protocol.trees import p2pk_tree


@pytest.fixture
def story() -> Story:
    return Story()


def test_deploy__when__the_token_is_not_in_the_wallet__then__refused_with_the_id(story: Story) -> None:
    with pytest.raises(UsageError, match=f"box {story.deployment.bond_token.hex()}.* is not in the wallet"):
        plans.deploy(story.market, story.funds(story.client))


def test_open_bond__when__staked__then__counters_are_zero_and_the_reserve_is_on_top(story: Story) -> None:
    bond = story.bond
    assert bond.value == bond.content.amount + BOND_RESERVE == 5 * ERG + BOND_RESERVE
    assert bond.content.counters()[1:6] == (0, 0, 0, 0, 0)
    assert story.minter.tokens == ((story.deployment.bond_token, plans.BOND_SUPPLY - 1),)


def test_manage__when__topped_up__then__stake_and_endpoint_change_and_nothing_else(story: Story) -> None:
    plan = plans.manage(story.market, story.bond, story.funds(story.node), add=ERG, endpoint="http://new")
    after = story.deployment.read(Bond, story.run(plan, story.node)[0])
    assert after.value == story.bond.value + ERG
    assert (after.content.amount, after.content.endpoint) == (6 * ERG, "http://new")
    assert after.content.counters()[1:6] == story.bond.content.counters()[1:6]
    assert after.content.born == story.height - 1 + guards.BIRTH_LEAD


def test_manage__when__only_the_endpoint_changes__then__the_bond_is_as_old_as_it_was(story: Story) -> None:
    plan = plans.manage(story.market, story.bond, story.funds(story.node), endpoint="http://new")
    after = story.deployment.read(Bond, story.run(plan, story.node)[0])
    assert after.content.counters() == story.bond.content.counters()


def test_withdraw__when__the_cooldown_is_over__then__the_stake_comes_back_and_the_token_burns(story: Story) -> None:
    with pytest.raises(SigningError, match="a guard refuses it"):
        story.run(plans.withdraw(story.market, story.bond, story.funds(story.node)), story.node)
    story.tip += COOLDOWN
    outputs = story.run(plans.withdraw(story.market, story.bond, story.funds(story.node)), story.node)
    assert outputs[0].value == story.bond.value
    assert not any(box.tokens for box in outputs)


def test_release__when__paid__then__everybody_gets_his_part_to_the_nano(story: Story) -> None:
    claimed = story.claim(story.post(ERG))
    receipt = plans.receipt_for(claimed, OUTPUT, PARAMS, b"sig", b"cid")
    plan = plans.release(story.market, claimed, receipt, story.funds(story.node))
    values = [(output.value, output.tree) for output in plan.outputs[: plan.named]]
    trees = story.deployment.trees
    assert values == [
        (RECEIPT_VALUE, trees[Guard.RECEIPT]),
        (RATING_VALUE, trees[Guard.RATING]),
        (ERG // 100, story.treasury),
        (ERG - ERG // 100 - FEE, story.node.tree),
    ]
    assert plan.inputs == (claimed.box,)
    story.run(plan, story.node)


def test_release__when__earnings_go_elsewhere__then__the_payout_is_all_but_the_fee(
    story: Story,
) -> None:
    claimed = story.claim(story.post(ERG))
    receipt = plans.receipt_for(claimed, OUTPUT, PARAMS, b"sig", b"cid")
    cold = story.stranger.tree
    plan = plans.release(story.market, claimed, receipt, story.funds(story.node), payout=cold)
    assert [output.value for output in plan.outputs if output.tree == cold] == [ERG - ERG // 100 - FEE]
    story.run(plan, story.node, payout=cold)


def test_release__when__the_treasury_fee_would_be_dust__then__skipped(story: Story) -> None:
    claimed = story.claim(story.post(ERG // 20))
    plan = release_of(story, claimed, FEE)
    assert [output.tree for output in plan.outputs[2 : plan.named]] == [story.node.tree]
    assert story.treasury not in {output.tree for output in plan.outputs}
    story.run(plan, story.node)


@pytest.mark.parametrize("holdback", [1, 5000, 10_000])
@pytest.mark.parametrize("fee", [FEE, MAX_MINER_FEE - DUST, MAX_MINER_FEE - 1, MAX_MINER_FEE])
def test_release__when__a_share_is_held__then__it_pays_for_itself_at_any_fee_and_share(
    story: Story, holdback: int, fee: int
) -> None:
    claimed = story.claim(story.post(ERG, holdback_bps=holdback))
    plan = release_of(story, claimed, fee)
    held = (ERG - ERG // 100 - MAX_MINER_FEE) * holdback // 10_000
    held = held if held >= MIN_BOX else 0
    receipt, rating, treasury, *mine = plan.outputs[: plan.named]
    assert plan.inputs == (claimed.box,)
    assert (receipt.value, rating.value, treasury.value) == (RECEIPT_VALUE, RATING_VALUE + held, ERG // 100)
    assert 0 <= plan.fee - fee < DUST
    assert sum(o.value for o in mine) + plan.fee == ERG - ERG // 100 - held
    outputs = story.run(plan, story.node)
    assert story.deployment.read(Rating, outputs[1]).content.held == held


@pytest.mark.parametrize(("holdback", "held"), [(0, 0), (1, 1), (5000, 5000), (10_000, 10_000)])
def test_release__when__paid_in_a_token__then__its_units_are_shared_and_the_treasury_gets_erg(
    story: Story, holdback: int, held: int
) -> None:
    claimed = story.claim(story.post(10_000, asset=story.asset, worth=ERG, holdback_bps=holdback))
    plan = release_of(story, claimed, FEE)
    rating, treasury, *mine = plan.outputs[1 : plan.named]
    assert plan.inputs == (claimed.box,)
    assert rating.tokens[1:] == plans.units(story.asset, held)
    assert (treasury.value, treasury.tokens) == (ERG // 100, ())
    assert [(o.value, o.tokens) for o in mine] == [(MAX_MINER_FEE - FEE, plans.units(story.asset, 10_000 - held))]
    story.run(plan, story.node)


def test_release__when__the_fee_is_above_what_the_task_holds_for_it__then__the_wallet_adds_a_box(story: Story) -> None:
    claimed = story.claim(story.post(ERG, holdback_bps=10_000))
    receipt = plans.receipt_for(claimed, OUTPUT, PARAMS, b"sig", b"cid")
    plan = plans.release(story.market, claimed, receipt, story.funds(story.node, MAX_MINER_FEE + 1))
    assert len(plan.inputs) == 2
    story.run(plan, story.node)


def release_of(story: Story, claimed: On[ClaimedTask], fee: int) -> Plan:
    """A release without a box of the wallet."""
    receipt = plans.receipt_for(claimed, OUTPUT, PARAMS, b"sig", b"cid")
    return plans.release(story.market, claimed, receipt, Funds((), story.node.tree, fee))


def test_fail__when__admitted__then__the_client_gets_all_but_the_receipts_value(story: Story) -> None:
    task = story.post(10_000, asset=story.asset, worth=ERG)
    claimed, bond = story.claim(task), story.bond
    failure, rating = story.fail(claimed)
    made = [k.box for k in story.known.values() if str(k.box.transaction_id) == failure.transaction_id]
    assert (made[2].value, bytes(made[2].ergo_tree)) == (task.value - MIN_BOX, story.client.tree)
    assert tokens_of(made[2]) == task.tokens
    assert (failure.value, failure.tokens, rating.tokens) == (MIN_BOX, ((task.raw_id, 1),), ((task.raw_id, 1),))
    assert (rating.value, rating.content.outcome, rating.content.held) == (RATING_VALUE, FAILED, 0)
    assert story.bond is bond


def test_settle__when__the_task_failed__then__the_node_may_in_the_next_block(story: Story) -> None:
    _, rating = story.fail(story.claim(story.post()))
    story.settle(rating, story.node)
    bond = story.bond.content
    assert (bond.failed, bond.completed, bond.score, bond.active, bond.committed, bond.open_ids) == (1, 0, 0, 0, 0, ())


def test_timeout__when__anybody_calls__then__the_client_pays_the_fee_and_gets_the_slash(story: Story) -> None:
    task = story.post(ERG)
    claimed, before = story.claim(task), story.bond.value
    with pytest.raises(SigningError):
        story.run(plans.timeout(story.market, claimed, story.bond, Funds((), b"", FEE)), story.stranger)
    story.tip = claimed.content.exec_deadline
    outputs = story.run(plans.timeout(story.market, claimed, story.bond, Funds((), b"", FEE)), story.stranger)
    assert outputs[0].value == before - ERG // 10
    assert (outputs[1].value, bytes(outputs[1].ergo_tree)) == (task.value + ERG // 10 - FEE, story.client.tree)
    assert len(outputs) == 3


def test_refund__when__nobody_claimed__then__anybody_returns_it_after_the_deadline(story: Story) -> None:
    task = story.post(claim_deadline=story.tip + 5)
    with pytest.raises(SigningError):
        story.run(plans.refund(story.market, task, Funds((), b"", FEE)), story.stranger)
    story.tip = task.content.claim_deadline
    outputs = story.run(plans.refund(story.market, task, Funds((), b"", FEE)), story.stranger)
    assert (outputs[0].value, bytes(outputs[0].ergo_tree)) == (task.value - FEE, story.client.tree)


def test_cancel__when__the_client_asks__then__at_any_time_and_nobody_else(story: Story) -> None:
    task = story.post()
    plan = plans.cancel(story.market, task, story.funds(story.client))
    with pytest.raises(SigningError, match=f"it asks for key {story.client.public_key.hex()}"):
        story.run(plan, story.stranger)
    assert story.run(plan, story.client)[0].value == task.value - FEE


def test_settle__when__a_stranger_does__then__the_rating_is_his_but_for_the_fee(story: Story) -> None:
    task = story.post()
    _, rating = story.release(story.claim(task))
    before = sum(box.value for box in story.funds(story.stranger).boxes)
    story.settle(rating)
    assert sum(box.value for box in story.funds(story.stranger).boxes) - before == RATING_VALUE - FEE
    assert story.bond.content.open_ids == ()


def test_settle__when__the_grace_is_not_over__then__the_node_alone_may(story: Story) -> None:
    _, rating = story.release(story.claim(story.post(holdback_bps=10_000)))
    story.tip = rating.content.reveal_deadline + SETTLE_GRACE - 1
    with pytest.raises(SigningError):
        story.run(plans.settle(story.market, rating, story.bond, story.funds(story.stranger)), story.stranger)
    paid = story.settle(rating, story.node)[0]
    assert (paid.value, bytes(paid.ergo_tree)) == (rating.content.held, story.node.tree)


@pytest.mark.parametrize("mark", [0, 1, 2, 5])
@pytest.mark.parametrize("asset", [False, True])
def test_settle__when__a_share_was_held__then__it_is_the_nodes_unless_the_mark_is_1(
    story: Story, mark: int, asset: bool
) -> None:
    kept: dict[str, Any] = {"asset": story.asset, "worth": ERG} if asset else {}
    amount = 10_000 if asset else ERG // 100
    _, rating = story.release(story.claim(story.post(amount, holdback_bps=10_000, **kept)))
    rating = On(rating.box, replace(rating.content, client_mark=mark))
    plan = plans.settle(story.market, rating, story.bond, story.funds(story.node))
    paid = plan.outputs[1]
    value = MIN_BOX if asset else ERG // 100 - MAX_MINER_FEE
    assert (paid.tree, paid.value) == (BURN if mark == 1 else story.node.tree, value)
    assert paid.tokens == (((story.asset, amount),) if asset else ())
    assert bytes(paid.registers[codec.REGISTER_IDS[0]]) == bytes(codec.coll_byte(rating.raw_id))


def test_reclaim__when__the_receipt_is_old_enough__then__its_value_is_the_nodes(story: Story) -> None:
    receipt, _ = story.release(story.claim(story.post()))
    failure, _ = story.fail(story.claim(story.post(ERG // 10)))
    for old in (receipt, failure):
        with pytest.raises(SigningError):
            story.run(plans.reclaim(story.market, old, story.funds(story.node)), story.node)
    story.tip += RECEIPT_RETENTION + 10
    for old in (receipt, failure):
        before = sum(box.value for box in story.funds(story.node).boxes)
        outputs = story.run(plans.reclaim(story.market, old, story.funds(story.node)), story.node)
        assert sum(box.value for box in story.funds(story.node).boxes) - before == old.value - FEE
        assert not any(box.tokens for box in outputs)


@pytest.mark.parametrize("mark", [0, 6, -1, 99])
def test_commitment_of__when__no_mark__then__refused(story: Story, mark: int) -> None:
    _, rating = story.release(story.claim(story.post()))
    with pytest.raises(UsageError, match=f"{mark} is not a mark from 1 to 5"):
        plans.commitment_of(rating, Side.NODE, mark, digest("salt"))


@pytest.mark.parametrize("tree", [b"", p2pk_tree(b"\2" * 33) + b"\0", b"\0\x08\xce" + b"\2" * 33])
def test_send__when__the_change_goes_to_no_single_key__then__refused(story: Story, tree: bytes) -> None:
    with pytest.raises(UsageError, match="expected a single public key"):
        plans.send(story.market, (), Funds((), tree, FEE))


def test_boxes_of__when__planned__then__the_boxes_that_the_signed_transaction_makes(story: Story) -> None:
    plan = plans.post(story.market, story.terms(), story.funds(story.client))
    expected = [str(box.box_id) for box in plans.boxes_of(plan)]
    assert [str(box.box_id) for box in story.run(plan, story.client)] == expected
