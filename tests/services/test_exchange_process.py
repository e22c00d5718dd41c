"""The exchange of a daemon: killed, stopped, out of the way, or a unit of its own; and a daemon whose disk is full."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hostile.play import exchanges
from onchain import order, until

from aihd.core.task import State, Where
from aihd.demo.world import Daemon, World, world
from aihd.errors import TemporaryError
from aihd.services import exchange as module
from aihd.store.journal import Journal


async def document(daemon: Daemon) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.ops_url}/status.json") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def said(daemon: Daemon, reached: Callable[[str], bool], patience: float = 30.0) -> str:
    """What the issues of the status say of the exchange or the disk, once it is what is waited for."""
    text = ""
    async with asyncio.timeout(patience):
        while True:
            issues = (await document(daemon))["issues"]
            text = "; ".join(f"{issue['what']}: {issue['reason']}" for issue in issues)
            if reached(text):
                return text
            await asyncio.sleep(0.05)


async def posted(stage: World, folder: Path, name: str = "input") -> bytes:
    source = folder / f"{name}.txt"
    source.write_text(f"one two {name}\n")
    return await stage.client.client.post(
        order(stage.services["text-digest"], claim_window=200, exec_window=300), source, {}
    )


async def paid(stage: World, task_id: bytes, patience: float = 60.0) -> None:
    """Bring the input, as often as it takes, and wait for the receipt."""
    client = stage.client.client
    async with asyncio.timeout(patience):
        await client.wait_for(task_id, lambda now: now.where is not Where.OPEN)
        while True:
            with suppress(TemporaryError):
                await client.deliver(task_id)
                break
            await asyncio.sleep(0.2)
        await client.wait_for(task_id, lambda now: now.life.receipt is not None)


@pytest.mark.asyncio
async def test_exchange__when__killed_and_when_it_hangs__then__the_status_says_so_and_it_comes_back(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, block_time=0.4, max_input=10_000, names=("node",)) as stage:
        (daemon,) = stage.daemons
        pid = daemon.process.pid
        await until(lambda: bool(exchanges(pid)), 30)
        (first,) = exchanges(pid)
        before = Path(f"/proc/{first}/environ").read_bytes()
        assert b"AIHD" not in before and b"CREDENTIALS" not in before
        os.kill(first, signal.SIGKILL)
        text = await said(daemon, lambda issues: "exchange" in issues)
        assert "it was ended by SIGKILL; clients are kept waiting, and it is started again" in text
        await said(daemon, lambda issues: "exchange" not in issues)
        (second,) = exchanges(pid)
        assert second != first
        await paid(stage, await posted(stage, tmp_path))
        daemon.process.terminate()  # a drain needs its exchange; then it ends with the daemon
        assert await asyncio.wait_for(daemon.process.wait(), 60) in (0, 75)
        assert not Path(f"/proc/{second}").exists()


@pytest.mark.asyncio
async def test_exchange__when__it_says_nothing_any_more__then__it_is_ended_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process: the silence that is waited for is longer than a test may take.
    from keeper import kept

    monkeypatch.setattr(module, "SILENCE", 3.0)
    async with kept(tmp_path) as (exchange, health):
        await until(lambda: exchange.pid is not None and bool(exchange.facts), 30)
        first = exchange.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: "nothing was heard of it" in health.get("exchange", ""), 30)
        await until(lambda: exchange.pid not in (None, first) and "exchange" not in health, 30)
        assert not Path(f"/proc/{first}").exists()


@pytest.mark.asyncio
async def test_exchange__when__a_unit_of_its_own__then__it_finds_the_daemon_and_outlives_it(tmp_path: Path) -> None:
    async with world(tmp_path, block_time=0.4, max_input=10_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        separate = {"AIHD_EXCHANGE__SEPARATE": "true"}
        await daemon.start(separate)
        text = await said_when_up(daemon)
        assert "no exchange has come to" in text and "start `aihd exchange`" in text
        command = (sys.executable, "-m", "aihd", "exchange", "--config", str(daemon.config))
        unit = await asyncio.create_subprocess_exec(*command, env={**os.environ, **separate})
        try:
            await said(daemon, lambda issues: "exchange" not in issues)
            assert exchanges(daemon.process.pid) == []
            await paid(stage, await posted(stage, tmp_path))
            daemon.process.kill()
            await daemon.process.wait()
            await daemon.start(separate)
            await daemon.ready()
            await paid(stage, await posted(stage, tmp_path, "again"))
            assert unit.returncode is None
        finally:
            unit.kill()
            await unit.wait()


async def said_when_up(daemon: Daemon) -> str:
    async with asyncio.timeout(45):
        while True:
            with suppress(aiohttp.ClientError):
                return await said(daemon, lambda issues: "exchange" in issues)
            await asyncio.sleep(0.2)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 megabytes where the daemon keeps everything."""
    folder = tmp_path / "node" / "data"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here: root is needed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    """A file that takes all that is left of its disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 14)):
            pass


@pytest.mark.asyncio
async def test_run__when__its_disk_fills_while_tasks_are_at_work__then__they_are_paid_and_none_is_claimed_until_there_is_room(
    tmp_path: Path, disk: Path
) -> None:
    async with world(tmp_path / "w", block_time=0.4, max_input=10_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        await daemon.start({"AIHD_OPS__MIN_FREE": "8 MB", "AIHD_OPS__DATA_DIR": str(disk)})
        await daemon.ready()
        assert (disk / "reserve").exists()
        first = await posted(stage, tmp_path, "first")
        await stage.client.client.wait_for(first, lambda now: now.where is Where.CLAIMED)
        fill(disk / "fill")
        await said(daemon, lambda issues: "disk" in issues and "no new task is taken" in issues)
        await until(lambda: not (disk / "reserve").exists(), 15)
        await paid(stage, first)  # with the room that was kept
        second = await posted(stage, tmp_path, "second")
        await asyncio.sleep(4)
        with Journal(disk / "aihd.sqlite", read_only=True) as journal:
            assert journal.find(second) is None
        (disk / "fill").unlink()
        await said(daemon, lambda issues: "disk" not in issues)
        await paid(stage, second)
        assert (disk / "reserve").exists()
        with Journal(disk / "aihd.sqlite", read_only=True) as journal:
            assert journal.task(first).state not in (State.FAILED, State.TIMED_OUT)
            assert journal.audit() == []
