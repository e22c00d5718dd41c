"""`aihd run` as a process of its own: killed at its work and started again, told to stop, started on a world that is not ready."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import sys
import tomllib
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from onchain import order, until

from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.client.client import Order
from aihd.core.task import State, Task, Where
from aihd.demo.world import Daemon, World, free_port, world
from aihd.errors import Exit
from aihd.store.journal import Journal


def task_of(daemon: Daemon, task_id: bytes) -> Task | None:
    """What the daemon's journal says, read beside it."""
    with Journal(daemon.config.parent / "data" / "aihd.sqlite", read_only=True) as journal:
        return journal.find(task_id)


def is_in(daemon: Daemon, task_id: bytes, *states: State) -> Callable[[], bool]:
    def reached() -> bool:
        task = task_of(daemon, task_id)
        return task is not None and task.state in states

    return reached


def instances(stage: World) -> list[str]:
    """Tokens of what nodo's database says is running."""
    with closing(sqlite3.connect(stage.gateway.database)) as db:
        return [row[0] for row in db.execute("SELECT id FROM local_instances")]


async def held(stage: World) -> str:
    """The next instance, stopped in its tracks as soon as it is there."""
    await until(lambda: bool(instances(stage)), 30)
    (token,) = instances(stage)
    pid = stage.gateway.executor.pid(token)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return token


def ordered(stage: World, **changes: Any) -> Order:
    return order(stage.services["text-digest"], claim_window=60, exec_window=240, **changes)


async def posted(stage: World, folder: Path) -> bytes:
    source = folder / "input.txt"
    source.write_text("one two\n")
    task_id = await stage.client.client.post(ordered(stage), source, {})
    await stage.client.client.wait_for(task_id, lambda now: now.where is Where.CLAIMED)
    return task_id


async def killed(daemon: Daemon) -> None:
    daemon.process.kill()
    assert await daemon.process.wait() == -signal.SIGKILL


@pytest.mark.asyncio
async def test_run__when__killed_while_a_service_runs__then__taken_up_again_and_paid_by_one_claim(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, block_time=0.3, max_input=10_000, names=("node",)) as stage:
        (daemon,) = stage.daemons
        task_id = await posted(stage, tmp_path)
        await stage.client.client.deliver(task_id)
        first = await held(stage)
        await until(is_in(daemon, task_id, State.RUNNING))
        await killed(daemon)
        running = task_of(daemon, task_id)
        assert running is not None and running.state is State.RUNNING
        assert instances(stage) == [first]

        await daemon.start()
        await daemon.ready()
        await until(is_in(daemon, task_id, State.RELEASED, State.COMMITTED), 30)
        assert first not in instances(stage)
        assert stage.gateway.executor.pid(first) is None
        client = stage.client.client
        await client.fetch(task_id, tmp_path / "output")
        assert [f for f in await client.verify(task_id, tmp_path / "output", {}) if not f.holds] == []
        ledger = stage.devnet.chain.ledger
        assert sum(task_id.hex() in row.view.inputs for row in ledger.transactions.values()) == 1
        with Journal(daemon.config.parent / "data" / "aihd.sqlite", read_only=True) as journal:
            kinds = [tx.kind for tx in journal.transactions(task_id)]
            events = [event for _, event, _ in journal.events(task_id)]
        assert kinds[:2] == ["claim", "release"]
        assert "taken up again" in events
        assert events.count("executed") == 1


@pytest.mark.asyncio
async def test_run__when__told_to_stop_while_a_service_runs__then__drains_and_at_the_second_time_leaves(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, block_time=0.3, max_input=10_000, names=("node",)) as stage:
        (daemon,) = stage.daemons
        task_id = await posted(stage, tmp_path)
        await stage.client.client.deliver(task_id)
        await held(stage)
        daemon.process.terminate()
        await asyncio.sleep(1)
        assert daemon.process.returncode is None  # it waits for the service
        daemon.process.terminate()
        # It owes a task, and says until when and how much.
        assert await asyncio.wait_for(daemon.process.wait(), 15) == Exit.TEMPORARY
        said = daemon.log.read_text().splitlines()[-1]
        assert said.startswith("aihd: 1 task unpaid: start again before height ")
        assert said.endswith(", or 1 ERG and 0.1 ERG of the bond are lost")
        assert instances(stage) == []
        task = task_of(daemon, task_id)
        assert task is not None and task.where is Where.CLAIMED

        # Started again while the node is gone, with an open task at hand: it waits for it until it is told to stop.
        settings = daemon.config.read_text()
        daemon.config.write_text(settings.replace(stage.devnet.node_url, f"http://127.0.0.1:{free_port()}"))
        before = len(daemon.log.read_text())
        await daemon.start()
        await until(lambda: '"waiting"' in daemon.log.read_text()[before:], 30)
        assert daemon.process.returncode is None
        daemon.process.terminate()
        assert await asyncio.wait_for(daemon.process.wait(), 30) == Exit.TEMPORARY
        said = daemon.log.read_text()[before:]
        assert "gave no answer" in said.splitlines()[-1]
        assert said.splitlines()[-1].startswith("aihd: http://127.0.0.1:")
        assert "Traceback" not in said


