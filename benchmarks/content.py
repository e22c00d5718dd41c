"""The content store against a bare loop that hashes and writes the same bytes; `python -m benchmarks.content` with 4 GB, fetched again
through the door, and the memory that it took."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aihd.core.task import Task
from aihd.execution.content import ContentStore
from aihd.execution.exchange import PREFIX, Keys, exchange_app
from aihd.execution.inputs import InputStore
from aihd.execution.seal import Agree, output_context, unseal
from aihd.ops.web import serve
from benchmarks.result import Result

PIECE = os.urandom(1 << 16)
PIECES = 4096  # 256 MiB
LARGE = 4 * 10**9


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
    """4 GB in and, sealed for the client, out; the growth of this process's memory, the client's part included, is printed."""
    pieces = LARGE // len(PIECE)
    store = ContentStore(folder / "store")
    await _fetched(store, (await _stored(store, 16))[1], folder)  # what is loaded once
    _bare(folder / "warm", 16)
    before = _peak()
    took, digest = await _stored(store, pieces)
    kept = _peak()
    fetched = await _fetched(store, digest, folder)
    print(f"memory: {(kept - before) / 1e6:.1f} MB more to store it, {(_peak() - before) / 1e6:.1f} MB with the fetch")
    floors = sorted(_bare(folder / "bare", pieces) for _ in range(2))
    again, _ = await _stored(store, pieces)
    loop = "sha3_256 and write in a loop, one fsync"
    return [
        Result("store an output of 4 GB", min(took, again), floors[0], loop),
        Result("fetch it sealed, open and hash it", fetched, floors[0], loop),
    ]


async def _stored(store: ContentStore, pieces: int) -> tuple[float, bytes]:
    start = time.perf_counter()
    async with store.receive(len(PIECE) * pieces) as sink:
        for _ in range(pieces):
            sink.write(PIECE)
        digest, _ = await sink.commit()
    return time.perf_counter() - start, digest


async def _fetched(store: ContentStore, digest: bytes, folder: Path) -> float:
    """Through the node's door, as its client does it."""
    node, client = (Holder.of(number) for number in (5, 6))
    task = Task(b"t" * 32, b"s" * 32, b"c" * 32, 10**9, client.public_key, 100, 60, "", output_hash=digest)
    keys = Keys(node.public_key, node.agree, b"g" * 32)
    app = exchange_app(_Book(task), InputStore(folder / "inputs", 0), store, folder, print, keys)
    start, hashed = time.perf_counter(), hashlib.sha3_256()
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}{PREFIX}/outputs/{digest.hex()}?task={task.id.hex()}"
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            pieces = response.content.iter_chunked(1 << 18)
            context = output_context(task.id, digest)
            async for plain in unseal(client.agree, client.public_key, context, pieces):
                hashed.update(plain)
    assert hashed.digest() == digest
    return time.perf_counter() - start


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


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="aihd-bench-") as name:
        for result in asyncio.run(large_output(Path(name))):
            print(*result.row(), sep="  ")
