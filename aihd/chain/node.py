"""A node's REST API: what confirms a box, gives scripts their context, and judges a transaction.

Nothing that a node says is taken on its word where its own bytes can prove it: headers by their work and their links, blocks by their
header's root, boxes by their ids. What is left to believe is absence, and of that another server is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
import stamina

from aihd.chain.finder import TOP, Issued, Listing, issued_of
from aihd.chain.http import (
    BLOCK,
    LARGE,
    Ask,
    LieError,
    MissingError,
    Server,
    SourceError,
    UnfitError,
    is_passing,
)
from aihd.chain.node_json import NodeInfo, box_in, info_of, items_of, one_of_many, placed_of, sighting_of, unspent_of
from aihd.chain.submission import Submission
from aihd.chain.submission import classify as classify
from aihd.core.index import Block, Header
from aihd.core.life import Sighting
from aihd.core.sending import Answer as Answer
from aihd.errors import one_line
from aihd.protocol.blocks import transactions_of_json
from aihd.protocol.box import Box, ForgedError, Odd
from aihd.protocol.context import HEADERS
from aihd.protocol.headers import Head, WorkError, head_of_json
from aihd.protocol.shapes import ShapeError, hexed, mapped, sequence, whole

T = TypeVar("T")

INDEX: Final = "the index"
INDEX_PAGE: Final = 250  # boxes in one answer of the index
REMEMBERED: Final = 2_000
"""Proved headers that are kept, a kilobyte each: more than a look at the chain goes back."""
RECOUNTS: Final = 5
BEHIND: Final = 3  # blocks: less is a matter of a moment
AHEAD: Final = 64
"""Headers that may run ahead of the newest full block and still be asked for together with it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one node shows as the newest full block, with the proved headers down from it, newest first."""

    server: Server
    info: NodeInfo
    heads: tuple[Head, ...]


def header_of(head: Head) -> Header:
    """A proved header's place in the chain."""
    return Header(head.height, head.id, head.parent)


