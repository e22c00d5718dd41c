"""The Explorer's HTTP API over a chain: `/api/v1`, and the look-ups of `/api/v0` that have no successor.

True to the real one in what surprises: paging limits, orders, `boxes/{id}` giving orphans, `transactions/{id}` knowing
neither mempool nor orphans, and a submit that promises nothing. With `frozen_cache` every answer is repeated until the
next block, as from the real one's response cache.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.explorer_json import ExplorerJson, registers
from aihd.devnet.http import MAX_LINE, HttpError, errors_as, found, json_body, parse_transaction, path_int, query_int
from aihd.devnet.ledger import By, ChainBox, Pages
from aihd.devnet.mempool import PoolTx
from aihd.devnet.render import tree_constants
from aihd.devnet.views import BoxView
from aihd.protocol.trees import parse_tree, tree_of

MAX_ITEMS = 500
MAX_ITEMS_BY_TOKEN = 100

_REASONS = {400: "Bad request", 404: "Not found"}


def explorer_app(chain: Chain, *, frozen_cache: bool = False) -> web.Application:
    """The application; serve it with `max_line_size=MAX_LINE`."""
    middlewares = [errors_as(_error, unknown_path=404), *([_response_cache(chain)] if frozen_cache else [])]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_LINE * 16)
    app.add_routes(ExplorerApi(chain).routes())
    return app


class ExplorerApi:
    """Handlers of the routes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._json = ExplorerJson(chain)

    def routes(self) -> list[web.RouteDef]:
        """All routes, the fixed paths before those with parameters."""
        ledger, v1, v0 = self._chain.ledger, "/api/v1", "/api/v0"
        boxes = f"{v1}/boxes"
        return [
            web.get(f"{boxes}/unspent/unconfirmed/byAddress/{{address}}", self.boxes_with_pool),
            web.get(f"{boxes}/byErgoTree/{{tree}}", self._pages(ledger.all, By.TREE, _tree)),
            web.get(f"{boxes}/unspent/byErgoTree/{{tree}}", self._pages(ledger.unspent, By.TREE, _tree)),
            web.get(f"{boxes}/byAddress/{{address}}", self._pages(ledger.all, By.TREE, self._address)),
            web.get(f"{boxes}/unspent/byAddress/{{address}}", self._pages(ledger.unspent, By.TREE, self._address)),
            web.get(f"{boxes}/unspent/byErgoTreeTemplateHash/{{id}}", self._pages(ledger.unspent, By.TEMPLATE, _id)),
            web.get(f"{boxes}/byTokenId/{{id}}", self._pages(ledger.all, By.TOKEN, _id, MAX_ITEMS_BY_TOKEN)),
            web.get(
                f"{boxes}/unspent/byTokenId/{{id}}", self._pages(ledger.unspent, By.TOKEN, _id, MAX_ITEMS_BY_TOKEN)
            ),
            web.post(f"{boxes}/unspent/search", self._search(ledger.unspent)),
            web.post(f"{boxes}/search", self._search(ledger.all)),
            web.get(f"{boxes}/{{id}}", self.box),
            web.get(f"{v1}/transactions/{{id}}", self.transaction),
            web.get(f"{v1}/addresses/{{address}}/transactions", self.address_transactions),
            web.get(f"{v1}/addresses/{{address}}/balance/confirmed", self.balance_confirmed),
            web.get(f"{v1}/addresses/{{address}}/balance/total", self.balance_total),
            web.get(f"{v1}/mempool/transactions/byAddress/{{address}}", self.pool_transactions),
            web.post(f"{v1}/mempool/transactions/submit", self.submit),
            web.get(f"{v1}/networkState", self.network_state),
            web.get(f"{v1}/info", self.network_state),
            web.get(f"{v1}/epochs/params", self.epoch_parameters),
            web.get(f"{v1}/blocks", self.blocks),
            web.get(f"{v1}/blocks/headers", self.headers),
            web.get(f"{v1}/blocks/{{id}}", self.block),
            web.get(f"{v1}/tokens/{{id}}", self.token),
            web.get(f"{v0}/blocks/at/{{height}}", self.block_ids_v0),
            web.get(f"{v0}/transactions/unconfirmed/{{id}}", self.pool_transaction_v0),
            web.post(f"{v0}/transactions/send", self.submit),
        ]

    # -- boxes --------------------------------------------------------------------------------------------------

    async def box(self, request: web.Request) -> web.Response:
        """A box: of the main chain, else an orphaned one; a box of the mempool is not found."""
        ledger, box_id = self._chain.ledger, _id(request)
        box = ledger.boxes.get(box_id)
        if box:
            return web.json_response(self._json.output(box))
        return web.json_response(self._json.output(found(ledger.orphans.get(box_id)), main_chain=False))

    async def boxes_with_pool(self, request: web.Request) -> web.Response:
        """A bare list: boxes of the mempool and unspent ones of the chain, without those that the mempool spends."""
        tree = self._address(request)
        pool = [self._json.pool_output(view) for view in self._pool_unspent(tree)]
        chain = [self._json.output(box) for box in self._unspent(tree) if not self._chain.pool.spender(box.view.box_id)]
        return web.json_response(pool + chain)

    def _pages(
        self, pages: Pages, by: By, key_of: Callable[[web.Request], str], most: int = MAX_ITEMS
    ) -> Callable[[web.Request], Any]:
        async def page(request: web.Request) -> web.Response:
            key = key_of(request)
            offset, limit = _paging(request, most)
            descending = by is By.TREE and _descending(request)
            boxes = (self._chain.ledger.boxes[i] for i in pages.page(by, key, offset, limit, descending))
            return web.json_response(_items(map(self._json.output, boxes), pages.count(by, key)))

        return page

    def _search(self, pages: Pages) -> Callable[[web.Request], Any]:
        async def search(request: web.Request) -> web.Response:
            query = await json_body(request)
            template = query.get("ergoTreeTemplateHash") if isinstance(query, dict) else None
            if not isinstance(template, str):
                raise HttpError(400, "Invalid value for: body (Missing required field at 'ergoTreeTemplateHash')")
            offset, limit = _paging(request)
            ids = pages.page(By.TEMPLATE, template, 0, pages.count(By.TEMPLATE, template), descending=False)
            boxes = [box for box in map(self._chain.ledger.boxes.__getitem__, ids) if _matches(box.view, query)]
            return web.json_response(_items(map(self._json.output, boxes[offset : offset + limit]), len(boxes)))

        return search

    # -- transactions -------------------------------------------------------------------------------------------

    async def transaction(self, request: web.Request) -> web.Response:
        """A transaction of the main chain."""
        return web.json_response(self._json.transaction(found(self._chain.ledger.transactions.get(_id(request)))))

    async def address_transactions(self, request: web.Request) -> web.Response:
        """Transactions that make or spend boxes of an address, newest first."""
        ledger = self._chain.ledger
        offset, limit = _paging(request)
        lowest = query_int(request, "fromHeight", 0, 0, 2**31)
        highest = query_int(request, "toHeight", 2**31, 0, 2**31)
        rows = [ledger.transactions[tx_id] for tx_id in reversed(ledger.transactions_of(self._address(request)))]
        rows = [row for row in rows if lowest <= row.height <= highest]
        return web.json_response(_items(map(self._json.transaction, rows[offset : offset + limit]), len(rows)))

    async def pool_transactions(self, request: web.Request) -> web.Response:
        """Waiting transactions that make or spend boxes of an address."""
        tree = self._address(request)
        offset, limit = _paging(request)
        entries = [entry for entry in self._chain.pool if self._touches(entry, tree)]
        items = map(self._json.pool_transaction, entries[offset : offset + limit])
        return web.json_response(_items(items, len(entries)))

    async def pool_transaction_v0(self, request: web.Request) -> web.Response:
        """A waiting transaction."""
        return web.json_response(self._json.pool_transaction_v0(found(self._chain.pool.get(_id(request)))))

    async def submit(self, request: web.Request) -> web.Response:
        """Answers 200 to whatever has known inputs, then hands it to the node, whose refusal nobody hears of."""
        tx = parse_transaction(await json_body(request))
        ledger = self._chain.ledger
        for index, box_id in enumerate(str(i.box_id) for i in tx.inputs):
            if self._chain.unconfirmed_box(box_id) is None:
                fault = "is already spent" if ledger.spender(box_id) else "not found"
                raise HttpError(400, f"Transaction is invalid. Input {index}:{box_id} {fault}")
        with contextlib.suppress(RejectedError):
            self._chain.submit(tx)
        return web.json_response({"id": str(tx.id)})

    # -- addresses, tokens --------------------------------------------------------------------------------------

    async def balance_confirmed(self, request: web.Request) -> web.Response:
        """What an address holds in boxes of at least `minConfirmations`."""
        tree, depth = self._address(request), query_int(request, "minConfirmations", 0, 0, 2**31)
        boxes = (box.view for box in self._unspent(tree) if self._chain.height - box.height + 1 >= depth)
        return web.json_response(self._json.balance(boxes))

    async def balance_total(self, request: web.Request) -> web.Response:
        """What an address holds on the chain, and what the mempool would add."""
        tree = self._address(request)
        confirmed = self._json.balance(box.view for box in self._unspent(tree))
        return web.json_response({"confirmed": confirmed, "unconfirmed": self._json.balance(self._pool_unspent(tree))})

    async def token(self, request: web.Request) -> web.Response:
        """A token by id."""
        return web.json_response(self._json.token(found(self._chain.ledger.tokens.get(_id(request)))))

    # -- blocks -------------------------------------------------------------------------------------------------

    async def network_state(self, _request: web.Request) -> web.Response:
        """The tip and the parameters."""
        ledger = self._chain.ledger
        state = {
            "lastBlockId": self._chain.tip.block_id,
            "height": self._chain.height,
            "maxBoxGix": len(ledger.boxes) - 1,
            "maxTxGix": len(ledger.transactions) - 1,
            "params": self._parameters(),
        }
        return web.json_response(state)

    async def epoch_parameters(self, _request: web.Request) -> web.Response:
        """The parameters."""
        return web.json_response(self._parameters())

    async def blocks(self, request: web.Request) -> web.Response:
        """Blocks of the main chain by height."""
        offset, limit = _paging(request)
        blocks = self._chain.blocks[::-1] if _descending(request) else self._chain.blocks
        items = map(self._json.block_info, blocks[offset : offset + limit])
        return web.json_response(_items(items, self._chain.height))

    async def headers(self, request: web.Request) -> web.Response:
        """Headers of the main chain, newest first."""
        offset, limit = _paging(request)
        headers = map(self._json.header, self._chain.blocks[::-1][offset : offset + limit])
        return web.json_response(_items(headers, self._chain.height))

    async def block(self, request: web.Request) -> web.Response:
        """A block by id."""
        return web.json_response(self._json.block(found(self._chain.block(_id(request)))))

    async def block_ids_v0(self, request: web.Request) -> web.Response:
        """Ids of the blocks of a height, that of the main chain first."""
        return web.json_response(self._chain.ids_at(path_int(request, "height")))

    def _parameters(self) -> JsonObject:
        return {key: value for key, value in self._chain.parameters.items() if key != "subblocksPerBlock"}

    def _unspent(self, tree: str) -> Iterable[ChainBox]:
        ledger = self._chain.ledger
        ids = ledger.unspent.page(By.TREE, tree, 0, ledger.unspent.count(By.TREE, tree), descending=True)
        return (ledger.boxes[box_id] for box_id in ids)

    def _pool_unspent(self, tree: str) -> list[BoxView]:
        pool = self._chain.pool
        return [view for view in pool.outputs() if view.tree == tree and not pool.spender(view.box_id)]

    def _touches(self, entry: PoolTx, tree: str) -> bool:
        if any(box.tree == tree for box in entry.view.outputs):
            return True
        boxes = filter(None, map(self._chain.unconfirmed_box, entry.view.inputs))
        return any(bytes(box.ergo_tree).hex() == tree for box in boxes)

    def _address(self, request: web.Request) -> str:
        address = request.match_info["address"]
        try:
            return tree_of(address, self._chain.network).hex()
        except ValueError as error:
            raise HttpError(400, f"Failed to parse address {address[:60]!r}: {error}") from error


