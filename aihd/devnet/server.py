"""A devnet that runs: one chain, served as an Explorer and as a node, with blocks on demand or by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web
from ergo_lib_python.chain import NetworkPrefix

from aihd.chain.appkit import Appkit
from aihd.devnet.account import Account
from aihd.devnet.chain import SELF_MINED, Chain
from aihd.devnet.control_api import ControlApi
from aihd.devnet.explorer_api import explorer_app
from aihd.devnet.faults import REAL, Faults
from aihd.devnet.http import MAX_LINE
from aihd.devnet.mempool import MEMORY_BLOCKS, Weighing
from aihd.devnet.node_api import Operator, node_app
from aihd.devnet.parameters import BlockVersion
from aihd.devnet.snapshot import restore_snapshot

SHUTDOWN_SECONDS = 1.0


class Devnet:
    """An async context manager: inside it, `chain` lives and both servers answer.

    `block_time`: seconds between blocks, each time the same or, with `pacing` "exponential", on average; None means
    blocks come only by `chain.mine` or `POST /devnet/mine`, with timestamps that depend on the height alone. `genesis`:
    nanoERG by tree (hex). `weighing`: how the mempool compares fees. A port of 0 means a free one; the control routes
    are on the node's port. `faults`: those that are on from the start, besides what the real Explorer always has.
    `api_key`: what the node's wallet routes ask for. `extra_index`: False for a plain node, which has no `/blockchain/*`.
    `node_network`, `rest_api_url`: what the node's `/info` says. `block_version`, `self_mined`, `memory`: see `Chain`.
    `headers_ahead`: how far the headers run ahead of the blocks. `jvm`: every transaction that is taken is judged by the reference
    interpreter, too (extra `appkit`). `snapshots`: the folder of snapshots; `restore`: the name of one to start from.
    Should mining fail, `run` raises at once, and else leaving the context does.
    """

    explorer_url: str
    node_url: str

    def __init__(
        self,
        *,
        block_time: float | None = None,
        pacing: Literal["fixed", "exponential"] = "fixed",
        seed: int = 0,
        genesis: Mapping[str, int] | None = None,
        network: NetworkPrefix = NetworkPrefix.Mainnet,
        weighing: Weighing | Literal["random"] = "size",
        host: str = "127.0.0.1",
        explorer_port: int = 0,
        node_port: int = 0,
        frozen_cache: bool = False,
        faults: Iterable[str] = (),
        api_key: str = "hello",
        extra_index: bool = True,
        node_network: str | None = None,
        rest_api_url: str | None = None,
        block_version: BlockVersion = 4,
        self_mined: float = SELF_MINED,
        headers_ahead: int = 0,
        memory: int = MEMORY_BLOCKS,
        jvm: bool = False,
        snapshots: Path = Path(),
        restore: str | None = None,
    ) -> None:
        clock = None if block_time is None else lambda: int(time.time() * 1000)
        self.chain = Chain(
            seed=seed,
            genesis=genesis,
            network=network,
            clock=clock,
            weighing=weighing,
            memory=memory,
            block_version=block_version,
            self_mined=self_mined,
        )
        self.chain.run_ahead(headers_ahead)
        self._operator = Operator(
            api_key=api_key, extra_index=extra_index, network=node_network, rest_api_url=rest_api_url
        )
        if restore is not None:
            restore_snapshot(self.chain, snapshots / restore)
        self.faults = Faults({*REAL, *faults, *(["frozen-cache"] if frozen_cache else [])})
        self._block_time, self._pacing = block_time, pacing
        self._random = random.Random(seed)  # noqa: S311 - to be the same for the same seed
        self._host, self._explorer_port, self._node_port = host, explorer_port, node_port
        self._jvm, self._snapshots = jvm, snapshots
        self._stack = contextlib.AsyncExitStack()
        self._miner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with self._stack as stack:  # what was opened is closed again if a later step fails
            if self._jvm:
                appkit = await asyncio.to_thread(Appkit)
                stack.callback(appkit.close)
                self.chain.judge.appkit = appkit
            explorer = explorer_app(self.chain, self.faults)
            node = node_app(self.chain, self.faults, self._operator)
            node.add_routes(ControlApi(self.chain, self.faults, self._snapshots).routes())
            self.explorer_url = await self._serve(explorer, self._explorer_port)
            self.node_url = await self._serve(node, self._node_port)
            stack.callback(self.faults.release)
            if self._block_time is not None:
                self._miner = asyncio.create_task(self._mine(self._block_time), name="devnet-miner")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        miner = self._miner
        if miner is not None:
            miner.cancel()
            await asyncio.wait({miner})
        await self._stack.aclose()
        if miner is not None and not miner.cancelled():
            miner.result()

    def account(self, name: str) -> Account:
        """A wallet whose key is made from a name; it has nothing until somebody pays it."""
        return Account(self.chain, name)

    def issue(self, name: str, amount: int, decimals: int, *, to: str | None = None, description: str = "") -> str:
        """Issues a token by EIP-4 and gives its id, as `Chain.issue` does; it is there with the next block."""
        return self.chain.issue(name, amount, decimals, to=to, description=description)

    async def run(self) -> None:
        """Waits until cancelled; raises what the block loop raised, should it fail."""
        await (asyncio.shield(self._miner) if self._miner is not None else asyncio.Event().wait())

    async def _serve(self, app: web.Application, port: int) -> str:
        limits: dict[str, Any] = {"max_line_size": MAX_LINE, "max_field_size": MAX_LINE}
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, **limits)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, port)
        await site.start()
        host, bound = runner.addresses[0][:2]
        return f"http://{host}:{bound}"

    async def _mine(self, block_time: float) -> None:
        while True:
            exponential = self._pacing == "exponential"
            await asyncio.sleep(self._random.expovariate(1 / block_time) if exponential else block_time)
            self.chain.mine()
