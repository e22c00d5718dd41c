"""The devnet's own routes: mine, fork, pay, look.

`POST /devnet/mine {"blocks": 1}`, `POST /devnet/reorg {"depth": 1}`, `POST /devnet/faucet {"address", "nanoErg"}`,
`GET /devnet/status`. Errors have the node's form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from aihd.devnet.blocks import Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.http import HttpError, json_body
from aihd.errors import AihdError


class ControlApi:
    """Handlers of the routes."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.post("/devnet/mine", self.mine),
            web.post("/devnet/reorg", self.reorg),
            web.post("/devnet/faucet", self.faucet),
            web.get("/devnet/status", self.status),
        ]

    async def mine(self, request: web.Request) -> web.Response:
        """Mines blocks and gives their ids."""
        blocks = await _number(request, "blocks", 1)
        return web.json_response({"height": self._chain.height + blocks, "blocks": _ids(self._chain.mine(blocks))})

    async def reorg(self, request: web.Request) -> web.Response:
        """Forks and gives the ids of the orphaned blocks."""
        depth = await _number(request, "depth", 1)
        orphaned = _or_400(lambda: self._chain.reorg(depth))
        return web.json_response({"height": self._chain.height, "orphaned": _ids(orphaned)})

    async def faucet(self, request: web.Request) -> web.Response:
        """Pays an address or a tree and gives the id of the transaction, which waits in the mempool."""
        amount = await _number(request, "nanoErg", None)
        address = str((await json_body(request)).get("address"))
        return web.json_response({"transactionId": _or_400(lambda: self._chain.faucet(address, amount))})

    async def status(self, _request: web.Request) -> web.Response:
        """Tip, mempool and sizes."""
        ledger = self._chain.ledger
        state = {
            "height": self._chain.height,
            "bestBlockId": self._chain.tip.block_id,
            "genesisBlockId": self._chain.blocks[0].block_id,
            "unconfirmed": len(self._chain.pool),
            "transactions": len(ledger.transactions),
            "boxes": len(ledger.boxes),
            "orphanedBoxes": len(ledger.orphans),
        }
        return web.json_response(state)


def _ids(blocks: list[Block]) -> list[str]:
    return [block.block_id for block in blocks]


async def _number(request: web.Request, name: str, default: int | None) -> int:
    """A whole number above 0 in the body's object."""
    body: JsonObject | Any = await json_body(request) if request.can_read_body else {}
    number = body.get(name, default) if isinstance(body, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise HttpError(400, f'the body must be an object with "{name}", a whole number above 0; it has {number!r}')
    return number


def _or_400(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except AihdError as error:
        raise HttpError(400, str(error)) from error