@contextmanager
def taken(config: Path, section: str) -> Iterator[int]:
    """Hold the port that a section of the configuration names."""
    port = int(tomllib.loads(config.read_text())[section]["listen"].rpartition(":")[2])
    with closing(socket.socket()) as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        yield port


async def refused(daemon: Daemon) -> tuple[int, str]:
    """(exit code, last line) of a start that cannot be."""
    before = len(daemon.log.read_text()) if daemon.log.exists() else 0
    await daemon.start()
    code = await asyncio.wait_for(daemon.process.wait(), 30)
    said = daemon.log.read_text()[before:]
    assert "Traceback" not in said
    return code, said.splitlines()[-1]


@pytest.mark.asyncio
async def test_run__when__dry__then__it_says_what_it_would_do_and_leaves_no_trace(tmp_path: Path) -> None:
    async with world(tmp_path, block_time=0.3, max_input=10_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        source = tmp_path / "input.txt"
        source.write_text("one two\n")
        client = stage.client.client
        good = await client.post(ordered(stage), source, {})
        cheap = await client.post(ordered(stage, payment=10**6), source, {})
        before = sorted(tmp_path.joinpath("node").iterdir())
        command = (sys.executable, "-m", "aihd", "run", "--dry-run", "--config", str(daemon.config))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=STDOUT)
        said: dict[bytes, dict[str, str]] = {}
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while len(said) < 2:
                line = json.loads(await process.stdout.readline())
                if "task" in line:
                    said[bytes.fromhex(line["task"])] = line
            process.terminate()
            assert await process.wait() == Exit.OK
        assert said[good]["event"] == "would claim"
        assert (said[cheap]["event"], said[cheap]["code"]) == ("would decline", "price")
        (bond,) = await stage.client.view.bonds()
        assert bond.content.open_ids == ()
        assert [box.raw_id for box in await stage.client.view.escrows() if box.raw_id in (good, cheap)]
        assert not len(stage.devnet.chain.pool)
        assert sorted(tmp_path.joinpath("node").iterdir()) == before


@pytest.mark.asyncio
async def test_run__when__no_explorer_answers_while_it_starts__then__it_starts_and_claims(tmp_path: Path) -> None:
    async with world(tmp_path, block_time=0.3, max_input=10_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        source = tmp_path / "input.txt"
        source.write_text("one two\n")
        task_id = await stage.client.client.post(ordered(stage), source, {})
        stage.devnet.faults.switch("html-errors", True, "explorer")
        await daemon.start()
        await daemon.ready()
        await until(is_in(daemon, task_id, State.AWAITING_INPUT), 30)
        await until(lambda: "no explorer to compare with" in daemon.log.read_text(), 30)
        assert daemon.process.returncode is None


@pytest.mark.asyncio
async def test_run__when__told_to_read_its_configuration_again__then__the_new_rules_hold_and_a_wrong_one_is_told(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, block_time=0.3, max_input=10_000, names=("node",)) as stage:
        (daemon,) = stage.daemons
        source = tmp_path / "input.txt"
        source.write_text("one two\n")
        good = daemon.config.read_text()
        daemon.config.write_text(good.replace('["0.01 ERG"]', '"2 ERG"'))
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: '"reloaded"' in daemon.log.read_text())
        await stage.client.client.post(ordered(stage), source, {})
        await until(lambda: '"code": "price"' in daemon.log.read_text(), 20)
        daemon.config.write_text(good.replace('["0.01 ERG"]', '"much"'))
        daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: '"not reloaded"' in daemon.log.read_text())
        assert "policy.min_payment" in daemon.log.read_text()
        daemon.process.terminate()
        assert await daemon.process.wait() == Exit.OK


@pytest.mark.asyncio
async def test_run__when__it_cannot_start__then__one_line_and_its_code(tmp_path: Path) -> None:
    async with world(tmp_path, block_time=0.2, max_input=10_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        for section in ("exchange", "ops"):
            with taken(daemon.config, section) as port:
                code, line = await refused(daemon)
            assert (code, f"set {section}.listen to another port" in line) == (Exit.TEMPORARY, True)
            assert line.startswith(f"aihd: port {port} of 127.0.0.1 is in use")

        text = daemon.config.read_text()
        daemon.config.write_text(text.replace('"word-count"', '"word-cuont"'))
        code, line = await refused(daemon)
        assert code == Exit.CONFIG
        assert "services: word-cuont names 0 services of nodo's registry, which holds text-digest (" in line

        daemon.config.write_text(text)
        mnemonic = daemon.config.parent / "mnemonic"
        mnemonic.unlink()
        write_mnemonic(mnemonic, new_mnemonic(), None)
        code, line = await refused(daemon)
        assert (code, "belongs to wallet" in line) == (Exit.CONFIG, True)
