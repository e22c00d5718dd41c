"""A node's REST API: what confirms a box, gives scripts their context, and judges a transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.http import JsonSource, LieError, SourceError
from aihd.core.index import Block, Header, Mined
from aihd.core.life import Sighting
from aihd.errors import one_line
from aihd.protocol.context import HEADERS


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node's view of the chain. `height` is that of its newest full block."""

    height: int
    header_id: str
    genesis_id: str
    network: str
    parameters: Mapping[str, Any]
    indexed: bool
    score: int  # work in the chain up to that block: the most is the best


@dataclass(frozen=True, slots=True)
class Fate:
    """Height of the block that holds a box, and the id of the transaction that spent it."""

    height: int
    spent_by: str | None


class Answer(StrEnum):
    """What a node makes of a transaction that it is given."""

    ACCEPTED = "accepted"
    KNOWN = "already in the mempool"
    DOUBLE_SPEND = "an input is spent in the mempool"
    MISSING_INPUT = "an input is spent, or not seen yet"
    FEE = "the fee is too low now"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # no verdict: it may or may not have arrived


INDEX_PAGE: Final = 1000  # boxes in one answer of the index; a node gives up to 16384

# Texts change between versions, so parts of them are matched; the first hit counts. What stands here was heard from nodes of version 6.0.4.
_ANSWERS: Final = (
    ("already in the mempool", Answer.KNOWN),
    ("Double spending attempt", Answer.DOUBLE_SPEND),
    ("not all utxos in place yet", Answer.MISSING_INPUT),
    ("should be in UTXO", Answer.MISSING_INPUT),
    ("Missing inputs", Answer.MISSING_INPUT),
    ("Min fee not met", Answer.FEE),
    ("the mempool is full", Answer.FEE),
    ("being full", Answer.FEE),
    ("not exceeding block height", Answer.UNKNOWN),  # a node that has fallen behind says so of what is valid elsewhere
    ("Scripts of all transaction inputs should pass verification", Answer.REFUSED),
    ("minValuePerByte", Answer.REFUSED),
    ("creation height", Answer.REFUSED),
    ("creationHeight", Answer.REFUSED),
    ("too large size", Answer.REFUSED),
    ("cost exceeds limit", Answer.REFUSED),
    ("too high cost", Answer.REFUSED),
    ("maxBlockCost", Answer.REFUSED),
    ("Amount of Ergs in inputs should be equal", Answer.REFUSED),
    ("should not exceed", Answer.REFUSED),  # amounts of tokens, sums, sizes, counts
    ("should not be negative", Answer.REFUSED),
    ("should be positive", Answer.REFUSED),
    ("no duplicate inputs", Answer.REFUSED),
    ("should have at least one", Answer.REFUSED),
    ("EIP-27", Answer.REFUSED),
    ("The request content was malformed", Answer.REFUSED),
    ("Can not parse transaction bytes", Answer.REFUSED),
)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The verdict on a submission, with the node's own words (cut)."""

    answer: Answer
    detail: str = ""


def header_of(raw: Mapping[str, Any]) -> Header:
    """A header from node JSON."""
    return Header(raw["height"], bytes.fromhex(raw["id"]), bytes.fromhex(raw["parentId"]))


def _mined(raw: Mapping[str, Any], trees: Collection[str]) -> Mined:
    # Only what is ours is parsed: other people's boxes may be of kinds that the library does not know.
    outputs = tuple(ErgoBox.from_json(box) for box in raw["outputs"] if box["ergoTree"] in trees)
    return Mined(raw["id"], tuple(spent["boxId"] for spent in raw["inputs"]), outputs)


def classify(detail: str) -> Answer:
    """The class of a node's refusal; UNKNOWN when the words are not in the table."""
    return next((answer for text, answer in _ANSWERS if text in detail), Answer.UNKNOWN)


