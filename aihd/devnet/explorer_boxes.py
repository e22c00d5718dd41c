"""The Explorer's routes for boxes: lists by tree, address, template and token, searches, streams.

True to the real one in what surprises: orders that the maker of a box chooses, lists of all boxes without any order,
orphans among them, paging limits, and streams of JSON objects with nothing between them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from aihd.devnet.blocks import JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.explorer_json import EPOCH, ExplorerJson, registers
from aihd.devnet.faults import Faults, Indexer
from aihd.devnet.http import HttpError, descending, found, items, json_body, path_id, query_int
from aihd.devnet.ledger import By, ChainBox, Ledger, Pages
from aihd.devnet.render import tree_constants
from aihd.devnet.views import BoxView
from aihd.protocol.trees import parse_tree, tree_of

MAX_ITEMS = 500
MAX_ITEMS_BY_TOKEN = 100
MAX_RANGE = 1536  # blocks of one stream

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]
Key = Callable[[web.Request], str]


class ExplorerBoxes:
    """Handlers of the routes."""

    def __init__(self, chain: Chain, faults: Faults, indexer: Indexer, shapes: ExplorerJson) -> None:
        self._chain, self._faults, self._indexer, self._json = chain, faults, indexer, shapes
        self._random = random.Random(0)  # noqa: S311 - another order each time, but the same ones in every run

    def routes(self) -> list[web.RouteDef]:
        """All routes, the fixed paths before those with parameters."""
        boxes = "/api/v1/boxes"
        template, token = "byErgoTreeTemplateHash/{id}", "byTokenId/{id}"
        return [
            web.get(f"{boxes}/unspent/unconfirmed/byAddress/{{address}}", self.boxes_with_pool),
            web.get(f"{boxes}/unspent/all/byAddress/{{address}}", self.boxes_with_pool),
            web.get(f"{boxes}/unspent/byLastEpochs/stream", self.stream_last_epochs),
            web.get(f"{boxes}/unspent/byGlobalIndex/stream", self._stream_by_index(unspent=True)),
            web.get(f"{boxes}/unspent/stream", self.stream_unspent),
            web.get(f"{boxes}/byGlobalIndex/stream", self._stream_by_index(unspent=False)),
            web.get(f"{boxes}/{template}/stream", self.stream_template),
            web.get(f"{boxes}/unspent/{template}/stream", self.stream_unspent_template),
            web.get(f"{boxes}/byErgoTree/{{tree}}", self._pages(False, By.TREE, tree_in_path)),
            web.get(f"{boxes}/unspent/byErgoTree/{{tree}}", self._pages(True, By.TREE, tree_in_path)),
            web.get(f"{boxes}/byAddress/{{address}}", self._pages(False, By.TREE, self.tree_of_address)),
            web.get(f"{boxes}/unspent/byAddress/{{address}}", self._pages(True, By.TREE, self.tree_of_address)),
            web.get(f"{boxes}/{template}", self._pages(False, By.TEMPLATE, path_id)),
            web.get(f"{boxes}/unspent/{template}", self._pages(True, By.TEMPLATE, path_id)),
            web.get(f"{boxes}/{token}", self._pages(False, By.TOKEN, path_id, MAX_ITEMS_BY_TOKEN)),
            web.get(f"{boxes}/unspent/{token}", self._pages(True, By.TOKEN, path_id, MAX_ITEMS_BY_TOKEN)),
            web.post(f"{boxes}/unspent/search/union", self._search(True, any_asset)),
            web.post(f"{boxes}/unspent/search", self._search(True, matches)),
            web.post(f"{boxes}/search", self._search(False, matches)),
            web.get(f"{boxes}/{{id}}", self.box),
        ]

    async def box(self, request: web.Request) -> web.Response:
        """A box: of the main chain, else an orphaned one; a box of the mempool is not found."""
        box_id = path_id(request)
        box = self._ledger.boxes.get(box_id)
        if box:
            return web.json_response(self._json.output(box))
        return web.json_response(self._json.output(found(self._ledger.orphans.get(box_id)), main_chain=False))

    async def boxes_with_pool(self, request: web.Request) -> web.Response:
        """A bare list: boxes of the mempool and unspent ones of the chain, without those that the mempool spends."""
        tree, spender = self.tree_of_address(request), self._chain.pool.spender
        pool = [self._json.pool_output(view) for view in self.waiting(tree)]
        chain = [self._json.confirmed_output(box) for box in self.unspent(tree) if not spender(box.view.box_id)]
        return web.json_response(pool + chain)

    def unspent(self, tree: str) -> list[ChainBox]:
        """The unspent boxes of a tree (hex), newest first."""
        return self._listed(self._ledger.unspent, By.TREE, tree)[::-1]

    def waiting(self, tree: str) -> list[BoxView]:
        """The boxes of a tree (hex) that the mempool makes and does not spend."""
        pool = self._chain.pool
        return [view for view in pool.outputs() if view.tree == tree and not pool.spender(view.box_id)]

    def tree_of_address(self, request: web.Request) -> str:
        """The tree (hex) of the address in the path; HttpError 400 for an address of no or another network."""
        address = request.match_info["address"]
        try:
            return tree_of(address, self._chain.network).hex()
        except ValueError as error:
            raise HttpError(400, f"Failed to parse address {address[:60]!r}") from error

    # -- lists --------------------------------------------------------------------------------------------------

    def _pages(self, unspent: bool, by: By, key_of: Key, most: int = MAX_ITEMS) -> Handle:
        async def page(request: web.Request) -> web.Response:
            key = key_of(request)
            offset, limit = paging(request, most)
            pages = self._ledger.unspent if unspent else self._ledger.all
            whole = self._disturbed(pages, by, key, unspent)
            if whole is None:
                ids = pages.page(by, key, offset, limit, by is By.TREE and descending(request))
                shapes = (self._json.output(self._ledger.boxes[box_id]) for box_id in ids)
                return web.json_response(items(shapes, pages.count(by, key)))
            return web.json_response(items(map(self._shape, whole[offset : offset + limit]), len(whole)))

        return page

    def _disturbed(self, pages: Pages, by: By, key: str, unspent: bool) -> list[ChainBox] | None:
        """The whole list where a fault changes it; None where its stored order is right."""
        unordered = not unspent and self._faults.active("unordered", "explorer")
        by_template = by is By.TEMPLATE
        orphans = by_template and not unspent and self._faults.active("orphans", "explorer")
        by_index = by_template and not self._faults.active("declared-order", "explorer")
        added = self._ledger.orphans_by(by, key) if orphans else []
        if not (unordered or added or by_index):
            return None
        whole = self._listed(pages, by, key) + added
        whole.sort(key=lambda box: (0 if by_index else box.view.creation_height, box.gix))
        if unordered:
            self._random.shuffle(whole)
        return whole

    def _search(self, unspent: bool, wanted: Callable[[BoxView, JsonObject], bool]) -> Handle:
        async def search(request: web.Request) -> web.Response:
            query = await json_body(request)
            template = query.get("ergoTreeTemplateHash") if isinstance(query, dict) else None
            if not isinstance(template, str):
                raise HttpError(400, "Invalid value for: body (Missing required field at 'ergoTreeTemplateHash')")
            offset, limit = paging(request)
            pages = self._ledger.unspent if unspent else self._ledger.all
            by_index = not self._faults.active("declared-order", "explorer")
            boxes = [box for box in self._listed(pages, By.TEMPLATE, template) if wanted(box.view, query)]
            if by_index:
                boxes.sort(key=lambda box: box.gix)
            return web.json_response(items(map(self._json.output, boxes[offset : offset + limit]), len(boxes)))

        return search

    @property
    def _ledger(self) -> Ledger:
        return self._indexer.history.ledger

    def _listed(self, pages: Pages, by: By, key: str) -> list[ChainBox]:
        boxes = self._ledger.boxes
        return [boxes[box_id] for box_id in pages.page(by, key, 0, pages.count(by, key), descending=False)]

    def _shape(self, box: ChainBox) -> JsonObject:
        return self._json.output(box, main_chain=self._ledger.boxes.get(box.view.box_id) is box)

    # -- streams ------------------------------------------------------------------------------------------------

    async def stream_unspent(self, request: web.Request) -> web.StreamResponse:
        """Unspent boxes of blocks in a range of heights."""
        lowest, highest = heights(request)
        return await stream(request, self._unspent_between(lowest, highest))

    async def stream_last_epochs(self, request: web.Request) -> web.StreamResponse:
        """Unspent boxes of the newest epochs."""
        epochs = query_int(request, "lastEpochs", 1, 1, 2**31)
        return await stream(request, self._unspent_between(self._indexer.history.height - epochs * EPOCH, 2**31))

    async def stream_template(self, request: web.Request) -> web.StreamResponse:
        """All boxes of a template in a range of heights."""
        lowest, highest = heights(request)
        boxes = self._listed(self._ledger.all, By.TEMPLATE, path_id(request))
        return await stream(request, (self._json.output(box) for box in boxes if lowest <= box.height <= highest))

    async def stream_unspent_template(self, _request: web.Request) -> web.StreamResponse:
        """Broken in the real one: its SQL names a table that it does not join."""
        raise HttpError(500, 'ERROR: missing FROM-clause entry for table "h"')

    def _unspent_between(self, lowest: int, highest: int) -> Iterable[JsonObject]:
        ledger = self._ledger
        for box in list(ledger.boxes.values()):
            if lowest <= box.height <= highest and not ledger.spender(box.view.box_id):
                yield self._json.output(box)

    def _stream_by_index(self, unspent: bool) -> Handle:
        async def boxes_from(request: web.Request) -> web.StreamResponse:
            first, ledger = query_int(request, "minGix", 0, 0, 2**62), self._ledger
            limit = query_int(request, "limit", MAX_ITEMS, 1, MAX_ITEMS)
            boxes = list(ledger.boxes.values())[first:]
            chosen = [box for box in boxes if not (unspent and ledger.spender(box.view.box_id))][:limit]
            return await stream(request, map(self._json.output, chosen))

        return boxes_from


async def stream(request: web.Request, shapes: Iterable[JsonObject]) -> web.StreamResponse:
    """JSON objects one after the other, with neither brackets nor anything between them."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for shape in shapes if request.method == "GET" else ():  # not for HEAD
        await response.write(json.dumps(shape).encode())
    await response.write_eof()
    return response


