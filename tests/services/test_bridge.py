"""The bridge on each version of nodo's database: who gets the points of a task, and that nobody gets them twice."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import made
import pytest
import pytest_asyncio
from offchain import ERG, signer
from onchain import LIMITS, market

from aihd.core.task import Command, Task
from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.errors import TemporaryError
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.nodo.reputation import read_scores
from aihd.protocol import guards
from aihd.protocol.trees import address_of
from aihd.services.bridge import Bridge
from aihd.services.engine import Engine

PEER, SERVICE = "9" * 64, b"s" * 32
CLIENT = signer("client")
POINTS = 2 * guards.weight(ERG)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with market(tmp_path) as world:
        who = await world.party("node")
        stores = ContentStore(tmp_path / "content"), InputStore(tmp_path / "inputs", 1000), tmp_path / "receipts"
        parts = who.view, who.signer, who.submitter, who.journal, *stores
        yield Engine(*parts, {}, made.limits(), LIMITS, world.genesis_id)


def rated(engine: Engine) -> Task:
    task = made.task(service_hash=SERVICE, client=CLIENT.public_key)
    engine.journal.add(task)
    return engine.journal.update(task.id, "rated", client_mark=5, mark=5)


def nodo(folder: Path, version: NodoVersion) -> Path:
    path = create_database(folder, version)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO peer (id) VALUES (?)", (PEER,))
    return path


@pytest.mark.asyncio
@pytest.mark.parametrize("version", NodoVersion)
async def test_handle__when__repeated__then__points_count_once(
    tmp_path: Path, engine: Engine, version: NodoVersion
) -> None:
    path = nodo(tmp_path, version)
    bridge = Bridge(engine, path, {address_of(CLIENT.tree): PEER})
    task = rated(engine)
    await bridge.handle(task, Command.BRIDGE)
    assert engine.journal.task(task.id).bridged
    assert not [key for key in engine.journal.meta() if key.startswith("bridging")]
    assert read_scores(path, "peer") == ({} if version is NodoVersion.V24 else {PEER: POINTS})
    assert read_scores(path, "service") == ({SERVICE.hex(): POINTS} if version is NodoVersion.VNEW else {})
    if version is NodoVersion.VNEW:  # a crash before the journal heard of it
        await bridge.handle(task, Command.BRIDGE)
        assert read_scores(path, "peer") == {PEER: POINTS}


@pytest.mark.asyncio
async def test_handle__when__a_crash_came_after_the_note__then__not_written_again(
    tmp_path: Path, engine: Engine
) -> None:
    path = nodo(tmp_path, NodoVersion.VFEB)
    task = rated(engine)
    engine.journal.remember(f"bridging peer {task.id.hex()}", PEER)
    await Bridge(engine, path, {address_of(CLIENT.tree): PEER}).handle(task, Command.BRIDGE)
    assert read_scores(path, "peer") == {}
    assert engine.journal.task(task.id).bridged


@pytest.mark.asyncio
async def test_handle__when__nodo_was_busy__then__a_later_try_writes(tmp_path: Path, engine: Engine) -> None:
    path = nodo(tmp_path, NodoVersion.VFEB)
    bridge, task = Bridge(engine, path, {address_of(CLIENT.tree): PEER}), rated(engine)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryError, match="is busy"):
            await bridge.handle(task, Command.BRIDGE)
        other.execute("ROLLBACK")
    await bridge.handle(task, Command.BRIDGE)
    assert read_scores(path, "peer") == {PEER: POINTS}
