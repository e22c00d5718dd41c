"""A devnet of 100,000 boxes: its start from a snapshot against parsing the file, a page against making its JSON."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp

from aihd.devnet import Devnet
from aihd.devnet.account import Account
from aihd.devnet.blocks import Block, Making, make_block
from aihd.devnet.chain import GENESIS_TIME, Chain, Saved
from aihd.devnet.snapshot import write_snapshot
from aihd.devnet.views import BoxView, TxView
from benchmarks.result import Result

BOXES: Final = 100_000
PER_BLOCK: Final = 5_000
PAGE: Final = 500


async def devnet_start_and_page(folder: Path) -> tuple[Result, Result]:
    """The seconds of both; the memory of a box is printed."""
    address = _write(folder / "big")
    start = time.perf_counter()
    json.loads((folder / "big").read_bytes())
    parse = time.perf_counter() - start
    before, start, used = _resident(), time.perf_counter(), time.process_time()
    async with Devnet(snapshots=folder, restore="big") as devnet:
        started, used = time.perf_counter() - start, time.process_time() - used
        held = len(devnet.chain.ledger.boxes)
        memory = (_resident() - before) / held
        print(
            f"a devnet of {held} boxes: {memory:.0f} bytes of memory per box, {used:.2f} s of processor time to start"
        )
        url = f"{devnet.explorer_url}/api/v1/boxes/unspent/byAddress/{address}?limit={PAGE}&offset="
        async with aiohttp.ClientSession() as session:
            pages = [await _page(session, f"{url}{offset}") for offset in (0, BOXES // 2, BOXES - PAGE)]
    seconds = min(took for took, _ in pages)
    start = time.perf_counter()
    json.dumps(pages[0][1])
    dumped = time.perf_counter() - start
    return (
        Result(f"start a devnet of {BOXES} boxes", started, parse, "json.loads of the snapshot"),
        Result(f"an unspent page of {PAGE} of them", seconds, dumped, "json.dumps of the page"),
    )


async def _page(session: aiohttp.ClientSession, url: str) -> tuple[float, object]:
    start = time.perf_counter()
    async with session.get(url) as response:
        body = await response.read()
    took = time.perf_counter() - start
    return took, json.loads(body)


def _write(path: Path) -> str:
    """A snapshot of blocks full of equal payments; not signed, for a snapshot is not validated."""
    chain = Chain()
    account = Account(chain, "many")
    saved = chain.save()
    blocks = list(saved.blocks)
    blocks.extend(_blocks(blocks[-1], account.tree.hex(), chain.genesis[0]))
    parts = (saved.genesis, tuple(blocks), (), ())
    write_snapshot(Saved(saved.seed, saved.network, saved.parameters, 0, *parts), path)
    return account.address


def _blocks(parent: Block, tree: str, source: BoxView) -> Iterator[Block]:
    for number in range(BOXES // PER_BLOCK):
        tx_id = f"{number:064x}"
        raw = bytes.fromhex(source.raw.hex())
        outputs = tuple(
            BoxView(raw, f"{number * PER_BLOCK + i + 1:064x}", tx_id, i, tree, 10**6, parent.height, (), ())
            for i in range(PER_BLOCK)
        )
        spent = (source.box_id,) if number == 0 else (f"{number * PER_BLOCK:064x}",)
        view = TxView(raw * PER_BLOCK, tx_id, spent, (), outputs, 0)
        parent = make_block(parent, [view], Making(timestamp=GENESIS_TIME + parent.height, salt=b""))
        yield parent


def _resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        for result in asyncio.run(devnet_start_and_page(Path(name))):
            print(*result.row())
