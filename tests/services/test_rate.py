"""Rating on a real devnet, whatever the chain does to it: nothing is opened early, nothing that could be said is lost."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE
from onchain import POLL
from test_indexer import Place as Market
from test_indexer import engine_of, place
from test_tasks import Place, stage

from aihd.core.rating import MARGIN as MARGINS
from aihd.core.task import State
from aihd.protocol.boxes import Rating
from aihd.protocol.constants import RATING_VALUE, SETTLE_GRACE
from aihd.protocol.guards import weight
from aihd.protocol.plans import Side
from aihd.services.rate import FAIR, Rate
from aihd.store.journal import TxStatus

__all__ = ["place", "stage"]  # the fixtures

W = weight(ERG)
MARGIN = MARGINS[Side.NODE]


async def released(stage: Place) -> bytes:
    """A task that is paid; the client has its output."""
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.RELEASED)
    return task_id


def kinds(stage: Place, task_id: bytes) -> list[str]:
    """Transactions of the node that were not taken back, after the release."""
    records = stage.node.engine.journal.transactions(task_id)
    alive = [record.kind for record in records if record.status not in (TxStatus.DROPPED, TxStatus.REPLACED)]
    return alive[alive.index("release") + 1 :]


async def rating_of(stage: Place, task_id: bytes) -> Rating:
    rating = (await stage.life(task_id)).rating
    assert rating is not None
    return rating.content


def opened(stage: Place, task_id: bytes) -> list[Rating]:
    """The rating as it was under every mark that either side ever signed to open, mined or not."""
    ledger = stage.world.chain.ledger
    found = []
    for journal in (stage.node.engine.journal, stage.party.journal):
        for record in journal.transactions(task_id):
            if record.kind == "reveal":
                key = str(Transaction.from_bytes(record.body).inputs[0].box_id)
                found.append(Rating.read((ledger.boxes.get(key) or ledger.orphans[key]).view.box))
    return found


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_rate__when__reorgs_hit_every_state__then__both_marks_count_and_none_was_opened_early(
    stage: Place, seed: int
) -> None:
    chance, chain, node = random.Random(seed), stage.world.chain, stage.node
    task_id = await released(stage)
    salt = None
    rated = asyncio.ensure_future(stage.client.rate(task_id, 4))
    for _ in range(200):
        await node.turn()
        task = node.task(task_id)
        assert salt in (None, task.salt), "a salt that was stored is never made anew"
        salt = task.salt
        if task.state is State.SETTLED and rated.done():
            break
        await asyncio.sleep(POLL)
        if chance.random() < 0.25:
            chain.reorg(chance.randint(1, 3), lose=chance.random() < 0.3)
        else:
            chain.mine()
    assert await rated == 4
    rating = await rating_of(stage, task_id)
    assert (rating.client_mark, rating.node_mark) == (4, FAIR)
    assert all(shown.client_commitment and shown.node_commitment for shown in opened(stage, task_id))
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.score, bond.content.open_ids) == (W, ())
    assert node.task(task_id).note == ""


@pytest.mark.asyncio
async def test_rate__when__the_client_is_silent__then__opened_a_margin_after_the_deadline_and_noted(
    stage: Place,
) -> None:
    task_id = await released(stage)
    chain, node = stage.world.chain, stage.node
    await node.work(lambda: stage.state(task_id) is State.COMMITTED)
    deadline = (await rating_of(stage, task_id)).commit_deadline
    chain.mine(deadline - chain.height + MARGIN - 1)
    await node.turn()
    assert kinds(stage, task_id) == ["commit"]
    chain.mine()
    await node.work(lambda: kinds(stage, task_id) == ["commit", "reveal"])
    await node.work(
        lambda: stage.state(task_id) is State.SETTLED
    )  # it need not wait for a mark that cannot come any more
    assert chain.height < (await rating_of(stage, task_id)).reveal_deadline
    assert kinds(stage, task_id) == ["commit", "reveal", "settle"]
    assert node.task(task_id).note == "the client committed to no mark"
    assert [event for _, event, _ in node.engine.journal.events(task_id)].count("half rated") == 1
    (bond,) = await stage.party.view.bonds()
    assert bond.content.score == 0


@pytest.mark.asyncio
async def test_rate__when__the_window_is_nearly_over__then__no_commitment_that_may_come_too_late(stage: Place) -> None:
    chain, node = stage.world.chain, stage.node
    services = node.services
    node.services = tuple(service for service in services if not isinstance(service, Rate))
    task_id = await released(stage)
    node.services = services
    chain.mine((await rating_of(stage, task_id)).commit_deadline - MARGIN - chain.height)  # the next block is one more
    for _ in range(MARGIN + 2):
        await node.turn()
        chain.mine()
    assert (kinds(stage, task_id), node.task(task_id).salt) == ([], None)
    await node.work(lambda: stage.state(task_id) is State.SETTLED)
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.score, bond.content.open_ids) == (0, ())


@pytest.mark.asyncio
async def test_rate__when__a_rating_of_others_is_left_lying__then__settled_for_its_value_if_asked(
    place: Market, tmp_path: Path
) -> None:
    task_id = await place.post()
    await place.claim(task_id)
    await place.release(task_id)
    rating = (await place.client.view.life(task_id)).rating
    assert rating is not None
    watcher = await place.world.party("another")
    engine = engine_of(place.world, watcher, tmp_path / "another")
    before = place.world.balance(watcher.signer.tree)
    chain = place.world.chain

    async def step(rate: Rate) -> None:
        engine.sighted[:] = [await engine.view.sync()]
        await rate.step()

    chain.mine(rating.content.reveal_deadline + SETTLE_GRACE - 1 - chain.height)
    await step(Rate(engine, settle_others=True))  # it is its parties' turn still
    chain.mine(2)
    await step(Rate(engine))  # not asked
    assert len(chain.pool) == 0
    rate = Rate(engine, settle_others=True)
    await step(rate)
    await step(rate)
    assert len(chain.pool) == 1
    chain.mine()
    assert (await place.bond()).content.open_ids == ()
    assert place.world.balance(watcher.signer.tree) == before + RATING_VALUE - FEE
