"""Releases and failures rest on nothing that others share: as many as fall due in one block go out in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from offchain import ERG, digest
from onchain import order
from test_tasks import Place, stage

from aihd.chain.submitter import Intent
from aihd.client.client import Order
from aihd.core.task import Stage, State, Task, Where
from aihd.protocol import plans
from aihd.protocol.funding import Output
from aihd.services.settle import Settle

__all__ = ["stage"]  # the fixture

TOGETHER = 32


async def _claimed(place: Place) -> list[Task]:
    """As many claimed tasks as are to fall due, each in a block."""
    engine = place.node.engine
    engine.policy = replace(engine.policy, max_open=48)
    for _ in range(TOGETHER):
        await place.client.post(_order(place), place.input, {})
    place.world.chain.mine()
    await place.node.work(lambda: len(_standing(place, Where.CLAIMED)) == TOGETHER)
    return _standing(place, Where.CLAIMED)


def _order(place: Place) -> Order:
    return order(place.service, payment=ERG // 10, worth=ERG // 10, claim_window=200, exec_window=300)


def _standing(place: Place, where: Where) -> list[Task]:
    return [task for task in place.node.engine.journal.open_tasks() if task.where is where]


@pytest.mark.asyncio
async def test_releases__when__32_fall_due_in_one_block__then__all_are_in_the_next(stage: Place) -> None:
    tasks, journal = await _claimed(stage), stage.node.engine.journal
    for task in tasks:
        journal.update(
            task.id,
            "executed",
            stage=Stage.DONE,
            output_hash=digest("output", task.id),
            params_hash=digest("params"),
            receipt_cid=b"c" * 38,
        )
    before = {str(box.box_id) for box in (await stage.node.engine.submitter.situation()).funds.boxes}

    await Settle(stage.node.engine, None).step()
    waiting = [entry.view for entry in stage.world.chain.pool]
    stage.world.chain.mine()
    await stage.node.look()

    assert len(waiting) == TOGETHER
    assert len(_standing(stage, Where.RELEASED)) == TOGETHER
    spent = [key for view in waiting for key in view.inputs]
    assert len(spent) == len(set(spent)) == 2 * TOGETHER, "each spends its claimed box and its own reserve"
    assert not before & set(spent), "and nothing of the wallet"


@pytest.mark.asyncio
async def test_failures__when__32_fall_due_and_the_wallet_is_empty__then__all_are_in_the_next_block(
    stage: Place,
) -> None:
    tasks, engine = await _claimed(stage), stage.node.engine
    for task in tasks:
        engine.journal.update(task.id, "broken", stage=Stage.BROKEN, note="unable: no memory")
    funds = (await engine.submitter.situation()).funds
    everything = sum(box.value for box in funds.boxes)
    away = Output(everything - funds.fee, stage.party.signer.tree)
    spent = await engine.submitter.transact(Intent("spend"), lambda s: plans.send(s.market, (away,), s.funds))
    assert spent is not None

    await Settle(engine, None).step()
    stage.world.chain.mine()
    await stage.node.look()

    assert {task.state for task in _standing(stage, Where.FAILED)} == {State.REFUNDED}
    assert len(_standing(stage, Where.FAILED)) == TOGETHER
