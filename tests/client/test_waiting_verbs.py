"""Verbs that wait: they hold no lock meanwhile, are as patient as the task, and always end with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from offchain import ERG, digest
from onchain import World, market, order

from aihd.client.party import Party
from aihd.core.task import Where
from aihd.errors import DependencyError, TemporaryError, UsageError
from aihd.ops.lock import Turns, process_lock

SERVICE = digest("service")


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with market(tmp_path) as made:
        yield made


async def _posted(world: World, who: Party) -> bytes:
    source = world.folder / "input"
    source.write_bytes(b"x")
    task_id = await who.client.post(order(SERVICE, payment=ERG // 10, worth=ERG // 10, claim_window=20), source, {})
    world.chain.mine()
    return task_id


@pytest.mark.asyncio
async def test_watch__when__nobody_claims_the_task_in_time__then__it_ends_and_says_so(world: World) -> None:
    who = await world.party("client")
    task_id = await _posted(world, who)
    seen = []

    async def watch() -> None:
        async for now in who.client.watch(task_id):
            seen.append((now.where, now.expired))

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.5)
    world.chain.mine(25)
    await asyncio.wait_for(watching, 20)

    assert seen == [(Where.OPEN, False), (Where.OPEN, True)]
    with pytest.raises(DependencyError, match="nobody claimed it by height"):
        await who.client.wait_for(task_id, lambda now: now.life.receipt is not None)


@pytest.mark.asyncio
async def test_watch__when__the_task_is_unknown__then__it_ends_and_says_so(world: World) -> None:
    who = await world.party("client")

    with pytest.raises(UsageError, match="no source knows such a task"):
        async for _ in who.client.watch(digest("no such task")):
            pass


@pytest.mark.asyncio
async def test_turn__when__another_process_holds_the_lock_for_a_moment__then__it_is_waited_for(tmp_path: Path) -> None:
    path, turns = tmp_path / "lock", Turns(tmp_path / "lock", patience=5)
    order_: list[str] = []

    async def second() -> None:
        async with turns.turn():
            order_.append("second")

    with process_lock(path):
        assert not turns.is_free()
        waiting = asyncio.create_task(second())
        await asyncio.sleep(0.3)
        order_.append("first")
    await asyncio.wait_for(waiting, 5)

    assert order_ == ["first", "second"]
    assert turns.is_free()


@pytest.mark.asyncio
async def test_turn__when__another_process_keeps_the_lock__then__it_is_named_after_the_patience(tmp_path: Path) -> None:
    with process_lock(tmp_path / "lock"), pytest.raises(TemporaryError, match=r"at work in process \d+"):
        async with Turns(tmp_path / "lock", patience=0.3).turn():
            pass


@pytest.mark.asyncio
async def test_turn__when__there_is_no_lock_file__then__nothing_is_waited_for() -> None:
    async with Turns(None).turn():
        assert Turns(None).is_free()
