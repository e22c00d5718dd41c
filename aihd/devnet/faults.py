"""Faults by name, each on or off for each API at any time.

Most of them are known of the real Explorer (frozen cache, submits that are dropped, odd orders, orphans) or of the proxy
before a public node; a client that works with all of them on, one after the other, is ready for the real thing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from aihd.devnet.chain import Chain
from aihd.devnet.history import History
from aihd.devnet.http import json_body, parse_transaction
from aihd.errors import UsageError

Api = Literal["explorer", "node"]
APIS: Final[tuple[Api, ...]] = ("explorer", "node")
LAG: Final = 2  # blocks
MOST_REPEATED: Final = 20_000  # rows of a page that is filled up

FAULTS: Final[Mapping[str, str]] = {
    "frozen-cache": "every good answer is repeated until the next block, submits included",
    "dropped-submits": "a submit is answered with 200 and its id, and the transaction is lost",
    "declared-order": "boxes of a template come in the order of creation heights, which their makers chose",
    "orphans": "lists of all boxes of a template hold those of orphaned blocks",
    "unordered": "lists of all boxes have another order with every request",
    "lag": f"Explorer and extra index are {LAG} blocks behind the chain",
    "stuck": "Explorer and extra index stay where the chain was when the fault was switched on",
    "too-many-requests": "429 with Retry-After, in the words of a proxy",
    "html-errors": "502 with a page of HTML",
    "half-pages": "lists are cut to their first half",
    "endless-pages": "pages past the end of a list are full, too: with what was shown before, of other keys, too",
    "time-outs": "no answer until the fault is switched off, and 504 then",
}
OF_LISTS: Final = frozenset({"declared-order", "orphans", "unordered"})  # the node's index is in order
REAL: Final = frozenset({"declared-order", "orphans"})  # the real Explorer has these always

_SUBMITS = frozenset({"/api/v1/mempool/transactions/submit", "/api/v0/transactions/send", "/transactions"})
_BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Faults:
    """The switches. `on`: the faults that are on from the start, for every API that has them."""

    def __init__(self, on: Iterable[str] = REAL) -> None:
        self._on: dict[str, set[Api]] = {name: set() for name in FAULTS}
        self._changed = asyncio.Event()
        self._pages: dict[str, list[Any]] = {}  # by path: what "endless-pages" has shown last
        self._watchers: list[Callable[[], object]] = []
        for name in on:
            self.switch(name, True)

    def watch(self, look: Callable[[], object]) -> None:
        """Has somebody look at the chain whenever a fault was switched."""
        self._watchers.append(look)

    def switch(self, name: str, on: bool, api: str | None = None) -> None:
        """Turns a fault on or off for one API, or for both; UsageError for a name that is none, or an API without it."""
        if name not in self._on:
            raise UsageError(f"fault {name!r} is none of {', '.join(FAULTS)}")
        if api is not None and api not in APIS:
            raise UsageError(f"api {api!r} is none of {', '.join(APIS)}")
        chosen: set[Api] = {known for known in APIS if api in (None, known)}
        if name in OF_LISTS:
            chosen -= {"node"}
        if not chosen:
            raise UsageError(f"fault {name!r} is one of the Explorer's lists, the node has none of it")
        self._on[name] = self._on[name] | chosen if on else self._on[name] - chosen
        self._changed.set()
        self._changed = asyncio.Event()
        for look in self._watchers:
            look()

    def active(self, name: str, api: Api) -> bool:
        """Whether a fault is on for an API."""
        return api in self._on[name]

    def listed(self) -> dict[str, list[str]]:
        """The faults that are on, each with its APIs."""
        return {name: sorted(apis) for name, apis in self._on.items() if apis}

    def release(self) -> None:
        """Lets go of the requests that a time-out holds."""
        self.switch("time-outs", False)

    def middleware(self, api: Api, chain: Chain) -> Middleware:
        """What stands between an API and its clients; the devnet's own routes pass."""
        cache = _Cache(chain)

        @web.middleware
        async def spoil(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/devnet/"):
                return await handler(request)
            if self.active("time-outs", api):
                return await self._time_out(api)
            if self.active("too-many-requests", api):
                return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": "1"})
            if self.active("html-errors", api):
                return web.Response(status=502, text=_BAD_GATEWAY, content_type="text/html")
            if self.active("frozen-cache", api):
                return await cache.answer(request, lambda asked: self._answer(api, asked, handler))
            return await self._answer(api, request, handler)

        return spoil

    async def _answer(self, api: Api, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.path in _SUBMITS and self.active("dropped-submits", api):
            tx_id = str(parse_transaction(await json_body(request)).id)
            return web.json_response(tx_id if api == "node" else {"id": tx_id})
        response = await handler(request)
        if self.active("endless-pages", api):
            response = self._refilled(request, response)
        return _halved(response) if self.active("half-pages", api) else response

    def _refilled(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        whole, limit = _listed(response), request.query.get("limit", "")
        rows = whole["items"] if isinstance(whole, dict) else whole
        if rows is None or not limit.isdecimal():
            return response
        kept = self._pages[request.path] = rows or self._pages.get(request.path, [])
        full = list(itertools.islice(itertools.cycle(kept), min(int(limit[:6]), MOST_REPEATED)))
        return web.json_response({**whole, "items": full} if isinstance(whole, dict) else full)

    async def _time_out(self, api: Api) -> web.StreamResponse:
        while self.active("time-outs", api):
            await self._changed.wait()
        return web.Response(status=504, text="Gateway Timeout")


class Indexer:
    """What an index has seen of the chain."""

    def __init__(self, chain: Chain, faults: Faults, api: Api) -> None:
        self._chain, self._faults, self._api = chain, faults, api
        self._behind: History | None = None
        faults.watch(lambda: self.history)

    @property
    def history(self) -> History:
        """The main chain; with the fault "lag" as it was some blocks ago, with "stuck" as it was when that was first seen."""
        stuck = self._faults.active("stuck", self._api)
        if not stuck and not self._faults.active("lag", self._api):
            self._behind = None
            return self._chain.main
        if self._behind is None or self._behind.blocks[0] is not self._chain.blocks[0]:
            self._behind = History(self._chain.genesis)
            self._behind.follow(self._chain.blocks)
        if not stuck:
            self._behind.follow(self._chain.blocks[:-LAG])
        return self._behind


class _Cache:
    """Answers repeated for the same method, URI and body until a block comes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._cached_at = ""
        self._answers: dict[tuple[str, str, bytes], tuple[int, bytes]] = {}

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer, fresh or not."""
        if self._cached_at != self._chain.tip.block_id:
            self._answers.clear()
            self._cached_at = self._chain.tip.block_id
        key = (request.method, request.path_qs, await request.read())
        if key not in self._answers:
            response = await handler(request)
            body = response.body if isinstance(response, web.Response) else None
            if response.status >= 300 or not isinstance(body, bytes):
                return response
            self._answers.setdefault(key, (response.status, body))
        status, cached = self._answers[key]
        return web.Response(status=status, body=cached, content_type="application/json")


def _halved(response: web.StreamResponse) -> web.StreamResponse:
    whole = _listed(response)
    if isinstance(whole, list):
        return web.json_response(whole[: len(whole) // 2])
    if whole is not None:
        return web.json_response({**whole, "items": whole["items"][: len(whole["items"]) // 2]})
    return response


def _listed(response: web.StreamResponse) -> Any:
    """The list that an answer is, or the object around it; None where there is none."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes) or response.status != 200:
        return None
    if response.content_type != "application/json":
        return None
    whole = json.loads(response.body)
    listed = isinstance(whole, list) or (isinstance(whole, dict) and isinstance(whole.get("items"), list))
    return whole if listed else None
