"""A daemon's view of its market: listed once from the node's index, and from then on followed block by block.

A poll costs what the new blocks bring, however many boxes are open. Now and then an explorer's lists are held against what is known: it
finds what the index lacks, and is named when it hides or makes up. None that is silent keeps anybody waiting.

Everything that is read between two calls of `sync` shows one and the same block, so nothing can be half before and half after it. A reorg
takes back what its blocks brought; one that goes deeper than the headers we keep is not followed: then nothing is done until an operator
has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

import stamina
import structlog
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.explorer import Explorer
from aihd.chain.http import SourceError
from aihd.chain.node import Node, header_of
from aihd.chain.overlay import Overlay
from aihd.chain.view import ChainView, Situation, Tip
from aihd.core.index import Header, Index
from aihd.core.life import Life, Sighting, read_life
from aihd.errors import DependencyError
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.deployment import Deployment, Guard
from aihd.store.journal import Journal

log = structlog.get_logger()

HISTORY: Final = 720  # headers kept: a day. A node itself goes back 200 blocks at most.
CATCH_UP: Final = 100  # blocks that are fetched one by one; over a longer gap a new listing is cheaper
AT_ONCE: Final = 8  # requests under way at one time
COMPARE_EVERY: Final = 30  # blocks, an hour: between two looks at an explorer's lists


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
        self._trees = {tree.hex() for tree in (wallet, *deployment.trees.values())}
        self._index: Index | None = None
        self._doubted: set[str] = set()
        self._tip: Tip | None = None
        self._headers: dict[int, Header] = {row[0]: Header(*row) for row in journal.headers()}
        self._older: dict[str, int] = {}  # transactions mined before the base of the index
        self._compared: int | None = None  # height at which an explorer was last held against the index

    # -- following

    @stamina.retry(on=MovedError, attempts=6, timeout=15, wait_initial=0.1, wait_max=2)
    async def sync(self) -> Tip:
        """Bring everything up to the tip that the node shows. SourceError when the node is behind, DeepForkError as said above."""
        tip = await self.tip()
        path = await self._path(tip)
        if self._index is None or not await self._advance(self._index, path, tip) or self._wrong(self._index):
            self._index = await self._list(tip)
            self._older.clear()
            self._compared = None
        self._keep(path)
        self._tip = tip
        return tip

    def accept_fork(self) -> None:
        """Forget the headers of the chain that we were on: the next `sync` takes what the node shows."""
        self._headers.clear()

    def doubt(self, box_id: str) -> None:
        """The node does not have this box: if it is not gone at the next `sync` either, everything is listed anew."""
        self._doubted.add(box_id)

    def _wrong(self, index: Index) -> bool:
        doubted, self._doubted = self._doubted, set()
        shown = (index.box(box_id) for box_id in doubted)
        return any(sighting is not None and sighting.spent_by is None for sighting in shown)

    async def _path(self, tip: Tip) -> list[Header]:
        """The headers between the newest one that we know and the tip, oldest first."""
        path: list[Header] = []
        near = {header.id: header for header in map(header_of, tip.headers)}
        header = header_of(tip.headers[0])
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
            raise self.node.demote(f"it went back from height {index.tip.height} to {fork}")
        stale = index.tip.height - index.base.height >= HISTORY
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

    async def _list(self, tip: Tip) -> Index:
        """Everything of the market as the node's index shows it at the tip."""
        if await self.node.indexed() < tip.height:
            raise MovedError(f"{self.node.url}: its index is not at height {tip.height} yet")
        listed = [sighting for tree in self._listed_trees for sighting in await self.node.unspent_by_tree(tree)]
        tasks = set(self._wanted())
        for bond in self._typed(Bond, (sighting.box for sighting in listed)):
            if bond.content.node == self._wallet[3:]:
                tasks.update(bond.content.open_ids)
        listed += await self._lives(tasks)
        if (await self.node.info()).header_id != tip.info.header_id:
            raise MovedError(f"{self.node.url} went on while it was read")
        index = Index(self.deployment, self._wallet, header_of(tip.headers[0]), listed)
        await self._confirm(index)
        log.info("listed", height=tip.height, escrows=len(index.unspent(self.deployment.trees[Guard.TASK])))
        return index

    @property
    def _listed_trees(self) -> list[bytes]:
        return [self._wallet] + [self.deployment.trees[guard] for guard in (Guard.TASK, Guard.BOND)]

    async def _lives(self, tasks: Collection[bytes]) -> list[Sighting]:
        """All boxes of tasks, by the node's index: on these depends what we do, and when we call it over."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def life(task_id: bytes) -> list[Sighting]:
            async with gate:
                escrow = await self.node.found(task_id.hex())
                return await self.node.by_token(task_id) + ([escrow] if escrow else [])

        found = [sighting for life in await asyncio.gather(*map(life, tasks)) for sighting in life]
        blocks = {at: await self.node.header_at(at) for at in {sighting.height for sighting in found} if at is not None}
        return [replace(s, block=bytes.fromhex(block)) for s in found if s.height and (block := blocks[s.height])]

    async def _confirm(self, index: Index) -> None:
        """What we could spend must be there: an index is made beside the chain, and may be wrong about it."""
        own = [bond.box for bond in index.typed(Bond) if bond.content.node == self._wallet[3:]]
        for box in own + index.unspent(self._wallet):
            if await self.node.box(str(box.box_id)) is None:
                raise MovedError(f"{self.node.url}: its index lists box {box.box_id}, which is not unspent")

    # -- explorers

    async def compare(self) -> None:
        """Hold what is known against an explorer, when it is time and one may answer. SourceError when it does not.

        What it shows beside, and the node confirms, is taken in. One that hides boxes or shows what is spent is demoted, and the next
        one is asked.
        """
        height = self._known.tip.height
        due = self._compared is None or height >= self._compared + COMPARE_EVERY
        while due and self.explorer.rested:
            due = not await self._agrees()
            self._compared = height

    async def _agrees(self) -> bool:
        """Whether the explorer that is asked first shows what is known now; blocks may come meanwhile."""
        index, state = self._known, await self.explorer.state()
        at = self._headers.get(state.height)
        if at is None or at.id.hex() != state.block:
            raise self.explorer.blame(
                f"it is at block {state.block} of height {state.height}, which the node does not show"
            )
        known = {tree: _heights(index, tree) for tree in self._listed_trees}
        wrong: list[str] = []
        for tree, heights in known.items():
            shown, others = await self.explorer.unspent_but(tree, heights)
            wrong += [f"it hides box {key}" for key, h in heights.items() if key not in shown and h <= state.height]
            for sighting in others:
                wrong += await self._judged(index, sighting, state.height)
        if await self.explorer.state() != state:
            raise MovedError(f"{self.explorer.url} went on while it was read")
        if wrong:
            lie = self.explorer.demote(f"{wrong[0]}, and {len(wrong) - 1} others")
            log.warning("an explorer is wrong", error=str(lie))
        return not wrong

    async def _judged(self, index: Index, sighting: Sighting, height: int) -> list[str]:
        """Take in a box that an explorer at a height shows and the index lacked, or say why not; nothing where it was spent since."""
        box_id = str(sighting.box.box_id)
        if await self.node.box(box_id) is not None:
            if index is self._index and index.box(box_id) is None:
                log.warning("an explorer knows a box that the node's index lacks", box=box_id)
                index.add(sighting)
            return []
        fate = await self.node.fate(box_id)
        spent = await self.node.mined_at(fate.spent_by) if fate and fate.spent_by else None
        return [] if spent and spent[0] > height else [f"it lists box {box_id}, which the node does not have"]

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

    async def mined_at(self, tx_id: str) -> int | None:
        height = self._known.mined_at(tx_id) or self._older.get(tx_id)
        if height is None and (mined := await self.node.mined_at(tx_id)) is not None:
            height = self._older[tx_id] = mined[0]
        return height

    async def wallet(self, tree: bytes) -> list[ErgoBox]:
        return self._known.unspent(tree)

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
    sightings = (index.box(str(box.box_id)) for box in index.unspent(tree))
    return {str(s.box.box_id): s.height for s in sightings if s is not None and s.height is not None}
