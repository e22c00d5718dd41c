"""A node's routes for the UTXO set and the mempool."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.http import HttpError, body_text, found, json_body, parse_transaction, path_id, query_int
from aihd.devnet.mempool import PoolTx
from aihd.devnet.node_json import NodeJson
from aihd.devnet.views import BoxView
from aihd.errors import one_line
from aihd.protocol.panics import contained
from aihd.protocol.rules import MIN_FEE

BLOCK_MINUTES = 2


class NodePool:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, shapes: NodeJson) -> None:
        self._chain, self._json = chain, shapes

    def routes(self) -> list[web.RouteDef]:
        """All routes, the fixed paths before those with parameters."""
        pool = "/transactions/unconfirmed"
        return [
            web.get("/utxo/byId/{id}", self.utxo),
            web.get("/utxo/byIdBinary/{id}", self.utxo_binary),
            web.get("/utxo/withPool/byId/{id}", self.utxo_with_pool),
            web.get("/utxo/withPool/byIdBinary/{id}", self.utxo_with_pool_binary),
            web.post("/utxo/withPool/byIds", self.utxos_with_pool),
            web.get("/utxo/genesis", self.genesis),
            web.post("/transactions", self.submit),
            web.post("/transactions/bytes", self.submit_bytes),
            web.post("/transactions/check", self.check),
            web.post("/transactions/checkBytes", self.check_bytes),
            web.get("/transactions/getFee", self.fee),
            web.get("/transactions/waitTime", self.wait_time),
            web.get("/transactions/poolHistogram", self.histogram),
            web.get(pool, self.pool),
            web.get(f"{pool}/transactionIds", self.pool_ids),
            web.post(f"{pool}/byTransactionIds", self.pool_known_ids),
            web.post(f"{pool}/byErgoTree", self.pool_by_tree),
            web.get(f"{pool}/byTransactionId/{{id}}", self.pool_transaction),
            web.get(f"{pool}/inputs/byBoxId/{{id}}", self.pool_spent_box),
            web.get(f"{pool}/outputs/byBoxId/{{id}}", self.pool_output),
            web.get(f"{pool}/outputs/byTokenId/{{id}}", self.pool_outputs_by_token),
            web.post(f"{pool}/outputs/byErgoTree", self.pool_outputs_by_tree),
            web.post(f"{pool}/outputs/byRegisters", self.pool_outputs_by_registers),
            web.head(f"{pool}/{{id}}", self.pool_has),
        ]

    # -- UTXO set -----------------------------------------------------------------------------------------------

    async def utxo(self, request: web.Request) -> web.Response:
        """An unspent box of the chain."""
        return web.json_response(_box(self._chain.ledger.utxo(path_id(request))))

    async def utxo_binary(self, request: web.Request) -> web.Response:
        """An unspent box of the chain, serialized."""
        return web.json_response(_serialized(self._chain.ledger.utxo(path_id(request))))

    async def utxo_with_pool(self, request: web.Request) -> web.Response:
        """An unspent box of the chain or one made in the mempool, even where the mempool spends it."""
        return web.json_response(_box(self._chain.unconfirmed_box(path_id(request))))

    async def utxo_with_pool_binary(self, request: web.Request) -> web.Response:
        """The same, serialized."""
        return web.json_response(_serialized(self._chain.unconfirmed_box(path_id(request))))

    async def utxos_with_pool(self, request: web.Request) -> web.Response:
        """The same for a list of ids; those that are not there are left out."""
        boxes = filter(None, map(self._chain.unconfirmed_box, await _id_list(request)))
        return web.json_response([_box(box) for box in boxes])

    async def genesis(self, _request: web.Request) -> web.Response:
        """The boxes that exist before any transaction."""
        return web.json_response([self._json.box(view) for view in self._chain.genesis])

    # -- transactions -------------------------------------------------------------------------------------------

    async def submit(self, request: web.Request) -> web.Response:
        """Takes a transaction into the mempool and gives its id."""
        return _judged(parse_transaction(await json_body(request)), self._chain.submit)

    async def submit_bytes(self, request: web.Request) -> web.Response:
        """The same for serialized bytes, a JSON string of hex."""
        return _judged(await _transaction_bytes(request), self._chain.submit)

    async def check(self, request: web.Request) -> web.Response:
        """Validates a transaction without taking it; rivals in the mempool do not matter."""
        return _judged(parse_transaction(await json_body(request)), lambda tx: self._chain.check(tx).tx_id)

    async def check_bytes(self, request: web.Request) -> web.Response:
        """The same for serialized bytes."""
        return _judged(await _transaction_bytes(request), lambda tx: self._chain.check(tx).tx_id)

    async def fee(self, request: web.Request) -> web.Response:
        """The recommended fee in nanoERG: here always the least."""
        query_int(request, "waitTime", 1, 1, 2**31)
        query_int(request, "txSize", 100, 1, 2**31)
        return web.json_response(MIN_FEE)

    async def wait_time(self, request: web.Request) -> web.Response:
        """Milliseconds until a transaction would be mined: here always one block."""
        query_int(request, "fee", MIN_FEE, 1, 2**62)
        query_int(request, "txSize", 100, 1, 2**31)
        return web.json_response(BLOCK_MINUTES * 60_000)

    async def histogram(self, request: web.Request) -> web.Response:
        """Waiting transactions and their fees by how long they wait: all of them in the first bin."""
        bins = query_int(request, "bins", 10, 1, 1000)
        fees = [entry.view.fee for entry in self._chain.pool]
        first = {"nTxns": len(fees), "totalFee": sum(fees)}
        return web.json_response([first, *({"nTxns": 0, "totalFee": 0} for _ in range(bins))])

    # -- mempool ------------------------------------------------------------------------------------------------

    async def pool(self, request: web.Request) -> web.Response:
        """Waiting transactions, the heaviest first."""
        return web.json_response(self._shapes(_slice(request, self._chain.pool.heaviest_first())))

    async def pool_ids(self, _request: web.Request) -> web.Response:
        """Ids of the waiting transactions."""
        return web.json_response([entry.view.tx_id for entry in self._chain.pool.heaviest_first()])

    async def pool_known_ids(self, request: web.Request) -> web.Response:
        """Which of these ids wait."""
        return web.json_response([tx_id for tx_id in await _id_list(request) if tx_id in self._chain.pool])

    async def pool_by_tree(self, request: web.Request) -> web.Response:
        """Waiting transactions that make or spend boxes of a tree."""
        tree = await body_text(request)
        shapes = self._shapes(self._chain.pool.heaviest_first())
        touching = [s for s in shapes if any(box.get("ergoTree") == tree for box in (*s["inputs"], *s["outputs"]))]
        return web.json_response(_slice(request, touching))

    async def pool_has(self, request: web.Request) -> web.Response:
        """Whether a transaction waits."""
        return web.Response(status=200 if path_id(request) in self._chain.pool else 404)

    async def pool_transaction(self, request: web.Request) -> web.Response:
        """A waiting transaction."""
        return web.json_response(self._json.pool_transaction(found(self._chain.pool.get(path_id(request))).view))

    async def pool_spent_box(self, request: web.Request) -> web.Response:
        """The box of this id, if a waiting transaction spends it."""
        found(self._chain.pool.spender(path_id(request)))
        return web.json_response(_box(self._chain.unconfirmed_box(path_id(request))))

    async def pool_output(self, request: web.Request) -> web.Response:
        """The box of this id, if a waiting transaction makes it."""
        return web.json_response(self._json.box(found(self._chain.pool.output(path_id(request)))))

    async def pool_outputs_by_token(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make and that hold a token."""
        return self._outputs(request, lambda view: any(held == path_id(request) for held, _ in view.tokens))

    async def pool_outputs_by_tree(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make under a tree."""
        tree = await body_text(request)
        return self._outputs(request, lambda view: view.tree == tree)

    async def pool_outputs_by_registers(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make with all of these registers (name -> serialized constant)."""
        wanted = await json_body(request)
        if not isinstance(wanted, dict):
            raise HttpError(400, "The request content was malformed: an object of registers is expected")
        return self._outputs(
            request, lambda view: wanted.items() <= self._json.box(view)["additionalRegisters"].items()
        )

    def _outputs(self, request: web.Request, wanted: Callable[[BoxView], bool]) -> web.Response:
        views = [view for view in self._chain.pool.outputs() if wanted(view)]
        return web.json_response([self._json.box(view) for view in _slice(request, views)])

    def _shapes(self, entries: Iterable[PoolTx]) -> list[JsonObject]:
        return [self._json.pool_transaction(entry.view) for entry in entries]


def _slice(request: web.Request, whole: list[Any]) -> list[Any]:
    offset, limit = query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 50, 1, 2**31)
    return whole[offset : offset + limit]


def _box(box: ErgoBox | None) -> JsonObject:
    shape: JsonObject = json.loads(found(box).json())
    return shape


def _serialized(box: ErgoBox | None) -> JsonObject:
    return {"boxId": str(found(box).box_id), "bytes": bytes(found(box)).hex()}


async def _id_list(request: web.Request) -> list[str]:
    ids = await json_body(request)
    if not isinstance(ids, list):
        raise HttpError(400, "The request content was malformed: a list of ids is expected")
    return [str(each) for each in ids]


async def _transaction_bytes(request: web.Request) -> Transaction:
    text = await body_text(request)
    try:
        raw = bytes.fromhex(text)
        return contained(lambda: Transaction.from_bytes(raw))
    except Exception as error:  # whatever ergo-lib makes of it, it is no transaction
        raise HttpError(400, f"The request content was malformed: {one_line(error)}") from error


def _judged(tx: Transaction, judge: Callable[[Transaction], str]) -> web.Response:
    try:
        return web.json_response(judge(tx))
    except RejectedError as error:
        raise HttpError(400, str(error)) from error
