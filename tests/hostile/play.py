"""Four tasks at work under attack: what the daemon must still do, and what the attack may cost it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onchain import order

from aihd.client.client import Client
from aihd.core.task import Where
from aihd.demo.world import Daemon, World, world
from aihd.errors import TemporaryError
from aihd.execution.exchange import PREFIX

ERG: Final = 10**9
TASKS: Final = 4
FILES: Final = 1024
MEMORY: Final = 1 << 30
PAGE: Final = resource.getpagesize()
ENDED: Final = (Where.RELEASED, Where.COMMITTED, Where.REVEALED, Where.RATED, Where.SETTLED)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it, in seconds and bytes.

    `took` is when the last task was paid, `door` the share of questions at the exchange that were answered within a second, `usual` what 98
    of 100 answers of the page took at most, `kills` how often the exchange was killed, `exchange` the most memory that one held.
    """

    paid: int
    took: float
    kills: int
    door: float
    slowest: float
    usual: float
    asked: int
    grown: int
    logged: int
    exchange: int
    strangers: dict[str, int]


async def play(folder: Path, *, seconds: float, strangers: int, kills: int) -> Outcome:
    """The whole run; at most `seconds` and what starting takes."""
    async with world(folder, block_time=0.5, max_input=10_000_000, names=("node",), start=False) as stage:
        (daemon,) = stage.daemons
        await daemon.start({"AIHD_EXCHANGE__PER_ADDRESS": "16"})
        pid = daemon.process.pid
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
        await daemon.ready()
        return await _attacked(stage, daemon, folder, seconds, strangers, kills)


async def _attacked(stage: World, daemon: Daemon, folder: Path, seconds: float, strangers: int, kills: int) -> Outcome:
    client, pid = stage.client.client, daemon.process.pid
    first = await _paid(stage, client, folder, 0)  # so that there is an output to ask for
    receipt = (await client.view.life(first)).receipt
    assert receipt is not None
    port = (await client.view.bonds())[0].content.endpoint.rpartition(":")[2]
    before, logged = memory(pid), daemon.log.stat().st_size
    target = (port, first.hex(), receipt.content.output_hash.hex(), str(seconds), str(strangers))
    attack, probe = (
        await _process("attack", *target),
        await _process("probe", f"{daemon.ops_url}/healthz", str(seconds)),
    )
    question = f"http://127.0.0.1:{port}{PREFIX}/tasks/{first.hex()}"
    door = await _process("probe", question, str(seconds))
    peak, begun = [0], time.monotonic()
    async with asyncio.TaskGroup() as group:
        killing = group.create_task(_kill(pid, seconds, kills, peak))
        async with asyncio.timeout(2 * seconds + 60):
            work = [group.create_task(_paid(stage, client, folder, number)) for number in range(1, TASKS + 1)]
            paid = [task for task in [await one for one in work] if task]
            done = time.monotonic() - begun
        killed = await killing
    answers = json.loads((await door.communicate())[0])
    took = json.loads((await probe.communicate())[0])
    came = json.loads((await attack.communicate())[0])
    return Outcome(
        paid=len(paid),
        took=done,
        kills=killed,
        door=sum(answer < 1 for answer in answers) / len(answers),
        slowest=max(took),
        usual=sorted(took)[len(took) * 98 // 100],
        asked=len(took),
        grown=memory(pid) - before,
        logged=daemon.log.stat().st_size - logged,
        exchange=peak[0],
        strangers=came,
    )


async def _process(module: str, *arguments: str) -> asyncio.subprocess.Process:
    command = (sys.executable, "-m", f"tests.hostile.{module}", *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2])


async def _paid(stage: World, client: Client, folder: Path, number: int) -> bytes:
    """A task from its post to its payment; its id."""
    source = folder / f"input-{number}.txt"
    source.write_bytes(os.urandom(400_000).hex().encode())
    task_id = await client.post(order(stage.services["text-digest"], claim_window=200, exec_window=600), source, {})
    await _patiently(lambda: _delivered(client, task_id))
    await _patiently(lambda: _ended(client, task_id))
    return task_id


async def _delivered(client: Client, task_id: bytes) -> None:
    now = await client.progress(task_id)
    if now is None or now.where is Where.OPEN:
        raise TemporaryError("not claimed yet")
    if now.where is Where.CLAIMED:
        await client.deliver(task_id)


async def _ended(client: Client, task_id: bytes) -> None:
    now = await client.progress(task_id)
    if now is None or now.where not in ENDED:
        raise TemporaryError("not paid yet")


async def _patiently(step: Callable[[], object]) -> None:
    """Until it goes well: the exchange may be killed in the middle of it."""
    while True:
        with suppress(TemporaryError):
            made = step()
            assert asyncio.iscoroutine(made)
            await made
            return
        await asyncio.sleep(0.3)


async def _kill(pid: int, seconds: float, times: int, peak: list[int]) -> int:
    """SIGKILL for the exchange, some times, evenly; how often there was one to kill."""
    kills = 0
    for _ in range(times):
        for _ in range(int(4 * seconds / (times + 1))):
            await asyncio.sleep(0.25)
            peak[0] = max([peak[0], *(memory(child) for child in exchanges(pid))])
        for child in exchanges(pid):
            os.kill(child, signal.SIGKILL)
            kills += 1
    return kills


def exchanges(pid: int) -> list[int]:
    """Processes of a daemon's exchange."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"exchange_process" in Path(f"/proc/{child}/cmdline").read_bytes()]


def memory(pid: int) -> int:
    """Bytes that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0
