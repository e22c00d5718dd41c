"""What finds boxes: a node's extra index, or an explorer. One face for both, so that either is enough by itself.

A finder may hide a box or show an old one; it cannot make one up. What it says is spent is proved by the block that spends it, and what
it says is unspent is asked of a node (`aihd/chain/lives.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

from aihd.chain.http import LieError, Server
from aihd.core.life import Sighting
from aihd.protocol.box import Odd
from aihd.protocol.shapes import hexed, mapped, text, whole

TOP: Final = 2**31 - 1


@dataclass(slots=True, kw_only=True)
class Listing:
    """The unspent boxes under some scripts as one server shows them: as of the block of `height`, if all goes well.

    `odd` are of no use, whoever shows them; `doubtful` are ids of boxes that are not what the server says: it lies, or it cannot
    show all of a box.
    """

    server: Server
    height: int
    block: str | None = None
    found: list[Sighting] = field(default_factory=list)
    odd: list[Odd] = field(default_factory=list)
    doubtful: list[tuple[str, bytes]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    """Ids that were listed and not read, because they are known."""

    def take(self, found: Sighting | Odd) -> None:
        if isinstance(found, Odd):
            self.odd.append(found)
        else:
            self.found.append(found)

    @property
    def ids(self) -> set[str]:
        """Every box that was listed."""
        shown = {found.box.id for found in self.found} | {odd.id for odd in self.odd}
        return shown | {box_id for box_id, _ in self.doubtful} | self.known


@dataclass(frozen=True, slots=True)
class Issued:
    """A token's issue: the box that it was minted into, and how much of it was minted, by a finder's word."""

    box_id: str
    amount: int


class Finder(Protocol):
    """A node's index or an explorer; each question is answered by the first of its servers that can. SourceError when none does."""

    kind: str
    about: str
    servers: tuple[Server, ...]

    def ranked(self, about: str = "") -> list[Server]:
        """The servers in the order in which they are asked about something."""

    def no_use(self, server: Server, reason: str) -> NoReturn:
        """Pass over a server for a while, and say why by an UnfitError."""

    async def listing_of(self, server: Server, trees: Collection[bytes], known: Collection[str] = ()) -> Listing:
        """As `listing`, by this server; boxes that are `known` are not read."""

    @property
    def url(self) -> str:
        """The server that would be asked now, to name it in messages."""

    async def reached(self) -> int:
        """The height up to which it has come."""

    async def listing(self, trees: Collection[bytes]) -> Listing:
        """Every confirmed unspent box under some scripts."""

    async def found(self, box_id: str, trees: Collection[bytes] = ()) -> Sighting | Odd | None:
        """A box on the best chain, spent or not; None when it is not known."""

    async def by_token(self, token_id: bytes, trees: Collection[bytes] = ()) -> list[Sighting]:
        """Every box on the best chain that holds or held a token; under one of `trees`, if there are some."""

    async def placed(self, tx_id: str) -> tuple[int, str] | None:
        """(height, block id) of a transaction on the best chain; None when it is not known."""

    async def issued(self, token_id: bytes) -> Issued | None:
        """A token's issue; None when it is not known."""


def check_tree(server: Server, raw: dict[str, Any], tree: bytes) -> None:
    """LieError unless a box in JSON stands under a script."""
    if text(raw, "ergoTree").lower() != tree.hex():
        raise LieError(f"{server.url} lists box {raw['boxId'][:64]} under a script that it was not asked for")


def spender_of(raw: Mapping[str, Any]) -> str | None:
    """The transaction that spent a box, by a finder."""
    return None if raw.get("spentTransactionId") is None else hexed(raw, "spentTransactionId", 32).hex()


def boxes_of(items: list[Any]) -> list[dict[str, Any]]:
    """The objects of a list of boxes, each with its id; ShapeError where one is none."""
    found = [dict(mapped(item)) for item in items]
    for raw in found:
        hexed(raw, "boxId", 32)
    return found


def issued_of(raw: Any) -> Issued:
    """A token's issue in a node's or an explorer's JSON."""
    fields = mapped(raw)
    return Issued(hexed(fields, "boxId", 32).hex(), whole(fields, "emissionAmount", 0, 2**63 - 1))
