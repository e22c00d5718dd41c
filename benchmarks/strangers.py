"""What strangers' boxes cost a daemon: ten thousand under our scripts, its memory and the time of a poll.

    python -m benchmarks.strangers [boxes]

The boxes are put into blocks of a devnet whose node is asked as a real one is. Ends with 1 when the memory grows by 30 MB or more, or a
poll that finds no new block takes 50 ms or more; the time of the blocks that bring them is shown beside.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from ergo_lib_python.chain import Constant

from aihd.chain.contracts import make_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.follower import Follower
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.core.policy import Decline
from aihd.devnet.blocks import blake2b
from aihd.ops.web import serve
from aihd.protocol.blocks import merkle_root
from aihd.protocol.boxes import Bond, Content, TaskEscrow
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.headers import _solution, _unsolved
from aihd.protocol.trees import GENERATOR
from aihd.protocol.wire import vlq
from aihd.store.journal import Journal

BOXES: Final = 10_000
PER_BLOCK: Final = 500
MOST_MEMORY: Final = 30.0  # MB
LONGEST_POLL: Final = 0.050  # seconds
POLLS: Final = 50
OWNER: Final = Signer("the key of the daemon of this benchmark")
STRANGER: Final = Signer("the key of a stranger of this benchmark")


class Chain:
    """Headers without work, as a devnet has them, over blocks of one transaction each."""

    def __init__(self) -> None:
        self.headers: list[dict[str, Any]] = []
        self.blocks: dict[str, dict[str, Any]] = {}

    def mine(self, outputs: list[dict[str, Any]]) -> None:
        tx, height = transaction(outputs, len(self.headers) + 1), len(self.headers) + 1
        leaves = [bytes.fromhex(str(tx["id"])), blake2b(b"")[1:]]
        header: dict[str, Any] = {
            "version": 3,
            "parentId": self.headers[-1]["id"] if self.headers else "00" * 32,
            "adProofsRoot": "00" * 32,
            "transactionsRoot": merkle_root(leaves).hex(),
            "stateRoot": "00" * 33,
            "timestamp": int(time.time() * 1000),
            "extensionHash": "00" * 32,
            "nBits": 0x01010000,
            "height": height,
            "votes": "000000",
            "powSolutions": {"pk": GENERATOR.hex(), "w": GENERATOR.hex(), "n": "00" * 8, "d": 0},
        }
        header["id"] = blake2b(_unsolved(header) + _solution(dict(header["powSolutions"]), 3)).hex()
        self.headers.append(header)
        self.blocks[str(header["id"])] = {"header": header, "blockTransactions": {"transactions": [tx]}}


def transaction(outputs: list[dict[str, Any]], salt: int) -> dict[str, Any]:
    """A transaction with these outputs, whose ids are set; its input is nobody's."""
    spent = blake2b(salt.to_bytes(8, "big"))
    body = [vlq(1), spent, b"\0\0", vlq(0), vlq(0), vlq(len(outputs))]
    for output in outputs:
        registers = bytes.fromhex("".join(dict(output["additionalRegisters"]).values()))
        body += [vlq(int(str(output["value"]))), bytes.fromhex(str(output["ergoTree"])), vlq(1), b"\0"]
        body += [bytes([len(dict(output["additionalRegisters"]))]), registers]
    tx_id = blake2b(b"".join(body))
    for index, output in enumerate(outputs):
        registers = bytes.fromhex("".join(dict(output["additionalRegisters"]).values()))
        head = vlq(int(str(output["value"]))) + bytes.fromhex(str(output["ergoTree"])) + vlq(1) + b"\0"
        count = bytes([len(dict(output["additionalRegisters"]))])
        output["boxId"] = blake2b(head + count + registers + tx_id + vlq(index)).hex()
        output |= {"transactionId": tx_id.hex(), "index": index}
    item = {"boxId": spent.hex(), "spendingProof": {"proofBytes": "", "extension": {}}}
    return {"id": tx_id.hex(), "inputs": [item], "dataInputs": [], "outputs": outputs}


