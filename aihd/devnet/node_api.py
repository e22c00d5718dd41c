"""A node's HTTP API over a chain: state, blocks, peers; with pool, extra index, utilities and signing from their modules.

Answers and errors have the node's form: `{"error": 400, "reason": "bad.request", "detail": "..."}`. There is no wallet
of the node's own, no mining interface and no compiler; what is asked of them is refused in one sentence.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from aihd.devnet.blocks import DIFFICULTY, Block, JsonObject, merkle_proof
from aihd.devnet.chain import Chain
from aihd.devnet.faults import Faults, Indexer
from aihd.devnet.http import MAX_LINE, HttpError, errors_as, found
from aihd.devnet.node_http import (
    MAX_ITEMS,
    few,
    height,
    id_of,
    ids_entity,
    modifier_id,
    number,
    page,
    unmatched,
)
from aihd.devnet.node_index import NodeIndex
from aihd.devnet.node_json import NodeJson
from aihd.devnet.node_pool import NodePool
from aihd.devnet.node_utils import NodeUtils
from aihd.devnet.node_wallet import NodeWallet

VERSION = "6.0.4"
CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Requested-With, api_key",
}

_REASONS = {400: "bad.request", 403: "forbidden", 404: "not-found", 500: "internal.error"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What a node's operator sets. `api_key`: what wallet routes ask for. `network`: the name in `/info`, by default "devnet",
    or "testnet" where addresses are those of the test net. `rest_api_url`: told in `/info` where there is one.
    """

    api_key: str = "hello"
    extra_index: bool = True
    network: str | None = None
    rest_api_url: str | None = None


def node_app(chain: Chain, faults: Faults, operator: Operator) -> web.Application:
    """The application; serve it with `max_line_size=MAX_LINE`."""
    middlewares = [_with_headers, errors_as(_error, unmatched), faults.middleware("node", chain)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_LINE * 16)
    indexer = Indexer(chain, faults, "node")
    shapes = NodeJson(chain, lambda: indexer.history)
    for part in (NodeApi(chain, shapes, operator), NodePool(chain, shapes), NodeUtils(chain, shapes)):
        app.add_routes(part.routes())
    if operator.extra_index:
        app.add_routes(NodeIndex(chain, indexer, shapes).routes())
    app.add_routes(NodeWallet(chain, operator.api_key).routes())
    return app


