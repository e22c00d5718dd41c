"""Reads the history of a whole market from the chain: every task that a bond took, and how it ended.

A task enters the open ids of a bond by its claim and leaves them by its end (a missed deadline, or its rating settled), every bond comes
from the minter, and a box names the transaction that made it. So whoever walks from the first minter box from one spending to the next
has met every task of the market, and no source can add one. The node is asked, transaction by transaction; no explorer is believed. What
is known costs nothing again; what a reorg took back is walked anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from ergo_lib_python.chain import ErgoBox

from aihd.chain.http import SourceError
from aihd.chain.view import ChainView
from aihd.errors import one_line
from aihd.protocol.boxes import Bond, Content, Rating, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.constants import FAILED
from aihd.protocol.deployment import Guard
from aihd.protocol.hashes import blake2b256
from aihd.protocol.trees import address_of, p2pk_tree
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
    """A confirmed transaction as the node's index shows it: all that it spent, tree and address of the first of these, and those boxes
    that stand under our guards.
    """

    height: int
    block: bytes
    spent: tuple[str, ...]
    tree: bytes
    address: str
    inputs: tuple[ErgoBox, ...]
    outputs: tuple[ErgoBox, ...]


class HistoryReader:
    """Keeps a store's history up to what the node shows."""

    def __init__(self, view: ChainView, store: History) -> None:
        self._node = view.node
        self._prefix = view.prefix
        self._deployment = view.deployment
        self._store = store
        self._funded = 0  # number of the last ended task whose parties' funding is known
        self._trees = {tree.hex() for tree in view.deployment.trees.values()}

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
        token: Any = await self._ask(f"/blockchain/token/byId/{self._deployment.bond_token.hex()}")
        box: Any = await self._ask(f"/blockchain/box/byId/{token['boxId']}")
        seen = await self._transaction(box["transactionId"])
        return Step(seen.height, seen.block, None, _ids(self._moving(seen.outputs)))

    async def _step(self, box_id: str) -> Step | None:
        """What spent a minter or bond, or None when nothing did."""
        box: Any = await self._ask(f"/blockchain/box/byId/{box_id}")
        if box["spentTransactionId"] is None:
            return None
        seen = await self._transaction(box["spentTransactionId"])
        if box_id not in seen.spent:
            raise SourceError(f"{self._node.url}: box {box_id} is not spent by the transaction that it names")
        made = _ids(self._moving(seen.outputs))
        return Step(seen.height, seen.block, bytes.fromhex(box_id), made, self._event(seen))

    def _moving(self, boxes: Iterable[ErgoBox]) -> list[ErgoBox]:
        """Minter and bonds among boxes: what holds a bond token under its guard."""
        token = self._deployment.bond_token
        guards = (Guard.MINTER, Guard.BOND)
        return [
            box
            for box in boxes
            if self._deployment.guard_of(box) in guards and any(bytes(held.token_id) == token for held in box.tokens)
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

    def _bond(self, boxes: Iterable[ErgoBox]) -> Bond | None:
        """The bond among boxes; None for one whose owner is not a lone key."""
        for box in self._moving(boxes):
            if self._deployment.guard_of(box) is Guard.BOND:
                return self._read(Bond, box)
        return None

    def _claimed(self, first: ErgoBox, node: bytes) -> Claimed | None:
        """A bond may claim from any box that looks like a task (ergoscript/bond.es); only an escrow has a client."""
        terms = self._read(TaskEscrow, first)
        if terms is None:
            return None
        return Claimed(
            task=bytes(first.box_id),
            service=terms.service_hash,
            client=terms.client,
            node=node,
            worth=terms.worth,
            payment=terms.payment,
            asset=terms.asset,
        )

    def _ended(self, task: bytes, first: ErgoBox) -> Ended | None:
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

    def _read(self, content: type[C], box: ErgoBox) -> C | None:
        """None where a party put something unreadable in: that must not keep anybody from reading on."""
        try:
            return self._deployment.read(content, box).content
        except BoxError:
            return None

    # -- funding

    async def _funding(self, key: bytes) -> Funding:
        """Where the first money of a key came from: the script of the first input of the transaction that made its first box."""
        box = await self._oldest(address_of(p2pk_tree(key), self._prefix), 1)
        if box is None:
            return Funding(key, key, 0, public=False)  # it never had any: whoever it is, it is by itself
        seen = await self._transaction(box["transactionId"])
        busy = await self._oldest(seen.address, PUBLIC_BOXES)
        public = busy is not None and busy["inclusionHeight"] <= seen.height
        return Funding(key, name_of(seen.tree), seen.height, public)

    async def _oldest(self, address: str, number: int) -> Any:
        """The `number`-th box of an address, counted from its first; None when it had fewer. Lists are newest first."""
        path = f"/blockchain/box/byAddress/{address}"
        page: Any = await self._ask(path, limit=1)
        total = page["total"]
        while total >= number:
            page = await self._ask(path, offset=total - number, limit=1)
            if page["total"] == total:
                return page["items"][0]
            total = page["total"]  # a block came between the two answers
        return None

    # -- the node

    async def _transaction(self, tx_id: str) -> Seen:
        def parse(raw: Any) -> Seen:
            return Seen(
                raw["inclusionHeight"],
                bytes.fromhex(raw["blockId"]),
                tuple(box["boxId"] for box in raw["inputs"]),
                bytes.fromhex(raw["inputs"][0]["ergoTree"]),
                raw["inputs"][0]["address"],
                self._ours(raw["inputs"]),
                self._ours(raw["outputs"]),
            )

        return await self._ask(f"/blockchain/transaction/byId/{tx_id}", parse)

    def _ours(self, boxes: Iterable[Any]) -> tuple[ErgoBox, ...]:
        # Only what is ours is parsed: other people's boxes may be of kinds that the library does not know.
        return tuple(ErgoBox.from_json(box) for box in boxes if box["ergoTree"] in self._trees)

    async def _ask(self, path: str, parse: Callable[[Any], T] = lambda raw: raw, **params: int) -> T:
        try:
            found = await self._node.get_as(path, parse, **params)
        except ValueError as error:
            raise SourceError(
                f"{self._node.url} shows a box that is not what it says: {one_line(error, 120)}"
            ) from None
        if found is None:
            raise SourceError(f"{self._node.url}{path[:100]}: not there (yet)")
        return found


def name_of(tree: bytes) -> bytes:
    """How a source of money is named: the key where the script is a lone key, else the script's hash."""
    return tree[3:] if tree == p2pk_tree(tree[3:]) else blake2b256(tree)


def _ids(boxes: Iterable[ErgoBox]) -> tuple[bytes, ...]:
    return tuple(bytes(box.box_id) for box in boxes)


async def _all(work: Callable[[U], Awaitable[T]], items: Iterable[U]) -> list[T]:
    """The work on all items, a few at one time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: U) -> T:
        async with gate:
            return await work(item)

    return await asyncio.gather(*map(one, items))