def boxes(deployment: Deployment, count: int) -> Iterator[dict[str, Any]]:
    """What a stranger can afford: escrows that nobody offers a service for, bonds without a token, coins, and registers of all kinds."""
    escrow = TaskEscrow(
        service_hash=b"\1" * 32,
        input_commitment=b"\2" * 32,
        worth=10**9,
        payment=10**9,
        min_reputation=0,
        claim_deadline=10**6,
        exec_window=100,
        selection_window=0,
        selection_difficulty=1,
        client=STRANGER.public_key,
        locator="https://example.org/" + "a" * 400,
        allowed=(STRANGER.public_key,) * 20,
    )
    trees = deployment.trees
    kinds: list[tuple[bytes, list[str]]] = [
        (trees[Guard.TASK], _hex(escrow)),
        (trees[Guard.TASK], ["0402"]),
        (trees[Guard.BOND], _hex(Bond(STRANGER.public_key, 10**9))),
        (trees[Guard.RATING], []),
        (OWNER.tree, []),
        (OWNER.tree, ["63" + "00" * 40]),
        (trees[Guard.RECEIPT], [bytes(Constant(b"\3" * 600)).hex()] * 3),
    ]
    for number in range(count):
        tree, registers = kinds[number % len(kinds)]
        yield {
            "value": 10**6 + number,
            "ergoTree": tree.hex(),
            "assets": [],
            "creationHeight": 1,
            "additionalRegisters": {f"R{n}": text for n, text in enumerate(registers, 4)},
        }


def _hex(content: Content) -> list[str]:
    return [bytes(constant).hex() for constant in content.constants()]


def node_of(chain: Chain) -> web.Application:
    async def info(_: web.Request) -> web.Response:
        tip = chain.headers[-1]
        return web.json_response(
            {
                "fullHeight": tip["height"],
                "headersHeight": tip["height"],
                "maxPeerHeight": tip["height"],
                "bestFullHeaderId": tip["id"],
                "genesisBlockId": chain.headers[0]["id"],
                "network": "devnet",
                "isExplorer": True,
                "parameters": {},
            }
        )

    async def last(request: web.Request) -> web.Response:
        return web.json_response(chain.headers[-int(request.match_info["count"]) :])

    async def block(request: web.Request) -> web.Response:
        return web.json_response(chain.blocks[request.match_info["id"]])

    async def piece(request: web.Request) -> web.Response:
        low, high = int(request.query["fromHeight"]), int(request.query["toHeight"])
        return web.json_response([h for h in chain.headers if low < int(str(h["height"])) <= high])

    async def height(_: web.Request) -> web.Response:
        return web.json_response({"indexedHeight": len(chain.headers), "fullHeight": len(chain.headers)})

    async def nothing(_: web.Request) -> web.Response:
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/info", info)
    app.router.add_get("/blocks/lastHeaders/{count}", last)
    app.router.add_get("/blocks/chainSlice", piece)
    app.router.add_get("/blocks/{id}", block)
    app.router.add_get("/blockchain/indexedHeight", height)
    app.router.add_post("/blockchain/box/unspent/byErgoTree", nothing)
    return app


def memory() -> float:
    """MB that this process holds now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


async def run(count: int) -> int:
    deployment = make_deployment(network="devnet", bond_token=b"\5" * 32, treasury=STRANGER.tree, expiry=10**6)
    chain = Chain()
    for _ in range(12):
        chain.mine([])
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        journal = stack.enter_context(Journal(folder / "journal.sqlite"))
        async with aiohttp.ClientSession() as session, serve(node_of(chain), "127.0.0.1", 0) as port:
            url = f"http://127.0.0.1:{port}"
            view = Follower(Node(session, (url,)), Explorer(session, ()), deployment, OWNER.tree, journal, lambda: ())
            view.screen = lambda task, height: Decline("service", "not offered here")
            await view.sync()
            pending = list(boxes(deployment, count))
            before, slowest = memory(), 0.0
            for at in range(0, count, PER_BLOCK):
                chain.mine(pending[at : at + PER_BLOCK])
                start = time.perf_counter()
                await view.sync()
                slowest = max(slowest, time.perf_counter() - start)
                # The chain of this process is the stranger's, not ours: it gives its memory back.
                chain.blocks[str(chain.headers[-1]["id"])] = {}
                pending[at : at + PER_BLOCK] = [{}] * PER_BLOCK
                view.turned_down.clear()
            grown = memory() - before
            polls = [await _poll(view) for _ in range(POLLS)]
            return _tell(count, grown, max(polls), slowest, dict(view.set_aside), len(await view.wallet(OWNER.tree)))


async def _poll(view: Follower) -> float:
    start = time.perf_counter()
    await view.sync()
    await view.escrows()
    return time.perf_counter() - start


def _tell(count: int, grown: float, poll: float, slowest: float, aside: dict[str, int], coins: int) -> int:
    print(f"{count} boxes of strangers: {grown:.1f} MB more (at most {MOST_MEMORY:.0f}), {coins} coins among them")
    print(
        f"slowest of {POLLS} polls {poll * 1000:.1f} ms (at most {LONGEST_POLL * 1000:.0f}); {PER_BLOCK} in a block: {slowest * 1000:.0f}"
    )
    for kind, number in sorted(aside.items()):
        print(f"  set aside {number:6} {kind}")
    return int(grown >= MOST_MEMORY or poll >= LONGEST_POLL)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(int(sys.argv[1]) if len(sys.argv) > 1 else BOXES)))
