"""What the daemon and the client ask of the chain: the tip, a task's life, open escrows, bonds, and what can be spent.

The explorer finds, the node confirms. A box is always rebuilt from its bytes, so a source can hide one but not forge one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ergo_lib_python.chain import ErgoBox, NetworkPrefix
from ergo_lib_python.transaction import Transaction

from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.node_json import NodeInfo
from aihd.chain.overlay import Overlay
from aihd.chain.sources import BLIND, SetUp, Sources
from aihd.core.life import Life, Sighting, read_life
from aihd.core.policy import Decline
from aihd.core.task import Where
from aihd.errors import ConfigError, DependencyError
from aihd.protocol.box import Box
from aihd.protocol.boxes import Bond, Content, Minter, On, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.constants import MARKET_LIFE
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.funding import MAX_COST, MIN_VALUE_PER_BYTE, SMALLEST_MAX_COST, Funds
from aihd.protocol.headers import LEAST_DIFFICULTY, Head
from aihd.protocol.plans import BOND_SUPPLY, Market, is_reserve_of
from aihd.protocol.selection import HeaderRef
from aihd.protocol.trees import prefix_of

C = TypeVar("C", bound=Content)

MOST_FUNDS: Final = 1_000
"""Boxes of a wallet that a plan chooses among, of those without tokens and of those with some: more do not fit a transaction."""


@dataclass(frozen=True, slots=True)
class Tip:
    """The chain as one node shows it: `headers` in node JSON, newest first; `next_height` is the HEIGHT that scripts see."""

    info: NodeInfo
    headers: tuple[Mapping[str, Any], ...]
    heads: tuple[Head, ...] = ()  # the same, proved

    @property
    def height(self) -> int:
        return self.info.height

    @property
    def next_height(self) -> int:
        return self.info.height + 1

    @property
    def refs(self) -> tuple[HeaderRef, ...]:
        return tuple(HeaderRef(h["height"], bytes.fromhex(h["id"])) for h in self.headers)


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a plan needs, read at one moment."""

    tip: Tip
    market: Market
    funds: Funds
    bond: On[Bond] | None
    reserved: tuple[ErgoBox, ...] = ()  # wallet boxes that only the end of a claimed task may spend


Screen = Callable[[On[TaskEscrow], int], Decline | None]
"""Gets an escrow and the height of the next block; why it will never be taken, or None where it may be."""


