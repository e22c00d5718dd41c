"""The content store against a bare loop that hashes and writes the same bytes; `python -m benchmarks.content` with 4 GB, fetched again
through the door by a client in a process of its own, and the memory that it took the daemon's side."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aihd.client.download import take, target_for
from aihd.core.task import Task
from aihd.execution.content import ContentStore
from aihd.execution.desk import Desk, Keys
from aihd.execution.exchange import PREFIX, Folders, exchange_app
from aihd.execution.inbox import Inbox
from aihd.execution.inputs import InputStore
from aihd.execution.seal import Agree, output_context, unseal
from aihd.ops.listener import Bounds, Listener, listen, served
from benchmarks.result import Result

PIECE = os.urandom(1 << 16)
PIECES = 4096  # 256 MiB
LARGE = 4 * 10**9
TASK = b"t" * 32


async def content_store(folder: Path) -> Result:
    store = ContentStore(folder / "store")
    ours, floor = [], []
    for _ in range(3):
        took, digest = await _stored(store, PIECES)
        ours.append(took)
        store.delete(digest)
        floor.append(_bare(folder / "bare", PIECES))
    return Result("store an output of 256 MiB", min(ours), min(floor), "sha3_256 and write in a loop, one fsync")


async def large_output(folder: Path) -> list[Result]:
    """4 GB in and, sealed for the client, out; the growth of this process's memory is printed."""
    pieces = LARGE // len(PIECE)
    store = ContentStore(folder / "store")
    await _fetched(store, (await _stored(store, 16))[1], folder, "take")  # what is loaded once
    _bare(folder / "warm", 16)
    before = _peak()
    stored, given, fetched, floors = [], [], [], []
    for _ in range(2):  # in turns, so that a busy moment hits both
        took, digest = await _stored(store, pieces)
        stored.append(took)
        kept = _peak()
        given.append(await _fetched(store, digest, folder, "read"))
        fetched.append(await _fetched(store, digest, folder, "take"))
        print(
            f"memory: {(kept - before) / 1e6:.1f} MB more to store it, {(_peak() - before) / 1e6:.1f} MB with the fetch"
        )
        store.delete(digest)
        floors.append(_bare(folder / "bare", pieces))
    loop = "sha3_256 and write in a loop, one fsync"
    return [
        Result("store an output of 4 GB", min(stored), min(floors), loop),
        Result("give it sealed to a client that reads it", min(given), min(floors), loop),
        Result("and to one that opens, hashes and writes it beside us", min(fetched), min(floors), loop),
    ]


async def _stored(store: ContentStore, pieces: int) -> tuple[float, bytes]:
    start = time.perf_counter()
    async with store.receive(len(PIECE) * pieces) as sink:
        for _ in range(pieces):
            sink.write(PIECE)
        digest, _ = await sink.commit()
    return time.perf_counter() - start, digest


async def _fetched(store: ContentStore, digest: bytes, folder: Path, how: str) -> float:
    """Through the node's door, by a client that only reads ("read") or does with it what clients do ("take")."""
    node, client = (Holder.of(number) for number in (5, 6))
    task = Task(
        id=TASK,
        service_hash=b"s" * 32,
        input_commitment=b"c" * 32,
        worth=10**9,
        payment=10**9,
        client=client.public_key,
        claim_deadline=100,
        exec_window=60,
        locator="",
        output_hash=digest,
    )
    keys = Keys(node.public_key, node.agree, b"g" * 32)
    inputs, listener = InputStore(folder / "inputs", 0), Listener(Bounds())
    desk = Desk(_Book(task), inputs, folder / "inbox", keys, print)
    folders = Folders(content=folder / "store", receipts=folder)
    inbox, sockets = Inbox(folder / "inbox", limit=0, quota=0), await listen("127.0.0.1", 0, "benchmark")
    async with served(exchange_app(desk, inbox, folders, keys.genesis_id, listener), sockets, listener):
        port = sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}{PREFIX}/outputs/{digest.hex()}?task={task.id.hex()}"
        command = (sys.executable, "-m", "benchmarks.content", how, url, digest.hex(), str(folder / "fetched"))
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        told, _ = await process.communicate()
    return float(told)


async def _fetch(how: str, url: str, digest: bytes, target: Path) -> float:
    """The client, in the other process: seconds from the request to the last byte."""
    client, start = Holder.of(6), time.perf_counter()
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response,
    ):
        sealed = response.content.iter_chunked(1 << 18)
        if how == "read":
            assert sum([len(piece) async for piece in sealed]) == response.content_length
        else:
            pieces = unseal(client.agree, client.public_key, output_context(TASK, digest), sealed)
            with target_for(target) as place:
                assert await take(pieces, place) == digest
                place.keep()
    took = time.perf_counter() - start
    target.unlink(missing_ok=True)
    return took


@dataclass(frozen=True, slots=True)
class _Book:
    task: Task

    def find(self, task_id: bytes) -> Task | None:
        return self.task


@dataclass(frozen=True, slots=True)
class Holder:
    """A key that agrees on secrets, as the wallet's does."""

    public_key: bytes
    agree: Agree

    @classmethod
    def of(cls, number: int) -> Holder:
        key, curve = ec.derive_private_key(number, ec.SECP256K1()), ec.SECP256K1()
        public = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return cls(
            public, lambda peer: key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, peer))
        )


def _peak() -> int:
    """Bytes of memory that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _bare(path: Path, pieces: int) -> float:
    start = time.perf_counter()
    digest = hashlib.sha3_256()
    with path.open("wb") as file:
        for _ in range(pieces):
            digest.update(PIECE)
            file.write(PIECE)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    return time.perf_counter() - start


if __name__ == "__main__" and len(sys.argv) > 1:
    print(asyncio.run(_fetch(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]), Path(sys.argv[4]))))
elif __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="aihd-bench-") as name:
        for result in asyncio.run(large_output(Path(name))):
            print(*result.row(), sep="  ")