class NodeApi:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, shapes: NodeJson, operator: Operator) -> None:
        self._chain, self._json, self._operator = chain, shapes, operator
        self._launched = _now()

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/info", self.info),
            web.get("/blocks", self.block_ids),
            web.get("/blocks/lastHeaders/{count}", self.last_headers),
            web.get("/blocks/chainSlice", self.chain_slice),
            web.get("/blocks/at/{height}", self.ids_at),
            web.post("/blocks/headerIds", self.blocks_by_ids),
            web.get("/blocks/{id}", self.block),
            web.get("/blocks/{id}/header", self.header),
            web.get("/blocks/{id}/transactions", self.block_transactions),
            web.get("/blocks/{id}/proofFor/{tx_id}", self.proof_for),
            web.get("/peers/all", self.no_peers),
            web.get("/peers/connected", self.no_peers),
            web.get("/peers/status", self.peers_status),
        ]

    # -- state and blocks ---------------------------------------------------------------------------------------

    async def info(self, _request: web.Request) -> web.Response:
        """State of the node: of its full chain, and of the headers that may be ahead of it."""
        chain, operator = self._chain, self._operator
        tip, best = chain.tip, chain.best_header
        state = {
            "name": "ergo-devnet",
            "appVersion": VERSION,
            "network": operator.network or ("devnet" if int(chain.network) == 0 else "testnet"),
            "headersHeight": best.height,
            "fullHeight": chain.height,
            "maxPeerHeight": best.height if chain.peer_height is None else chain.peer_height,
            "bestHeaderId": best.block_id,
            **dict.fromkeys(("bestFullHeaderId", "stateVersion"), tip.block_id),
            "previousFullHeaderId": tip.header["parentId"],
            "difficulty": DIFFICULTY,
            "headersScore": best.height * DIFFICULTY,
            "fullBlocksScore": chain.height * DIFFICULTY,
            "unconfirmedCount": len(chain.pool),
            "stateRoot": tip.header["stateRoot"],
            "stateType": "utxo",
            "isMining": True,
            "isExplorer": operator.extra_index,
            "peersCount": 1,
            "launchTime": self._launched,
            **dict.fromkeys(("lastSeenMessageTime", "lastMemPoolUpdateTime", "currentTime"), _now()),
            "genesisBlockId": chain.blocks[0].block_id,
            **({"restApiUrl": operator.rest_api_url} if operator.rest_api_url else {}),
            "eip27Supported": True,
            "eip37Supported": True,
            "parameters": chain.parameters,
        }
        return web.json_response(state)

    async def block_ids(self, request: web.Request) -> web.Response:
        """Ids of the best chain's headers, ascending from height `offset`."""
        offset, limit = page(request, 50, default_offset=1)
        for name, value in (("offset", offset), ("limit", limit)):
            if value < 0:
                raise HttpError(400, f"{name} is negative")
        few(limit, "headers")
        return web.json_response([header["id"] for header in self._chain.headers(offset, offset + limit - 1)])

    async def last_headers(self, request: web.Request) -> web.Response:
        """The newest headers of the best chain, newest last; their blocks may not have come yet."""
        count, best = height(request, "count"), self._chain.best_header.height
        few(count, "headers")
        return web.json_response(self._chain.headers(best - count + 1, best))

    async def chain_slice(self, request: web.Request) -> web.Response:
        """Headers of the heights above `fromHeight` up to `toHeight`, ascending; never none: at least the last of them."""
        lowest, highest = number(request, "fromHeight", 1), number(request, "toHeight", MAX_ITEMS)
        if highest < lowest:
            raise HttpError(400, "toHeight < fromHeight")
        few(highest - lowest, "headers")
        best = self._chain.best_header.height
        last = highest if 1 <= highest <= best else best
        return web.json_response(self._chain.headers(max(min(lowest + 1, last), last - MAX_ITEMS + 1), last))

    async def ids_at(self, request: web.Request) -> web.Response:
        """Ids of the headers of a height, that of the best chain first."""
        return web.json_response(self._chain.ids_at(height(request, "height")))

    async def block(self, request: web.Request) -> web.Response:
        """A block by id."""
        return web.json_response(self._json.block(self._block(request)))

    async def blocks_by_ids(self, request: web.Request) -> web.Response:
        """Blocks of a list of ids; those that are not there are left out."""
        ids = [
            modifier_id(each, "Wrong modifierId format for: Wrong modifierId length")
            for each in await ids_entity(request)
        ]
        blocks = filter(None, map(self._chain.block, ids))
        return web.json_response([self._json.block(block) for block in blocks])

    async def header(self, request: web.Request) -> web.Response:
        """A header by id."""
        return web.json_response(self._block(request).header)

    async def block_transactions(self, request: web.Request) -> web.Response:
        """The transactions of a block."""
        return web.json_response(self._json.block_transactions(self._block(request)))

    async def proof_for(self, request: web.Request) -> web.Response:
        """The Merkle proof that a block holds a transaction."""
        ids = [view.tx_id for view in self._block(request).transactions]
        tx_id = modifier_id(request.match_info["tx_id"])
        if tx_id not in ids:
            raise HttpError(404)
        proof = merkle_proof([bytes.fromhex(known) for known in ids], ids.index(tx_id))
        return web.json_response({"leaf": tx_id, "levels": [[sibling.hex(), side] for sibling, side in proof]})

    def _block(self, request: web.Request) -> Block:
        return found(self._chain.block(id_of(request)))

    # -- the rest -----------------------------------------------------------------------------------------------

    async def no_peers(self, _request: web.Request) -> web.Response:
        """A devnet is alone."""
        return web.json_response([])

    async def peers_status(self, _request: web.Request) -> web.Response:
        """As if somebody had just spoken."""
        return web.json_response({"lastIncomingMessage": _now(), "currentNetworkTime": _now()})


@web.middleware
async def _with_headers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Any page of a browser may ask a node."""
    if request.method == "OPTIONS":
        methods = {"Access-Control-Allow-Methods": "OPTIONS, POST, PUT, GET, DELETE"}
        return web.Response(headers={**CORS, **methods})
    response = await handler(request)
    if not response.prepared:
        response.headers.update(CORS)
    return response


def _error(error: HttpError) -> JsonObject:
    reason = error.reason or _REASONS.get(error.status, "unknown")
    return {"error": error.status, "reason": reason, "detail": error.text}


def _now() -> int:
    return int(time.time() * 1000)
