"""The bridge on each version of nodo's database: who gets the points of a task, and that nobody gets them twice."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import made
import pytest
import pytest_asyncio
from offchain import ERG, signer
from onchain import LIMITS, market

from aihd.core.task import Command, Task
from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.devnet.nodo_writer import NodoConnection
from aihd.errors import TemporaryError
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.nodo.ratings import Outbox, Taken, ledger_of, take
from aihd.nodo.reputation import Rating, WriteResult, read_scores, write_ratings
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


def rated(engine: Engine, task_id: bytes = b"t" * 32) -> Task:
    task = made.task(id=task_id, service_hash=SERVICE, client=CLIENT.public_key)
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


class Both:
    """A daemon's bridge both ways on one nodo, and nodo's own process with the plug-in."""

    def __init__(self, folder: Path, engine: Engine, version: NodoVersion) -> None:
        self.path = nodo(folder, version)
        self.outbox, self.engine = Outbox(folder / "ratings.sqlite"), engine
        self.events = version is NodoVersion.VNEW

    def bridge(self, *, inside: bool) -> Bridge:
        return Bridge(self.engine, self.path, {address_of(CLIENT.tree): PEER}, outbox=self.outbox, inside=inside)

    def plug_in(self) -> None:
        with closing(NodoConnection(self.path)) as connection:
            take(self.outbox, ledger_of(self.path), connection)

    def check(self) -> None:
        assert read_scores(self.path, "peer") == {PEER: POINTS}
        assert read_scores(self.path, "service") == ({SERVICE.hex(): POINTS} if self.events else {})


@pytest.fixture(params=[NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW])
def both(tmp_path: Path, engine: Engine, request: pytest.FixtureRequest) -> Both:
    return Both(tmp_path, engine, request.param)


@pytest.mark.asyncio
async def test_handle__when__inside__then__bridged_only_when_nodo_s_process_has_counted(both: Both) -> None:
    task, bridge = rated(both.engine), both.bridge(inside=True)
    for _ in range(2):
        await bridge.handle(task, Command.BRIDGE)
    assert not both.engine.journal.task(task.id).bridged
    both.plug_in()
    both.plug_in()
    await bridge.handle(task, Command.BRIDGE)
    assert both.engine.journal.task(task.id).bridged
    assert both.outbox.offered() == []
    both.check()


@pytest.mark.asyncio
@pytest.mark.parametrize("counted", [False, True], ids=["before the plug-in came", "after it counted"])
async def test_handle__when__changed_from_inside_to_outside__then__counted_once(both: Both, counted: bool) -> None:
    task = rated(both.engine)
    await both.bridge(inside=True).handle(task, Command.BRIDGE)
    if counted:
        both.plug_in()
    await both.bridge(inside=False).handle(task, Command.BRIDGE)
    both.plug_in()
    assert both.engine.journal.task(task.id).bridged
    both.check()


@pytest.mark.asyncio
async def test_handle__when__changed_from_outside_to_inside__then__counted_once(both: Both) -> None:
    task, journal = rated(both.engine), both.engine.journal
    await both.bridge(inside=False).handle(task, Command.BRIDGE)
    journal.update(task.id, "as if a crash came before the note", bridged=False)
    if not both.events:
        journal.remember(f"bridging peer {task.id.hex()}", PEER)  # the crash left it, as nodo's tables cannot tell
    inside = both.bridge(inside=True)
    await inside.handle(task, Command.BRIDGE)
    both.plug_in()
    await inside.handle(task, Command.BRIDGE)
    assert journal.task(task.id).bridged
    both.check()


@pytest.mark.asyncio
async def test_handle__when__nodo_s_process_is_at_it__then__not_written_from_outside_until_it_has_left(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, bridge = rated(both.engine), both.bridge(inside=False)
    begun = Rating(kind="peer", subject=PEER, delta=POINTS, key=task.id.hex())
    ledger_of(both.path).note(begun, Taken.BEGUN)
    with pytest.raises(TemporaryError, match="has begun to count"):
        await bridge.handle(task, Command.BRIDGE)
    assert read_scores(both.path, "peer") == {}
    monkeypatch.setattr("aihd.services.bridge.ABANDONED", 0.0)
    await bridge.handle(task, Command.BRIDGE)
    expected = {PEER: POINTS} if both.events else {}
    assert read_scores(both.path, "peer") == expected, "where no event tells, points that are missing do less harm"


@pytest.mark.asyncio
async def test_step__when__many_tasks_wait__then__one_write_for_all_and_none_without_something_new(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nodo(tmp_path, NodoVersion.VNEW)
    writes: list[int] = []

    def counted(database: Path, ratings: Sequence[Rating], **more: Any) -> list[WriteResult]:
        writes.append(len(ratings))
        return write_ratings(database, ratings, **more)

    monkeypatch.setattr("aihd.services.bridge.write_ratings", counted)
    bridge = Bridge(engine, path, {address_of(CLIENT.tree): PEER}, pace=60)
    tasks = [rated(engine, bytes([number]) * 32) for number in range(3)]
    await bridge._write_all(tasks)
    assert writes == [6]
    assert bridge._not_before > 0, "and the next not before a minute has passed"
    assert read_scores(path, "peer") == {PEER: 3 * POINTS}
    with closing(
        sqlite3.connect(path, isolation_level=None)
    ) as connection:  # nodo had read before us, and writes after us
        connection.execute("UPDATE peer SET reputation_score = 1")
        sql = "INSERT INTO reputation_events (subject_kind, subject_id, amount, reason, score_after) VALUES ('peer', ?, 1, 'x', ?)"
        connection.execute(sql, (PEER, 1))
    await Bridge(engine, path, {})._write_all([])
    assert read_scores(path, "peer") == {PEER: 3 * POINTS + 1}
    assert (bridge.rewritten, writes) == (3, [6, 0])
    for _ in range(2):
        await bridge._write_all([])
    assert writes == [6, 0], "nothing new, no write"
