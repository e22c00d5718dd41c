"""Sources at fault by name: a proxy before the devnet's node or explorer that is silent, stale, behind, lying, malformed, endless or huge.

    async with Devnet() as devnet, bent(devnet, "node", "forges-boxes") as source:
        ...  # `source.url` is asked in place of `devnet.node_url`
        source.switch()  # honest from now on

`KINDS` names the faults by kind, for tables of tests. The devnet's own routes (`/devnet/…`) are never bent.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
from aiohttp import ClientConnectionResetError, web
from ergo_lib_python.chain import NetworkPrefix
from yarl import URL

from aihd.devnet import Chain, Devnet
from aihd.devnet.explorer_api import explorer_app
from aihd.devnet.faults import Faults
from aihd.devnet.http import MAX_LINE
from aihd.devnet.node_api import Operator, node_app
from aihd.ops.web import serve

Api = Literal["explorer", "node"]
Json = Any
Only = Callable[[web.Request], bool]
# Gets the request, its body and the answer's JSON (None where it is none). Gives other JSON, a whole response, or None to leave it.
Change = Callable[[web.Request, bytes, Json], Json]

BEHIND: Final = 3  # blocks
HUGE: Final = 64 << 20  # bytes of a body, after decompression where it is compressed
DEEP: Final = 200_000  # brackets
LARGE: Final = 50_000  # boxes of a page that holds more than was asked for
CHUNK: Final = 1 << 16
SUBMITS: Final = frozenset(
    {"/transactions", "/transactions/bytes", "/api/v1/mempool/transactions/submit", "/api/v0/transactions/send"}
)

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "silent": ("silent", "closes", "trickles", "server-error", "html", "too-many", "forbidden"),
    "stale": ("stale", "frozen-answers"),
    "behind": ("behind",),
    "lying": (
        "forges-boxes",  # a value that the id does not fit
        "hides-boxes",  # lists are empty, boxes and transactions unknown
        "drops-registers",  # boxes come without the last of their registers
        "shows-spent",  # what a list of boxes has shown once it shows for ever
        "invents-height",  # says to be 1000 blocks further than it is
        "invents-tip",  # its newest header is one that nobody else knows
        "inflates-score",  # says that its chain holds more work
        "swallows",  # a submit is answered with its id, and lost
        "refuses",  # a submit is answered with "Missing inputs"
    ),
    "malformed": (
        "no-json",
        "truncated",
        "empty",
        "null",
        "wrong-types",  # numbers come as objects, texts as numbers, objects as lists
        "missing-keys",  # every object has lost its first half of keys
        "not-a-number",
        "not-utf8",
        "deep",
    ),
    "endless": ("endless-body", "endless-pages", "redirects"),
    "huge": ("huge", "bomb", "huge-numbers", "huge-page"),
}
ALL: Final = tuple(name for names in KINDS.values() for name in names)


@dataclass(slots=True)
class Bent:
    """The proxy: where it listens, which faults are on, what it was asked (method and path with query).

    `only` limits faults to the requests for which it is true; `change` has the last word on each answer that was forwarded.
    """

    url: str = ""
    faults: tuple[str, ...] = ()
    only: Only = lambda _: True
    change: Change = lambda *_: None
    seen: list[tuple[str, str]] = field(default_factory=list)
    _frozen: dict[str, web.Response] = field(default_factory=dict)
    _shown: dict[str, dict[str, Json]] = field(default_factory=dict)

    def switch(self, *faults: str) -> None:
        """Turns these on and all others off; ValueError for a name that is none."""
        for name in faults:
            if name not in ALL:
                raise ValueError(f"fault {name!r} is none of {', '.join(ALL)}")
        self.faults = faults
        self._frozen.clear()
        self._shown.clear()

    def has(self, fault: str, request: web.Request) -> bool:
        """Says if a fault is on for a request."""
        return fault in self.faults and self.only(request)

    def freeze(self, request: web.Request, answer: web.Response) -> web.Response:
        """The first answer that the request's path had since the switch."""
        kept = self._frozen.setdefault(request.path_qs, answer)
        return web.Response(body=kept.body, status=kept.status, content_type=kept.content_type)

    def remember(self, request: web.Request, boxes: list[Json]) -> list[Json]:
        """The boxes of a list and all that it held before."""
        shown = self._shown.setdefault(request.path, {})
        shown.update((box["boxId"], box) for box in boxes if isinstance(box, dict) and "boxId" in box)
        return list(shown.values()) or boxes


