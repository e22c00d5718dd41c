"""What each kind of transaction may pay to beside ourselves and the guards, and what the key says of everything else, word for word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import DataInput, UnsignedTransaction
from offchain import ERG, FEE, Story, coin, digest, signer

from aihd.core.signing import Permit, Spending, Spent, outflow, refusals
from aihd.protocol import plans
from aihd.protocol.boxes import FailureReceipt, tokens_of
from aihd.protocol.coins import REEMISSION_TOKEN, total_of
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Funds, Output, Plan, TxKind
from aihd.protocol.opinion import REPUTATION_TREE
from aihd.protocol.trees import FEE_TREE, p2pk_tree
from aihd.protocol.units import format_erg

RICH = Spending(*(100 * ERG,) * 4)
NOTHING = Spent(0, 0)
STRANGER = p2pk_tree(signer("somebody else").public_key)
TOKEN = digest("a token")


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


@pytest.fixture(scope="module")
def permit(story: Story) -> Permit:
    return story.node.permit(story.deployment, RICH)


def told(permit: Permit, plan: Plan, spent: Spent = NOTHING) -> list[str]:
    return refusals(permit, plan, plan.unsigned(), spent)


def paying(
    story: Story, kind: TxKind, tree: bytes, *, named: int = 1, tokens: tuple[tuple[bytes, int], ...] = ()
) -> Plan:
    """A transaction of a wallet box alone: 1 ERG to a tree, the fee, and the change."""
    held = ((TOKEN, 5),) if tokens else ()
    box = coin(story.node.tree, 10 * ERG, "paying", held)
    change = Output(
        9 * ERG - FEE, story.node.tree, tuple((token, 5 - amount) for token, amount in tokens if amount < 5)
    )
    return Plan(kind, (box,), (Output(ERG, tree, tokens), Output(FEE, FEE_TREE), change), named, FEE, 900, None)


def no_business(index: int, tree: bytes, kind: str, amount: str = "1 ERG") -> str:
    return f"output {index} pays {amount} to {tree.hex()[:24]}…, which a {kind} has no business with"


@pytest.mark.parametrize("kind", TxKind)
def test_trees__when__a_stranger_is_paid__then__only_a_plain_payment_may_do_so(
    story: Story, permit: Permit, kind: TxKind
) -> None:
    allowed = [] if kind is TxKind.SEND else [no_business(0, STRANGER, kind)]
    assert told(permit, paying(story, kind, STRANGER)) == allowed


@pytest.mark.parametrize("kind", TxKind)
def test_trees__when__the_treasury_or_a_reputation_proof_is_paid__then__only_by_the_kind_that_does(
    story: Story, permit: Permit, kind: TxKind
) -> None:
    for tree, payer in ((story.deployment.treasury, TxKind.RELEASE), (REPUTATION_TREE, TxKind.OPINION)):
        allowed = [] if kind in (payer, TxKind.SEND) else [no_business(0, tree, kind)]
        assert told(permit, paying(story, kind, tree)) == allowed


def test_trees__when__a_plain_payment_pays_more_than_it_names__then__that_output_is_refused(
    story: Story, permit: Permit
) -> None:
    assert told(permit, paying(story, TxKind.SEND, STRANGER, named=0)) == [no_business(0, STRANGER, "send")]


def test_trees__when__a_tree_of_version_2_is_not_known__then__judged_like_any_other(
    story: Story, permit: Permit
) -> None:
    tree = bytes.fromhex("1a0908cd") + signer("somebody else").public_key
    tree = bytes([tree[0], len(tree) - 2]) + tree[2:]
    assert told(permit, paying(story, TxKind.CLAIM, tree)) == [no_business(0, tree, "claim")]


def client_gets(story: Story, kind: TxKind, first: ErgoBox) -> Plan:
    """A transaction that spends `first`, burns its tokens and pays a client."""
    plan = paying(story, kind, story.client.tree)
    return replace(plan, inputs=(first, *plan.inputs), burned=total_of([tokens_of(first)]))


def test_clients__when__an_honest_failure_timeout_or_refund_pays_the_client__then__allowed() -> None:
    story = Story()
    permit = story.node.permit(story.deployment, RICH)
    open_task, claimed = story.post(), story.claim(story.post())
    failure = FailureReceipt(plans.task_id_of(claimed), story.node.public_key, 1, digest("why"), story.height, b"s")
    funds = story.funds(story.node)
    for plan in (
        plans.fail(story.market, claimed, failure, funds),
        plans.timeout(story.market, claimed, story.bond, funds),
        plans.refund(story.market, open_task, funds),
    ):
        assert story.client.tree in {output.tree for output in plan.outputs}
        assert told(permit, plan) == [], plan.kind
        # What the client is to one kind, he is not to another.
        index, paid = next((i, o.value) for i, o in enumerate(plan.outputs) if o.tree == story.client.tree)
        assert no_business(index, story.client.tree, "claim", format_erg(paid)) in told(permit, other_kind(plan))


def other_kind(plan: Plan) -> Plan:
    return replace(plan, kind=TxKind.CLAIM)


@pytest.mark.parametrize("kind", [TxKind.FAIL, TxKind.TIMEOUT, TxKind.REFUND])
def test_clients__when__the_first_input_names_no_client__then__nobody_is_paid(
    story: Story, permit: Permit, kind: TxKind
) -> None:
    guards = (Guard.TASK, Guard.CLAIMED, Guard.RATING)
    bare = [coin(story.deployment.trees[guard], ERG, f"no registers {guard}") for guard in guards]
    for first in (*bare, coin(STRANGER, ERG, "a stranger's"), story.bond.box):
        assert told(permit, client_gets(story, kind, first)) == [no_business(0, story.client.tree, kind)]


def test_tokens__when__a_named_output_takes_them__then__allowed_and_the_rest_must_stay(
    story: Story, permit: Permit
) -> None:
    assert told(permit, paying(story, TxKind.SEND, STRANGER, tokens=((TOKEN, 5),))) == []
    assert told(permit, paying(story, TxKind.SEND, STRANGER, tokens=((TOKEN, 4),))) == []
    unnamed = paying(story, TxKind.RELEASE, story.deployment.treasury, named=0, tokens=((TOKEN, 1),))
    assert told(permit, unnamed) == [leaves(1)]
    plan = paying(story, TxKind.SEND, STRANGER, tokens=((TOKEN, 4),))
    burned = replace(plan, outputs=(*plan.outputs[:2], replace(plan.outputs[2], tokens=())))
    assert told(permit, burned) == [leaves(1)]


def leaves(amount: int) -> str:
    return f"{amount} of token {TOKEN.hex()[:16]}… would leave the wallet, and the plan does not name them"


def test_tokens__when__a_named_output_is_our_own__then__it_counts_once(story: Story, permit: Permit) -> None:
    plan = paying(story, TxKind.SEND, story.node.tree, tokens=((TOKEN, 2),))
    assert told(permit, plan) == []
    burned = replace(plan, outputs=(*plan.outputs[:2], replace(plan.outputs[2], tokens=())))
    assert told(permit, burned) == [leaves(3)]


def burns(amount: int) -> str:
    return f"{amount} of token {TOKEN.hex()[:16]}… would be burned, and the plan does not name them"


def receipt_box(story: Story, amount: int) -> ErgoBox:
    return coin(story.deployment.trees[Guard.RECEIPT], ERG, "receipt", ((TOKEN, amount),))


@pytest.mark.parametrize(("named", "says"), [(0, [burns(3)]), (2, [burns(1)]), (3, [])])
def test_tokens__when__guards_hold_them__then__burned_only_by_the_plans_word(
    story: Story, permit: Permit, named: int, says: list[str]
) -> None:
    plan = paying(story, TxKind.RECLAIM, story.node.tree)
    spending = replace(plan, inputs=(receipt_box(story, 3), *plan.inputs), burned={TOKEN: named} if named else {})
    assert told(permit, spending) == says


def test_tokens__when__more_is_burned_than_the_markets_boxes_hold__then__the_wallets_are_not_burned(
    story: Story, permit: Permit
) -> None:
    plan = paying(story, TxKind.RECLAIM, story.node.tree, tokens=((TOKEN, 5),))  # the wallet holds 5, and keeps them
    kept = replace(plan, inputs=(*plan.inputs, receipt_box(story, 3)), burned={TOKEN: 3})
    assert told(permit, kept) == []
    fewer = replace(
        kept, outputs=(replace(kept.outputs[0], tokens=((TOKEN, 4),)), *kept.outputs[1:]), burned={TOKEN: 4}
    )
    assert told(permit, fewer) == [
        leaves(1),
        f"it would burn 4 of token {TOKEN.hex()[:16]}…, of which the market's boxes hold 3",
    ]


def test_tokens__when__a_box_lists_one_id_twice__then__every_unit_counts(story: Story, permit: Permit) -> None:
    box = coin(story.node.tree, 10 * ERG, "twice", ((TOKEN, 5), (TOKEN, 7)))
    plan = plans.send(story.market, (Output(ERG, STRANGER),), Funds((box,), story.node.tree, FEE))
    assert told(permit, plan) == []
    for kept in (5, 7, 11):
        change = replace(plan.outputs[-1], tokens=((TOKEN, kept),))
        assert told(permit, replace(plan, outputs=(*plan.outputs[:-1], change))) == [leaves(12 - kept)]
    change = replace(plan.outputs[-1], tokens=((TOKEN, 6), (TOKEN, 6)))
    assert told(permit, replace(plan, outputs=(*plan.outputs[:-1], change))) == []


def test_tokens__when__units_come_from_nowhere__then__only_the_first_inputs_id_may_be_made(
    story: Story, permit: Permit
) -> None:
    plan = paying(story, TxKind.SEND, STRANGER, tokens=((TOKEN, 5),))
    more = replace(plan, outputs=(*plan.outputs[:2], replace(plan.outputs[2], tokens=((TOKEN, 2),))))
    assert told(permit, more) == [f"2 of token {TOKEN.hex()[:16]}… would come from nowhere"]
    minted = (bytes(plan.inputs[0].box_id), 3)
    mint = replace(plan, outputs=(*plan.outputs[:2], replace(plan.outputs[2], tokens=(minted,))))
    assert told(permit, mint) == []


def test_tokens__when__the_re_emission_token_is_held__then__refused_even_if_it_stays(
    story: Story, permit: Permit
) -> None:
    box = coin(story.node.tree, 10 * ERG, "miner", ((REEMISSION_TOKEN, 5),))
    plan = paying(story, TxKind.SEND, STRANGER)
    kept = replace(plan.outputs[2], tokens=((REEMISSION_TOKEN, 5),))
    assert told(permit, replace(plan, inputs=(box,), outputs=(*plan.outputs[:2], kept))) == [
        "it spends a box with the re-emission token, which owes part of its value elsewhere"
    ]


def test_unlike_plan__when__data_inputs_differ__then__told_and_the_same_ones_are_fine(
    story: Story, permit: Permit
) -> None:
    one, other = (coin(STRANGER, ERG, f"read {n}") for n in range(2))
    plan = replace(paying(story, TxKind.SEND, STRANGER), data_inputs=(one,))
    assert told(permit, plan) == []
    unsigned = plan.unsigned()
    for read in ([], [other], [one, other]):
        ids = [DataInput(box.box_id) for box in read]
        tx = UnsignedTransaction(unsigned.inputs, ids, unsigned.output_candidates)
        said = f"it reads {len(read)} data inputs that are not the 1 of the plan"
        assert refusals(permit, plan, tx, NOTHING) == [said]


def test_unlike_plan__when__an_input_or_an_output_is_missing_or_too_much__then__each_is_told(
    story: Story, permit: Permit
) -> None:
    plan = paying(story, TxKind.SEND, STRANGER)
    unsigned = plan.unsigned()
    fewer = UnsignedTransaction(unsigned.inputs, [], unsigned.output_candidates[:2])
    assert refusals(permit, plan, fewer, NOTHING) == ["output 2 is not the one of the plan"]
    other = replace(plan, inputs=(coin(story.node.tree, 10 * ERG, "another"),))
    assert refusals(permit, other, unsigned, NOTHING) == ["it spends 1 boxes that are not the 1 of the plan"]
    for output in (Output(ERG, STRANGER, ((TOKEN, 1),)), Output(ERG + 1, STRANGER), Output(ERG, story.client.tree)):
        unlike = replace(plan, outputs=(output, *plan.outputs[1:]))
        assert refusals(permit, unlike, unsigned, NOTHING)[0] == "output 0 is not the one of the plan"


def test_keys__when__the_plan_names_another_signer_or_none__then__only_the_first_is_refused(
    story: Story, permit: Permit
) -> None:
    plan = paying(story, TxKind.SEND, STRANGER)
    assert told(permit, replace(plan, signer=permit.key)) == []
    asked = replace(plan, signer=story.client.public_key)
    assert told(permit, asked) == [f"it asks for key {story.client.public_key.hex()}, this is {permit.key.hex()}"]


def test_amounts__when__money_comes_in__then__no_limit_is_touched_even_after_much_was_spent(story: Story) -> None:
    stingy = story.node.permit(story.deployment, Spending(FEE, 0, ERG, ERG))
    box = coin(story.deployment.trees[Guard.RECEIPT], 10 * ERG, "receipt")
    plan = Plan(
        TxKind.RECLAIM, (box,), (Output(10 * ERG - FEE, story.node.tree), Output(FEE, FEE_TREE)), 1, FEE, 900, None
    )
    assert outflow(stingy, plan.inputs, plan.outputs) == FEE - 10 * ERG
    assert told(stingy, plan, Spent(2 * ERG, 3 * ERG)) == []  # a limit that was lowered since, for one


def test_amounts__when__every_limit_is_passed__then__each_is_named_with_what_it_leaves(story: Story) -> None:
    poor = story.node.permit(story.deployment, Spending(FEE - 1, ERG, 2 * ERG, 3 * ERG))
    plan = paying(story, TxKind.SEND, STRANGER)
    takes = "it takes 1.0011 ERG out of the wallet, wallet.max_spend"
    assert told(poor, plan, Spent(ERG, 2 * ERG + FEE)) == [
        "its fee of 0.0011 ERG is over the limit of 0.001099999 ERG",
        f"{takes}_per_tx leaves 1 ERG",
        f"{takes}_per_hour leaves 1 ERG",
        f"{takes}_per_day leaves 0.9989 ERG",
    ]


def test_own__when__there_is_a_payout_tree__then__ours_are_both_and_else_the_key_alone(story: Story) -> None:
    key = story.node.public_key
    assert Permit(key, story.deployment, RICH).own == {p2pk_tree(key)}
    assert Permit(key, story.deployment, RICH, STRANGER).own == {p2pk_tree(key), STRANGER}
    funds = Funds((coin(story.node.tree, ERG, "funds"),), story.node.tree, FEE)
    assert told(story.node.permit(story.deployment, RICH), plans.send(story.market, (), funds)) == []
