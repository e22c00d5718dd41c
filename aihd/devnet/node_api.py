"""A node's HTTP API over a chain: state, blocks, peers, scripts; with pool, extra index and signing from their modules.

Answers and errors have the node's form: `{"error": 400, "reason": "bad.request", "detail": "..."}`. There is no wallet
of the node's own, no mining interface and no compiler; what is asked of them is refused in one sentence.
"""

from __future__ import annotations

import hashlib
import time

from aiohttp import web

from aihd.devnet.blocks import DIFFICULTY, Block, JsonObject, merkle_proof
from aihd.devnet.chain import Chain
from aihd.devnet.faults import Faults, Indexer
from aihd.devnet.http import MAX_LINE, HttpError, body_text, errors_as, found, json_body, path_id, path_int, query_int
from aihd.devnet.node_index import NodeIndex
from aihd.devnet.node_json import NodeJson
from aihd.devnet.node_pool import NodePool
from aihd.devnet.node_wallet import NodeWallet
from aihd.protocol.trees import address_of, tree_of

MAX_HEADERS = 16_384  # of one answer
VERSION = "6.0.3"

_REASONS = {400: "bad.request", 403: "invalid.api-key", 404: "not-found", 500: "internal.error"}


def node_app(chain: Chain, faults: Faults, api_key: str) -> web.Application:
    """The application; serve it with `max_line_size=MAX_LINE`. `api_key`: what wallet routes ask for."""
    middlewares = [errors_as(_error, unknown_path=400), faults.middleware("node", chain)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_LINE * 16)
    indexer = Indexer(chain, faults, "node")
    shapes = NodeJson(chain, lambda: indexer.history)
    for part in (NodeApi(chain, shapes), NodePool(chain, shapes), NodeIndex(chain, indexer, shapes)):
        app.add_routes(part.routes())
    app.add_routes(NodeWallet(chain, api_key).routes())
    return app


class NodeApi:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, shapes: NodeJson) -> None:
        self._chain, self._json = chain, shapes
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
            web.post("/script/p2sAddress", self.no_compiler),
            web.post("/script/p2shAddress", self.no_compiler),
            web.post("/script/executeWithContext", self.no_compiler),
            web.get("/script/addressToTree/{address}", self.address_to_tree),
            web.get("/script/addressToBytes/{address}", self.address_to_bytes),
            web.get("/utils/address/{address}", self.address_validity),
            web.post("/utils/address", self.address_validity),
            web.get("/utils/ergoTreeToAddress/{tree}", self.tree_to_address),
            web.post("/utils/ergoTreeToAddress", self.tree_to_address),
            web.post("/utils/hash/blake2b", self.hash_blake2b),
        ]

    # -- state and blocks ---------------------------------------------------------------------------------------

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

    async def block_ids(self, request: web.Request) -> web.Response:
        """Ids of the main chain's blocks, ascending from `offset`."""
        offset, limit = query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 50, 1, MAX_HEADERS)
        return web.json_response([block.block_id for block in self._chain.blocks[offset : offset + limit]])

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
        return web.json_response(self._json.block(self._block(request)))

    async def blocks_by_ids(self, request: web.Request) -> web.Response:
        """Blocks of a list of ids; those that are not there are left out."""
        ids = await json_body(request)
        if not isinstance(ids, list):
            raise HttpError(400, "The request content was malformed: a list of header ids is expected")
        blocks = filter(None, (self._chain.block(str(block_id)) for block_id in ids))
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
        tx_id = request.match_info["tx_id"]
        if tx_id not in ids:
            raise HttpError(404)
        proof = merkle_proof([bytes.fromhex(known) for known in ids], ids.index(tx_id))
        return web.json_response({"leaf": tx_id, "levels": [[sibling.hex(), side] for sibling, side in proof]})

    def _block(self, request: web.Request) -> Block:
        return found(self._chain.block(path_id(request)))

    # -- the rest -----------------------------------------------------------------------------------------------

    async def no_peers(self, _request: web.Request) -> web.Response:
        """A devnet is alone."""
        return web.json_response([])

    async def peers_status(self, _request: web.Request) -> web.Response:
        """As if somebody had just spoken."""
        return web.json_response({"lastIncomingMessage": _now(), "currentNetworkTime": _now()})

    async def no_compiler(self, _request: web.Request) -> web.Response:
        """Refuses."""
        text = "this devnet has no ErgoScript compiler or evaluator: compile with the appkit and send the tree"
        raise HttpError(400, text)

    async def address_to_tree(self, request: web.Request) -> web.Response:
        """The tree of an address."""
        return web.json_response({"tree": self.parsed_address(request.match_info["address"])})

    async def address_to_bytes(self, request: web.Request) -> web.Response:
        """The script of an address as a constant."""
        tree = bytes.fromhex(self.parsed_address(request.match_info["address"]))
        return web.json_response({"bytes": tree.hex()})

    async def address_validity(self, request: web.Request) -> web.Response:
        """Whether an address is one of this network."""
        address = request.match_info.get("address") or await body_text(request)
        try:
            self.parsed_address(address)
        except HttpError as error:
            return web.json_response({"address": address, "isValid": False, "error": error.text})
        return web.json_response({"address": address, "isValid": True})

    async def tree_to_address(self, request: web.Request) -> web.Response:
        """The address of a tree."""
        tree = request.match_info.get("tree") or await body_text(request)
        try:
            return web.json_response({"address": address_of(bytes.fromhex(tree), self._chain.network)})
        except ValueError as error:
            raise HttpError(400, f"The request content was malformed: {error}") from error

    async def hash_blake2b(self, request: web.Request) -> web.Response:
        """Blake2b-256 of a text, in hex."""
        text = await body_text(request)
        return web.json_response(hashlib.blake2b(text.encode(), digest_size=32).hexdigest())

    def parsed_address(self, address: str) -> str:
        """The tree (hex) of an address; HttpError 400 for an address of no or another network."""
        try:
            return tree_of(address, self._chain.network).hex()
        except ValueError as error:
            raise HttpError(400, f"Incorrect address {address[:60]!r}: {error}") from error


def _error(status: int, text: str | None) -> JsonObject:
    return {"error": status, "reason": _REASONS.get(status, "unknown"), "detail": text}


def _now() -> int:
    return int(time.time() * 1000)
