"""A node's extra index: `/blockchain/*`. A hint and not the truth: it may lag, and its pages repeat pool boxes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.faults import Indexer
from aihd.devnet.http import (
    HttpError,
    body_text,
    descending,
    flag,
    found,
    items,
    json_body,
    path_id,
    path_int,
    query_int,
)
from aihd.devnet.ledger import By, ChainTx, Ledger
from aihd.devnet.node_json import NodeJson
from aihd.devnet.views import BoxView
from aihd.protocol.trees import node_template_hash, tree_of

MAX_ITEMS = 16_384

Key = Callable[[web.Request], Awaitable[str]]
Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeIndex:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, indexer: Indexer, shapes: NodeJson) -> None:
        self._chain, self._indexer, self._json = chain, indexer, shapes

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        box, tx = "/blockchain/box", "/blockchain/transaction"
        address, tree = (By.TREE, self._address), (By.TREE, _body_tree)
        template, token = (By.NODE_TEMPLATE, _path_id), (By.TOKEN, _path_id)
        return [
            web.get("/blockchain/indexedHeight", self.indexed_height),
            web.get("/blockchain/block/byHeaderId/{id}", self.block),
            web.get(f"{box}/byId/{{id}}", self.box),
            web.get(f"{box}/byIndex/{{index}}", self.box_by_index),
            web.get(f"{box}/range", self.box_range),
            web.post(f"{box}/byAddress", self._all(*address)),
            web.get(f"{box}/byAddress/{{address}}", self._all(*address)),
            web.post(f"{box}/byErgoTree", self._all(*tree)),
            web.get(f"{box}/byTemplateHash/{{id}}", self._all(*template)),
            web.get(f"{box}/byTokenId/{{id}}", self._all(*token)),
            web.post(f"{box}/unspent/byAddress", self._unspent(*address)),
            web.get(f"{box}/unspent/byAddress/{{address}}", self._unspent(*address)),
            web.post(f"{box}/unspent/byErgoTree", self._unspent(*tree)),
            web.get(f"{box}/unspent/byTemplateHash/{{id}}", self._unspent(*template)),
            web.get(f"{box}/unspent/byTokenId/{{id}}", self._unspent(*token)),
            web.get(f"{tx}/byId/{{id}}", self.transaction),
            web.get(f"{tx}/byIndex/{{index}}", self.transaction_by_index),
            web.get(f"{tx}/range", self.transaction_range),
            web.post(f"{tx}/byAddress", self.transactions_by_address),
            web.get(f"{tx}/byAddress/{{address}}", self.transactions_by_address),
            web.get("/blockchain/token/byId/{id}", self.token),
            web.post("/blockchain/tokens", self.tokens),
            web.post("/blockchain/balance", self.balance),
            web.get("/blockchain/balanceForAddress/{address}", self.balance),
        ]

    async def indexed_height(self, _request: web.Request) -> web.Response:
        """How far the index is."""
        return web.json_response({"indexedHeight": self._indexer.history.height, "fullHeight": self._chain.height})

    async def block(self, request: web.Request) -> web.Response:
        """A block of the main chain with indexed transactions."""
        block = self._chain.block(path_id(request))
        if block is None or not self._indexer.history.holds(block):
            raise HttpError(404)
        rows = [self._ledger.transactions[view.tx_id] for view in block.transactions]
        return web.json_response(
            {"header": block.header, "blockTransactions": list(map(self._json.indexed_transaction, rows))}
        )

    async def token(self, request: web.Request) -> web.Response:
        """A token by id."""
        return web.json_response(self._json.token(found(self._ledger.tokens.get(path_id(request)))))

    async def tokens(self, request: web.Request) -> web.Response:
        """Tokens of a list of ids; those that are not there are left out."""
        ids = await json_body(request)
        if not isinstance(ids, list):
            raise HttpError(400, "The request content was malformed: a list of token ids is expected")
        known = filter(None, (self._ledger.tokens.get(str(token_id)) for token_id in ids))
        return web.json_response([self._json.token(token) for token in known])

    async def balance(self, request: web.Request) -> web.Response:
        """What an address holds on the chain, and what it would hold with the mempool."""
        tree, spender = await self._address(request), self._chain.pool.spender
        ids = self._ledger.unspent.page(By.TREE, tree, 0, self._ledger.unspent.count(By.TREE, tree), descending=False)
        views = [self._ledger.boxes[box_id].view for box_id in ids]
        waiting = [view for view in self._chain.pool.outputs() if view.tree == tree]
        after = [view for view in (*views, *waiting) if not spender(view.box_id)]
        return web.json_response({"confirmed": self._json.balance(views), "unconfirmed": self._json.balance(after)})

    # -- boxes --------------------------------------------------------------------------------------------------

    async def box(self, request: web.Request) -> web.Response:
        """A box of the main chain, spent or not."""
        return web.json_response(self._json.indexed_box(found(self._ledger.boxes.get(path_id(request)))))

    async def box_by_index(self, request: web.Request) -> web.Response:
        """A box by its global index."""
        return web.json_response(self._json.indexed_box(_nth(list(self._ledger.boxes.values()), request)))

    async def box_range(self, request: web.Request) -> web.Response:
        """Ids of boxes in order of global index, the newest first unless asked otherwise."""
        return web.json_response(_ids(request, list(self._ledger.boxes)))

    def _all(self, by: By, key_of: Key) -> Handle:
        async def boxes(request: web.Request) -> web.Response:
            key = await key_of(request)
            page = (
                self._ledger.boxes[i] for i in self._ledger.all.page(by, key, *_paging(request), descending(request))
            )
            return web.json_response(items(map(self._json.indexed_box, page), self._ledger.all.count(by, key)))

        return boxes

    def _unspent(self, by: By, key_of: Key) -> Handle:
        async def unspent(request: web.Request) -> web.Response:
            key = await key_of(request)
            ids = self._ledger.unspent.page(by, key, *_paging(request), descending(request))
            boxes = [self._ledger.boxes[box_id] for box_id in ids]
            if flag(request, "excludeMempoolSpent"):
                boxes = [box for box in boxes if not self._chain.pool.spender(box.view.box_id)]
            shapes = [self._json.indexed_box(box) for box in boxes]
            made = self._pool_boxes(by, key) if flag(request, "includeUnconfirmed") else []
            return web.json_response(made + shapes if descending(request) else shapes + made)

        return unspent

    def _pool_boxes(self, by: By, key: str) -> list[JsonObject]:
        """All of them on every page, as a node does."""
        return [self._json.indexed_pool_box(view) for view in self._chain.pool.outputs() if _has_key(view, by, key)]

    # -- transactions -------------------------------------------------------------------------------------------

    async def transaction(self, request: web.Request) -> web.Response:
        """A transaction of the main chain."""
        return web.json_response(self._json.indexed_transaction(found(self._ledger.transactions.get(path_id(request)))))

    async def transaction_by_index(self, request: web.Request) -> web.Response:
        """A transaction by its global index."""
        return web.json_response(
            self._json.indexed_transaction(_nth(list(self._ledger.transactions.values()), request))
        )

    async def transaction_range(self, request: web.Request) -> web.Response:
        """Ids of transactions in order of global index, the newest first unless asked otherwise."""
        return web.json_response(_ids(request, list(self._ledger.transactions)))

    async def transactions_by_address(self, request: web.Request) -> web.Response:
        """Transactions that make or spend boxes of an address."""
        ids = list(self._ledger.transactions_of(await self._address(request)))
        offset, limit = _paging(request)
        chosen = (ids[::-1] if descending(request) else ids)[offset : offset + limit]
        rows: Sequence[ChainTx] = [self._ledger.transactions[tx_id] for tx_id in chosen]
        return web.json_response(items(map(self._json.indexed_transaction, rows), len(ids)))

    # -- helpers ------------------------------------------------------------------------------------------------

    @property
    def _ledger(self) -> Ledger:
        return self._indexer.history.ledger

    async def _address(self, request: web.Request) -> str:
        address = request.match_info.get("address") or await body_text(request)
        try:
            return tree_of(address, self._chain.network).hex()
        except ValueError as error:
            raise HttpError(400, f"Incorrect address {address[:60]!r}: {error}") from error


def _paging(request: web.Request) -> tuple[int, int]:
    return query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 5, 1, MAX_ITEMS)


def _ids(request: web.Request, ids: list[str]) -> list[str]:
    offset, limit = _paging(request)
    return (ids[::-1] if descending(request) else ids)[offset : offset + limit]


def _nth(rows: list[Any], request: web.Request) -> Any:
    index = path_int(request, "index")
    if index >= len(rows):
        raise HttpError(404)
    return rows[index]


def _has_key(view: BoxView, by: By, key: str) -> bool:
    if by is By.TOKEN:
        return any(token_id == key for token_id, _ in view.tokens)
    return key == (view.tree if by is By.TREE else node_template_hash(bytes.fromhex(view.tree)))


async def _path_id(request: web.Request) -> str:
    return path_id(request)


async def _body_tree(request: web.Request) -> str:
    return await body_text(request)
