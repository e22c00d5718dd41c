"""A node's routes for the UTXO set and the mempool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from aiohttp import web
from ergo_lib_python.transaction import Transaction

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.decode import decoded
from aihd.devnet.http import HttpError, found
from aihd.devnet.node_http import (
    cut,
    entity,
    hex_key,
    hex_text,
    id_of,
    ids_entity,
    modifier_id,
    number,
    page,
    plain,
    text_entity,
)
from aihd.devnet.node_json import NodeJson
from aihd.devnet.refusals import MIN_FEE
from aihd.devnet.views import BoxView, TxView
from aihd.protocol.panics import contained

DEFAULT_LIMIT: Final = 50
MOST_BINS: Final = 10_000  # of a histogram; a node makes any number that its memory holds
BOX_ID, TOKEN_ID = "boxId", "tokenId"

T = TypeVar("T", Transaction, TxView)


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
        return web.json_response(self._json.box(found(self._chain.ledger.utxo_view(_key(request)))))

    async def utxo_binary(self, request: web.Request) -> web.Response:
        """An unspent box of the chain, serialized."""
        return web.json_response(_serialized(self._chain.ledger.utxo_view(_key(request))))

    async def utxo_with_pool(self, request: web.Request) -> web.Response:
        """An unspent box of the chain or one made in the mempool, even where the mempool spends it."""
        return web.json_response(self._json.box(found(self._chain.unconfirmed_view(_key(request)))))

    async def utxo_with_pool_binary(self, request: web.Request) -> web.Response:
        """The same, serialized."""
        return web.json_response(_serialized(self._chain.unconfirmed_view(_key(request))))

    async def utxos_with_pool(self, request: web.Request) -> web.Response:
        """The same for a list of ids; those that are not there are left out."""
        views = map(self._chain.unconfirmed_view, map(hex_key, await ids_entity(request)))
        return web.json_response([self._json.box(view) for view in views if view])

    async def genesis(self, _request: web.Request) -> web.Response:
        """The boxes that exist before any transaction."""
        return web.json_response([self._json.box(view) for view in self._chain.genesis])

    # -- transactions -------------------------------------------------------------------------------------------

    async def submit(self, request: web.Request) -> web.Response:
        """Takes a transaction into the mempool and gives its id."""
        return _judged(decoded(await entity(request)), self._chain.submit)

    async def submit_bytes(self, request: web.Request) -> web.Response:
        """The same for serialized bytes, a text of hex."""
        return _judged(await _transaction_bytes(request), self._chain.submit)

    async def check(self, request: web.Request) -> web.Response:
        """Validates a transaction without taking it; rivals in the mempool and the fee do not matter."""
        return _judged(decoded(await entity(request)), self._checked)

    async def check_bytes(self, request: web.Request) -> web.Response:
        """The same for serialized bytes."""
        return _judged(await _transaction_bytes(request), self._checked)

    def _checked(self, view: TxView | Transaction) -> str:
        return self._chain.check(view).tx_id

    async def fee(self, request: web.Request) -> web.Response:
        """The recommended fee in nanoERG: here always the least, as in a node that has seen no transaction yet."""
        number(request, "waitTime", 1)
        number(request, "txSize", 100)
        return web.json_response(MIN_FEE)

    async def wait_time(self, request: web.Request) -> web.Response:
        """Milliseconds until a transaction would be mined: here always none, as in a node that has seen none mined yet."""
        number(request, "fee", 1000, bits=64)
        if number(request, "txSize", 100) == 0:
            raise HttpError(500, "/ by zero")
        return web.json_response(0)

    async def histogram(self, request: web.Request) -> web.Response:
        """Waiting transactions and their fees by how long they wait: all of them in the first bin."""
        bins, span = number(request, "bins", 10), number(request, "maxtime", 60_000, bits=64)
        if bins == 0 or (len(self._chain.pool) and span // bins == 0):
            raise HttpError(500, "/ by zero")
        if not 0 < bins <= MOST_BINS:
            raise HttpError(500, str(bins + 1) if bins < 0 else f"this devnet makes at most {MOST_BINS} bins")
        weights = [self._chain.pool.own_weight(entry) for entry in self._chain.pool]
        first = {"nTxns": len(weights), "totalFee": sum(weights)}
        return web.json_response([first, *({"nTxns": 0, "totalFee": 0} for _ in range(bins))])

    # -- mempool ------------------------------------------------------------------------------------------------

    async def pool(self, request: web.Request) -> web.Response:
        """Waiting transactions, the heaviest first."""
        return web.json_response(self._shapes(cut(self._waiting(), *page(request, DEFAULT_LIMIT))))

    async def pool_ids(self, _request: web.Request) -> web.Response:
        """Ids of the waiting transactions."""
        return web.json_response([view.tx_id for view in self._waiting()])

    async def pool_known_ids(self, request: web.Request) -> web.Response:
        """Which of these ids wait."""
        wanted = set(await ids_entity(request))
        return web.json_response([view.tx_id for view in self._waiting() if view.tx_id in wanted])

    async def pool_by_tree(self, request: web.Request) -> web.Response:
        """Waiting transactions that make boxes of a tree, or spend such boxes of the chain."""
        tree = await text_entity(request)
        touching = [view for view in self._waiting() if self._touches(view, tree)]
        return web.json_response(self._shapes(cut(touching, *page(request, DEFAULT_LIMIT))))

    def _touches(self, view: TxView, tree: str) -> bool:
        spent = filter(None, map(self._chain.ledger.utxo_view, view.inputs))
        return any(box.tree == tree for box in (*view.outputs, *spent))

    async def pool_has(self, request: web.Request) -> web.Response:
        """Says by its status if a transaction waits."""
        return web.Response(status=200 if id_of(request) in self._chain.pool else 404)

    async def pool_transaction(self, request: web.Request) -> web.Response:
        """A waiting transaction."""
        return web.json_response(self._json.pool_transaction(found(self._chain.pool.get(id_of(request))).view))

    async def pool_spent_box(self, request: web.Request) -> web.Response:
        """The box of this id, if a waiting transaction spends it and it is one of the chain."""
        box_id = _key(request, BOX_ID)
        spender = found(self._chain.pool.get(self._chain.pool.spender(box_id) or ""))
        return web.json_response(self._json.spent_input(found(self._chain.ledger.utxo_view(box_id)), spender.view))

    async def pool_output(self, request: web.Request) -> web.Response:
        """The box of this id, if a waiting transaction makes it."""
        return web.json_response(self._json.box(found(self._chain.pool.output(_key(request, BOX_ID)))))

    async def pool_outputs_by_token(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make and that hold a token, all of them."""
        token_id = _key(request, TOKEN_ID)
        views = [view for view in self._made() if any(held == token_id for held, _ in view.tokens)]
        return web.json_response([self._json.box(view) for view in views])

    async def pool_outputs_by_tree(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make under a tree."""
        tree = await text_entity(request)
        return self._outputs(request, lambda view: view.tree == tree)

    async def pool_outputs_by_registers(self, request: web.Request) -> web.Response:
        """Boxes that waiting transactions make with all of these registers (name -> serialized constant)."""
        wanted = await entity(request)
        if not isinstance(wanted, dict) or not all(isinstance(value, str) for value in wanted.values()):
            raise HttpError(400, None, reason="[K, V]Map[K, V]: ")
        if not wanted:
            raise HttpError(400, None, reason="Registers filter cannot be empty")
        return self._outputs(
            request, lambda view: wanted.items() <= self._json.box(view)["additionalRegisters"].items()
        )

    def _outputs(self, request: web.Request, wanted: Callable[[BoxView], bool]) -> web.Response:
        views = [view for view in self._made() if wanted(view)]
        return web.json_response([self._json.box(view) for view in cut(views, *page(request, DEFAULT_LIMIT))])

    def _waiting(self) -> list[TxView]:
        return [entry.view for entry in self._chain.pool.heaviest_first()]

    def _made(self) -> Iterator[BoxView]:
        return (made for view in self._waiting() for made in view.outputs)

    def _shapes(self, views: Iterable[TxView]) -> list[JsonObject]:
        return [self._json.pool_transaction(view) for view in views]


def _key(request: web.Request, kind: str | None = None) -> str:
    """The id in the path; where `kind` names it, it must be whole."""
    text = request.match_info["id"]
    wrong = f"{kind} {text} is invalid, it should be 64 chars long hex string"
    return modifier_id(text, wrong) if kind else hex_key(text)


def _serialized(box: BoxView | None) -> JsonObject:
    return {"boxId": found(box).box_id, "bytes": found(box).raw.hex()}


async def _transaction_bytes(request: web.Request) -> Transaction:
    failed = "Can not parse transaction bytes:"
    try:
        raw = hex_text(await plain(request), 400)
    except HttpError as error:
        raise HttpError(400, f"{failed} {error.text}") from error
    try:
        return contained(lambda: Transaction.from_bytes(raw))
    except Exception as error:  # whatever ergo-lib makes of it, it is no transaction
        raise HttpError(400, f"{failed} null") from error


def _judged(tx: T, judge: Callable[[T], str]) -> web.Response:
    try:
        return web.json_response(judge(tx))
    except RejectedError as error:
        raise HttpError(400, str(error)) from error
