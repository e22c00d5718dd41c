"""A node's routes for addresses, hashes, emission and proofs of work without a chain: what needs no state, or little of it."""

from __future__ import annotations

import hashlib
import secrets

from aiohttp import web
from ergo_lib_python.chain import EcPoint, NetworkPrefix

from aihd.devnet.addresses import AddressError, content_of, decoded_tree
from aihd.devnet.blocks import Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.decode import BYTE, Cursor
from aihd.devnet.http import HttpError, found
from aihd.devnet.node_http import NOT_FOUND, entity, height, hex_text, id_of, modifier_id, text_entity
from aihd.devnet.node_json import NodeJson
from aihd.devnet.wire import vlq
from aihd.protocol.panics import contained
from aihd.protocol.trees import address_of, p2pk_tree

SEED_BYTES = 32
KEY = 33  # bytes of a public key
LONGEST_SEED = 1 << 20  # bytes; a node makes any that its memory holds
COINS_TOTAL = 97_739_925 * 10**9  # nanoERG
FIXED_RATE, FIXED_PERIOD = 75 * 10**9, 525_600  # nanoERG a block, for so many blocks
REDUCTION, EPOCH = 3 * 10**9, 64_800  # nanoERG less after every so many blocks
FOUNDERS = 75 * 10**8  # nanoERG of a block's emission at the fixed rate
FOUNDERS_UNTIL = FIXED_PERIOD + 2 * EPOCH  # from this height on, miners have all


