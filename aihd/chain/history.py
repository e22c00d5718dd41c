"""Reads the history of a whole market from the chain: every task that a bond took, and how it ended.

A task enters the open ids of a bond by its claim and leaves them by its end (a missed deadline, or its rating settled), every bond comes
from the minter, and a box names the transaction that made it. So whoever walks from the first minter box from one spending to the next
has met every task of the market, and no source can add one. The node is asked, transaction by transaction; no explorer is believed. What
is known costs nothing again; what a reorg took back is walked anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from aihd.chain.finder import TOP
from aihd.chain.http import LARGE, Ask, LieError, SourceError
from aihd.chain.node import INDEX
from aihd.chain.view import ChainView
from aihd.core.life import Sighting
from aihd.protocol.box import Box, ForgedError, box_of_json
from aihd.protocol.boxes import Bond, Content, Rating, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.constants import FAILED, KEY_PREFIX
from aihd.protocol.deployment import Guard
from aihd.protocol.hashes import blake2b256
from aihd.protocol.shapes import ShapeError, hexed, hexed_any, listed, mapped, whole
from aihd.protocol.trees import p2pk_tree
from aihd.reputation.history import Outcome
from aihd.store.history import Claimed, Ended, Funding, History, Step

T = TypeVar("T")
U = TypeVar("U")
C = TypeVar("C", bound=Content)
log = structlog.get_logger()

AT_ONCE: Final = 8  # requests under way at one time
SLICE: Final = 100  # headers that are compared by one request
PUBLIC_BOXES: Final = 10_000
"""Boxes under a script from which on it funds the public at large, as an exchange does. To get there costs its owner 10 ERG of fees."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A confirmed transaction as the node's index shows it: all that it spent, the script of the first of these, and those boxes that
    stand under our guards.
    """

    height: int
    block: bytes
    spent: tuple[str, ...]
    tree: bytes
    inputs: tuple[Box, ...]
    outputs: tuple[Box, ...]


class HistoryReader:
    """Keeps a store's history up to what the node shows."""

    def __init__(self, view: ChainView, store: History) -> None:
        self._node = view.node
        self._deployment = view.deployment
        self._store = store
        self._funded = 0  # number of the last ended task whose parties' funding is known
        self._trees = {tree.hex(): tree for tree in view.deployment.trees.values()}

    async def take_back(self) -> int | None:
        """Take back what is no longer on the chain; the height above which everything went, None when nothing had to.

        Every block of the newest hundred is compared, not the newest alone: a reorg may have come between two requests of one walk.
        """
        top, fork = self._store.newest(), None
        while top > 0:
            on_chain = {header.height: header.id for header in await self._node.headers(max(0, top - SLICE), top)}
            known = self._store.blocks(max(0, top - SLICE), top)
            wrong = [height for height, block in known.items() if on_chain.get(height) != block]
            if not wrong:
                break
            fork = min(wrong) - 1
            top = self._store.newest(fork)
        if fork is not None:
            log.warning("the market's history is taken back", above=fork)
            self._store.rollback(fork)
            self._funded = min(self._funded, self._store.last())
        return fork

    async def extend(self, unspent: Collection[str]) -> None:
        """Walk on to the boxes that nothing has spent. `unspent` are ids of bonds that are known to be so: they are not asked about.

        So a look costs one question about the minter, and what moved.
        What was walked is kept, so an error on the way costs nothing but the rest. SourceError when the node contradicts itself.
        """
        if not self._store.heads():
            self._store.add([await self._first()])
        resting = set(unspent)
        moved = [head.hex() for head in self._store.heads()]
        while moved := [box_id for box_id in moved if box_id not in resting]:
            steps = [step for step in await _all(self._step, moved) if step is not None]
            self._store.add(steps)
            moved = [box.hex() for step in steps for box in step.made]

    async def fund(self) -> None:
        """Find out what funded the parties to ended tasks, as far as it is not known."""
        last = self._store.last()
        self._store.fund(await _all(self._funding, self._store.unfunded(self._funded)))
        self._funded = last

    # -- the walk

    async def _first(self) -> Step:
        """The minting of the bond tokens, which made the first minter box."""
        issued = await self._node.issued(self._deployment.bond_token)
        seen = await self._transaction((await self._box(issued.box_id if issued else "")).box.transaction_id)
        return Step(seen.height, seen.block, None, _ids(self._moving(seen.outputs)))

    async def _step(self, box_id: str) -> Step | None:
        """What spent a minter or bond, or None when nothing did."""
        spent_by = (await self._box(box_id)).spent_by
        if spent_by is None:
            return None
        seen = await self._transaction(spent_by)
        if box_id not in seen.spent:
            raise SourceError(f"{self._node.url}: box {box_id} is not spent by the transaction that it names")
        made = _ids(self._moving(seen.outputs))
        return Step(seen.height, seen.block, bytes.fromhex(box_id), made, self._event(seen))

    def _moving(self, boxes: Iterable[Box]) -> list[Box]:
        """Minter and bonds among boxes: what holds a bond token under its guard."""
        token = self._deployment.bond_token
        guards = (Guard.MINTER, Guard.BOND)
        return [
            box
            for box in boxes
            if self._deployment.guard_of(box) in guards and any(held == token for held, _ in box.tokens)
        ]

    def _event(self, seen: Seen) -> Claimed | Ended | None:
        """What a transaction did to the open ids of a bond; None for nothing, and for what no client can have posted."""
        before, after = self._bond(seen.inputs), self._bond(seen.outputs)
        if before is None or after is None:
            return None
        taken = set(after.open_ids) - set(before.open_ids)
        left = set(before.open_ids) - set(after.open_ids)
        first = seen.inputs[0]  # the guards want the task in front
        if taken:
            return self._claimed(first, after.node)
        return self._ended(left.pop(), first) if left else None

    def _bond(self, boxes: Iterable[Box]) -> Bond | None:
        """The bond among boxes; None for one whose owner is not a lone key."""
        for box in self._moving(boxes):
            if self._deployment.guard_of(box) is Guard.BOND:
                return self._read(Bond, box)
        return None

    def _claimed(self, first: Box, node: bytes) -> Claimed | None:
        """A bond may claim from any box that looks like a task (ergoscript/bond.es); only an escrow has a client."""
        terms = self._read(TaskEscrow, first)
        if terms is None:
            return None
        return Claimed(
            task=first.raw_id,
            service=terms.service_hash,
            client=terms.client,
            node=node,
            worth=terms.worth,
            payment=terms.payment,
            asset=terms.asset,
        )

    def _ended(self, task: bytes, first: Box) -> Ended | None:
        """A claimed task meets a bond again only by a missed deadline; a release or a failure does by its rating, when that is settled.

        Where the held share went follows from the client's mark: the rating's guard lets it go nowhere else.
        """
        if self._deployment.guard_of(first) is Guard.CLAIMED:
            return Ended(task=task, outcome=Outcome.TIMED_OUT)
        rating = self._read(Rating, first)
        if rating is None:
            return None
        return Ended(
            task=task,
            outcome=Outcome.FAILED if rating.outcome == FAILED else Outcome.COMPLETED,
            held=rating.held,
            client_mark=rating.client_mark,
            node_mark=rating.node_mark,
            client_committed=bool(rating.client_commitment),
            node_committed=bool(rating.node_commitment),
        )

    def _read(self, content: type[C], box: Box) -> C | None:
        """None where a party put something unreadable in: that must not keep anybody from reading on."""
        try:
            return self._deployment.read(content, box).content
        except BoxError:
            return None

    # -- funding

    async def _funding(self, key: bytes) -> Funding:
        """Where the first money of a key came from: the script of the first input of the transaction that made its first box."""
        oldest = await self._node.oldest(p2pk_tree(key), 1)
        if oldest is None:
            return Funding(key, key, 0, public=False)  # it never had any: whoever it is, it is by itself
        seen = await self._transaction(oldest[1])
        busy = await self._node.oldest(seen.tree, PUBLIC_BOXES)
        public = busy is not None and busy[0] <= seen.height
        return Funding(key, name_of(seen.tree), seen.height, public)

    # -- the node

    async def _box(self, box_id: str) -> Sighting:
        found = await self._node.found(box_id, self._trees.values())
        if not isinstance(found, Sighting):
            raise SourceError(f"{self._node.url} does not show box {box_id} (yet)")
        return found

    async def _transaction(self, tx_id: str) -> Seen:
        path = f"/blockchain/transaction/byId/{tx_id}"
        found = await self._node.anywhere(Ask(path=path, parse=self._seen, about=INDEX, most=LARGE))
        if found is None:
            raise SourceError(f"{self._node.url}{path[:100]}: not there (yet)")
        return found

    def _seen(self, raw: Any) -> Seen:
        fields = mapped(raw)
        inputs, outputs = ([mapped(item) for item in listed(fields, name)] for name in ("inputs", "outputs"))
        if not inputs:
            raise ShapeError("a transaction spends nothing")
        return Seen(
            whole(fields, "inclusionHeight", 0, TOP),
            hexed(fields, "blockId", 32),
            tuple(hexed(box, "boxId", 32).hex() for box in inputs),
            hexed_any(inputs[0], "ergoTree"),
            self._of_market(inputs),
            self._of_market(outputs),
        )

    def _of_market(self, boxes: Iterable[Mapping[str, Any]]) -> tuple[Box, ...]:
        """Those under our guards that can be used: others may be of kinds that nobody knows."""
        try:
            found = [box_of_json(box, self._trees.values()) for box in boxes if box.get("ergoTree") in self._trees]
        except ForgedError as error:
            raise LieError(f"the index shows a box that is not what it says: {error}") from None
        return tuple(box for box in found if isinstance(box, Box))


def name_of(tree: bytes) -> bytes:
    """How a source of money is named: the key where the script is a lone key, else the script's hash."""
    return tree[3:] if len(tree) == 36 and tree.startswith(KEY_PREFIX) else blake2b256(tree)


def _ids(boxes: Iterable[Box]) -> tuple[bytes, ...]:
    return tuple(box.raw_id for box in boxes)


async def _all(work: Callable[[U], Awaitable[T]], items: Iterable[U]) -> list[T]:
    """The work on all items, a few at one time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: U) -> T:
        async with gate:
            return await work(item)

    return await asyncio.gather(*map(one, items))
