"""A node's HTTP API over a chain, with the extra index (`/blockchain/*`) on.

Answers and errors have the node's form: `{"error": 400, "reason": "bad.request", "detail": "..."}`.
There is no wallet and no mining interface.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from aihd.devnet.blocks import DIFFICULTY, JsonObject
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.http import MAX_LINE, HttpError, errors_as, found, json_body, parse_transaction, path_int, query_int
from aihd.devnet.ledger import By, ChainBox, Pages
from aihd.devnet.node_json import NodeJson
from aihd.devnet.views import BoxView
from aihd.protocol.rules import MIN_FEE
from aihd.protocol.trees import node_template_hash, tree_of

MAX_HEADERS = 16_384  # of one answer; the same number bounds a page of the index
VERSION = "6.0.3"

_REASONS = {400: "bad.request", 404: "not-found", 500: "internal.error"}


def node_app(chain: Chain) -> web.Application:
    """The application; serve it with `max_line_size=MAX_LINE`."""
    app = web.Application(middlewares=[errors_as(_error, unknown_path=400)], client_max_size=MAX_LINE * 16)
    app.add_routes(NodeApi(chain).routes())
    return app


class NodeApi:
    """Handlers of the routes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._json = NodeJson(chain)
        self._launched = _now()

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [*self._block_routes(), *self._pool_routes(), *self._index_routes()]

    def _block_routes(self) -> list[web.RouteDef]:
        return [
            web.get("/info", self.info),
            web.get("/blocks/lastHeaders/{count}", self.last_headers),
            web.get("/blocks/chainSlice", self.chain_slice),
            web.get("/blocks/at/{height}", self.ids_at),
            web.get("/blocks/{id}", self.block),
            web.get("/blocks/{id}/header", self.header),
            web.get("/blocks/{id}/transactions", self.block_transactions),
        ]

    def _pool_routes(self) -> list[web.RouteDef]:
        pool = "/transactions/unconfirmed"
        return [
            web.get("/utxo/byId/{id}", self.utxo),
            web.get("/utxo/withPool/byId/{id}", self.utxo_with_pool),
            web.post("/utxo/withPool/byIds", self.utxos_with_pool),
            web.post("/transactions", self.submit),
            web.post("/transactions/check", self.check),
            web.get("/transactions/getFee", self.fee),
            web.get(pool, self.pool),
            web.post(f"{pool}/byErgoTree", self.pool_by_tree),
            web.get(f"{pool}/byTransactionId/{{id}}", self.pool_transaction),
            web.get(f"{pool}/inputs/byBoxId/{{id}}", self.pool_spent_box),
            web.get(f"{pool}/outputs/byTokenId/{{id}}", self.pool_outputs_by_token),
            web.head(f"{pool}/{{id}}", self.pool_has),
        ]

    def _index_routes(self) -> list[web.RouteDef]:
        box = "/blockchain/box"
        return [
            web.get("/blockchain/indexedHeight", self.indexed_height),
            web.get(f"{box}/byId/{{id}}", self.indexed_box),
            web.post(f"{box}/unspent/byAddress", self._unspent(By.TREE, self._body_address)),
            web.post(f"{box}/unspent/byErgoTree", self._unspent(By.TREE, _body_text)),
            web.get(f"{box}/unspent/byTemplateHash/{{id}}", self._unspent(By.NODE_TEMPLATE, _path_id)),
            web.get(f"{box}/unspent/byTokenId/{{id}}", self._unspent(By.TOKEN, _path_id)),
            web.get(f"{box}/byTokenId/{{id}}", self.boxes_by_token),
            web.get("/blockchain/transaction/byId/{id}", self.indexed_transaction),
            web.get("/blockchain/token/byId/{id}", self.token),
        ]

    # -- blocks -------------------------------------------------------------------------------------------------

    async def info(self, request: web.Request) -> web.Response:
        """State of the node."""
        tip, chain = self._chain.tip, self._chain
        name = "mainnet" if int(chain.network) == 0 else "testnet"
        state = {
            "name": "ergo-devnet",
            "appVersion": VERSION,
            "network": name,
            **dict.fromkeys(("headersHeight", "fullHeight", "maxPeerHeight"), chain.height),
            **dict.fromkeys(("bestHeaderId", "bestFullHeaderId", "stateVersion"), tip.block_id),
            "previousFullHeaderId": tip.header["parentId"],
            "difficulty": DIFFICULTY,
            **dict.fromkeys(("headersScore", "fullBlocksScore"), chain.height * DIFFICULTY),
            "unconfirmedCount": len(chain.pool),
            "stateRoot": tip.header["stateRoot"],
            "stateType": "utxo",
            "isMining": True,
            "isExplorer": True,
            "peersCount": 1,
            "launchTime": self._launched,
            **dict.fromkeys(("lastSeenMessageTime", "lastMemPoolUpdateTime", "currentTime"), _now()),
            "genesisBlockId": chain.blocks[0].block_id,
            "restApiUrl": f"{request.scheme}://{request.host}",
            "eip27Supported": True,
            "eip37Supported": True,
            "parameters": chain.parameters,
        }
        return web.json_response(state)

    async def last_headers(self, request: web.Request) -> web.Response:
        """The newest headers, newest last."""
        count = min(path_int(request, "count"), MAX_HEADERS)
        return web.json_response([block.header for block in self._chain.blocks[-count:]] if count else [])

    async def chain_slice(self, request: web.Request) -> web.Response:
        """Headers of the heights above `fromHeight` up to `toHeight`, ascending; never none: at least the last of them."""
        lowest = query_int(request, "fromHeight", 1, 0, 2**31)
        highest = min(query_int(request, "toHeight", 2**31, 0, 2**31), self._chain.height)
        first = max(1, min(lowest + 1, highest), highest - MAX_HEADERS + 1)
        return web.json_response([block.header for block in self._chain.blocks[first - 1 : highest]])

    async def ids_at(self, request: web.Request) -> web.Response:
        """Ids of the blocks of a height, that of the main chain first."""
        return web.json_response(self._chain.ids_at(path_int(request, "height")))

    async def block(self, request: web.Request) -> web.Response:
        """A block by id."""
        return web.json_response(self._json.block(found(self._chain.block(request.match_info["id"]))))

    async def header(self, request: web.Request) -> web.Response:
        """A header by id."""
        return web.json_response(found(self._chain.block(request.match_info["id"])).header)

    async def block_transactions(self, request: web.Request) -> web.Response:
        """The transactions of a block."""
        return web.json_response(self._json.block_transactions(found(self._chain.block(request.match_info["id"]))))

    # -- UTXO set and mempool -----------------------------------------------------------------------------------

    async def utxo(self, request: web.Request) -> web.Response:
        """An unspent box of the chain."""
        box = found(self._chain.ledger.utxo(request.match_info["id"]))
        return web.json_response(json.loads(box.json()))

    async def utxo_with_pool(self, request: web.Request) -> web.Response:
        """An unspent box of the chain or one made in the mempool, even where the mempool spends it."""
        box = found(self._chain.unconfirmed_box(request.match_info["id"]))
        return web.json_response(json.loads(box.json()))

    async def utxos_with_pool(self, request: web.Request) -> web.Response:
        """The same for a list of ids; those that are not there are left out."""
        ids = await json_body(request)
        if not isinstance(ids, list):
            raise HttpError(400, "The request content was malformed: a list of box ids is expected")
        boxes = filter(None, map(self._chain.unconfirmed_box, map(str, ids)))
        return web.json_response([json.loads(box.json()) for box in boxes])

    async def submit(self, request: web.Request) -> web.Response:
        """Takes a transaction into the mempool and gives its id."""
        return await self._judged(request, self._chain.submit)

    async def check(self, request: web.Request) -> web.Response:
        """Validates a transaction without taking it; rivals in the mempool do not matter."""
        return await self._judged(request, lambda tx: self._chain.check(tx).tx_id)

    async def fee(self, request: web.Request) -> web.Response:
        """The recommended fee in nanoERG: here always the least."""
        query_int(request, "waitTime", 1, 1, 2**31)
        query_int(request, "txSize", 100, 1, 2**31)
        return web.json_response(MIN_FEE)

    async def pool(self, request: web.Request) -> web.Response:
        """Waiting transactions."""
        offset, limit = query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 50, 1, 2**31)
        entries = list(self._chain.pool)[offset : offset + limit]
        return web.json_response([self._json.pool_transaction(entry.view) for entry in entries])

    async def pool_by_tree(self, request: web.Request) -> web.Response:
        """Waiting transactions that make or spend boxes of a tree."""
        shapes = [self._json.pool_transaction(entry.view) for entry in self._chain.pool]
        tree = await _body_text(request)
        touches = (s for s in shapes if any(box.get("ergoTree") == tree for box in (*s["inputs"], *s["outputs"])))
        return web.json_response(list(touches))

    async def pool_has(self, request: web.Request) -> web.Response:
        """Whether a transaction waits."""
        return web.Response(status=200 if request.match_info["id"] in self._chain.pool else 404)

    async def pool_transaction(self, request: web.Request) -> web.Response:
        """A waiting transaction."""
        entry = found(self._chain.pool.get(request.match_info["id"]))
        return web.json_response(self._json.pool_transaction(entry.view))

    async def pool_spent_box(self, request: web.Request) -> web.Response:
        """The box of this id, if a waiting transaction spends it."""
        box_id = request.match_info["id"]
        found(self._chain.pool.spender(box_id))
        return web.json_response(json.loads(found(self._chain.unconfirmed_box(box_id)).json()))

    async def pool_outputs_by_token(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make and that hold a token."""
        views = (v for v in self._chain.pool.outputs() if any(i == request.match_info["id"] for i, _ in v.tokens))
        return web.json_response([self._json.box(view) for view in views])

    async def _judged(self, request: web.Request, judge: Callable[[Any], str]) -> web.Response:
        tx = parse_transaction(await json_body(request))
        try:
            return web.json_response(judge(tx))
        except RejectedError as error:
            raise HttpError(400, str(error)) from error

    # -- extra index --------------------------------------------------------------------------------------------

    async def indexed_height(self, _request: web.Request) -> web.Response:
        """How far the index is: always at the tip."""
        return web.json_response({"indexedHeight": self._chain.height, "fullHeight": self._chain.height})

    async def indexed_box(self, request: web.Request) -> web.Response:
        """A box of the main chain, spent or not."""
        return web.json_response(self._json.indexed_box(found(self._chain.ledger.boxes.get(request.match_info["id"]))))

    async def indexed_transaction(self, request: web.Request) -> web.Response:
        """A transaction of the main chain."""
        row = found(self._chain.ledger.transactions.get(request.match_info["id"]))
        return web.json_response(self._json.indexed_transaction(row))

    async def token(self, request: web.Request) -> web.Response:
        """A token by id."""
        return web.json_response(self._json.token(found(self._chain.ledger.tokens.get(request.match_info["id"]))))

    async def boxes_by_token(self, request: web.Request) -> web.Response:
        """All boxes that hold or held a token, with their number."""
        token_id, pages = request.match_info["id"], self._chain.ledger.all
        items = [self._json.indexed_box(box) for box in self._page(request, pages, By.TOKEN, token_id)]
        return web.json_response({"items": items, "total": pages.count(By.TOKEN, token_id)})

    def _unspent(self, by: By, key_of: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def unspent(request: web.Request) -> web.Response:
            key = await key_of(request)
            boxes: Iterable[ChainBox] = self._page(request, self._chain.ledger.unspent, by, key)
            if _flag(request, "excludeMempoolSpent"):
                boxes = [box for box in boxes if not self._chain.pool.spender(box.view.box_id)]
            shapes = [self._json.indexed_box(box) for box in boxes]
            made = self._pool_boxes(by, key) if _flag(request, "includeUnconfirmed") else []
            return web.json_response(made + shapes if _descending(request) else shapes + made)

        return unspent

    def _pool_boxes(self, by: By, key: str) -> list[JsonObject]:
        """All of them on every page, as a node does."""
        return [self._json.indexed_pool_box(view) for view in self._chain.pool.outputs() if _has_key(view, by, key)]

    def _page(self, request: web.Request, pages: Pages, by: By, key: str) -> list[ChainBox]:
        offset, limit = query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 5, 1, MAX_HEADERS)
        ids = pages.page(by, key, offset, limit, _descending(request))
        return [self._chain.ledger.boxes[box_id] for box_id in ids]

    async def _body_address(self, request: web.Request) -> str:
        address = await _body_text(request)
        try:
            return tree_of(address, self._chain.network).hex()
        except ValueError as error:
            raise HttpError(400, f"Incorrect address {address[:60]!r}: {error}") from error


def _error(status: int, text: str | None) -> JsonObject:
    return {"error": status, "reason": _REASONS.get(status, "unknown"), "detail": text}


def _now() -> int:
    return int(time.time() * 1000)


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "false").lower() == "true"


def _descending(request: web.Request) -> bool:
    return request.query.get("sortDirection", "desc").lower() != "asc"


def _has_key(view: BoxView, by: By, key: str) -> bool:
    if by is By.TOKEN:
        return any(token_id == key for token_id, _ in view.tokens)
    return key == (view.tree if by is By.TREE else node_template_hash(bytes.fromhex(view.tree)))


async def _path_id(request: web.Request) -> str:
    return request.match_info["id"]


async def _body_text(request: web.Request) -> str:
    """A JSON string, or the bare text."""
    return (await request.text()).strip().strip('"')
