"""What a node's JSON says, read with care: each function gets what somebody else wrote."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from aihd.chain.finder import TOP, boxes_of, check_tree, spender_of
from aihd.chain.http import LieError, Server, SourceError
from aihd.core.life import Sighting
from aihd.protocol.box import Box, ForgedError, Odd, box_of_json
from aihd.protocol.shapes import hexed, mapped, optional_whole, sequence, text, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    """A node's view of the chain. `height` is that of its newest full block, `header_id` its id; `headers_height` is that of its newest
    header, `peer_height` the highest that a peer of it has told (None: not told).
    """

    height: int
    header_id: str
    genesis_id: str
    network: str
    parameters: Mapping[str, Any] = field(repr=False)
    indexed: bool
    headers_height: int
    peer_height: int | None


def info_of(raw: Any) -> NodeInfo:
    """A node's view of the chain; SourceError while it has no full block."""
    fields = mapped(raw)
    if fields.get("fullHeight") is None:
        raise SourceError("it has no full block yet", 503)
    return NodeInfo(
        height=whole(fields, "fullHeight", 1, TOP),
        header_id=hexed(fields, "bestFullHeaderId", 32).hex(),
        genesis_id=hexed(fields, "genesisBlockId", 32).hex(),
        network=text(fields, "network")[:40],
        parameters=_parameters(fields),
        indexed=fields.get("isExplorer") is True,
        headers_height=optional_whole(fields, "headersHeight", 0, TOP) or 0,
        peer_height=optional_whole(fields, "maxPeerHeight", 0, TOP),
    )


def _parameters(fields: Mapping[str, Any]) -> dict[str, int]:
    """The votable parameters that are numbers; a node may not know some of them."""
    raw = mapped(fields.get("parameters"))
    return {name: whole(raw, name, -(2**31), TOP) for name in raw if raw[name] is not None}


def box_in(server: Server, box_id: str, raw: Any, trees: Collection[bytes]) -> Box | Odd:
    """A box that was asked for by its id; LieError where it is not what it says, or another."""
    try:
        found = box_of_json(raw, trees)
    except ForgedError as error:
        raise LieError(f"{server.url} shows a box that is not what it says: {error}") from None
    if found.id != box_id:
        raise LieError(f"{server.url} answers with box {found.id} when asked for {box_id[:64]}")
    return found


def sighting_of(raw: Mapping[str, Any], box: Box | Odd) -> Sighting | Odd:
    """A box as the index shows it; its block is not told."""
    if isinstance(box, Odd):
        return box
    return Sighting(box, whole(raw, "inclusionHeight", 0, TOP), None, spender_of(raw))


def unspent_of(server: Server, tree: bytes, raw: dict[str, Any]) -> Sighting | Odd:
    """A box of a list of unspent ones under a script."""
    check_tree(server, raw, tree)
    found = sighting_of(raw, box_in(server, raw["boxId"], raw, (tree,)))
    if isinstance(found, Sighting) and found.spent_by is not None:
        raise LieError(f"{server.url} lists box {found.box.id} as unspent and says that {found.spent_by} spent it")
    return found


def items_of(raw: Any) -> list[dict[str, Any]]:
    """The boxes of a list of the index."""
    # Lists of unspent boxes come bare, the others in an object; what a node's own description says is otherwise.
    return boxes_of(sequence(raw.get("items") if isinstance(raw, dict) else raw))


def one_of_many(raw: Any) -> tuple[int, tuple[int, str] | None]:
    """Returns how many boxes a list has in all, and height and transaction of the only one on this page; None where it has none."""
    items, total = items_of(raw), whole(mapped(raw), "total", 0, 2**63 - 1)
    if not items:
        return total, None
    first = mapped(items[0])
    return total, (whole(first, "inclusionHeight", 0, TOP), hexed(first, "transactionId", 32).hex())


def placed_of(raw: Any) -> tuple[int, str]:
    """Height and block of a transaction."""
    fields = mapped(raw)
    return whole(fields, "inclusionHeight", 0, TOP), hexed(fields, "blockId", 32).hex()
