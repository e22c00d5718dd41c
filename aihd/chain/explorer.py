"""The Explorer API v1: what finds boxes. It may be late or wrong, so every box is rebuilt from its bytes and its id recomputed."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ergo_lib_python.transaction import Transaction

from aihd.chain.finder import TOP, Issued, Listing, boxes_of, check_tree, issued_of, spender_of
from aihd.chain.http import LARGE, Ask, JsonSource, LieError, Server, SourceError
from aihd.core.life import Sighting
from aihd.protocol.box import ForgedError, Odd, box_of_json
from aihd.protocol.shapes import ShapeError, hexed, listed, mapped, whole

T = TypeVar("T")

BOXES: Final = "boxes"
PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class ExplorerState:
    """The newest block that an explorer has indexed."""

    height: int
    block: str


class Explorer(JsonSource):
    """One explorer, or several that are asked for each other."""

    kind = "explorer"
    about = BOXES

    async def state(self) -> ExplorerState:
        """The newest block of the explorer that has come farthest; it is asked first from now on."""
        found = await self.each(self._fresh("/api/v1/networkState", _state))
        self._best, state = max(found, key=lambda pair: pair[1].height)  # the first of equals
        return state

    async def height(self) -> int:
        return (await self.state()).height

    async def reached(self) -> int:
        """The height up to which it has come."""
        return await self.height()

    async def state_of(self, server: Server) -> ExplorerState:
        """The newest block that one explorer has indexed."""
        state = await self.of(server, self._fresh("/api/v1/networkState", _state))
        if state is None:
            raise SourceError(f"{server.url} does not tell its height", 404)
        return state

    async def listing(self, trees: Collection[bytes]) -> Listing:
        """Every confirmed unspent box under some scripts, by one explorer, as of one block."""
        return await self.from_one(BOXES, lambda server: self.listing_of(server, trees))

    async def listing_of(self, server: Server, trees: Collection[bytes], known: Collection[str] = ()) -> Listing:
        """As `listing`, by this server; boxes that are `known` are not read."""
        state = await self.state_of(server)
        listing = Listing(server=server, height=state.height, block=state.block)
        for tree in trees:
            async for raw in self._pages(server, f"/api/v1/boxes/unspent/byErgoTree/{tree.hex()}"):
                if raw["boxId"] in known:
                    listing.known.add(raw["boxId"])
                    continue
                with self._blamed(server, BOXES):
                    self._take(listing, server, tree, raw)
        if await self.state_of(server) != state:
            raise SourceError(f"{server.url} went on while it was read")
        return listing

    def _take(self, listing: Listing, server: Server, tree: bytes, raw: dict[str, Any]) -> None:
        check_tree(server, raw, tree)
        try:
            found = _sighting(raw, (tree,))
        except ForgedError:
            # Either it lies, or it leaves out a register that it cannot show, which is the fault of whoever made the box.
            listing.doubtful.append((raw["boxId"], tree))
            return
        if isinstance(found, Sighting) and found.spent_by is not None:
            raise LieError(f"{server.url} lists box {found.box.id} as unspent and says that {found.spent_by} spent it")
        listing.take(found)

    async def unspent_by_tree(self, tree: bytes) -> list[Sighting]:
        """Every confirmed unspent box under a script that can be used."""
        return (await self.listing((tree,))).found

    async def by_token(self, token_id: bytes, trees: Collection[bytes] = ()) -> list[Sighting]:
        """Every box on the best chain that holds or held a token; under one of `trees`, if there are some."""
        wanted = {tree.hex() for tree in trees}

        async def work(server: Server) -> list[Sighting]:
            found: list[Sighting] = []
            async for raw in self._pages(server, f"/api/v1/boxes/byTokenId/{token_id.hex()}"):
                if trees and raw.get("ergoTree") not in wanted:
                    continue
                with self._blamed(server, BOXES):
                    seen = _whole(server, raw, trees)
                if isinstance(seen, Sighting) and seen.block is not None:
                    found.append(seen)
            return found

        return await self.from_one(BOXES, work)

    async def found(self, box_id: str, trees: Collection[bytes] = ()) -> Sighting | Odd | None:
        """A box on the best chain, spent or not."""

        async def work(server: Server) -> Sighting | Odd | None:
            ask = self._fresh(f"/api/v1/boxes/{box_id}", lambda raw: _whole(server, dict(mapped(raw)), trees))
            return await self.of(server, ask)

        found = await self.from_one(BOXES, work)
        return None if isinstance(found, Sighting) and found.block is None else found

    async def box(self, box_id: str) -> Sighting | None:
        """A box on the best chain that can be used, spent or not."""
        found = await self.found(box_id)
        return found if isinstance(found, Sighting) else None

    async def placed(self, tx_id: str) -> tuple[int, str] | None:
        """(height, block id) of a transaction on the best chain."""
        return await self.ask(self._fresh(f"/api/v1/transactions/{tx_id}", _placed, most=LARGE))

    async def issued(self, token_id: bytes) -> Issued | None:
        """A token's issue."""
        return await self.ask(self._fresh(f"/api/v1/tokens/{token_id.hex()}", issued_of))

    async def transaction(self, tx_id: str) -> dict[str, Any] | None:
        """A confirmed transaction in the Explorer's JSON."""
        return await self.ask(self._fresh(f"/api/v1/transactions/{tx_id}", lambda raw: dict(mapped(raw)), most=LARGE))

    async def relay(self, tx: Transaction) -> bool:
        """Hand over a signed transaction when no node answers; whether it was taken. Nothing follows from a refusal."""
        if not self.servers:
            return False
        try:
            status, _ = await self.call("POST", "/api/v1/mempool/transactions/submit", body=json.loads(tx.json()))
        except SourceError:
            return False
        return status == 200

    def _pages(self, server: Server, path: str) -> AsyncIterator[dict[str, Any]]:
        async def page(offset: int) -> tuple[list[dict[str, Any]], int | None]:
            ask = self._fresh(path, _page, most=LARGE, offset=offset, limit=PAGE)
            return await self.of(server, ask) or ([], None)

        return self.paged(server, BOXES, path, page, PAGE)

    def _fresh(
        self, path: str, parse: Callable[[Any], T], *, most: int = 1 << 18, offset: int | None = None, limit: int = PAGE
    ) -> Ask[T]:
        # The Explorer caches every answer until its next block; a parameter that it does not know makes the request a new one.
        params: dict[str, str | int] = {} if offset is None else {"offset": offset, "limit": limit}
        return Ask(path=path, parse=parse, about=BOXES, params={**params, "_": secrets.token_hex(4)}, most=most)


