"""The Explorer API v1: what finds boxes. It may be late or wrong, so every box is rebuilt from its bytes and its id recomputed."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox

from aihd.chain.http import JsonSource, SourceError
from aihd.core.life import Sighting

PAGE: Final = 500
HEAVY_PAGE: Final = 100  # by token id
MAX_PAGES: Final = 200


class Explorer(JsonSource):
    """One explorer."""

    async def height(self) -> int:
        state = await self._fresh("/api/v1/networkState")
        return int(state["height"])

    async def unspent_by_tree(self, tree: bytes) -> list[Sighting]:
        """Every confirmed unspent box under a tree."""
        return await self._all(f"/api/v1/boxes/unspent/byErgoTree/{tree.hex()}", PAGE)

    async def by_token(self, token_id: bytes) -> list[Sighting]:
        """Every box on the best chain that holds or held a token."""
        found = await self._all(f"/api/v1/boxes/byTokenId/{token_id.hex()}", HEAVY_PAGE)
        return [sighting for sighting in found if sighting.block is not None]

    async def unspent_by_address(self, address: str) -> list[ErgoBox]:
        found = await self._all(f"/api/v1/boxes/unspent/byAddress/{address}", PAGE)
        return [sighting.box for sighting in found]

    async def box(self, box_id: str) -> Sighting | None:
        """A box on the best chain, spent or not."""
        raw = await self._fresh(f"/api/v1/boxes/{box_id}")
        return self._sighting(raw) if raw and raw["mainChain"] else None

    async def transaction(self, tx_id: str) -> dict[str, Any] | None:
        """A confirmed transaction in the Explorer's JSON."""
        raw: dict[str, Any] | None = await self._fresh(f"/api/v1/transactions/{tx_id}")
        return raw

    async def _all(self, path: str, page: int) -> list[Sighting]:
        """All pages, each box once. Boxes may move between pages while they are read, so a page may repeat some."""
        found: dict[str, Sighting] = {}
        async for raw in self._pages(path, page):
            sighting = self._sighting(raw)
            found[str(sighting.box.box_id)] = sighting
        return list(found.values())

    async def _pages(self, path: str, page: int) -> AsyncIterator[dict[str, Any]]:
        for number in range(MAX_PAGES):
            answer = await self._fresh(path, offset=number * page, limit=page)
            items = answer["items"] if answer else []
            for item in items:
                yield item
            if len(items) < page:
                return
        raise SourceError(f"{self.url}{path[:80]} has more than {MAX_PAGES * page} boxes")

    async def _fresh(self, path: str, **params: str | int) -> Any:
        # The Explorer caches every answer until its next block; a parameter that it does not know makes the request a new one.
        return await self.get(path, **params, _=secrets.token_hex(4))

    def _sighting(self, raw: dict[str, Any]) -> Sighting:
        try:
            box = ErgoBox.from_json(raw)
        except ValueError as error:
            raise SourceError(f"{self.url} shows a box that is not what it says: {str(error)[:120]}") from None
        on_chain = bool(raw["mainChain"])
        return Sighting(
            box,
            raw["settlementHeight"] if on_chain else None,
            bytes.fromhex(raw["blockId"]) if on_chain else None,
            raw["spentTransactionId"],
        )
