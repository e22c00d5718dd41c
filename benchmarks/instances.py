"""64 services at once on the embedded gateway, each started, run and stopped: how long the daemon's event loop keeps anybody
waiting, and whether all outputs are right. The gateway is a process of its own, as nodo is. The lag is how much later than
asked for a sleep of 5 ms ends; its floor is that of an idle loop."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.nodo_schema import DATABASE
from aihd.devnet.packing import install
from aihd.execution.adapters import HttpAdapter, Job
from aihd.execution.content import ContentStore
from aihd.execution.inputs import StoredInput
from aihd.execution.template import Template
from aihd.nodo.gateway import GatewayClient
from benchmarks.result import Result

INSTANCES = 64
EVERY = 0.005  # seconds
SERVICE = Path(__file__).parent.parent / "aihd" / "devnet" / "services" / "text_digest"
TEMPLATE = Template.model_validate({"name": "text-digest", "slot": 8080, "connect_for": "2 min"})


async def instances(folder: Path) -> Result:
    """The 99th percentile of the lag, in seconds, at work and idle; AssertionError when an output is wrong."""
    idle = await _lag(asyncio.sleep(2))
    async with (
        _gateway(folder / "nodo") as address,
        GatewayClient(address, timeout=120) as client,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        service, client_id = install(SERVICE, folder / "nodo"), await client.generate_client()
        store, adapter = ContentStore(folder / "content"), HttpAdapter(session)

        async def one(number: int) -> None:
            data = b"%d " % number * 10_000
            path = folder / f"input-{number}"
            path.write_bytes(data)
            instance = await client.start_service(service, client_id=client_id, environment={}, timeout=120)
            job = Job(instance.token, instance.slots, TEMPLATE, StoredInput(path, {}), 300, 10_000)
            async with store.receive(10_000) as sink:
                await adapter.run(job, sink)
                digest, _ = await sink.commit()
            await client.stop_service_confirmed(instance.token, database=folder / "nodo" / DATABASE, timeout=120)
            with store.open(digest) as output:
                assert json.load(output)["sha256"] == hashlib.sha256(data).hexdigest()

        start = time.perf_counter()
        busy = await _lag(asyncio.gather(*(one(number) for number in range(INSTANCES))))
        print(f"{INSTANCES} services started, run and stopped at once in {time.perf_counter() - start:.1f} s")
    return Result(f"event loop lag, p99, {INSTANCES} services", busy, idle, "an idle loop's")


@asynccontextmanager
async def _gateway(storage: Path) -> AsyncIterator[str]:
    """The address of a gateway in another process."""
    command = [sys.executable, "-m", "benchmarks.instances", str(storage)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


async def _serve(storage: Path) -> None:
    """The other process: until its input ends."""
    async with EmbeddedGateway(storage, credit=PLENTY) as gateway:
        print(gateway.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _lag(work: Awaitable[object]) -> float:
    """99th percentile of how late a short sleep ends while `work` goes on, in seconds."""
    late: list[float] = []

    async def measure() -> None:
        while True:
            due = time.perf_counter() + EVERY
            await asyncio.sleep(EVERY)
            late.append(max(0.0, time.perf_counter() - due))

    measuring = asyncio.create_task(measure())
    await work
    measuring.cancel()
    with suppress(asyncio.CancelledError):
        await measuring
    return sorted(late)[len(late) * 99 // 100]


if __name__ == "__main__" and len(sys.argv) > 1:
    asyncio.run(_serve(Path(sys.argv[1])))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="aihd-bench-") as name:
        print(*asyncio.run(instances(Path(name))).row(), sep="  ")
