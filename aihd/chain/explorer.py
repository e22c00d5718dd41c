"""The Explorer API v1: what finds boxes. It may be late or wrong, so every box is rebuilt from its bytes and its id recomputed."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.http import JsonSource, LieError, SourceError
from aihd.core.life import Sighting

T = TypeVar("T")

PAGE: Final = 500
HEAVY_PAGE: Final = 100  # by token id
MAX_PAGES: Final = 200


@dataclass(frozen=True, slots=True)
class ExplorerState:
    """The newest block that an explorer has indexed."""

    height: int
    block: str


class Explorer(JsonSource):
    """One explorer, or several that are asked for each other."""

    async def state(self) -> ExplorerState:
        """The newest block of the explorer that has come farthest; it is asked first from now on."""
        return await self.survey(
            "/api/v1/networkState",
            lambda raw: ExplorerState(int(raw["height"]), raw["lastBlockId"]),
            lambda state: state.height,
        )

    async def height(self) -> int:
        return (await self.state()).height

    async def unspent_by_tree(self, tree: bytes) -> list[Sighting]:
        """Every confirmed unspent box under a tree."""
        _, found = await self.unspent_but(tree, ())
        return found

    async def unspent_but(self, tree: bytes, known: Collection[str]) -> tuple[set[str], list[Sighting]]:
        """Ids of every confirmed unspent box under a tree, and the boxes of those that are not `known`: the others are not parsed."""
        shown, found = await self._all(f"/api/v1/boxes/unspent/byErgoTree/{tree.hex()}", PAGE, known)
        spent = next((sighting for sighting in found if sighting.spent_by is not None), None)
        if spent is not None:
            raise self.demote(f"it lists box {spent.box.box_id} as unspent and says that {spent.spent_by} spent it")
        return shown, found

    async def by_token(self, token_id: bytes) -> list[Sighting]:
        """Every box on the best chain that holds or held a token."""
        _, found = await self._all(f"/api/v1/boxes/byTokenId/{token_id.hex()}", HEAVY_PAGE)
        return [sighting for sighting in found if sighting.block is not None]

    async def unspent_by_address(self, address: str) -> list[ErgoBox]:
        _, found = await self._all(f"/api/v1/boxes/unspent/byAddress/{address}", PAGE)
        return [sighting.box for sighting in found]

    async def box(self, box_id: str) -> Sighting | None:
        """A box on the best chain, spent or not."""
        found = await self._fresh(f"/api/v1/boxes/{box_id}", self._sighting)
        return found if found and found.block is not None else None

    async def transaction(self, tx_id: str) -> dict[str, Any] | None:
        """A confirmed transaction in the Explorer's JSON."""
        raw: dict[str, Any] | None = await self._fresh(f"/api/v1/transactions/{tx_id}", lambda raw: raw)
        return raw

    async def relay(self, tx: Transaction) -> bool:
        """Hand over a signed transaction when no node answers; whether it was taken. Nothing follows from a refusal."""
        try:
            status, _ = await self.call("POST", "/api/v1/mempool/transactions/submit", body=json.loads(tx.json()))
        except SourceError:
            return False
        return status == 200

    async def _all(self, path: str, page: int, known: Collection[str] = ()) -> tuple[set[str], list[Sighting]]:
        """All pages, each box once: boxes may move between pages while they are read, so a page may repeat some.

        SourceError when there are fewer than the explorer itself counts: half a list would hide what we own and owe.
        """

        def parse(raw: dict[str, Any]) -> tuple[int, list[str], list[Sighting]]:
            items = raw["items"]
            ids = [item["boxId"] for item in items]
            return raw["total"], ids, [self._sighting(item) for item in items if item["boxId"] not in known]

        shown: set[str] = set()
        found: dict[str, Sighting] = {}
        for number in range(MAX_PAGES):
            total, ids, sightings = await self._fresh(path, parse, offset=number * page, limit=page) or (0, [], [])
            shown.update(ids)
            found.update((str(sighting.box.box_id), sighting) for sighting in sightings)
            if len(ids) >= page:
                continue
            if len(shown) < total:
                raise self.blame(f"{path[:80]} shows {len(shown)} of the {total} boxes that it counts")
            return shown, list(found.values())
        raise SourceError(f"{self.url}{path[:80]} has more than {MAX_PAGES * page} boxes")

    async def _fresh(self, path: str, parse: Callable[[Any], T], **params: str | int) -> T | None:
        # The Explorer caches every answer until its next block; a parameter that it does not know makes the request a new one.
        return await self.get_as(path, parse, **params, _=secrets.token_hex(4))

    def _sighting(self, raw: dict[str, Any]) -> Sighting:
        try:
            box = ErgoBox.from_json(raw)
        except ValueError as error:
            raise LieError(f"{self.url} shows a box that is not what it says: {str(error)[:120]}") from None
        on_chain = bool(raw["mainChain"])
        return Sighting(
            box,
            raw["settlementHeight"] if on_chain else None,
            bytes.fromhex(raw["blockId"]) if on_chain else None,
            raw["spentTransactionId"],
        )
