"""The Explorer's HTTP API over a chain: `/api/v1`, and the look-ups of `/api/v0` that have no successor.

True to the real one in what surprises: `transactions/{id}` knows neither mempool nor orphans, and a submit promises
nothing. Faults change it further: `aihd.devnet.faults`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from aiohttp import web

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.explorer_boxes import MAX_ITEMS, ExplorerBoxes, paging, stream
from aihd.devnet.explorer_json import ExplorerJson, constants_text
from aihd.devnet.faults import Faults, Indexer
from aihd.devnet.http import (
    MAX_LINE,
    HttpError,
    descending,
    errors_as,
    flag,
    found,
    items,
    json_body,
    parse_transaction,
    path_id,
    path_int,
    query_int,
)
from aihd.devnet.ledger import ChainTx, Ledger, Token
from aihd.devnet.mempool import PoolTx
from aihd.protocol.trees import explorer_template_hash

_REASONS = {400: "Bad request", 404: "Not found"}


def explorer_app(chain: Chain, faults: Faults) -> web.Application:
    """The application; serve it with `max_line_size=MAX_LINE`."""
    middlewares = [errors_as(_error, _unmatched), faults.middleware("explorer", chain)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_LINE * 16)
    indexer = Indexer(chain, faults, "explorer")
    shapes = ExplorerJson(chain, lambda: indexer.history)
    boxes = ExplorerBoxes(chain, faults, indexer, shapes)
    app.add_routes([*boxes.routes(), *ExplorerApi(chain, indexer, shapes, boxes).routes()])
    return app


class ExplorerApi:
    """Handlers of the routes that are not about boxes."""

    def __init__(self, chain: Chain, indexer: Indexer, shapes: ExplorerJson, boxes: ExplorerBoxes) -> None:
        self._chain, self._indexer, self._json, self._boxes = chain, indexer, shapes, boxes

    def routes(self) -> list[web.RouteDef]:
        """All routes, the fixed paths before those with parameters."""
        v1, v0 = "/api/v1", "/api/v0"
        return [
            web.get(f"{v1}/transactions/byGlobalIndex/stream", self.stream_transactions),
            web.get(f"{v1}/transactions/byInputsScriptTemplateHash/{{id}}", self.transactions_by_template),
            web.get(f"{v1}/transactions/{{id}}", self.transaction),
            web.get(f"{v1}/addresses/{{address}}/transactions", self.address_transactions),
            web.get(f"{v1}/addresses/{{address}}/balance/confirmed", self.balance_confirmed),
            web.get(f"{v1}/addresses/{{address}}/balance/total", self.balance_total),
            web.get(f"{v1}/mempool/transactions/byAddress/{{address}}", self.pool_transactions),
            web.get(f"{v1}/mempool/boxes/unspent", self.stream_pool_boxes),
            web.post(f"{v1}/mempool/transactions/submit", self.submit),
            web.get(f"{v1}/networkState", self.network_state),
            web.get(f"{v1}/info", self.network_state),
            web.get(f"{v1}/networkStats", self.network_stats),
            web.get(f"{v1}/epochs/params", self.epoch_parameters),
            web.get(f"{v1}/blocks", self.blocks),
            web.get(f"{v1}/blocks/headers", self.headers),
            web.get(f"{v1}/blocks/byGlobalIndex/stream", self.stream_blocks),
            web.get(f"{v1}/blocks/stream/summary", self.stream_summaries),
            web.get(f"{v1}/blocks/{{id}}", self.block),
            web.get(f"{v1}/tokens", self.tokens),
            web.get(f"{v1}/assets", self.tokens),
            web.get(f"{v1}/tokens/search", self.tokens_search),
            web.get(f"{v1}/tokens/bySymbol/{{symbol}}", self.tokens_by_symbol),
            web.get(f"{v1}/tokens/{{id}}", self.token),
            web.get(f"{v1}/assets/search/byTokenId", self.assets_search),
            web.post(f"{v1}/ergotree/convert", self.convert_tree),
            web.get(f"{v0}/blocks/at/{{height}}", self.block_ids_v0),
            web.get(f"{v0}/transactions/unconfirmed", self.pool_transactions_v0),
            web.get(f"{v0}/transactions/unconfirmed/byAddress/{{address}}", self.pool_transactions_v0),
            web.get(f"{v0}/transactions/unconfirmed/{{id}}", self.pool_transaction_v0),
            web.post(f"{v0}/transactions/send", self.submit),
        ]

    # -- transactions -------------------------------------------------------------------------------------------

    async def transaction(self, request: web.Request) -> web.Response:
        """A transaction of the main chain."""
        return web.json_response(self._json.transaction(found(self._ledger.transactions.get(path_id(request)))))

    async def address_transactions(self, request: web.Request) -> web.Response:
        """Transactions that make or spend boxes of an address, newest first."""
        tree = self._boxes.tree_of_address(request)
        offset, limit = paging(request)
        lowest = query_int(request, "fromHeight", 0, 0, 2**31)
        highest = query_int(request, "toHeight", 2**31, 0, 2**31)
        known = self._ledger.transactions
        rows = [known[tx_id] for tx_id in reversed(self._ledger.transactions_of(tree))]
        rows = [row for row in rows if lowest <= row.height <= highest]
        only = tree if flag(request, "concise") else None
        shapes = (self._json.transaction(row, only) for row in rows[offset : offset + limit])
        return web.json_response(items(shapes, len(rows)))

    async def transactions_by_template(self, request: web.Request) -> web.Response:
        """Transactions that spend a box of a template."""
        offset, limit = paging(request)
        rows = [row for row in self._ledger.transactions.values() if self._spends(row, path_id(request))]
        if descending(request):
            rows.reverse()
        return web.json_response(items(map(self._json.transaction, rows[offset : offset + limit]), len(rows)))

    async def stream_transactions(self, request: web.Request) -> web.StreamResponse:
        """Transactions from a global index on."""
        first, limit = query_int(request, "minGix", 0, 0, 2**62), query_int(request, "limit", MAX_ITEMS, 1, MAX_ITEMS)
        rows = list(self._ledger.transactions.values())[first : first + limit]
        return await stream(request, map(self._json.transaction, rows))

    async def submit(self, request: web.Request) -> web.Response:
        """Answers 200 to whatever has known inputs, then hands it to the node, whose refusal nobody hears of."""
        tx = parse_transaction(await json_body(request))
        ledger = self._chain.ledger
        for index, box_id in enumerate(str(i.box_id) for i in tx.inputs):
            if self._chain.unconfirmed_view(box_id) is None:
                fault = "is already spent" if ledger.spender(box_id) else "not found"
                raise HttpError(400, f"Transaction is invalid. Input {index}:{box_id} {fault}")
        with contextlib.suppress(RejectedError):
            self._chain.submit(tx)
        return web.json_response({"id": str(tx.id)})

    # -- mempool ------------------------------------------------------------------------------------------------

    async def pool_transactions(self, request: web.Request) -> web.Response:
        """Waiting transactions that make or spend boxes of an address."""
        entries = self._touching(self._boxes.tree_of_address(request))
        offset, limit = paging(request)
        shapes = map(self._json.pool_transaction, entries[offset : offset + limit])
        return web.json_response(items(shapes, len(entries)))

    async def stream_pool_boxes(self, request: web.Request) -> web.StreamResponse:
        """Every box that the mempool makes and does not spend."""
        pool = self._chain.pool
        boxes = [view for view in pool.outputs() if not pool.spender(view.box_id)]
        return await stream(request, map(self._json.pool_output, boxes))

    async def pool_transaction_v0(self, request: web.Request) -> web.Response:
        """A waiting transaction."""
        return web.json_response(self._json.pool_summary_v0(found(self._chain.pool.get(path_id(request)))))

    async def pool_transactions_v0(self, request: web.Request) -> web.Response:
        """Waiting transactions, all or those of an address."""
        by_address = "address" in request.match_info
        entries = self._touching(self._boxes.tree_of_address(request)) if by_address else list(self._chain.pool)
        offset, limit = paging(request)
        shapes = map(self._json.pool_transaction_v0, entries[offset : offset + limit])
        return web.json_response(items(shapes, len(entries)))

    # -- addresses, tokens --------------------------------------------------------------------------------------

    async def balance_confirmed(self, request: web.Request) -> web.Response:
        """What an address holds in boxes of at least `minConfirmations`."""
        tree, depth = self._boxes.tree_of_address(request), query_int(request, "minConfirmations", 0, 0, 2**31)
        newest = self._indexer.history.height - depth + 1
        return web.json_response(
            self._json.balance(box.view for box in self._boxes.unspent(tree) if box.height <= newest)
        )

    async def balance_total(self, request: web.Request) -> web.Response:
        """What an address holds on the chain, and what the mempool would add."""
        tree = self._boxes.tree_of_address(request)
        confirmed = self._json.balance(box.view for box in self._boxes.unspent(tree))
        unconfirmed = self._json.balance(self._boxes.waiting(tree))
        return web.json_response({"confirmed": confirmed, "unconfirmed": unconfirmed})

    async def token(self, request: web.Request) -> web.Response:
        """A token by id."""
        return web.json_response(self._json.token(found(self._ledger.tokens.get(path_id(request)))))

    async def tokens(self, request: web.Request) -> web.Response:
        """All tokens, the newest first; `hideNfts` leaves out those of which there is one."""
        alone = flag(request, "hideNfts")
        tokens = [token for token in self._ledger.tokens.values() if not (alone and token.emission == 1)]
        return self._token_page(request, tokens[::-1] if descending(request) else tokens)

    async def tokens_search(self, request: web.Request) -> web.Response:
        """Tokens whose id is the query, or whose name contains it."""
        query = _needle(request)
        named = [
            t for t in self._ledger.tokens.values() if t.token_id == query or query.lower() in (t.name or "").lower()
        ]
        return self._token_page(request, named)

    async def tokens_by_symbol(self, request: web.Request) -> web.Response:
        """A bare list of the tokens of this name."""
        symbol = request.match_info["symbol"].lower()
        named = (token for token in self._ledger.tokens.values() if (token.name or "").lower() == symbol)
        return web.json_response([self._json.token(token) for token in named])

    async def assets_search(self, request: web.Request) -> web.Response:
        """Tokens in unspent boxes whose id begins with the query."""
        query, ledger = _needle(request), self._ledger
        offset, limit = paging(request)
        shapes = [
            self._json.asset(box, index)
            for box in ledger.boxes.values()
            for index, (token_id, _) in enumerate(box.view.tokens)
            if token_id.startswith(query) and not ledger.spender(box.view.box_id)
        ]
        return web.json_response(items(shapes[offset : offset + limit], len(shapes)))

    async def convert_tree(self, request: web.Request) -> web.Response:
        """The constants of a tree; there is no decompiler here, so its script stays empty."""
        body = await json_body(request)
        tree = body.get("hashed") if isinstance(body, dict) else None
        if not isinstance(tree, str):
            raise HttpError(400, "Invalid value for: body (Missing required field at 'hashed')")
        return web.json_response({"constants": constants_text(tree), "script": ""})

    # -- blocks -------------------------------------------------------------------------------------------------

    async def network_state(self, _request: web.Request) -> web.Response:
        """The tip and the parameters."""
        history, ledger = self._indexer.history, self._ledger
        state = {
            "lastBlockId": history.tip.block_id,
            "height": history.height,
            "maxBoxGix": len(ledger.boxes) - 1,
            "maxTxGix": len(ledger.transactions) - 1,
            "params": self._parameters(),
        }
        return web.json_response(state)

    async def network_stats(self, _request: web.Request) -> web.Response:
        """How many scripts ever had a box."""
        return web.json_response({"uniqueAddressesNum": len({box.view.tree for box in self._ledger.boxes.values()})})

    async def epoch_parameters(self, _request: web.Request) -> web.Response:
        """The parameters."""
        return web.json_response(self._parameters())

    async def blocks(self, request: web.Request) -> web.Response:
        """Blocks of the main chain by height."""
        offset, limit = paging(request)
        seen = self._indexer.history.blocks
        blocks = seen[::-1] if descending(request) else seen
        return web.json_response(items(map(self._json.block_info, blocks[offset : offset + limit]), len(seen)))

    async def headers(self, request: web.Request) -> web.Response:
        """Headers of the main chain, newest first."""
        offset, limit = paging(request)
        seen = self._indexer.history.blocks
        blocks = seen[::-1] if descending(request) else seen
        return web.json_response(items(map(self._json.header, blocks[offset : offset + limit]), len(seen)))

    async def block(self, request: web.Request) -> web.Response:
        """A block by id."""
        block = found(self._chain.block(path_id(request)))
        if block.height > self._indexer.history.height:
            raise HttpError(404)
        return web.json_response(self._json.block(block))

    async def stream_blocks(self, request: web.Request) -> web.StreamResponse:
        """Blocks from a global index on, which counts from 0 at height 1."""
        first, limit = query_int(request, "minGix", 0, 0, 2**62), query_int(request, "limit", MAX_ITEMS, 1, MAX_ITEMS)
        blocks = self._indexer.history.blocks[first : first + limit]
        return await stream(request, map(self._json.block_info, blocks))

    async def stream_summaries(self, request: web.Request) -> web.StreamResponse:
        """Blocks with their transactions."""
        offset, limit = paging(request)
        seen = self._indexer.history.blocks
        blocks = seen[::-1] if descending(request) else seen
        return await stream(request, map(self._json.block_summary, blocks[offset : offset + limit]))

    async def block_ids_v0(self, request: web.Request) -> web.Response:
        """Ids of the blocks of a height, that of the main chain first."""
        height = path_int(request, "height")
        return web.json_response(self._chain.ids_at(height) if height <= self._indexer.history.height else [])

    # -- helpers ------------------------------------------------------------------------------------------------

    @property
    def _ledger(self) -> Ledger:
        return self._indexer.history.ledger

    def _parameters(self) -> JsonObject:
        return {key: value for key, value in self._chain.parameters.items() if key != "subblocksPerBlock"}

    def _token_page(self, request: web.Request, tokens: Sequence[Token]) -> web.Response:
        offset, limit = paging(request)
        return web.json_response(items(map(self._json.token, tokens[offset : offset + limit]), len(tokens)))

    def _spends(self, row: ChainTx, template: str) -> bool:
        boxes = (self._ledger.boxes[box_id].view for box_id in row.view.inputs)
        return any(_template(box.tree) == template for box in boxes)

    def _touching(self, tree: str) -> list[PoolTx]:
        return [entry for entry in self._chain.pool if self._touches(entry, tree)]

    def _touches(self, entry: PoolTx, tree: str) -> bool:
        if any(box.tree == tree for box in entry.view.outputs):
            return True
        boxes = filter(None, map(self._chain.unconfirmed_view, entry.view.inputs))
        return any(box.tree == tree for box in boxes)


def _template(tree: str) -> str | None:
    try:
        return explorer_template_hash(bytes.fromhex(tree))
    except ValueError:
        return None


def _needle(request: web.Request) -> str:
    query = request.query.get("query", "")
    if len(query) < 3:
        raise HttpError(400, f"Invalid value for: query parameter query (at least 3 characters, but was {query!r})")
    return query


def _unmatched(_request: web.Request) -> HttpError:
    return HttpError(404, "The requested resource/endpoint could not be found.")


def _error(error: HttpError) -> JsonObject:
    reason = _REASONS.get(error.status, "Unknown error")
    return {"status": error.status, "reason": f"{reason}: {error.text}" if error.text else reason}