@asynccontextmanager
async def bent(
    devnet: Devnet, api: Api, *faults: str, only: Only = lambda _: True, change: Change = lambda *_: None
) -> AsyncIterator[Bent]:
    """A source before the devnet's node or explorer, with these faults on."""
    async with AsyncExitStack() as stack:
        proxy = Bent(only=only, change=change)
        proxy.switch(*faults)
        past = await stack.enter_async_context(_past(devnet, api))
        session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=True))
        target = devnet.node_url if api == "node" else devnet.explorer_url
        released = asyncio.Event()
        app = web.Application(client_max_size=0, handler_args={"max_line_size": MAX_LINE, "max_field_size": MAX_LINE})

        async def answer(request: web.Request) -> web.StreamResponse:
            proxy.seen.append((request.method, request.path_qs))
            if request.path.startswith("/devnet/"):
                return await _forward(session, target, request)
            spoilt = await _instead(proxy, request, released)
            if spoilt is not None:
                return spoilt
            url = past.url(proxy, request) or target
            return await _bend(proxy, request, await _forward(session, url, request))

        app.router.add_route("*", "/{path:.*}", answer)
        port = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        stack.callback(released.set)
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy


# ---------------------------------------------------------------- a chain that stands still


@dataclass(slots=True)
class _Past:
    """Another node over the same blocks, with a mempool of its own; it goes on only as far as it is let."""

    devnet: Devnet
    chain: Chain
    served: str
    frozen: bool = False

    def url(self, proxy: Bent, request: web.Request) -> str | None:
        stale, behind = proxy.has("stale", request), proxy.has("behind", request)
        if behind or (stale and not self.frozen):
            blocks = self.devnet.chain.blocks
            self.chain.follow(blocks[:-BEHIND] if behind else blocks)
        self.frozen = stale
        return self.served if stale or behind else None


@asynccontextmanager
async def _past(devnet: Devnet, api: Api) -> AsyncIterator[_Past]:
    testnet = int(devnet.chain.network) != int(NetworkPrefix.Mainnet)
    chain = Chain(network=NetworkPrefix.Testnet if testnet else NetworkPrefix.Mainnet)
    chain.restore(devnet.chain.save())
    app = node_app(chain, Faults(), Operator()) if api == "node" else explorer_app(chain, Faults())
    async with serve(app, "127.0.0.1", 0) as port:
        yield _Past(devnet, chain, f"http://127.0.0.1:{port}")


# ---------------------------------------------------------------- answers that are made here


async def _instead(proxy: Bent, request: web.Request, released: asyncio.Event) -> web.StreamResponse | None:
    """Answers without asking anybody; None where no fault asks for it."""
    submit = request.method == "POST" and request.path in SUBMITS
    for fault in proxy.faults:
        if not proxy.has(fault, request):
            continue
        if fault in _PLAIN:
            return _PLAIN[fault]()
        if submit and fault in ("swallows", "refuses"):
            return await _submitted(request, taken=fault == "swallows")
        if fault in _STREAMS:
            try:
                return await _STREAMS[fault](request, released)
            except ClientConnectionResetError:  # it had enough
                return web.Response()
    return None


_PLAIN: Final[Mapping[str, Callable[[], web.Response]]] = {
    "server-error": lambda: web.json_response(
        {"error": 500, "reason": "internal.error", "detail": "broken"}, status=500
    ),
    "html": lambda: web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html"),
    "too-many": lambda: web.Response(status=429, text="Too Many Requests", headers={"Retry-After": "1"}),
    "forbidden": lambda: web.Response(status=403, text="<html>blocked</html>", content_type="text/html"),
    "no-json": lambda: _json_bytes(b"all is well"),
    "empty": lambda: _json_bytes(b""),
    "null": lambda: _json_bytes(b"null"),
    "not-utf8": lambda: _json_bytes(b'{"height": "\xff\xfe\x80"}'),
    "deep": lambda: _json_bytes(b"[" * DEEP),
    "huge-numbers": lambda: _json_bytes(b'{"height": ' + b"9" * 100_000 + b"}"),
}


