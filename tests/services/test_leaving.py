"""Leaving and starting: nothing that is owed is left behind unsaid, and what is late is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from offchain import digest
from test_tasks import Place, stage

from aihd.core.task import Stage, State
from aihd.errors import ConfigError, DependencyError, TemporaryError
from aihd.ops.notify import Notifier
from aihd.services.drain import UNLIMITED, Drain
from aihd.services.patience import Patience
from aihd.services.settle import Settle

__all__ = ["stage"]  # the fixture


def _drain(place: Place, budget: float) -> Drain:
    engine = place.node.engine
    return Drain(engine, Settle(engine, None), Notifier({}), budget)


def _executed(place: Place, task_id: bytes) -> None:
    place.node.engine.journal.update(
        task_id,
        "executed",
        stage=Stage.DONE,
        output_hash=digest("output"),
        params_hash=digest("params"),
        receipt_cid=b"c" * 38,
    )


@pytest.mark.asyncio
async def test_drain__when__a_result_is_finished_and_not_published__then__it_lasts_until_a_block_holds_it(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    _executed(stage, task_id)
    drain = _drain(stage, budget=60)
    leaving = asyncio.create_task(drain.done())

    await stage.node.turn()
    assert len(stage.world.chain.pool) == 1
    await asyncio.sleep(0.5)
    assert not leaving.done(), "it is sent, and in no block"
    stage.world.chain.mine()
    await stage.node.look()
    await asyncio.wait_for(leaving, 10)

    assert stage.state(task_id) is State.RELEASED
    assert drain.parting() == ""


@pytest.mark.asyncio
async def test_drain__when__its_time_is_used_up__then__it_says_what_is_lost_and_publishes_what_is_finished(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    _executed(stage, task_id)
    drain = _drain(stage, budget=0.3)

    await asyncio.wait_for(drain.done(), 10)
    await drain.last_try()

    deadline = stage.node.task(task_id).exec_deadline
    assert drain.parting().startswith(f"1 task unpaid: start again before height {deadline} (")
    assert drain.parting().endswith("or 1 ERG and 0.1 ERG of the bond are lost")
    assert len(stage.world.chain.pool) == 1, "what is finished is sent all the same"


@pytest.mark.asyncio
async def test_drain__when__the_operator_said_drain__then__no_time_is_used_up(stage: Place) -> None:
    await stage.claimed()
    stage.node.engine.journal.remember(UNLIMITED, "now")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_drain(stage, budget=0.1).done(), 1.5)


class _Late:
    """Answers at the third time that it is asked."""

    def __init__(self, error: Exception, times: int = 2) -> None:
        self.error, self.left, self.asked = error, times, 0

    async def ask(self) -> str:
        self.asked += 1
        if self.asked <= self.left:
            raise self.error
        return "here"


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [DependencyError("not yet"), TemporaryError("not yet")])
async def test_patience__when__what_is_outside_is_late__then__it_is_waited_for(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aihd.services.patience.FIRST_PAUSE", 0.01)
    late = _Late(error)

    assert await Patience(Notifier({}), asyncio.Event()).until("a node", late.ask) == "here"
    assert late.asked == 3


@pytest.mark.asyncio
async def test_patience__when__the_configuration_is_wrong__then__nothing_is_waited_for() -> None:
    late = _Late(ConfigError("another chain"))

    with pytest.raises(ConfigError):
        await Patience(Notifier({}), asyncio.Event()).until("a node", late.ask)
    assert late.asked == 1


@pytest.mark.asyncio
async def test_patience__when__the_daemon_is_told_to_stop__then__it_ends_with_the_reason() -> None:
    told, env = asyncio.Event(), dict[str, str]()
    waiting = asyncio.create_task(_forever(told, env))
    await asyncio.sleep(0.2)
    told.set()

    with pytest.raises(DependencyError, match="not yet"):
        await asyncio.wait_for(waiting, 5)


async def _forever(told: asyncio.Event, env: Mapping[str, str]) -> str:
    return await Patience(Notifier(env), told).until("a node", _Late(DependencyError("not yet"), times=10**6).ask)