class NodeUtils:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, shapes: NodeJson) -> None:
        self._chain, self._json = chain, shapes

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        proof = "/nipopow/proof/{m}/{k}"
        return [
            web.post("/script/p2sAddress", self.compiled),
            web.post("/script/p2shAddress", self.compiled),
            web.post("/script/executeWithContext", self.no_compiler),
            web.get("/script/addressToTree/{address}", self.address_to_tree),
            web.get("/script/addressToBytes/{address}", self.address_to_bytes),
            web.get("/utils/seed", self.seed),
            web.get("/utils/seed/{length}", self.seed),
            web.get("/utils/address/{address}", self.address_validity),
            web.post("/utils/address", self.address_validity),
            web.get("/utils/rawToAddress/{raw}", self.raw_to_address),
            web.get("/utils/addressToRaw/{address}", self.address_to_raw),
            web.get("/utils/ergoTreeToAddress/{tree}", self.tree_to_address),
            web.post("/utils/ergoTreeToAddress", self.tree_to_address),
            web.post("/utils/hash/blake2b", self.hash_blake2b),
            web.get("/emission/at/{height}", self.emission),
            web.get("/nipopow/popowHeaderById/{id}", self.popow_header),
            web.get("/nipopow/popowHeaderByHeight/{height}", self.popow_header_at),
            web.get(proof, self.popow_proof),
            web.get(f"{proof}/{{id}}", self.popow_proof),
        ]

    # -- addresses and hashes -----------------------------------------------------------------------------------

    async def compiled(self, request: web.Request) -> web.Response:
        """Refuses what a node would compile, and in its words what is no request to compile."""
        body = Cursor(await entity(request))
        body.field("source").text()
        body.field("treeVersion").number(BYTE)
        return await self.no_compiler(request)

    async def no_compiler(self, _request: web.Request) -> web.Response:
        """Refuses."""
        text = "this devnet has no ErgoScript compiler or evaluator: compile with the appkit and send the tree"
        raise HttpError(400, text)

    async def address_to_tree(self, request: web.Request) -> web.Response:
        """The tree of an address."""
        return web.json_response({"tree": self._tree(request.match_info["address"]).hex()})

    async def address_to_bytes(self, request: web.Request) -> web.Response:
        """The script of an address as a constant, a collection of bytes."""
        tree = self._tree(request.match_info["address"])
        return web.json_response({"bytes": (b"\x0e" + vlq(len(tree)) + tree).hex()})

    async def address_validity(self, request: web.Request) -> web.Response:
        """Says if an address is one of this network."""
        address = request.match_info.get("address") or await text_entity(request)
        try:
            decoded_tree(address, self._network)
        except AddressError as error:
            return web.json_response({"address": address, "isValid": False, "error": str(error)})
        return web.json_response({"address": address, "isValid": True})

    async def raw_to_address(self, request: web.Request) -> web.Response:
        """The address of a public key."""
        key = hex_text(request.match_info["raw"], 400)[:KEY]  # what follows a point is not read
        try:
            contained(lambda: EcPoint(key))
            address = address_of(p2pk_tree(key), self._network)
        except Exception as error:  # whatever ergo-lib makes of it, it is no point
            raise HttpError(400, f"Incorrect length or value of a public key of {len(key)} bytes") from error
        return web.json_response({"address": address})

    async def address_to_raw(self, request: web.Request) -> web.Response:
        """Gives what an address holds: a public key, the hash of a script or a tree."""
        address = request.match_info["address"]
        self._tree(address)
        return web.json_response({"raw": content_of(address).hex()})

    async def tree_to_address(self, request: web.Request) -> web.Response:
        """The address of a tree."""
        tree = hex_text(request.match_info.get("tree") or await text_entity(request), 400)
        try:
            return web.json_response({"address": address_of(tree, self._network)})
        except ValueError as error:
            raise HttpError(400, f"Cannot create ErgoAddress form unparsed ergo tree: {tree.hex()[:64]}") from error

    async def seed(self, request: web.Request) -> web.Response:
        """Random bytes."""
        length = height(request, "length") if "length" in request.match_info else SEED_BYTES
        if length > LONGEST_SEED:
            raise HttpError(500, f"this devnet makes no seed of more than {LONGEST_SEED} bytes")
        return web.json_response(secrets.token_hex(length))

    async def hash_blake2b(self, request: web.Request) -> web.Response:
        """Blake2b-256 of a text, in hex."""
        text = await text_entity(request)
        return web.json_response(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=32).hexdigest())

    @property
    def _network(self) -> NetworkPrefix:
        return self._chain.network

    def _tree(self, address: str) -> bytes:
        try:
            return decoded_tree(address, self._network)
        except AddressError as error:
            raise HttpError(400, str(error)) from error

    # -- emission and proofs ------------------------------------------------------------------------------------

    async def emission(self, request: web.Request) -> web.Response:
        """Gives what the main net's rules emit at a height; the devnet itself emits nothing."""
        return web.json_response(emission_at(height(request, "height")))

    async def popow_header(self, request: web.Request) -> web.Response:
        """A header with its interlinks, by id."""
        return web.json_response(self._json.popow_header(found(self._chain.block(id_of(request)))))

    async def popow_header_at(self, request: web.Request) -> web.Response:
        """A header of the best chain with its interlinks, by height."""
        wanted = height(request, "height")
        return web.json_response(self._json.popow_header(found(self._at(wanted))))

    async def popow_proof(self, request: web.Request) -> web.Response:
        """A proof with a prefix of the first block alone: no block of a devnet stands above the lowest level."""
        least, suffix = height(request, "m"), height(request, "k")
        if suffix < 1:
            raise HttpError(400, f"requirement failed: {suffix} < 1")
        if self._chain.height < least + suffix:
            raise HttpError(400, f"requirement failed: Can not prove chain of size < {least + suffix}")
        head = self._chain.height - suffix + 1
        if "id" in request.match_info:
            head = found(self._chain.block(modifier_id(request.match_info["id"]))).height
        tail = self._chain.headers(head + 1, head + suffix - 1)
        first, middle = self._at(1), self._at(head)
        if first is None or middle is None:
            raise HttpError(400, NOT_FOUND)
        shape = {"m": least, "k": suffix, "prefix": [self._json.popow_header(first)], "suffixTail": tail}
        return web.json_response({**shape, "suffixHead": self._json.popow_header(middle), "continuous": True})

    def _at(self, wanted: int) -> Block | None:
        return self._chain.blocks[wanted - 1] if 1 <= wanted <= self._chain.height else None


def emission_at(wanted: int) -> JsonObject:
    """The emission of the main net's rules at a height, and up to it."""
    issued = issued_after(wanted)
    return {
        "height": wanted,
        "minerReward": _rate(wanted) if wanted >= FOUNDERS_UNTIL else FIXED_RATE - FOUNDERS,
        "totalCoinsIssued": issued,
        "totalRemainCoins": COINS_TOTAL - issued,
        "reemitted": 0,
    }


def issued_after(wanted: int) -> int:
    """nanoERG emitted by blocks up to a height."""
    if wanted < FIXED_PERIOD:
        return FIXED_RATE * wanted
    issued, epochs = FIXED_RATE * (FIXED_PERIOD - 1), (wanted - FIXED_PERIOD) // EPOCH
    for epoch in range(min(epochs, FIXED_RATE // REDUCTION)):
        issued += _rate(FIXED_PERIOD + epoch * EPOCH) * EPOCH
    return issued + _rate(wanted) * ((wanted - FIXED_PERIOD) % EPOCH + 1)


def _rate(wanted: int) -> int:
    if wanted < FIXED_PERIOD:
        return FIXED_RATE
    return max(0, FIXED_RATE - REDUCTION * (1 + (wanted - FIXED_PERIOD) // EPOCH))
