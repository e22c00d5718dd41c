"""A daemon's view of its market: listed once from the node's index, and from then on followed block by block.

A poll costs what the new blocks bring, however many boxes are open. Now and then an explorer's lists are held against what is known: it
finds what the index lacks, and is named when it hides or makes up. None that is silent keeps anybody waiting.

Everything that is read between two calls of `sync` shows one and the same block, so nothing can be half before and half after it. A reorg
takes back what its blocks brought; one that goes deeper than the headers we keep is not followed: then nothing is done until an operator
has looked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import stamina
import structlog
from ergo_lib_python.transaction import Transaction

from aihd.chain.explorer import Explorer
from aihd.chain.finder import Finder, Listing
from aihd.chain.http import Server, SourceError
from aihd.chain.node import Node, header_of
from aihd.chain.overlay import Overlay
from aihd.chain.sources import UnprovedError
from aihd.chain.view import ChainView, Situation, Tip
from aihd.core.index import Header, Index
from aihd.core.life import Life, Sighting, read_life
from aihd.errors import DependencyError, one_line
from aihd.protocol.box import Box, Odd
from aihd.protocol.boxes import Bond, ClaimedTask, Content, FailureReceipt, On, Rating, Receipt, TaskEscrow
from aihd.protocol.deployment import Deployment, Guard
from aihd.store.journal import Journal

log = structlog.get_logger()

HISTORY: Final = 720  # headers kept: a day. A node itself goes back 200 blocks at most.
CATCH_UP: Final = 100  # blocks that are fetched one by one; over a longer gap a new listing is cheaper
AT_ONCE: Final = 8  # requests under way at one time
COMPARE_EVERY: Final = 30  # blocks, an hour: between two looks at another finder's lists
CONFIRMED: Final = 20  # the largest boxes of the wallet that a node is asked about before a list is believed
MOST_RESOLVED: Final = 200  # boxes that a finder cannot show and a node is asked about, at one look
MOST_TURNED_DOWN: Final = 10_000  # escrows that wait to be counted
STILL: Final = 15  # block times without a block: by chance once in three million
FAR: Final = 10  # blocks that are not a matter of a moment


class MovedError(SourceError):
    """Sources were not read at one moment: a block came in between, or one of them has not seen it yet."""


class DeepForkError(DependencyError):
    """The node shows a chain that left ours before the oldest header that we know."""


class Follower(ChainView):
    """`wanted` gives the ids of the tasks whose whole life must be known."""

    def __init__(
        self,
        node: Node,
        explorer: Explorer,
        deployment: Deployment,
        wallet: bytes,
        journal: Journal,
        wanted: Callable[[], Iterable[bytes]],
    ) -> None:
        super().__init__(node, explorer, deployment)
        self._wallet = wallet
        self._journal = journal
        self._wanted = wanted
        self._ours: frozenset[bytes] = frozenset()
        self._trees = (wallet, *deployment.trees.values())
        self._index: Index | None = None
        self._lister: Server | None = None  # whose list the index began with
        self._doubted: set[str] = set()
        self._unproved: set[bytes] = set()  # tasks whose life could not be read to the end
        self._relist = False
        self._tip: Tip | None = None
        self._headers: dict[int, Header] = {row[0]: Header(*row) for row in journal.headers()}
        self._older: dict[str, int] = {}  # transactions mined before the base of the index
        self._compared: int | None = None  # height at which other finders were last held against the index
        self.heights: dict[str, int] = {}
        """How far other finders have come, by their own word."""

    # -- following

    @stamina.retry(on=MovedError, attempts=6, timeout=15, wait_initial=0.1, wait_max=2)
    async def sync(self) -> Tip:
        """Bring everything up to the tip that the node shows. SourceError when the node is behind, DeepForkError as said above."""
        tip = await self.tip()
        path = await self._path(tip)
        self._ours = frozenset(self._wanted())
        if self._index is None or self._relist or not await self._advance(self._index, path, tip) or self._wrong():
            self._index = await self._list(tip, path)
            self._relist = False
            self._older.clear()
            self._compared = None
        self._keep(path)
        self._tip = tip
        await self._prove_more(self._index)
        return tip

    def accept_fork(self) -> None:
        """Forget the headers of the chain that we were on: the next `sync` takes what the node shows."""
        self._headers.clear()

    def relist(self) -> None:
        """List everything anew at the next `sync`: what is of use to us has changed."""
        self._relist = True

    def doubt(self, box_id: str) -> None:
        """The node does not have this box: if it is not gone at the next `sync` either, everything is listed anew."""
        self._doubted.add(box_id)

    def is_unproved(self, task_id: bytes) -> bool:
        return task_id in self._unproved

    def _wrong(self) -> bool:
        doubted, self._doubted = self._doubted, set()
        shown = (self._index.box(box_id) for box_id in doubted) if self._index is not None else ()
        return any(sighting is not None and sighting.spent_by is None for sighting in shown)

    async def _path(self, tip: Tip) -> list[Header]:
        """The headers between the newest one that we know and the tip, oldest first."""
        path: list[Header] = []
        near = {head.id: header_of(head) for head in tip.heads}
        header = header_of(tip.heads[0])
        lowest = max(1, min(self._headers, default=header.height - HISTORY))
        while self._headers.get(header.height) != header:
            path.append(header)
            if header.height <= lowest:
                if self._headers:
                    raise DeepForkError(
                        f"{self.node.url} shows a chain that left ours more than {len(self._headers)} blocks ago: "
                        "nothing is done on it. If it is the right one, start once with --accept-fork"
                    )
                break
            if header.parent not in near:
                older = await self.node.headers(max(0, header.height - 1 - CATCH_UP), header.height - 1)
                near = {header.id: header for header in older}
            if header.parent not in near:
                raise MovedError(f"{self.node.url} changes its chain faster than it can be read")
            header = near[header.parent]
        return path[::-1]

    async def _advance(self, index: Index, path: list[Header], tip: Tip) -> bool:
        """Follow the node along `path`; False when the index cannot, and has to be made anew."""
        fork = path[0].height - 1 if path else tip.height
        if not path and fork < index.tip.height:
            # On its way to another branch a node shows an older block for a while; one that is simply behind is asked again, too.
            raise MovedError(f"{self.node.url} went back from height {index.tip.height} to {fork}")
        stale = index.tip.height - index.listed_at >= HISTORY
        if stale or fork < index.base.height or len(path) > CATCH_UP:
            return False
        # All blocks are here before the first is undone: an error on the way leaves the index as it was.
        blocks = [await self.node.block(header.id.hex(), self._trees) for header in path]
        if fork < index.tip.height:
            log.warning("reorg", depth=index.tip.height - fork, height=tip.height)
        while index.tip.height > fork:
            index.undo()
        for block in blocks:
            index.apply(block)
        return True

    def _keep(self, path: list[Header]) -> None:
        if not path:
            return
        for height in [height for height in self._headers if height >= path[0].height]:
            del self._headers[height]
        self._headers.update((header.height, header) for header in path)
        for height in sorted(self._headers)[:-HISTORY]:
            del self._headers[height]
        self._journal.replace_headers(path[0].height, [(h.height, h.id, h.parent) for h in path[-HISTORY:]])

    # -- the first listing

    async def _list(self, tip: Tip, path: list[Header]) -> Index:
        """Everything of the market as the first finder shows it that is borne out, brought up to the tip block by block."""
        headers = {**self._headers, **{header.height: header for header in path}}
        errors: list[SourceError] = []
        for finder in await self.sources.finders():
            for server in finder.ranked(finder.about):
                try:
                    index = await self._list_by(finder, server, tip, headers)
                except SourceError as error:
                    errors.append(error)
                    log.info("not listed", by=server.url, error=one_line(error))
                    continue
                self._lister = server
                log.info("listed", height=tip.height, by=server.url, set_aside=sum(index.set_aside.values()))
                return index
        raise next((error for error in errors if isinstance(error, MovedError)), errors[0])

    async def _list_by(self, finder: Finder, server: Server, tip: Tip, headers: Mapping[int, Header]) -> Index:
        listing = await finder.listing_of(server, self._listed_trees)
        base = headers.get(listing.height)
        if base is None or listing.height > tip.height or listing.block not in (None, base.id.hex()):
            raise MovedError(f"{server.url} is at a block of height {listing.height} that the node does not show")
        if tip.height - base.height > CATCH_UP:
            finder.no_use(server, f"it is at height {listing.height}, the chain is at {tip.height}")
        taken, odd, _ = await self._resolved(listing)
        listed: list[Sighting | Odd] = [*listing.found, *taken, *listing.odd, *odd]
        mine = [
            bond for bond in self._typed(Bond, (s.box for s in listing.found)) if bond.content.node == self._wallet[3:]
        ]
        self._ours |= {task_id for bond in mine for task_id in bond.content.open_ids}
        self._unproved.clear()
        lives = await self._lives(self._ours)
        blocks = [
            await self.node.block(headers[h].id.hex(), self._trees) for h in range(base.height + 1, tip.height + 1)
        ]
        if (await self.node.info()).header_id != tip.info.header_id:
            raise MovedError(f"{self.node.url} went on while it was read")
        index = Index(
            self.deployment, self._wallet, base, [*listed, *lives], wanted=self._is_wanted, lasting=self._ours_still
        )
        for block in blocks:
            index.apply(block)
        await self._confirm(index, finder, server)
        return index

    @property
    def _listed_trees(self) -> list[bytes]:
        return [self._wallet] + [self.deployment.trees[guard] for guard in (Guard.TASK, Guard.BOND)]

    async def _lives(self, tasks: Iterable[bytes]) -> list[Sighting]:
        """All boxes of tasks, proved: on these depends what we do, and when we call it over. What cannot be read now is read later."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def life(task_id: bytes) -> list[Sighting]:
            async with gate:
                try:
                    return await self.sources.life(task_id)
                except UnprovedError as error:
                    self._unproved.add(task_id)
                    log.warning("a task's life cannot be read", task=task_id.hex(), error=one_line(error))
                    return []

        return [sighting for life in await asyncio.gather(*map(life, tasks)) for sighting in life]

    async def _prove_more(self, index: Index) -> None:
        """Read what could not be read when everything was listed."""
        again, self._unproved = self._unproved, set()
        for sighting in await self._lives(again):
            index.add(sighting)

    async def _confirm(self, index: Index, finder: Finder, server: Server) -> None:
        """What we are about to spend must be there: a list is made beside the chain, and may be wrong about it."""
        own = [bond.id for bond in index.typed(Bond) if bond.content.node == self._wallet[3:]]
        largest = sorted(index.unspent(self._wallet), key=lambda box: -box.value)[:CONFIRMED]
        for box_id in own + [box.id for box in largest]:
            if await self.node.unspent(box_id) is None:
                finder.no_use(server, f"it lists box {box_id}, which is not unspent")

    # -- what is kept

    def _is_wanted(self, on: On[Content], height: int | None) -> bool:
        """Whether a box of the market is worth its memory: bonds are, and what is ours; an escrow is if we may ever take it."""
        match on.content:
            case TaskEscrow():
                return on.raw_id in self._ours or self._may_be_taken(on, height or 0)
            case ClaimedTask(node=node, client=client) | Rating(node=node, client=client):
                return self._wallet[3:] in (node, client) or self._is_of_ours(on)
            case Receipt(node=node) | FailureReceipt(node=node):
                return node == self._wallet[3:] or self._is_of_ours(on)
        return True

    def _may_be_taken(self, on: On[Any], height: int) -> bool:
        if self.screen is None:
            return True
        decline = self.screen(on, (height if self._tip is None else self._tip.height) + 1)
        if decline is not None and len(self.turned_down) < MOST_TURNED_DOWN:
            self.turned_down[on.raw_id] = (decline, on.content.claim_deadline)
        return decline is None

    def _is_of_ours(self, on: On[Any]) -> bool:
        return bool(on.tokens) and on.tokens[0][0] in self._ours

    def _ours_still(self, task_id: bytes) -> bool:
        return task_id in self._ours

    @property
    def set_aside(self) -> Mapping[str, int]:
        """Boxes under our scripts that are of no use, by script and what is odd about them."""
        return Counter() if self._index is None else self._index.set_aside

    # -- other finders

    async def compare(self) -> None:
        """Hold what is known against every other finder, when it is time. SourceError when one could not be read.

        What it shows beside, and a node confirms, is taken in. One that hides boxes or shows what is spent is named and asked last.
        """
        height = self._known.tip.height
        if self._compared is not None and height < self._compared + COMPARE_EVERY:
            return
        errors: list[SourceError] = []
        asked = False
        for finder, server in await self._others():
            asked = True
            try:
                await self._agrees(finder, server)
            except SourceError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        if asked or all(not finder.servers for finder in await self.sources.finders()):
            self._compared = height

    async def _others(self) -> list[tuple[Finder, Server]]:
        """Every server that lists boxes, but for the one that the index began with and those that rest."""
        return [
            (finder, server)
            for finder in await self.sources.finders()
            for server in finder.ranked(finder.about)
            if server is not self._lister and not server.rests_for(finder.about)
        ]

    async def _agrees(self, finder: Finder, server: Server) -> None:
        """Hold one server's lists against what is known now; blocks may come meanwhile."""
        index = self._known
        known = {tree: _heights(index, tree) for tree in self._listed_trees}
        kept = {key for heights in known.values() for key in heights}
        listing = await finder.listing_of(server, self._listed_trees, kept | set(index.passed))
        self.heights[server.url] = listing.height
        at = self._headers.get(listing.height)
        if at is None or listing.block not in (None, at.id.hex()):
            finder.no_use(server, f"it is at a block of height {listing.height} which the node does not show")
        shown = listing.ids
        wrong = [
            f"it hides box {key}"
            for heights in known.values()
            for key, height in heights.items()
            if key not in shown and height <= listing.height and self._still(index, key)
        ]
        taken, odd, told_wrongly = await self._resolved(listing)
        for sighting in listing.found:
            wrong += await self._judged(index, sighting, listing.height)
        self._take_in(index, server, [*taken, *odd, *listing.odd])
        wrong += told_wrongly
        if wrong:
            server.lied(f"{wrong[0]}, and {len(wrong) - 1} others")
            log.warning("a source is wrong", source=server.url, error=wrong[0])

    def _still(self, index: Index, key: str) -> bool:
        """Whether a box that was known when a list was asked for has not been spent while it came."""
        sighting = index.box(key)
        return sighting is not None and sighting.spent_by is None

    def _take_in(self, index: Index, server: Server, found: Iterable[Sighting | Odd]) -> None:
        for each in found:
            if isinstance(each, Odd):
                index.add(each)
            elif index is self._index and index.box(each.box.id) is None:
                index.add(each)
                if index.box(each.box.id) is not None:
                    log.warning("a source knows a box that was not listed", box=each.box.id, source=server.url)

    async def _judged(self, index: Index, sighting: Sighting, height: int) -> list[str]:
        """Take in a box that a finder at a height shows and the index lacked, or say why not; nothing where it was spent since."""
        box_id = sighting.box.id
        if await self.node.unspent(box_id) is not None:
            self._take_in(index, self.node.servers[0], [sighting])
            return []
        try:
            spending = await self.sources.spending(box_id)
        except UnprovedError:
            spending = None
        since = spending is not None and spending.height > height
        return [] if since else [f"it lists box {box_id}, which the node does not have"]

    async def _resolved(self, listing: Listing) -> tuple[list[Sighting], list[Odd], list[str]]:
        """What a node shows of the boxes that a finder could not show: those of use, odd ones, and sentences about the finder's faults."""
        taken, odd, wrong = list[Sighting](), list[Odd](), list[str]()
        for box_id, tree in listing.doubtful:
            if len(odd) + len(taken) + len(wrong) >= MOST_RESOLVED:
                odd.append(Odd(box_id, tree, "not shown as it is"))
                continue
            found = await self.node.unspent(box_id)
            if isinstance(found, Odd):
                odd.append(found)
            elif found is None:
                wrong.append(f"it lists box {box_id}, which the node does not have")
            else:
                taken.append(Sighting(found, None, None, None))
                wrong.append(f"it shows box {box_id} otherwise than it is")
        return taken, odd, wrong

    # -- standing still

    def standstill(self, now: float, seconds_per_block: float) -> str:
        """Why the chain that we see is not the one that goes on, `now` being seconds since 1970; empty where nothing says so."""
        if self._tip is None:
            return ""
        info, age = self._tip.info, now - self._tip.heads[0].timestamp / 1000
        behind = info.headers_height - info.height
        further = {url: height for url, height in self.heights.items() if height > info.height + FAR}
        told = "".join(f"; {url} is at {height}" for url, height in sorted(further.items()))
        if info.peer_height is not None and info.peer_height > info.height:
            told += f"; a peer of it tells of height {info.peer_height}"
        if age > STILL * seconds_per_block:
            return f"{self.node.url} stands still at height {info.height}: its newest block is {age / 60:.0f} minutes old{told}"
        if behind > FAR:
            return (
                f"{self.node.url} has blocks up to height {info.height}, and headers up to {info.headers_height}{told}"
            )
        return ""

    # -- what is known at the tip of the last `sync`

    @property
    def _known(self) -> Index:
        if self._index is None or self._tip is None:
            raise SourceError("the chain has not been read yet")
        return self._index

    async def escrows(self) -> list[On[TaskEscrow]]:
        return list(self._known.typed(TaskEscrow))

    async def bonds(self, overlay: Overlay | None = None) -> list[On[Bond]]:
        if overlay is None:
            return list(self._known.typed(Bond))
        tree = self.deployment.trees[Guard.BOND]
        return list(self._typed(Bond, overlay.apply(self._known.unspent(tree), tree)))

    async def life(self, task_id: bytes) -> Life:
        return read_life(self.deployment, self._known.of_task(task_id))

    async def escrow(self, task_id: bytes) -> Sighting | None:
        return self._known.box(task_id.hex())

    async def standing(self, task_id: bytes) -> tuple[Life, Sighting | None]:
        life = await self.life(task_id)
        return life, await self.escrow(task_id) if life.claimed is None else None

    async def mined_at(self, tx_id: str) -> int | None:
        height = self._known.mined_at(tx_id) or self._older.get(tx_id)
        if height is None and (mined := await self.sources.mined_at(tx_id)) is not None:
            height = self._older[tx_id] = mined
        return height

    async def wallet(self, tree: bytes) -> list[Box]:
        return self._known.unspent(tree)

    async def settled(self, tree: bytes, below: int) -> set[str]:
        return {key for key, height in _heights(self._known, tree).items() if height < below}

    async def situation(
        self,
        tree: bytes,
        fee: int,
        unconfirmed: Iterable[tuple[Transaction, int | None]] = (),
        claims: Collection[str] = (),
    ) -> Situation:
        index = self._known
        assert self._tip is not None
        overlay = Overlay(tx for tx, height in unconfirmed if not self._shows(index, str(tx.id), height))
        bonds = await self.bonds(overlay)
        return self._situation(self._tip, overlay.apply(index.unspent(tree), tree), bonds, tree, fee, claims=claims)

    def _shows(self, index: Index, tx_id: str, height: int | None) -> bool:
        """Whether the effect of a transaction, mined at `height` as far as the journal knows, is in the index."""
        before = height is not None and height <= index.base.height
        return before or tx_id in self._older or index.mined_at(tx_id) is not None


def _heights(index: Index, tree: bytes) -> dict[str, int]:
    """The unspent boxes under a tree, each with the height of its block."""
    sightings = (index.box(box.id) for box in index.unspent(tree))
    return {s.box.id: s.height for s in sightings if s is not None and s.height is not None}