class ChainView:
    """One market on one chain, seen through a node and an explorer."""

    def __init__(self, node: Node, explorer: Explorer, deployment: Deployment) -> None:
        self.node = node
        self.explorer = explorer
        self.deployment = deployment
        self.prefix: NetworkPrefix = prefix_of(deployment.network)
        """That of addresses in what is shown and written; a private network may have another than its name says."""
        node.require(LEAST_DIFFICULTY.get(deployment.network, 1))
        self.sources = Sources(node, explorer, deployment.trees.values())
        self.screen: Screen | None = None
        """Escrows that it turns down are put into `turned_down` and not kept; None keeps all that are well formed."""
        self.turned_down: dict[bytes, tuple[Decline, int]] = {}
        """Escrows that are not kept, by task: why, and their claim deadline. Whoever counts them empties it."""
        self._built: dict[str, ErgoBox] = {}

    async def check(self, genesis_id: str) -> None:
        """ConfigError unless the node follows the chain that the deployment was made on."""
        info = await self.node.info()
        if info.genesis_id != genesis_id:
            raise ConfigError(
                f"chain.node_urls: {self.node.url} follows the chain of genesis {info.genesis_id[:16]}…, "
                f"the deployment is on {genesis_id[:16]}…"
            )
        if self.sources.set_up is SetUp.NOTHING:
            raise ConfigError(f"chain.node_urls: {self.node.url} is a plain node: {BLIND[SetUp.NOTHING]}")

    async def audit(self) -> None:
        """ConfigError unless all bond tokens that were ever minted went into the minter.

        No guard can say so: a deployer who kept some could make bonds with any score.
        """
        token = self.deployment.bond_token
        issued = await self.sources.issued(token)
        first = await self.sources.found(issued.box_id) if issued else None
        if issued is None or first is None:
            raise ConfigError(f"chain.deployment: {self.node.url} knows no bond token {token.hex()}")
        held = sum(amount for held, amount in first.box.tokens if held == token)
        if self.deployment.guard_of(first.box) is not Guard.MINTER or {held, issued.amount} != {BOND_SUPPLY}:
            raise ConfigError(
                f"chain.deployment: {issued.amount} bond tokens were minted and {held} of them are in the first minter, "
                f"expected {BOND_SUPPLY}: whoever founded this market can forge bonds"
            )
        oldest = self.deployment.expiry - MARKET_LIFE
        if first.box.creation_height < oldest:
            raise ConfigError(
                f"chain.deployment: its minter was made at height {first.box.creation_height}, a market that ends at "
                f"{self.deployment.expiry} has none older than {oldest}: its bond tokens could be taken as storage rent while it lasts"
            )

    async def tip(self) -> Tip:
        """The newest full block and the headers down from it, proved."""
        look = await self.node.look()
        return Tip(look.info, tuple(head.json for head in look.heads), look.heads)

    async def unspent(self, tree: bytes) -> list[Box]:
        """Confirmed unspent boxes under a script of the market, whoever they are of use to."""
        return await self._listed(tree)

    async def _listed(self, *trees: bytes) -> list[Box]:
        listing = await self.sources.first(lambda finder: finder.listing(trees))
        return [sighting.box for sighting in listing.found]

    async def escrows(self) -> list[On[TaskEscrow]]:
        """Every open task of the market that is well formed."""
        return list(self._typed(TaskEscrow, await self._listed(self.deployment.trees[Guard.TASK])))

    async def bonds(self, overlay: Overlay | None = None) -> list[On[Bond]]:
        """Every bond of the market; with an overlay, as it will be once those transactions are mined."""
        tree = self.deployment.trees[Guard.BOND]
        boxes = await self._listed(tree)
        return list(self._typed(Bond, overlay.apply(boxes, tree) if overlay else boxes))

    async def minter(self) -> On[Minter]:
        minters = list(self._typed(Minter, await self._listed(self.deployment.trees[Guard.MINTER])))
        if len(minters) != 1:
            raise DependencyError(f"the chain shows {len(minters)} minters of the market, expected exactly one")
        return minters[0]

    async def life(self, task_id: bytes) -> Life:
        """Everything that carries the token of a task."""
        return (await self.standing(task_id))[0]

    async def escrow(self, task_id: bytes) -> Sighting | None:
        """A task's escrow, spent or not; None when the chain shows none."""
        return await self.sources.found(task_id.hex())

    async def standing(self, task_id: bytes) -> tuple[Life, Sighting | None]:
        """A task's life and, while nothing of it is claimed, its escrow; every step proved by the block that made it."""
        boxes = await self.sources.life(task_id)
        life = read_life(self.deployment, boxes)
        return life, boxes[0] if boxes and life.claimed is None else None

    def is_unproved(self, task_id: bytes) -> bool:
        """Whether a task's life could not be read to its end, so that nothing follows from what is missing. Here that raises."""
        return False

    @property
    def set_aside(self) -> Mapping[str, int]:
        """Boxes under the market's scripts that are of no use. Here nothing is remembered."""
        return {}

    def standstill(self, now: float, seconds_per_block: float) -> str:
        """Why the chain that is seen may not be the one that goes on. Here nothing is remembered that could say so."""
        return ""

    def relist(self) -> None:
        """List everything anew at the next `sync`: what is of use to us has changed. Here every look is new."""

    async def sync(self) -> Tip:
        """Bring what this view remembers up to the tip; a view that remembers nothing only looks."""
        return await self.tip()

    async def compare(self) -> None:
        """Hold what is remembered against another source. Here nothing is."""

    def doubt(self, box_id: str) -> None:
        """The node does not have a box that was read. Here nothing is remembered that could be wrong."""

    async def wallet(self, tree: bytes) -> list[Box]:
        """Confirmed unspent boxes under a tree."""
        return await self._listed(tree)

    async def settled(self, tree: bytes, below: int) -> set[str]:
        """Ids of the confirmed unspent boxes under a tree whose blocks are below a height."""
        listing = await self.sources.first(lambda finder: finder.listing((tree,)))
        return {seen.box.id for seen in listing.found if seen.height is not None and seen.height < below}

    async def mined_at(self, tx_id: str) -> int | None:
        """Height of a transaction on the best chain."""
        placed = await self.sources.placed(tx_id)
        return placed[0] if placed else None

    async def situation(
        self,
        tree: bytes,
        fee: int,
        unconfirmed: Iterable[tuple[Transaction, int | None]] = (),
        claims: Collection[str] = (),
    ) -> Situation:
        """What the wallet under `tree` can do now.

        `unconfirmed` are our own live transactions with the height that each was mined at (None: not yet). Those that the finder of boxes
        has seen in a block change nothing; the others are laid over what it shows. `claims` are the transaction ids of claims whose
        reserves are kept for the ends of their tasks.
        """
        bond_tree = self.deployment.trees[Guard.BOND]
        listing = await self.sources.first(lambda finder: finder.listing((tree, bond_tree)))
        overlay = Overlay(tx for tx, height in unconfirmed if height is None or height > listing.height)
        boxes = [sighting.box for sighting in listing.found]
        wallet = overlay.apply((box for box in boxes if box.tree == tree), tree)
        bonds = self._typed(Bond, overlay.apply((box for box in boxes if box.tree == bond_tree), bond_tree))
        return self._situation(await self.tip(), wallet, bonds, tree, fee, claims=claims)

    def _situation(
        self,
        tip: Tip,
        wallet: list[Box],
        bonds: Iterable[On[Bond]],
        tree: bytes,
        fee: int,
        *,
        claims: Collection[str] = (),
    ) -> Situation:
        # Plain boxes first, large ones first: fewer inputs, and tokens stay where they are.
        wallet.sort(key=lambda box: (len(box.tokens), -box.value))
        plain = [box for box in wallet if not box.tokens][:MOST_FUNDS]
        holders = sorted((box for box in wallet if box.tokens), key=lambda box: -box.value)[:MOST_FUNDS]
        holders.sort(key=lambda box: (len(box.tokens), -box.value))
        mine = [bond for bond in bonds if bond.content.node == tree[3:]]
        market = Market(self.deployment, tip.next_height)
        per_byte = tip.info.parameters.get("minValuePerByte", MIN_VALUE_PER_BYTE)
        most = MAX_COST if self.deployment.network == "mainnet" else SMALLEST_MAX_COST
        reserved = {box.id for box in wallet if any(is_reserve_of(box, claim) for claim in claims)}
        built = self._ergo([*plain, *holders, *(box for box in wallet if box.id in reserved)])
        free = tuple(box for key, box in built.items() if key not in reserved)
        kept = tuple(box for key, box in built.items() if key in reserved)
        funds = Funds(free, tree, fee, per_byte, most)
        return Situation(tip, market, funds, max(mine, key=_stake, default=None), kept)

    def _ergo(self, boxes: Iterable[Box]) -> dict[str, ErgoBox]:
        """Boxes of the wallet as plans want them, by id; each is built once."""
        self._built = {box.id: self._built.get(box.id) or box.ergo() for box in boxes}
        return self._built

    def _typed(self, content: type[C], boxes: Iterable[Box]) -> Iterable[On[C]]:
        for box in boxes:
            try:
                yield self.deployment.read(content, box)
            except BoxError:
                continue


def _stake(bond: On[Bond]) -> int:
    return bond.content.amount


def where_is(escrow: Sighting | None, life: Life, node: bytes, height: int) -> Where | None:
    """The standing of a task for one node (33-byte key); None when the chain source shows nothing of it."""
    standing = life.where(height)
    if standing is not None and life.claimed is not None:
        return standing if life.claimed.content.node == node else Where.LOST
    if escrow is None:
        return None
    return Where.OPEN if escrow.spent_by is None else Where.LOST