def paging(request: web.Request, most: int = MAX_ITEMS) -> tuple[int, int]:
    """Offset and limit of the query; HttpError 400 above `most`."""
    return query_int(request, "offset", 0, 0, 2**31), query_int(request, "limit", 20, 1, most)


def heights(request: web.Request) -> tuple[int, int]:
    """The range of a stream; HttpError 400 for more than 1536 blocks."""
    lowest = query_int(request, "minHeight", 0, 0, 2**31)
    highest = query_int(request, "maxHeight", lowest + MAX_RANGE, 0, 2**31)
    if highest - lowest > MAX_RANGE:
        raise HttpError(400, f"Blocks per request should be in range 1 to {MAX_RANGE}, but was {highest - lowest}")
    return lowest, highest


def tree_in_path(request: web.Request) -> str:
    """The tree of the path; HttpError 400 where it cannot be parsed."""
    tree = request.match_info["tree"]
    try:
        parse_tree(bytes.fromhex(tree))
    except ValueError as error:
        raise HttpError(400, "Invalid value for: path parameter ergoTree") from error
    return tree


def matches(view: BoxView, query: JsonObject) -> bool:
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


def any_asset(view: BoxView, query: JsonObject) -> bool:
    """One of the assets is enough."""
    return not {held for held, _ in view.tokens}.isdisjoint(query.get("assets") or ())