class Node(Submission):
    """One node, or several that are asked for each other."""

    kind = "node"
    about = INDEX

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], *, least_difficulty: int = 1) -> None:
        """`least_difficulty`: below which no header of this network can be."""
        super().__init__(session, urls)
        self._least = least_difficulty
        self._proved: dict[bytes, Head] = {}
        self._infos: dict[str, NodeInfo] = {}  # by server, as of the last look

    def require(self, least_difficulty: int) -> None:
        """Believe no header of less difficulty from now on; what was proved by a weaker rule is proved anew."""
        if least_difficulty > self._least:
            self._least = least_difficulty
            self._proved.clear()

    def able(self, server: Server, about: str) -> bool:
        """A node without the extra index is not asked about what only that knows."""
        info = self._infos.get(server.url)
        return about != INDEX or info is None or info.indexed

    @property
    def indexed(self) -> bool:
        """Whether one of the nodes has the extra index, as of the last look."""
        return any(info.indexed for info in self._infos.values())

    @property
    def looked(self) -> bool:
        """Whether any of the nodes has been looked at."""
        return bool(self._infos)

    def seen_of(self, server: Server) -> NodeInfo | None:
        """What a server showed when it was last looked at."""
        return self._infos.get(server.url)

    # -- the tip

    async def info(self) -> NodeInfo:
        """The best of what the nodes show (see `look`)."""
        return (await self.look()).info

    @stamina.retry(on=is_passing, attempts=3, timeout=10, wait_initial=0.2, wait_max=2)
    async def look(self) -> Look:
        """The newest full block of the node whose headers prove most work; that node is asked first from now on.

        SourceError while no node has a full block and its headers.
        """
        ask = Ask(path="/info", parse=info_of, about="the tip", patience=5.0)
        looks: list[Look] = []
        errors: list[SourceError] = []
        for server, info in await self.each(ask):
            self._infos[server.url] = info
            try:
                looks.append(Look(server, info, await self._heads(server, info)))
            except SourceError as error:
                errors.append(error)
        if not looks:
            raise errors[0]
        best = looks[0]
        for other in looks[1:]:
            best = other if _has_more_work(other.heads, best.heads) else best
        self._best = best.server
        for other in looks:
            if best.info.height - other.info.height >= BEHIND:
                other.server.is_unfit(
                    "the tip", f"it is at height {other.info.height}, {best.server.url} at {best.info.height}"
                )
        return best

    async def _heads(self, server: Server, info: NodeInfo) -> tuple[Head, ...]:
        """The newest headers down from the full tip. Others may run ahead of it, or be on their way to another branch."""
        shown: dict[str, Any] | None = None
        heads: list[Head] = []
        wanted = bytes.fromhex(info.header_id)
        while len(heads) < HEADERS and not (heads and heads[-1].height == 1):
            head = self._proved.get(wanted)
            if head is None:
                if shown is None:
                    shown = await self._newest(server, info)
                head = await self._head(server, wanted, shown)
            if head.height != info.height - len(heads):
                error = LieError(f"{server.url} says that block {head.id.hex()} has height {info.height - len(heads)}")
                server.lied(one_line(error))
                raise error
            heads.append(head)
            wanted = head.parent
        return tuple(heads)

    async def _newest(self, server: Server, info: NodeInfo) -> dict[str, Any]:
        """A node's newest headers as it shows them, by id."""
        ahead = min(AHEAD, max(0, info.headers_height - info.height))
        path = f"/blocks/lastHeaders/{HEADERS + ahead}"
        shown = await self.of(server, Ask(path=path, parse=sequence, about="headers"))
        return {raw["id"]: raw for raw in shown or () if isinstance(raw, dict) and isinstance(raw.get("id"), str)}

    async def _head(self, server: Server, header_id: bytes, shown: Mapping[str, Any]) -> Head:
        raw = shown.get(header_id.hex())
        if raw is not None:
            try:
                return self._prove(server, raw)
            except LieError as error:
                server.lied(one_line(error))
                raise
            except ShapeError as error:
                server.is_unfit("headers", one_line(error))
                raise UnfitError(f"{server.url} shows a header in another shape: {one_line(error)}", 200) from None
        path = f"/blocks/{header_id.hex()}/header"
        head = await self.of(server, Ask(path=path, parse=lambda raw: self._prove(server, raw), about="headers"))
        if head is None or head.id != header_id:
            raise SourceError(f"{server.url} does not show header {header_id.hex()}")
        return head

    def _prove(self, server: Server, raw: Any) -> Head:
        known = self._proved.get(hexed(mapped(raw), "id", 32))
        if known is not None:
            return known
        try:
            head = head_of_json(raw, self._least)
        except WorkError as error:
            raise LieError(f"{server.url}: {error}") from None
        while len(self._proved) >= REMEMBERED:
            self._proved.pop(next(iter(self._proved)))
        self._proved[head.id] = head
        return head

    async def last_headers(self, count: int = HEADERS) -> list[Mapping[str, Any]]:
        """The newest headers down from the full tip, newest first, as scripts see them."""
        return [head.json for head in (await self.look()).heads[:count]]

    async def headers(self, above: int, upto: int) -> list[Header]:
        """Headers of the best chain with above < height <= upto, oldest first."""

        async def work(server: Server) -> list[Header]:
            def parse(raw: Any) -> list[Header]:
                # Its bounds are off by one on real nodes, and it never answers with nothing.
                heads = [self._prove(server, item) for item in sequence(raw)[: upto - above + 2]]
                return [header_of(head) for head in heads if above < head.height <= upto]

            bounds = {"fromHeight": above, "toHeight": upto}
            ask = Ask(path="/blocks/chainSlice", parse=parse, about="headers", params=bounds, most=LARGE)
            return await self.of(server, ask) or []

        return await self.from_one("headers", work)

    async def header_at(self, height: int) -> str | None:
        """Id of the best chain's header at a height."""

        def parse(raw: Any) -> str | None:
            ids = sequence(raw)
            return hexed({"id": ids[0]}, "id", 32).hex() if ids else None

        return await self.ask(Ask(path=f"/blocks/at/{height}", parse=parse, about="headers"))

    # -- blocks and boxes

    async def block(self, header_id: str, trees: Collection[bytes]) -> Block:
        """A block, proved, with the outputs that stand under one of `trees`; SourceError when no node has it.

        A block with a transaction whose bytes cannot be built again is taken only when no node shows a better one.
        """
        wanted = {tree.hex(): tree for tree in trees}
        second: Block | None = None

        async def work(server: Server) -> Block:
            nonlocal second
            ask = Ask(
                path=f"/blocks/{header_id}",
                parse=lambda raw: self._block(server, header_id, raw, wanted),
                about="blocks",
                most=BLOCK,
            )
            found = await self.of(server, ask)
            if found is None:
                raise SourceError(f"{server.url} does not have block {header_id}", 404)
            if not all(tx.proved for tx in found.transactions):
                second = found
                raise UnfitError(f"{server.url} shows block {header_id} with transactions of other bytes", 200)
            return found

        try:
            return await self.from_one("blocks", work)
        except SourceError:
            if second is None:
                raise
            return second

    def _block(self, server: Server, header_id: str, raw: Any, trees: Mapping[str, bytes]) -> Block:
        fields = mapped(raw)
        head = self._prove(server, fields.get("header"))
        if head.id.hex() != header_id:
            raise LieError(f"{server.url} answers with block {head.id.hex()} when asked for {header_id}")
        try:
            return Block(header_of(head), transactions_of_json(fields.get("blockTransactions"), head, trees))
        except (WorkError, ForgedError) as error:
            raise LieError(f"{server.url}: {error}") from None

    async def box(self, box_id: str) -> Box | None:
        """A confirmed unspent box that can be used; None when no node that answers has it, or it is odd."""
        found = await self.unspent(box_id)
        return found if isinstance(found, Box) else None

    async def unspent(self, box_id: str) -> Box | Odd | None:
        """A confirmed unspent box; None when no node that answers has it."""
        return await self._anywhere(
            f"/utxo/byId/{box_id}", "boxes", lambda server, raw: box_in(server, box_id, raw, ())
        )

    async def is_spent_in_mempool(self, box_id: str) -> bool:
        return bool(await self._pool(f"inputs/byBoxId/{box_id}"))

    async def in_mempool(self, tx_id: str) -> bool:
        return bool(await self._pool(f"byTransactionId/{tx_id}"))

    async def _pool(self, path: str) -> bool | None:
        ask = Ask(path=f"/transactions/unconfirmed/{path}", parse=bool, about="the mempool", most=LARGE)
        return await self.anywhere(ask)

    # -- the extra index

    async def indexed_height(self, server: Server) -> int:
        """Height up to which a node's index, which is built after the blocks, has come."""
        ask = Ask(
            path="/blockchain/indexedHeight", parse=lambda raw: whole(mapped(raw), "indexedHeight", 0, TOP), about=INDEX
        )
        height = await self.of(server, ask)
        if height is None:
            raise UnfitError(f"{server.url} has no index", 404)
        return height

    async def reached(self) -> int:
        """The height up to which the index has come that is asked first."""
        return await self.from_one(INDEX, self.indexed_height)

    async def placed(self, tx_id: str) -> tuple[int, str] | None:
        """(height, block id) of a transaction on the best chain, by the index."""
        return await self.anywhere(
            Ask(path=f"/blockchain/transaction/byId/{tx_id}", parse=placed_of, about=INDEX, most=LARGE)
        )

    async def issued(self, token_id: bytes) -> Issued | None:
        """A token's issue, by the index."""
        return await self.anywhere(Ask(path=f"/blockchain/token/byId/{token_id.hex()}", parse=issued_of, about=INDEX))

    async def found(self, box_id: str, trees: Collection[bytes] = ()) -> Sighting | Odd | None:
        """A box on the best chain, spent or not, as the index knows it; its block is not told."""

        def parse(server: Server, raw: Any) -> Sighting | Odd:
            return sighting_of(dict(mapped(raw)), box_in(server, box_id, raw, trees))

        return await self._anywhere(f"/blockchain/box/byId/{box_id}", INDEX, parse)

    async def listing(self, trees: Collection[bytes]) -> Listing:
        """Every confirmed unspent box under some scripts, by the index of one node, as of one block."""
        return await self.from_one(INDEX, lambda server: self.listing_of(server, trees))

    async def listing_of(self, server: Server, trees: Collection[bytes], known: Collection[str] = ()) -> Listing:
        """As `listing`, by this server; boxes that are `known` are not read."""
        listing = Listing(server=server, height=await self.indexed_height(server))
        for tree in trees:
            async for raw in self._pages(server, "/blockchain/box/unspent/byErgoTree", tree.hex()):
                if raw["boxId"] in known:
                    listing.known.add(raw["boxId"])
                    continue
                with self._blamed(server, INDEX):
                    listing.take(unspent_of(server, tree, raw))
        if await self.indexed_height(server) != listing.height:
            raise SourceError(f"{server.url} went on while its index was read")
        return listing

    async def unspent_by_tree(self, tree: bytes) -> list[Sighting]:
        """Every confirmed unspent box under a script that can be used, by the index."""
        return (await self.listing((tree,))).found

    async def by_token(self, token_id: bytes, trees: Collection[bytes] = ()) -> list[Sighting]:
        """Every box on the best chain that holds or held a token, by the index; under one of `trees`, if there are some."""
        wanted = {tree.hex() for tree in trees}

        async def work(server: Server) -> list[Sighting]:
            found: list[Sighting] = []
            async for raw in self._pages(server, f"/blockchain/box/byTokenId/{token_id.hex()}", None):
                if trees and raw.get("ergoTree") not in wanted:
                    continue
                with self._blamed(server, INDEX):
                    seen = sighting_of(raw, box_in(server, raw["boxId"], raw, trees))
                if isinstance(seen, Sighting):
                    found.append(seen)
            return found

        return await self.from_one(INDEX, work)

    async def oldest(self, tree: bytes, number: int) -> tuple[int, str] | None:
        """Returns height and transaction of the `number`-th box that ever stood under a script, by the index; None when there were fewer.

        A list of all boxes begins with the newest, whatever direction is asked for: so the place is counted from the end.
        """
        total, _ = await self._placed(tree, 0)
        for _ in range(RECOUNTS):
            if total < number:
                return None
            recounted, found = await self._placed(tree, total - number)
            if recounted == total and found is not None:
                return found
            total = recounted  # a block came between the two answers, or another server gave this one
        raise SourceError(f"{self.url} counts the boxes of a script anew at every question")

    async def _placed(self, tree: bytes, offset: int) -> tuple[int, tuple[int, str] | None]:
        path, params = "/blockchain/box/byErgoTree", {"offset": offset, "limit": 1}
        ask = Ask(path=path, parse=one_of_many, about=INDEX, method="POST", params=params, body=tree.hex(), most=LARGE)
        return await self.ask(ask) or (0, None)

    def _pages(self, server: Server, path: str, tree: str | None) -> AsyncIterator[dict[str, Any]]:
        method = "GET" if tree is None else "POST"

        async def page(offset: int) -> tuple[list[dict[str, Any]], int | None]:
            params: dict[str, str | int] = {"offset": offset, "limit": INDEX_PAGE, "sortDirection": "asc"}
            ask = Ask(path=path, parse=items_of, about=INDEX, method=method, params=params, body=tree, most=LARGE)
            return await self.of(server, ask) or [], None

        return self.paged(server, INDEX, path, page, INDEX_PAGE)

    async def _anywhere(self, path: str, about: str, parse: Callable[[Server, Any], T]) -> T | None:
        """What the first server has that has it; who denied what another one at the same block has is named."""
        denied: list[Server] = []

        async def work(server: Server) -> T:
            found = await self.of(server, Ask(path=path, parse=lambda raw: parse(server, raw), about=about))
            if found is None:
                denied.append(server)
                raise MissingError(f"{server.url}{path[:80]}: not there", 404)
            self._contradicted(denied, server, about, path)
            return found

        try:
            return await self.from_one(about, work)
        except MissingError:
            return None

    def _contradicted(self, denied: Collection[Server], by: Server, about: str, path: str) -> None:
        shown = self._infos.get(by.url)
        for server in denied:
            info = self._infos.get(server.url)
            if info is not None and shown is not None and info.header_id == shown.header_id:
                server.is_unfit(about, f"it denies {path[:80]}, which {by.url} has")


def _has_more_work(some: Sequence[Head], others: Sequence[Head]) -> bool:
    """Whether a chain has more work in it than another since they left each other; by their heights where that is longer ago."""
    ids = {head.id for head in others}
    common = next((head for head in some if head.id in ids), None)
    if common is None:
        return some[0].height > others[0].height
    return _work(some, common.height) > _work(others, common.height)


def _work(heads: Sequence[Head], above: int) -> int:
    return sum(head.difficulty for head in heads if head.height > above)
