"""A node's extra index: `/blockchain/*`. A hint and not the truth: it may lag, and its pages repeat pool boxes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from ergo_lib_python.ergo_tree import ErgoTree

from aihd.devnet.addresses import AddressError, decoded_tree
from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.faults import Indexer
from aihd.devnet.http import HttpError, found, items
from aihd.devnet.ledger import By, ChainTx, Ledger
from aihd.devnet.node_http import (
    cut,
    few,
    hex_text,
    id_of,
    ids_entity,
    page,
    plain,
    switch,
    unmatched,
)
from aihd.devnet.node_json import NodeJson
from aihd.devnet.views import BoxView
from aihd.protocol.panics import contained
from aihd.protocol.trees import SIZE_BIT, node_template_hash

DEFAULT_LIMIT = 5

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
        template, token = (By.NODE_TEMPLATE, _id), (By.TOKEN, _id)
        return [
            web.get("/blockchain/indexedHeight", self.indexed_height),
            web.get("/blockchain/block/byHeaderId/{id}", self.block),
            web.post("/blockchain/block/byHeaderIds", self.blocks),
            web.get(f"{box}/byId/{{id}}", self.box),
            web.get(f"{box}/byIndex/{{index}}", self.box_by_index),
            web.get(f"{box}/range", self.box_range),
            web.post(f"{box}/byAddress", self._all(*address, oldest_first=True)),
            web.get(f"{box}/byAddress/{{address}}", self._all(*address, oldest_first=True)),
            web.post(f"{box}/byErgoTree", self._all(*tree, oldest_first=True)),
            web.get(f"{box}/byTemplateHash/{{id}}", self._all(*template, oldest_first=False)),
            web.get(f"{box}/byTokenId/{{id}}", self._all(*token, oldest_first=False)),
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
        """Tells the height that the index has come to."""
        return web.json_response({"indexedHeight": self._indexer.history.height, "fullHeight": self._chain.height})

    async def block(self, request: web.Request) -> web.Response:
        """A block of the main chain with indexed transactions."""
        return web.json_response(found(self._block(id_of(request))))

    async def blocks(self, request: web.Request) -> web.Response:
        """Blocks of a list of ids; those that are not there are left out."""
        ids = await ids_entity(request)
        few(len(ids), "blocks")
        return web.json_response([block for block in map(self._block, ids) if block])

    def _block(self, block_id: str) -> JsonObject | None:
        block = self._chain.block(block_id)
        return self._json.indexed_block(block) if block and self._indexer.history.holds(block) else None

    async def token(self, request: web.Request) -> web.Response:
        """A token by id."""
        return web.json_response(self._json.token(found(self._ledger.tokens.get(id_of(request)))))

    async def tokens(self, request: web.Request) -> web.Response:
        """Tokens of a list of ids; those that are not there are left out."""
        known = filter(None, map(self._ledger.tokens.get, await ids_entity(request)))
        return web.json_response([self._json.token(token) for token in known])

    async def balance(self, request: web.Request) -> web.Response:
        """Sums up the boxes of an address on the chain, and apart from them those that wait."""
        tree = await self._address(request)
        ids = self._ledger.unspent.page(By.TREE, tree, 0, self._ledger.unspent.count(By.TREE, tree), descending=False)
        views = [self._ledger.boxes[box_id].view for box_id in ids]
        waiting = [view for view in self._chain.pool.outputs() if view.tree == tree]
        return web.json_response({"confirmed": self._json.balance(views), "unconfirmed": self._json.balance(waiting)})

    # -- boxes --------------------------------------------------------------------------------------------------

    async def box(self, request: web.Request) -> web.Response:
        """A box of the main chain, spent or not."""
        return web.json_response(self._json.indexed_box(found(self._ledger.boxes.get(id_of(request)))))

    async def box_by_index(self, request: web.Request) -> web.Response:
        """A box by its global index."""
        return web.json_response(self._json.indexed_box(_nth(list(self._ledger.boxes.values()), request)))

    async def box_range(self, request: web.Request) -> web.Response:
        """Ids of boxes in order of global index, the newest first."""
        return web.json_response(_ids(request, list(self._ledger.boxes), "boxes"))

    def _all(self, by: By, key_of: Key, *, oldest_first: bool) -> Handle:
        """Pages begin with the newest box whatever direction is asked for; some turn round what is on the page."""

        async def boxes(request: web.Request) -> web.Response:
            key = await key_of(request)
            offset, limit = page(request, DEFAULT_LIMIT)
            if by is not By.TOKEN:  # a node forgot this one
                few(limit, "boxes")
            ids = self._ledger.all.page(by, key, max(0, offset), max(0, limit), True)
            rows = [self._json.indexed_box(self._ledger.boxes[box_id]) for box_id in ids]
            return web.json_response(items(rows[::-1] if oldest_first else rows, self._ledger.all.count(by, key)))

        return boxes

    def _unspent(self, by: By, key_of: Key) -> Handle:
        async def unspent(request: web.Request) -> web.Response:
            key = await key_of(request)
            (offset, limit), newest_first = page(request, DEFAULT_LIMIT), _newest_first(request, by)
            pooled, excluded = switch(request, "includeUnconfirmed"), switch(request, "excludeMempoolSpent")
            few(limit, "boxes")
            ids = self._unspent_ids(by, key, newest_first, excluded)
            shapes = [self._json.indexed_box(self._ledger.boxes[box_id]) for box_id in ids(offset, limit)]
            made = self._pool_boxes(by, key, excluded) if pooled else []
            return web.json_response(made + shapes if newest_first else shapes + made)

        return unspent

    def _unspent_ids(self, by: By, key: str, newest_first: bool, excluded: bool) -> Callable[[int, int], list[str]]:
        """Gives a page of ids; what the mempool spends is taken out before pages are cut."""
        unspent = self._ledger.unspent
        if not excluded:
            return lambda offset, limit: unspent.page(
                by, key, max(0, offset), max(0, limit + min(0, offset)), newest_first
            )
        ids = unspent.page(by, key, 0, unspent.count(by, key), newest_first)
        return lambda offset, limit: cut([each for each in ids if not self._chain.pool.spender(each)], offset, limit)

    def _pool_boxes(self, by: By, key: str, excluded: bool) -> list[JsonObject]:
        """All of them on every page, as a node does."""
        spender = self._chain.pool.spender
        views = (view for view in self._chain.pool.outputs() if not (excluded and spender(view.box_id)))
        return [self._json.indexed_pool_box(view) for view in views if _has_key(view, by, key)]

    # -- transactions -------------------------------------------------------------------------------------------

    async def transaction(self, request: web.Request) -> web.Response:
        """A transaction of the main chain."""
        return web.json_response(self._json.indexed_transaction(found(self._ledger.transactions.get(id_of(request)))))

    async def transaction_by_index(self, request: web.Request) -> web.Response:
        """A transaction by its global index."""
        return web.json_response(
            self._json.indexed_transaction(_nth(list(self._ledger.transactions.values()), request))
        )

    async def transaction_range(self, request: web.Request) -> web.Response:
        """Ids of transactions in order of global index, the newest first."""
        return web.json_response(_ids(request, list(self._ledger.transactions), "transactions"))

    async def transactions_by_address(self, request: web.Request) -> web.Response:
        """Transactions that make or spend boxes of an address, the newest first."""
        ids = self._ledger.transactions_of(await self._address(request))
        offset, limit = page(request, DEFAULT_LIMIT)
        few(limit, "transactions")
        rows: list[ChainTx] = [self._ledger.transactions[each] for each in cut(ids[::-1], max(0, offset), limit)]
        return web.json_response(items(map(self._json.indexed_transaction, rows), len(ids)))

    # -- helpers ------------------------------------------------------------------------------------------------

    @property
    def _ledger(self) -> Ledger:
        return self._indexer.history.ledger

    async def _address(self, request: web.Request) -> str:
        address = request.match_info.get("address") or await plain(request)
        try:
            return decoded_tree(address, self._chain.network).hex()
        except AddressError as error:
            raise HttpError(400, "Wrong address format") from error


def _newest_first(request: web.Request, by: By) -> bool:
    """The direction of the query string, newest first by default."""
    direction = request.query.get("sortDirection", "desc").lower()
    if direction in ("asc", "desc"):
        return direction == "desc"
    if by is By.NODE_TEMPLATE:
        raise HttpError(500, f"{direction} (of class java.lang.String)")
    quote = '"' if request.path.split("/")[4] == "byAddress" else "'"
    words = f"valid values are {quote}ASC{quote} and {quote}DESC{quote}"
    raise HttpError(400, f"Invalid parameter for sort direction, {words}")


def _ids(request: web.Request, ids: list[str], what: str) -> list[str]:
    """Ids from the newest on; a page that ends before the first of them is an error of the node's."""
    offset, limit = page(request, DEFAULT_LIMIT)
    few(limit, what)
    if offset < 0 or limit < 0 or offset + limit > len(ids):
        raise HttpError(500, str(limit) if limit < 0 else "None.get")
    return ids[::-1][offset : offset + limit]


def _nth(rows: list[Any], request: web.Request) -> Any:
    text = request.match_info["index"]
    if not (text.isascii() and text.isdecimal()):
        raise unmatched(request)
    if int(text[:20]) >= len(rows):
        raise HttpError(500, "None.get")
    return rows[int(text)]


def _has_key(view: BoxView, by: By, key: str) -> bool:
    if by is By.TOKEN:
        return any(token_id == key for token_id, _ in view.tokens)
    if by is By.TREE:
        return key == view.tree
    try:
        return key == node_template_hash(bytes.fromhex(view.tree))
    except ValueError:  # nobody can parse it; it has no template
        return False


async def _id(request: web.Request) -> str:
    return id_of(request)


async def _body_tree(request: web.Request) -> str:
    """The tree of the body, without what follows its end; HttpError where it is none."""
    tree = hex_text(await plain(request), 400, "Invalid hex data")
    try:
        return bytes(contained(lambda: ErgoTree.from_bytes(tree))).hex()
    except Exception as error:
        if tree and tree[0] & SIZE_BIT:  # a node keeps what it cannot read, if it knows where that ends
            return tree.hex()
        raise HttpError(500, "java.nio.BufferUnderflowException") from error