def _error(status: int, text: str | None) -> JsonObject:
    reason = _REASONS.get(status, "Unknown error")
    return {"status": status, "reason": f"{reason}: {text}" if text else reason}


def _items(items: Iterable[JsonObject], total: int) -> JsonObject:
    return {"items": list(items), "total": total}


def _paging(request: web.Request, most: int = MAX_ITEMS) -> tuple[int, int]:
    return query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 20, 1, most)


def _descending(request: web.Request) -> bool:
    direction = request.query.get("sortDirection", "desc").lower()
    if direction not in ("asc", "desc"):
        raise HttpError(400, f"Invalid value for: query parameter sortDirection (asc or desc, but was {direction!r})")
    return direction == "desc"


def _id(request: web.Request) -> str:
    return request.match_info["id"]


def _tree(request: web.Request) -> str:
    tree = request.match_info["tree"]
    try:
        parse_tree(bytes.fromhex(tree))
    except ValueError as error:
        raise HttpError(400, f"Invalid value for: path parameter ergoTree ({error})") from error
    return tree


def _matches(view: BoxView, query: JsonObject) -> bool:
    """Registers and constants are compared with their rendered text; assets must all be there."""
    if not {held for held, _ in view.tokens}.issuperset(query.get("assets") or ()):
        return False
    constants = tree_constants(view.tree)
    for position, wanted in (query.get("constants") or {}).items():
        if not position.isdecimal() or int(position) >= len(constants) or constants[int(position)] != wanted:
            return False
    wanted_registers = (query.get("registers") or {}).items()
    have = registers(view) if wanted_registers else {}
    return all(name in have and have[name]["renderedValue"] == wanted for name, wanted in wanted_registers)


def _response_cache(chain: Chain) -> Any:
    """Answers repeated for the same method, URI and body until a block comes, submits included."""
    cache: dict[tuple[str, str, bytes], tuple[int, bytes]] = {}
    cached_at = chain.tip.block_id

    @web.middleware
    async def repeat(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal cached_at
        if cached_at != chain.tip.block_id:
            cache.clear()
            cached_at = chain.tip.block_id
        key = (request.method, request.path_qs, await request.read())
        if key not in cache:
            response = await handler(request)
            body = response.body if isinstance(response, web.Response) else None
            if response.status >= 300 or not isinstance(body, bytes):
                return response
            cache.setdefault(key, (response.status, body))
        status, cached = cache[key]
        return web.Response(status=status, body=cached, content_type="application/json")

    return repeat
