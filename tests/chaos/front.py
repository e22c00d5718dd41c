"""The devnet's two servers as a daemon sees them, and what can go wrong on the way.

Beside the devnet's own faults: connections that break, answers that are lost after the act, lists with repeats, lies; and a trap that
stops the world in the middle of a request, so that the daemon can be thrown away just there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from aihd.devnet.chain import Chain
from aihd.devnet.explorer_api import explorer_app
from aihd.devnet.faults import Api, Faults
from aihd.devnet.http import MAX_LINE
from aihd.devnet.node_api import Operator, node_app

LIES: Final = frozenset({"twice", "forged", "spent", "deep", "hides"})
OWN: Final = LIES | {"down", "lost"}
DEEP: Final = 15  # blocks by which a liar makes a box older


@dataclass(slots=True)
class Trap:
    """Springs at one request: `after` it was served, or before. Who asked never gets an answer."""

    countdown: int
    after: bool
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Front:
    """Both APIs of one chain. `wrong` holds what is the matter with each beside the devnet's own `faults`."""

    chain: Chain
    faults: Faults = field(default_factory=Faults)
    node_url: str = ""
    explorer_url: str = ""
    trap: Trap | None = None
    old_transaction: str = ""  # what a liar names as the spender of a box
    wrong: dict[Api, set[str]] = field(default_factory=lambda: {"node": set(), "explorer": set()})

    def switch(self, api: Api, name: str) -> None:
        if name in OWN:
            self.wrong[api].add(name)
        else:
            self.faults.switch(name, True, api)

    def calm(self) -> None:
        """All is well from now on."""
        for name, apis in self.faults.listed().items():
            for api in apis:
                self.faults.switch(name, False, api)
        for names in self.wrong.values():
            names.clear()

    @property
    def is_calm(self) -> bool:
        """Whether the node is well: what an explorer says or does not say may hold up nothing."""
        return not self.wrong["node"] and not any("node" in apis for apis in self.faults.listed().values())

    @property
    def all_well(self) -> bool:
        return not self.faults.listed() and not any(self.wrong.values())

    def middleware(self, api: Api) -> Middleware:
        @web.middleware
        async def between(request: web.Request, handler: Handler) -> web.StreamResponse:
            wrong, trap = self.wrong[api], self._sprung()
            if trap is not None and not trap.after:
                return await _held(trap, request)
            if "down" in wrong:
                return _broken_off(request)
            response = await handler(request)
            if trap is not None:
                return await _held(trap, request)
            if "lost" in wrong and request.method == "POST":
                return _broken_off(request)
            return self._spoilt(response, wrong)

        return between

    def _sprung(self) -> Trap | None:
        trap = self.trap
        if trap is None:
            return None
        trap.countdown -= 1
        if trap.countdown >= 0:
            return None
        trap.sprung.set()
        return trap

    def _spoilt(self, response: web.StreamResponse, wrong: set[str]) -> web.StreamResponse:
        if not wrong & LIES or not isinstance(response, web.Response):
            return response
        if response.status != 200 or response.content_type != "application/json":
            return response
        answer = json.loads(cast(bytes, response.body))
        items = answer.get("items") if isinstance(answer, dict) else None
        boxes = items if isinstance(items, list) else [answer]
        for box in boxes:
            if isinstance(box, dict) and {"boxId", "spentTransactionId"} <= box.keys():
                self._lie(box, wrong)
        if "twice" in wrong and isinstance(items, list):
            answer["items"] = [*items, *items[:1]] if len(items) < 50 else items
        if "hides" in wrong and isinstance(items, list):
            answer["items"], answer["total"] = [], 0
        return web.json_response(answer)

    def _lie(self, box: dict[str, Any], wrong: set[str]) -> None:
        if "forged" in wrong:
            box["value"] += 1
        if "spent" in wrong:
            box["spentTransactionId"] = box["spentTransactionId"] or self.old_transaction
        if "deep" in wrong and box.get("settlementHeight"):
            box["settlementHeight"] -= DEEP


async def _held(trap: Trap, request: web.Request) -> web.StreamResponse:
    await trap.opened.wait()
    return _broken_off(request)


def _broken_off(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@asynccontextmanager
async def front(chain: Chain) -> AsyncIterator[Front]:
    """Serve both APIs on free ports of the loopback."""
    async with AsyncExitStack() as stack:
        made = Front(chain)
        made.explorer_url = await _serve(explorer_app(chain, made.faults), made.middleware("explorer"), stack)
        made.node_url = await _serve(node_app(chain, made.faults, Operator()), made.middleware("node"), stack)
        yield made


async def _serve(app: web.Application, outermost: Middleware, stack: AsyncExitStack) -> str:
    app.middlewares.insert(0, outermost)
    limits: dict[str, Any] = {"max_line_size": MAX_LINE, "max_field_size": MAX_LINE}
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, **limits)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
