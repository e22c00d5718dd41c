"""The devnet's own routes: mine, fork, drop, pay, break, save, look. Errors have the node's form.

`POST /devnet/mine {"blocks", "on"}`, `/reorg {"depth", "lose", "making"}`, `/settle`, `/drop {"transactionId"}`, `/restart`,
`/node {"headersAhead", "selfMined", "peerHeight"}`, `/faucet {"address", "nanoErg"}`,
`/issue {"name", "amount", "decimals", "address", "description"}`, `/fault {"name", "on", "api"}`, `/snapshot {"name"}`,
`/restore {"name"}`;
`GET /devnet/status`. Snapshots have names, not paths: they stay in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from aihd.devnet.blocks import Block, JsonObject
from aihd.devnet.chain import Chain
from aihd.devnet.faults import Faults
from aihd.devnet.http import HttpError, json_body
from aihd.devnet.ledger import By
from aihd.devnet.snapshot import restore_snapshot, write_snapshot
from aihd.errors import AihdError, UsageError
from aihd.protocol.trees import tree_of

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ControlApi:
    """Handlers of the routes. `folder`: where snapshots are."""

    def __init__(self, chain: Chain, faults: Faults, folder: Path) -> None:
        self._chain, self._faults, self._folder = chain, faults, folder

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.post("/devnet/mine", self.mine),
            web.post("/devnet/reorg", self.reorg),
            web.post("/devnet/settle", self.settle),
            web.post("/devnet/node", self.node),
            web.post("/devnet/drop", self.drop),
            web.post("/devnet/restart", self.restart),
            web.post("/devnet/faucet", self.faucet),
            web.post("/devnet/issue", self.issue),
            web.post("/devnet/fault", self.fault),
            web.post("/devnet/snapshot", self.snapshot),
            web.post("/devnet/restore", self.restore),
            web.get("/devnet/status", self.status),
        ]

    async def mine(self, request: web.Request) -> web.Response:
        """Mines blocks, on the tip or on the block of an id, and gives their ids."""
        body = await _object(request)
        count, on = _whole(body, "blocks", 1), _optional(body, "on")
        made = _or_400(lambda: self._chain.mine(count, on=on))
        return web.json_response({"height": self._chain.height, "blocks": _ids(made)})

    async def reorg(self, request: web.Request) -> web.Response:
        """Forks and gives the ids of the orphaned blocks."""
        body = await _object(request)
        depth, lose, making = _whole(body, "depth", 1), _switch(body, "lose", False), _switch(body, "making", False)
        orphaned = _or_400(lambda: self._chain.reorg(depth, lose=lose, making=making))
        return web.json_response({"height": self._chain.height, "orphaned": _ids(orphaned)})

    async def settle(self, _request: web.Request) -> web.Response:
        """Brings the contents of the blocks whose headers have come."""
        self._chain.settle()
        return web.json_response(self._progress())

    async def node(self, request: web.Request) -> web.Response:
        """Sets how far the headers run ahead, which share of them is self-mined, and how high the peers are; all may be left out."""
        body, chain = await _object(request), self._chain
        ahead, peers = (_whole(body, name, -1, least=-1) for name in ("headersAhead", "peerHeight"))
        share = body.get("selfMined", chain.self_mined)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise HttpError(
                400, f'the body must be an object with "selfMined", a number of 0 to 1; it has {str(share)[:60]!r}'
            )
        if ahead >= 0:
            _or_400(lambda: chain.run_ahead(ahead))
        chain.self_mined = float(share)
        chain.peer_height = peers if peers >= 0 else chain.peer_height
        return web.json_response(self._progress())

    def _progress(self) -> JsonObject:
        chain = self._chain
        state = {"height": chain.height, "headersHeight": chain.best_header.height, "headersAhead": chain.ahead}
        return {**state, "selfMined": chain.self_mined, "peerHeight": chain.peer_height}

    async def drop(self, request: web.Request) -> web.Response:
        """Loses a waiting transaction."""
        tx_id = _text(await _object(request), "transactionId")
        _or_400(lambda: self._chain.drop(tx_id))
        return web.json_response({"unconfirmed": len(self._chain.pool)})

    async def restart(self, _request: web.Request) -> web.Response:
        """Loses the mempool, as a restart of a node does."""
        self._chain.restart()
        return web.json_response({"weighing": self._chain.pool.weighing})

    async def faucet(self, request: web.Request) -> web.Response:
        """Pays an address or a tree and gives the id of the transaction, which waits in the mempool."""
        body = await _object(request)
        amount, address = _whole(body, "nanoErg"), _text(body, "address")
        return web.json_response({"transactionId": _or_400(lambda: self._chain.faucet(address, amount))})

    async def issue(self, request: web.Request) -> web.Response:
        """Issues a token to an address or a tree, else to the faucet, and gives its id."""
        body = await _object(request)
        name, amount, decimals = _text(body, "name"), _whole(body, "amount"), _whole(body, "decimals", 0, least=0)
        to, description = _optional(body, "address"), _optional(body, "description") or ""
        token_id = _or_400(lambda: self._chain.issue(name, amount, decimals, to=to, description=description))
        return web.json_response({"tokenId": token_id})

    async def fault(self, request: web.Request) -> web.Response:
        """Turns a fault on or off and gives those that are on."""
        body = await _object(request)
        name, on, api = _text(body, "name"), _switch(body, "on"), _optional(body, "api")
        _or_400(lambda: self._faults.switch(name, on, api))
        return web.json_response(self._faults.listed())

    async def snapshot(self, request: web.Request) -> web.Response:
        """Saves the chain under a name."""
        path = self._path(await _object(request))
        try:
            write_snapshot(self._chain.save(), path)
        except OSError as error:
            raise HttpError(400, f"snapshot {path.name}: {error.strerror}") from error
        return web.json_response({"name": path.name, "height": self._chain.height, "bytes": path.stat().st_size})

    async def restore(self, request: web.Request) -> web.Response:
        """Becomes the chain of a name."""
        path = self._path(await _object(request))
        _or_400(lambda: restore_snapshot(self._chain, path))
        return web.json_response({"name": path.name, "height": self._chain.height})

    async def status(self, request: web.Request) -> web.Response:
        """Tip, mempool, faults and sizes, and the balances of the addresses in the query, in nanoERG."""
        chain, ledger = self._chain, self._chain.ledger
        state = {
            **self._progress(),
            "bestBlockId": chain.tip.block_id,
            "genesisBlockId": chain.blocks[0].block_id,
            "unconfirmed": len(chain.pool),
            "weighing": chain.pool.weighing,
            "transactions": len(ledger.transactions),
            "boxes": len(ledger.boxes),
            "orphanedBoxes": len(ledger.orphans),
            "faults": self._faults.listed(),
            "jvm": chain.judge.appkit is not None,
            "disagreements": chain.judge.disagreements,
            "balances": _or_400(lambda: {each: balance(chain, each) for each in request.query.getall("address", [])}),
        }
        return web.json_response(state)

    def _path(self, body: JsonObject) -> Path:
        name = _text(body, "name")
        if not _NAME.fullmatch(name):
            raise HttpError(
                400, f"name {name[:60]!r}: a name of letters, digits, dots, dashes and underscores is wanted"
            )
        return self._folder / name


def balance(chain: Chain, address: str) -> int:
    """What an address holds on the chain, in nanoERG; UsageError for an address of no or another network."""
    try:
        tree = tree_of(address, chain.network).hex()
    except ValueError as error:
        raise UsageError(f"address {address[:60]!r}: {error}") from error
    ledger = chain.ledger
    ids = ledger.unspent.page(By.TREE, tree, 0, ledger.unspent.count(By.TREE, tree), descending=False)
    return sum(ledger.boxes[box_id].view.value for box_id in ids)


def _ids(blocks: list[Block]) -> list[str]:
    return [block.block_id for block in blocks]


async def _object(request: web.Request) -> JsonObject:
    body = await json_body(request) if request.can_read_body else {}
    if not isinstance(body, dict):
        raise HttpError(400, f"the body must be a JSON object; it is {str(body)[:60]!r}")
    return body


def _whole(body: JsonObject, name: str, default: int | None = None, *, least: int = 1) -> int:
    number = body.get(name, default)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        wanted = f"a whole number above {least - 1}"
        raise HttpError(400, f'the body must be an object with "{name}", {wanted}; it has {str(number)[:60]!r}')
    return number


def _text(body: JsonObject, name: str) -> str:
    text = body.get(name)
    if not isinstance(text, str):
        raise HttpError(400, f'the body must be an object with "{name}", a text; it has {text!r}')
    return text


def _optional(body: JsonObject, name: str) -> str | None:
    return None if body.get(name) is None else _text(body, name)


def _switch(body: JsonObject, name: str, default: bool | None = None) -> bool:
    on = body.get(name, default)
    if not isinstance(on, bool):
        raise HttpError(400, f'the body must be an object with "{name}", true or false; it has {on!r}')
    return on


def _or_400(act: Callable[[], T]) -> T:
    try:
        return act()
    except AihdError as error:
        raise HttpError(400, str(error)) from error
