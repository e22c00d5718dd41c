"""What a daemon does for its held money and its bond: settlements before claims and never on top of one, reserves that nobody else spends,
shares held, paid and burned, in ERG and in a token, with books that agree with the wallet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import pytest
from ergo_lib_python.chain import ErgoBox
from made import ERG
from offchain import FEE
from onchain import DEPTH, World
from test_tasks import Place, stage

from aihd.cli.explain import _moves as moves
from aihd.core.assets import Asset
from aihd.core.books import books
from aihd.core.policy import Terms
from aihd.core.task import Amounts, Command, State, Where, decide
from aihd.protocol.boxes import tokens_of
from aihd.protocol.constants import BURN, MIN_BOX, RATING_VALUE
from aihd.protocol.guards import treasury_fee
from aihd.protocol.plans import RESERVE
from aihd.protocol.trees import address_of
from aihd.services.engine import Service
from aihd.services.rate import Rate
from aihd.services.watch import YIELD_FOR, Claim

__all__ = ["stage"]  # the fixture

S = TypeVar("S", bound=Service)


async def delivered(stage: Place, **terms: object) -> bytes:
    """A task whose output is released."""
    task_id = await stage.claimed(**terms)
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.RELEASED)
    return task_id


async def rated(stage: Place, task_id: bytes, mark: int) -> None:
    """Both sides have said what they say, and the rating is in the bond, for good."""
    saying = asyncio.ensure_future(stage.client.rate(task_id, mark))
    await stage.node.work(lambda: stage.state(task_id) is State.SETTLED)
    assert await saying == mark
    stage.world.chain.mine(DEPTH)
    await stage.node.work(lambda: stage.node.task(task_id).final)


def due(stage: Place, task_id: bytes) -> bool:
    engine = stage.node.engine
    return decide(stage.node.task(task_id), engine.tip.next_height, engine.limits) is Command.SETTLE


def kinds(stage: Place) -> list[str]:
    """What waits in the mempool, by kind."""
    journal = stage.node.engine.journal
    known = {tx.id: tx.kind for tx in journal.transactions()}
    return [known[entry.view.tx_id] for entry in stage.world.chain.pool if entry.view.tx_id in known]


async def settlement_due(stage: Place) -> bytes:
    """A task whose client stayed silent: its rating may be settled, and no settlement is sent yet."""
    task_id, chain = await delivered(stage), stage.world.chain
    await stage.node.work(lambda: stage.state(task_id) is State.COMMITTED)
    rating = (await stage.life(task_id)).rating
    assert rating is not None
    chain.mine(rating.content.commit_deadline + 3 - chain.height)
    await stage.node.work(lambda: "reveal" in kinds(stage))
    chain.mine()
    await stage.node.look()
    assert due(stage, task_id)
    return task_id


def service(stage: Place, kind: type[S]) -> S:
    return next(found for found in stage.node.services if isinstance(found, kind))


# ---------------------------------------------------------------- the order


@pytest.mark.asyncio
async def test_settlement__when__a_claim_waits_in_the_mempool__then__it_is_not_built_on_it(stage: Place) -> None:
    node, chain = stage.node, stage.world.chain
    task_id = await settlement_due(stage)
    claim, rate = service(stage, Claim), service(stage, Rate)
    other = await stage.post()
    await node.look()
    await node.services[0].step()
    # As if the claim had been sent before the settlement fell due.
    await claim.handle(node.task(other), Command.CLAIM)
    assert kinds(stage) == ["claim"]
    for _ in range(2):
        await rate.step()
        assert kinds(stage) == ["claim"]
    chain.mine()
    await node.look()
    await rate.step()
    assert kinds(stage) == ["settle"]
    chain.mine()
    await node.look()
    assert stage.state(task_id) is State.SETTLED
    assert stage.state(other) is State.AWAITING_INPUT


@pytest.mark.asyncio
async def test_claim__when__a_settlement_is_due__then__it_waits_for_it_but_not_for_ever(stage: Place) -> None:
    node, chain = stage.node, stage.world.chain
    task_id = await settlement_due(stage)
    claim = service(stage, Claim)
    other = await stage.post()
    for waited in range(YIELD_FOR):
        await node.look()
        await node.services[0].step()
        await claim.step()
        assert (kinds(stage), waited) == ([], waited)  # the settlement never goes out here
        chain.mine()
    await node.look()
    await claim.step()
    assert kinds(stage) == ["claim"]
    assert due(stage, task_id)
    chain.mine()
    await node.work(lambda: stage.state(task_id) is State.SETTLED)
    assert stage.state(other) is State.AWAITING_INPUT


@pytest.mark.asyncio
async def test_claim__when__the_settlement_is_sent__then__it_does_not_wait(stage: Place) -> None:
    node = stage.node
    task_id = await settlement_due(stage)
    other = await stage.post()
    await node.look()
    assert due(stage, task_id)
    for acting in (node.services[0], service(stage, Rate), service(stage, Claim)):
        await acting.step()
    assert kinds(stage) == ["settle", "claim"]  # the claim may rest on the settlement, which nobody can undo
    stage.world.chain.mine()
    await node.look()
    assert (stage.state(task_id), stage.state(other)) == (State.SETTLED, State.AWAITING_INPUT)


# ---------------------------------------------------------------- the reserve


def reserves(boxes: Iterable[ErgoBox]) -> int:
    return sum(box.value == RESERVE for box in boxes)


@pytest.mark.asyncio
async def test_reserve__when__a_task_is_claimed__then__only_its_own_end_may_spend_it(stage: Place) -> None:
    node, chain, submitter = stage.node, stage.world.chain, stage.node.engine.submitter
    task_id = await stage.post()
    await node.turn()
    now = await submitter.situation()
    assert (reserves(now.reserved), reserves(now.funds.boxes)) == (1, 0)  # the claim waits
    chain.mine()
    tip = await node.engine.view.sync()
    await submitter.follow(tip)
    assert node.task(task_id).claim_tx is None  # mined, and not yet seen to be
    now = await submitter.situation()
    assert (reserves(now.reserved), reserves(now.funds.boxes)) == (1, 0)
    await node.look()
    now = await submitter.situation()
    assert (reserves(now.reserved), reserves(now.funds.boxes)) == (1, 0)
    (kept,) = now.reserved
    await stage.client.deliver(task_id)
    await node.work(lambda: stage.state(task_id) is State.RELEASED)
    release = next(tx for tx in node.engine.journal.transactions(task_id) if tx.kind == "release")
    view = chain.ledger.transactions[release.id].view
    assert len(view.inputs) == 2 and view.inputs[1] == str(kept.box_id)  # nothing of the wallet
    assert (await submitter.situation()).reserved == ()


@pytest.mark.asyncio
async def test_reserve__when__the_deadline_was_missed__then__it_is_the_wallets_again(stage: Place) -> None:
    node, chain = stage.node, stage.world.chain
    before = stage.world.balance(node.party.signer.tree)
    task_id = await stage.claimed()
    deadline = node.task(task_id).exec_deadline
    assert deadline is not None
    chain.mine(deadline - chain.height + DEPTH)
    await node.work(lambda: stage.state(task_id) is State.SLASHED)
    chain.mine(DEPTH)
    await node.work(lambda: stage.state(task_id) is State.TIMED_OUT)
    now = await node.engine.submitter.situation()
    assert (now.reserved, reserves(now.funds.boxes)) == ((), 1)
    assert stage.world.balance(node.party.signer.tree) == before - FEE


@pytest.mark.asyncio
async def test_reserve__when__a_rival_had_the_task__then__there_is_none(stage: Place) -> None:
    task_id = await stage.post()
    await stage.node.look()
    await stage.node.services[0].step()
    await stage.world.mined(stage.client.refund(task_id))
    await stage.node.look()
    assert stage.node.task(task_id).where is Where.LOST
    assert (await stage.node.engine.submitter.situation()).reserved == ()


# ---------------------------------------------------------------- shares held back


@pytest.mark.asyncio
@pytest.mark.parametrize("mark", [1, 5])
@pytest.mark.parametrize("bps", [5_000, 10_000])
async def test_task__when__a_share_is_held_back__then__paid_or_burned_by_the_mark_and_the_books_say_so(
    stage: Place, bps: int, mark: int
) -> None:
    tree, journal = stage.node.party.signer.tree, stage.node.engine.journal
    before = stage.world.balance(tree)
    task_id = await delivered(stage, holdback_bps=bps)
    whole = ERG - treasury_fee(ERG)
    held = stage.node.task(task_id).held_share
    assert held == (whole - 2_000_000) * bps // 10_000
    assert stage.node.task(task_id).amounts == Amounts(paid=whole - held, held=held)
    row = books(moves(journal))[-1]
    assert (row.payments, row.held, row.burned) == (whole - held, held, 0)
    await rated(stage, task_id, mark)
    burned = held if mark == 1 else 0
    task = stage.node.task(task_id)
    assert task.state is (State.BURNED if burned else State.PAID)
    assert task.amounts == Amounts(paid=whole - burned, burned=burned)
    assert sum(box.value for box in stage.world.boxes(BURN)) == burned
    earned = whole - burned + RATING_VALUE - 5 * FEE
    assert stage.world.balance(tree) - before == earned
    (row,) = (row for row in books(moves(journal)) if row.service)
    assert (row.paid, row.payments, row.held, row.burned, row.fees) == (1, whole - burned, 0, burned, 5 * FEE)
    assert row.net == earned
    assert journal.states() == {task.state: 1}


@pytest.mark.asyncio
async def test_task__when__the_client_stays_silent__then__the_node_gets_the_held_share_soon_after(stage: Place) -> None:
    tree = stage.node.party.signer.tree
    before = stage.world.balance(tree)
    task_id = await delivered(stage, holdback_bps=10_000)
    chain = stage.world.chain
    rating = (await stage.life(task_id)).rating
    assert rating is not None
    await stage.node.work(lambda: stage.state(task_id) is State.COMMITTED)
    chain.mine(rating.content.commit_deadline + 3 - chain.height)
    await stage.node.work(lambda: stage.state(task_id) is State.SETTLED)
    assert chain.height < rating.content.reveal_deadline
    assert stage.world.balance(tree) - before == ERG - treasury_fee(ERG) + RATING_VALUE - 5 * FEE
    assert stage.node.task(task_id).note == "the client committed to no mark"


# ---------------------------------------------------------------- in a token


def units(world: World, tree: bytes, token: bytes) -> int:
    return sum(amount for box in world.boxes(tree) for held, amount in tokens_of(box) if held == token)


async def with_gold(stage: Place) -> bytes:
    """The client has 1,000 units of a token that the node takes, at 2 ERG for each 100 of them."""
    chain, engine = stage.world.chain, stage.node.engine
    token = bytes.fromhex(chain.issue("Gold", 1_000, 2, to=address_of(stage.party.signer.tree)))
    chain.mine()
    services = {key: Terms({None: ERG // 100, token: 100}, 2) for key in stage.offered}
    engine.policy = replace(
        engine.policy, services=services, assets={token: Asset(name="Gold", decimals=2, max_worth=2 * ERG)}
    )
    return token


@pytest.mark.asyncio
@pytest.mark.parametrize("mark", [1, 5])
async def test_task__when__it_pays_in_a_token__then__node_burn_and_books_have_it_unit_by_unit(
    stage: Place, mark: int
) -> None:
    token = await with_gold(stage)
    node, client, journal = stage.node.party.signer.tree, stage.party.signer.tree, stage.node.engine.journal
    task_id = await delivered(stage, payment=101, asset=token, worth=ERG, holdback_bps=5_000)
    assert units(stage.world, client, token) == 899
    assert units(stage.world, node, token) == 51
    assert stage.node.task(task_id).amounts == Amounts(paid=51, held=50)
    await rated(stage, task_id, mark)
    burned = 50 if mark == 1 else 0
    assert units(stage.world, node, token) == 101 - burned
    assert units(stage.world, BURN, token) == burned
    assert units(stage.world, client, token) == 899
    task = stage.node.task(task_id)
    assert (task.state, task.amounts) == (
        State.BURNED if burned else State.PAID,
        Amounts(paid=101 - burned, burned=burned),
    )
    (row,) = (row for row in books(moves(journal)) if row.service)
    assert (row.asset, row.paid, row.payments, row.held, row.burned) == (token.hex(), 1, 101 - burned, 0, burned)
    assert row.fees == 5 * FEE
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.committed, bond.content.completed) == (0, 1)


@pytest.mark.asyncio
async def test_task__when__it_pays_in_a_token_and_fails__then__every_unit_is_back_and_the_books_say_refunded(
    stage: Place,
) -> None:
    token = await with_gold(stage)
    client = stage.party.signer.tree
    before = stage.world.balance(client)
    task_id = await stage.claimed(payment=150, asset=token, worth=ERG, config={"DIGEST_ALGORITHM": "md5"})
    assert units(stage.world, client, token) == 850
    (bond,) = await stage.party.view.bonds()
    assert bond.content.committed == ERG  # by its worth
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.ADMITTED)
    assert units(stage.world, client, token) == 1_000
    assert stage.world.balance(client) == before - FEE - MIN_BOX
    (row,) = (row for row in books(moves(stage.node.engine.journal)) if row.service)
    assert (row.asset, row.paid, row.refunded, row.fees) == (token.hex(), 0, 150, 3 * FEE)


@pytest.mark.asyncio
async def test_task__when__it_pays_in_a_token_and_the_deadline_passes__then__every_unit_is_back_with_a_slash_in_erg(
    stage: Place,
) -> None:
    token = await with_gold(stage)
    node, chain, client = stage.node, stage.world.chain, stage.party.signer.tree
    before = stage.world.balance(client)
    task_id = await stage.claimed(payment=150, asset=token, worth=ERG)
    deadline = node.task(task_id).exec_deadline
    assert deadline is not None
    chain.mine(deadline - chain.height + DEPTH)
    await node.work(lambda: stage.state(task_id) is State.SLASHED)
    assert units(stage.world, client, token) == 1_000
    assert stage.world.balance(client) == before - 2 * FEE + ERG // 10
    (row,) = (row for row in books(moves(node.engine.journal)) if row.service and row.slashed)
    assert row.slashed == ERG // 10


@pytest.mark.asyncio
async def test_watch__when__a_token_is_not_taken_or_too_dear__then__declined_for_good_with_its_name(
    stage: Place,
) -> None:
    token = await with_gold(stage)
    await stage.post(payment=99, asset=token, worth=ERG)
    await stage.post(payment=100, asset=token, worth=2 * ERG + 1)
    unknown = bytes.fromhex(stage.world.chain.issue("Silver", 100, 0, to=address_of(stage.party.signer.tree)))
    stage.world.chain.mine()
    await stage.post(payment=100, asset=unknown, worth=ERG)
    await stage.node.turn()
    declines = stage.node.engine.journal.declines()
    assert {code: count for code, (count, _) in declines.items()} == {"price": 1, "worth": 1, "asset": 1}
    assert declines["price"][1] == "it pays 0.99 Gold, this service costs at least 1 Gold"
    assert stage.node.engine.journal.tasks() == []