def _state(raw: Any) -> ExplorerState:
    fields = mapped(raw)
    return ExplorerState(whole(fields, "height", 0, TOP), hexed(fields, "lastBlockId", 32).hex())


def _page(raw: Any) -> tuple[list[dict[str, Any]], int]:
    fields = mapped(raw)
    return boxes_of(listed(fields, "items")), whole(fields, "total", 0, TOP)


def _sighting(raw: dict[str, Any], trees: Collection[bytes]) -> Sighting | Odd:
    box = box_of_json(raw, trees)
    if isinstance(box, Odd):
        return box
    on_chain = raw.get("mainChain")
    if not isinstance(on_chain, bool):
        raise ShapeError("mainChain is neither true nor false")
    return Sighting(
        box,
        whole(raw, "settlementHeight", 0, TOP) if on_chain else None,
        hexed(raw, "blockId", 32) if on_chain else None,
        spender_of(raw),
    )


def _whole(server: Server, raw: dict[str, Any], trees: Collection[bytes]) -> Sighting | Odd:
    try:
        return _sighting(raw, trees)
    except ForgedError as error:
        raise LieError(f"{server.url} shows a box that is not what it says: {error}") from None


def _placed(raw: Any) -> tuple[int, str]:
    fields = mapped(raw)
    return whole(fields, "inclusionHeight", 0, TOP), hexed(fields, "blockId", 32).hex()
