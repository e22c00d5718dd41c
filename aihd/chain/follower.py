"""A daemon's view of its market: listed once by the explorer, and from then on followed block by block at the node.

A poll costs what the new blocks bring, however many boxes are open. Everything that is read between two calls of `sync` shows one and
the same block, so nothing can be half before and half after it. A reorg takes back what its blocks brought; one that goes deeper than
the headers we keep is not followed: then nothing is done until an operator has looked.
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

from aihd.chain.explorer import Explorer, ExplorerState
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


class MovedError(SourceError):
    """Explorer and node were not read at one moment: a block came in between, or one of them has not seen it yet."""


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

    # -- following

    @stamina.retry(on=MovedError, attempts=6, timeout=15, wait_initial=0.1, wait_max=2)
    async def sync(self) -> Tip:
        """Bring everything up to the tip that the node shows. SourceError when a source is behind, DeepForkError as said above."""
        tip = await self.tip()
        path = await self._path(tip)
        if self._index is None or not await self._advance(self._index, path, tip) or self._wrong(self._index):
            self._index = await self._list(tip)
            self._older.clear()
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
        """Everything of the market as one block shows it, and what came since."""
        state = await self.explorer.state()
        at = [
            header
            for header in await self.node.headers(state.height - 1, state.height)
            if header.id.hex() == state.block
        ]
        if not at or state.height > tip.height:
            raise MovedError(
                f"{self.explorer.url} is at block {state.block} of height {state.height}, which the node does not show"
            )
        index = Index(self.deployment, self._wallet, at[0], await self._listing(state, tip))
        blocks = await self.node.headers(state.height, tip.height)
        if not await self._advance(index, blocks, tip) or index.tip.id.hex() != tip.info.header_id:
            raise MovedError(f"{self.explorer.url} is {tip.height - state.height} blocks behind the node")
        await self._confirm(index)
        log.info(
            "listed",
            height=tip.height,
            explorer=state.height,
            escrows=len(index.unspent(self.deployment.trees[Guard.TASK])),
        )
        return index

    async def _listing(self, state: ExplorerState, tip: Tip) -> list[Sighting]:
        if await self.node.indexed() < tip.height:
            raise MovedError(f"{self.node.url}: its index is not at height {tip.height} yet")
        trees = [self._wallet] + [self.deployment.trees[guard] for guard in (Guard.TASK, Guard.BOND)]
        listed = [sighting for tree in trees for sighting in await self._unspent(tree, state.height)]
        tasks = set(self._wanted())
        for bond in self._typed(Bond, (sighting.box for sighting in listed)):
            if bond.content.node == self._wallet[3:]:
                tasks.update(bond.content.open_ids)
        listed += await self._lives(tasks, state.height)
        if await self.explorer.state() != state or (await self.node.info()).header_id != tip.info.header_id:
            raise MovedError(f"{self.explorer.url} or {self.node.url} went on while it was read")
        return listed

    async def _unspent(self, tree: bytes, height: int) -> list[Sighting]:
        """What explorer or node show under a tree at a height: either can hide a box, none can forge one."""
        listed = await self.explorer.unspent_by_tree(tree)
        known = {str(sighting.box.box_id) for sighting in listed}
        hidden = [s for s in await self.node.unspent_by_tree(tree, known) if _not_above(height, s)]
        if hidden:
            lie = self.explorer.demote(f"it hides box {hidden[0].box.box_id}, and {len(hidden) - 1} others")
            log.warning("an explorer hides boxes", error=str(lie))
            if self.explorer.rested:
                raise MovedError(f"{lie}; another explorer is asked")
        return listed + hidden

    async def _lives(self, tasks: Collection[bytes], height: int) -> list[Sighting]:
        """All boxes of tasks up to a height, by the node's index: on these depends what we do, and when we call it over."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def life(task_id: bytes) -> list[Sighting]:
            async with gate:
                escrow = await self.node.found(task_id.hex())
                return await self.node.by_token(task_id) + ([escrow] if escrow else [])

        lives = await asyncio.gather(*map(life, tasks))
        found = [sighting for life in lives for sighting in life if _not_above(height, sighting)]
        blocks = {at: await self.node.header_at(at) for at in {sighting.height for sighting in found} if at is not None}
        return [replace(s, block=bytes.fromhex(block)) for s in found if s.height and (block := blocks[s.height])]

    async def _confirm(self, index: Index) -> None:
        """The explorer finds, the node confirms: what we could spend must be there."""
        own = [bond.box for bond in index.typed(Bond) if bond.content.node == self._wallet[3:]]
        for box in own + index.unspent(self._wallet):
            if await self.node.box(str(box.box_id)) is None:
                raise self.explorer.demote(f"it lists box {box.box_id}, which the node does not have")

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
        self, tree: bytes, fee: int, unconfirmed: Iterable[tuple[Transaction, int | None]] = ()
    ) -> Situation:
        index = self._known
        assert self._tip is not None
        overlay = Overlay(tx for tx, height in unconfirmed if not self._shows(index, str(tx.id), height))
        bonds = await self.bonds(overlay)
        return self._situation(self._tip, overlay.apply(index.unspent(tree), tree), bonds, tree, fee)

    def _shows(self, index: Index, tx_id: str, height: int | None) -> bool:
        """Whether the effect of a transaction, mined at `height` as far as the journal knows, is in the index."""
        before = height is not None and height <= index.base.height
        return before or tx_id in self._older or index.mined_at(tx_id) is not None


def _not_above(height: int, sighting: Sighting) -> bool:
    return sighting.height is not None and sighting.height <= height
