"""A devnet that runs: one chain, served as an Explorer and as a node, with blocks on demand or by the clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from aiohttp import web
from ergo_lib_python.chain import NetworkPrefix

from aihd.devnet.chain import Chain
from aihd.devnet.control_api import ControlApi
from aihd.devnet.explorer_api import explorer_app
from aihd.devnet.http import MAX_LINE
from aihd.devnet.node_api import node_app


class Devnet:
    """An async context manager: inside it, `chain` lives and both servers answer.

    `block_time`: seconds between blocks; None means blocks come only by `chain.mine` or `POST /devnet/mine`, with
    timestamps that depend on the height alone. `genesis`: nanoERG by tree (hex). A port of 0 means a free one. The
    control routes are on the node's port. Should mining fail, `run` raises at once, and else leaving the context does.
    """

    explorer_url: str
    node_url: str

    def __init__(
        self,
        *,
        block_time: float | None = None,
        seed: int = 0,
        genesis: Mapping[str, int] | None = None,
        network: NetworkPrefix = NetworkPrefix.Mainnet,
        host: str = "127.0.0.1",
        explorer_port: int = 0,
        node_port: int = 0,
        frozen_cache: bool = False,
    ) -> None:
        clock = None if block_time is None else lambda: int(time.time() * 1000)
        self.chain = Chain(seed=seed, genesis=genesis, network=network, clock=clock)
        self._block_time = block_time
        self._host, self._explorer_port, self._node_port = host, explorer_port, node_port
        self._frozen_cache = frozen_cache
        self._stack = contextlib.AsyncExitStack()
        self._miner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with self._stack as stack:  # what was opened is closed again if a later step fails
            explorer = explorer_app(self.chain, frozen_cache=self._frozen_cache)
            node = node_app(self.chain)
            node.add_routes(ControlApi(self.chain).routes())
            self.explorer_url = await self._serve(explorer, self._explorer_port)
            self.node_url = await self._serve(node, self._node_port)
            if self._block_time is not None:
                self._miner = asyncio.create_task(self._mine(self._block_time), name="devnet-miner")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if self._miner is not None:
            self._miner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._miner

    async def run(self) -> None:
        """Waits until cancelled; raises what the block loop raised, should it fail."""
        await (asyncio.shield(self._miner) if self._miner is not None else asyncio.Event().wait())

    async def _serve(self, app: web.Application, port: int) -> str:
        runner = web.AppRunner(app, access_log=None, max_line_size=MAX_LINE, max_field_size=MAX_LINE)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, port)
        await site.start()
        host, bound = runner.addresses[0][:2]
        return f"http://{host}:{bound}"

    async def _mine(self, block_time: float) -> None:
        while True:
            await asyncio.sleep(block_time)
            self.chain.mine()