def _json_bytes(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _submitted(request: web.Request, *, taken: bool) -> web.Response:
    body = await request.read()
    if taken:
        tx_id = str(json.loads(body).get("id", "00" * 32))
        return web.json_response(tx_id if request.path.startswith("/transactions") else {"id": tx_id})
    detail = "Malformed transaction: Every input of the transaction should be in UTXO. 00: 0 == 1. Missing inputs: 0"
    return web.json_response({"error": 400, "reason": "bad.request", "detail": detail}, status=400)


async def _silent(_request: web.Request, released: asyncio.Event) -> web.StreamResponse:
    await released.wait()
    return web.Response(status=504)


async def _close(request: web.Request, _released: asyncio.Event) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _redirect(request: web.Request, _released: asyncio.Event) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": request.path_qs})


async def _trickle(request: web.Request, released: asyncio.Event) -> web.StreamResponse:
    response = await _started(request)
    while not released.is_set():
        await response.write(b" ")
        await asyncio.sleep(0.2)
    return response


async def _endless(request: web.Request, released: asyncio.Event) -> web.StreamResponse:
    response = await _started(request)
    await response.write(b"[")
    while not released.is_set():
        await response.write(b"0," * (CHUNK // 2))
        await asyncio.sleep(0)
    return response


async def _huge(request: web.Request, _released: asyncio.Event) -> web.StreamResponse:
    response = await _started(request)
    for part in _zeros():
        await response.write(part)
    return response


async def _bomb(request: web.Request, _released: asyncio.Event) -> web.StreamResponse:
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join([*(packer.compress(part) for part in _zeros()), packer.flush()])
    headers = {"Content-Encoding": "gzip"}
    return web.Response(body=packed, content_type="application/json", headers=headers)


def _zeros() -> Iterator[bytes]:
    """A JSON list of zeros, in parts."""
    yield b"["
    for _ in range(HUGE // CHUNK):
        yield b"0," * (CHUNK // 2)
    yield b"0]"


async def _started(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    return response


_STREAMS: Final = {
    "silent": _silent,
    "closes": _close,
    "redirects": _redirect,
    "trickles": _trickle,
    "endless-body": _endless,
    "huge": _huge,
    "bomb": _bomb,
}


# ---------------------------------------------------------------- answers that are changed on their way


async def _forward(session: aiohttp.ClientSession, target: str, request: web.Request) -> web.Response:
    headers = {name: value for name, value in request.headers.items() if name.lower() in ("content-type", "api_key")}
    url = URL(target + request.raw_path, encoded=True)
    async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
        return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


async def _bend(proxy: Bent, request: web.Request, answer: web.Response) -> web.Response:
    body = answer.body if isinstance(answer.body, bytes) else b""
    if proxy.has("truncated", request):
        return web.Response(body=body[: len(body) // 2], status=answer.status, content_type=answer.content_type)
    if proxy.has("frozen-answers", request) and request.method == "GET":
        answer = proxy.freeze(request, answer)
        body = answer.body if isinstance(answer.body, bytes) else b""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    for fault in proxy.faults:
        if fault in _CHANGES and proxy.has(fault, request):
            changed = _CHANGES[fault](proxy, request, told)
            if isinstance(changed, web.Response):
                return changed
            if changed is not None:
                told, answer = changed, web.json_response(changed, status=answer.status)
    last = proxy.change(request, await request.read(), told)
    if isinstance(last, web.Response):
        return last
    return answer if last is None else web.json_response(last)


def _each(told: Json, act: Callable[[dict[str, Json]], dict[str, Json]]) -> Json:
    """The JSON with every object in it changed, the inner ones first."""
    if isinstance(told, list):
        return [_each(item, act) for item in told]
    return act({key: _each(item, act) for key, item in told.items()}) if isinstance(told, dict) else told


def _boxes_of(told: Json) -> list[Json] | None:
    """The list that an answer is or holds."""
    listed = told.get("items") if isinstance(told, dict) else told
    return listed if isinstance(listed, list) else None


def _with_boxes(told: Json, boxes: list[Json]) -> Json:
    return {**told, "items": boxes, "total": len(boxes)} if isinstance(told, dict) else boxes


def _forged(_proxy: Bent, _request: web.Request, told: Json) -> Json:
    return _each(told, lambda item: {**item, "value": int(item["value"]) + 1} if _is_box(item) else item)


def _dropped(_proxy: Bent, _request: web.Request, told: Json) -> Json:
    def lose(item: dict[str, Json]) -> dict[str, Json]:
        registers = item.get("additionalRegisters")
        return {**item, "additionalRegisters": dict(list(registers.items())[:-1])} if registers else item

    return _each(told, lose)


def _is_box(item: Mapping[str, Json]) -> bool:
    return "boxId" in item and "value" in item


def _hidden(_proxy: Bent, request: web.Request, told: Json) -> Json:
    boxes = _boxes_of(told)
    if boxes is not None and any(isinstance(each, dict) and _is_box(each) for each in boxes):
        return _with_boxes(told, [])
    one = isinstance(told, dict) and (_is_box(told) or "outputs" in told)
    return web.json_response({"error": 404, "reason": "not-found", "detail": None}, status=404) if one else None


def _undying(proxy: Bent, request: web.Request, told: Json) -> Json:
    boxes = _boxes_of(told)
    if boxes is None or "unspent" not in request.path:
        return None
    return _with_boxes(told, proxy.remember(request, boxes))


_HEIGHTS: Final = ("height", "fullHeight", "headersHeight", "maxPeerHeight", "indexedHeight")
_TIPS: Final = ("/info", "/networkState", "/blocks/lastHeaders", "/blocks/chainSlice", "/blocks/at", "/indexedHeight")


def _asks_for_tip(request: web.Request) -> bool:
    return any(part in request.path for part in _TIPS)


def _higher(_proxy: Bent, request: web.Request, told: Json) -> Json:
    if not _asks_for_tip(request) or "/blocks/" in request.path:
        return None
    return _each(
        told, lambda item: {k: v + 1000 if k in _HEIGHTS and isinstance(v, int) else v for k, v in item.items()}
    )


def _another_tip(_proxy: Bent, request: web.Request, told: Json) -> Json:
    ids = ("bestHeaderId", "bestFullHeaderId", "stateVersion", "lastBlockId")
    if not _asks_for_tip(request):
        return None
    if isinstance(told, list) and told and isinstance(told[-1], dict):
        return [*told[:-1], {**told[-1], "id": "ab" * 32}]
    return _each(told, lambda item: {**item, **{key: "ab" * 32 for key in ids if key in item}})


def _more_work(_proxy: Bent, request: web.Request, told: Json) -> Json:
    if not request.path.endswith("/info") or not isinstance(told, dict) or "fullBlocksScore" not in told:
        return None
    return {**told, "fullBlocksScore": 10**30, "headersScore": 10**30}


def _other_types(_proxy: Bent, _request: web.Request, told: Json) -> Json:
    match told:
        case dict():
            return [[key, _other_types(_proxy, _request, item)] for key, item in told.items()]
        case list():
            return {str(index): _other_types(_proxy, _request, item) for index, item in enumerate(told)}
        case str():
            return len(told)
        case _:
            return {"was": told}


def _fewer_keys(_proxy: Bent, _request: web.Request, told: Json) -> Json:
    return _each(told, lambda item: {key: item[key] for key in list(item)[len(item) // 2 :]})


def _not_numbers(_proxy: Bent, _request: web.Request, told: Json) -> Json:
    number = (int, float)
    odd = _each(told, lambda item: {k: float("nan") if isinstance(v, number) else v for k, v in item.items()})
    return float("inf") if isinstance(odd, number) else odd


def _turned_pages(_proxy: Bent, request: web.Request, told: Json) -> Json:
    """Every page is full, also those past the end: what there is comes again and again."""
    boxes, limit = _boxes_of(told), request.query.get("limit", "")
    if boxes is None or not limit.isdecimal():
        return None
    filler = [{**_ODD_BOX, "boxId": f"{offset:064x}"} for offset in range(int(limit) - len(boxes))]
    full = [*boxes, *filler]
    return {**told, "items": full, "total": 10**9} if isinstance(told, dict) else full


def _large_page(_proxy: Bent, request: web.Request, told: Json) -> Json:
    boxes = _boxes_of(told)
    if boxes is None or "limit" not in request.query:
        return None
    return _with_boxes(told, [*boxes, *({**_ODD_BOX, "boxId": f"{number:064x}"} for number in range(LARGE))])


_ODD_BOX: Final = {
    "boxId": "00" * 32,
    "value": 1_000_000,
    "ergoTree": "0008cd0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "assets": [],
    "creationHeight": 1,
    "additionalRegisters": {},
    "transactionId": "00" * 32,
    "index": 0,
    "inclusionHeight": 1,
    "settlementHeight": 1,
    "spentTransactionId": None,
    "mainChain": True,
}
_CHANGES: Final[Mapping[str, Callable[[Bent, web.Request, Json], Json]]] = {
    "forges-boxes": _forged,
    "drops-registers": _dropped,
    "hides-boxes": _hidden,
    "shows-spent": _undying,
    "invents-height": _higher,
    "invents-tip": _another_tip,
    "inflates-score": _more_work,
    "wrong-types": _other_types,
    "missing-keys": _fewer_keys,
    "not-a-number": _not_numbers,
    "endless-pages": _turned_pages,
    "huge-page": _large_page,
}