class Node(JsonSource):
    """One node, or several that are asked for each other."""

    async def info(self) -> NodeInfo:
        """The best of what the nodes show, which is asked first from now on; SourceError while none has a full block."""
        return await self.survey("/info", self._info, lambda info: info.score)

    def _info(self, raw: Any) -> NodeInfo:
        if raw.get("fullHeight") is None:
            raise SourceError(f"{self.url} has no full block yet", 503)
        return NodeInfo(
            raw["fullHeight"],
            raw["bestFullHeaderId"],
            raw["genesisBlockId"],
            raw["network"],
            raw["parameters"],
            bool(raw.get("isExplorer")),
            int(raw["fullBlocksScore"]),
        )

    async def last_headers(self, count: int = HEADERS) -> list[dict[str, Any]]:
        """Node JSON, newest first."""
        headers: list[dict[str, Any]] = await self.get(f"/blocks/lastHeaders/{count}")
        return list(reversed(headers))

    async def box(self, box_id: str) -> ErgoBox | None:
        """A confirmed unspent box; None when it is spent or unknown."""
        raw = await self.get(f"/utxo/byId/{box_id}")
        return ErgoBox.from_json(raw) if raw else None

    async def block(self, header_id: str, trees: Collection[str]) -> Block:
        """A block, with the outputs that stand under one of `trees` (hex); SourceError when the node does not have it."""

        def parse(raw: Any) -> Block:
            header = header_of(raw["header"])
            if header.id.hex() != header_id:
                raise LieError(f"{self.url} answers with block {header.id.hex()} when asked for {header_id}")
            return Block(header, tuple(_mined(tx, trees) for tx in raw["blockTransactions"]["transactions"]))

        try:
            found = await self.get_as(f"/blocks/{header_id}", parse)
        except ValueError as error:
            raise SourceError(f"{self.url} shows a box that is not what it says: {one_line(error, 120)}") from None
        if found is None:
            raise SourceError(f"{self.url} does not have block {header_id}")
        return found

    async def headers(self, above: int, upto: int) -> list[Header]:
        """Headers of the best chain with above < height <= upto, oldest first."""
        raw = await self.get("/blocks/chainSlice", fromHeight=above, toHeight=upto)
        # Its bounds are off by one on real nodes, and it never answers with nothing.
        return [header for header in map(header_of, raw or ()) if above < header.height <= upto]

    async def is_spent_in_mempool(self, box_id: str) -> bool:
        return bool(await self.get(f"/transactions/unconfirmed/inputs/byBoxId/{box_id}"))

    async def in_mempool(self, tx_id: str) -> bool:
        return bool(await self.get(f"/transactions/unconfirmed/byTransactionId/{tx_id}"))

    async def mined_at(self, tx_id: str) -> tuple[int, str] | None:
        """(height, block id) of a transaction on the best chain."""
        raw = await self.get(f"/blockchain/transaction/byId/{tx_id}")
        return (raw["inclusionHeight"], raw["blockId"]) if raw else None

    async def fate(self, box_id: str) -> Fate | None:
        """What the index knows of a box on the best chain, whatever its script is."""
        raw = await self.get(f"/blockchain/box/byId/{box_id}")
        return Fate(raw["inclusionHeight"], raw["spentTransactionId"]) if raw else None

    async def indexed(self) -> int:
        """Height up to which the node's index, which is built after the blocks, has come."""
        heights = await self.get("/blockchain/indexedHeight")
        return int(heights["indexedHeight"])

    async def found(self, box_id: str) -> Sighting | None:
        """A box on the best chain, spent or not, as the index knows it; its block is not told."""
        return await self.get_as(f"/blockchain/box/byId/{box_id}", self._sighting)

    async def by_token(self, token_id: bytes) -> list[Sighting]:
        """Every box on the best chain that holds or held a token, as the index knows them."""
        return await self._listed("GET", f"/blockchain/box/byTokenId/{token_id.hex()}")

    async def unspent_by_tree(self, tree: bytes) -> list[Sighting]:
        """Every confirmed unspent box under a tree, as the index knows them."""
        return await self._listed("POST", "/blockchain/box/unspent/byErgoTree", tree.hex())

    async def _listed(self, method: str, path: str, body: str | None = None) -> list[Sighting]:
        """All pages of a list of the index, each box once: boxes may move between pages while they are read."""

        def parse(raw: Any) -> list[Sighting]:
            # Lists of unspent boxes come bare, the others in an object; what a node's own description says is otherwise.
            return [self._sighting(box) for box in (raw["items"] if isinstance(raw, dict) else raw)]

        found: dict[str, Sighting] = {}
        offset, size = 0, INDEX_PAGE
        while size == INDEX_PAGE:
            page = {"offset": offset, "limit": INDEX_PAGE, "sortDirection": "asc"}
            sightings = await self._read(method, path, params=page, body=body, parse=parse) or []
            found.update((str(sighting.box.box_id), sighting) for sighting in sightings)
            size = len(sightings)
            offset += size
        return list(found.values())

    def _sighting(self, raw: dict[str, Any]) -> Sighting:
        try:
            box = ErgoBox.from_json(raw)
        except ValueError as error:
            raise LieError(f"{self.url} shows a box that is not what it says: {one_line(error, 120)}") from None
        return Sighting(box, raw["inclusionHeight"], None, raw["spentTransactionId"])

    async def was_taken(self, box_id: str, by_other_than: str) -> bool:
        """Whether a box that is not among the unspent ones can never be spent by a transaction: another did, or it does not exist.

        False while the node's index does not tell.
        """
        fate = await self.fate(box_id)
        if fate is not None:
            return fate.spent_by not in (None, by_other_than)
        heights = await self.get("/blockchain/indexedHeight")
        return bool(heights["indexedHeight"] >= heights["fullHeight"])

    async def header_at(self, height: int) -> str | None:
        """Id of the best chain's header at a height."""
        ids = await self.get(f"/blocks/at/{height}")
        return ids[0] if ids else None

    async def submit(self, tx: Transaction) -> Submitted:
        """Hand over a signed transaction, once. A time-out or an unreadable answer is UNKNOWN, never a failure."""
        try:
            status, answer = await self.call("POST", "/transactions", body=json.loads(tx.json()))
        except SourceError as error:
            return Submitted(Answer.UNKNOWN, one_line(error))
        if status == 200:
            return Submitted(Answer.ACCEPTED)
        detail = str(answer.get("detail") or answer.get("reason") or "") if isinstance(answer, dict) else str(answer)
        return Submitted(classify(detail), one_line(Exception(detail)))
