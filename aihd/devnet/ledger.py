"""What the blocks of the main chain add up to: every box, who spent it, every token, and ordered indexes to page by.

Applying a block and undoing it are exact opposites. A page costs what the page holds, however long the list is.
Boxes of undone blocks are remembered as orphans, as the Explorer does.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import lru_cache

from ergo_lib_python.chain import Constant, ErgoBox
from ergo_lib_python.exceptions import SigmaParsingException

from aihd.devnet.blocks import Block
from aihd.devnet.views import BoxView, TxView
from aihd.protocol.trees import explorer_template_hash, node_template_hash

_INT = re.compile(r"[+-]?[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class ChainBox:
    """A box in a block; `gix` counts all boxes of the chain, `height` is that of the block."""

    view: BoxView
    gix: int
    height: int
    block_id: str


@dataclass(frozen=True, slots=True)
class ChainTx:
    """A transaction in a block; `index` is its place there, `gix` counts all transactions, `timestamp` is in ms."""

    view: TxView
    gix: int
    index: int
    height: int
    block_id: str
    timestamp: int


@dataclass(frozen=True, slots=True)
class Token:
    """A token as its issuing box declares it by EIP-4 (R4 name, R5 description, R6 decimals); None = not declared.

    `decimals_or_int` is how a node reads R6: also where it holds a number and no text, and 0 where it holds neither.
    """

    token_id: str
    box_id: str
    emission: int
    name: str | None
    description: str | None
    decimals: int | None
    decimals_or_int: int = 0

    @property
    def kind(self) -> str | None:
        """The standard that the issuing box follows."""
        return None if self.name is None else "EIP-004"


class By(IntEnum):
    """What a list of boxes is looked up by."""

    TREE = auto()  # tree, hex; in order of global index
    TOKEN = auto()  # token id; in order of global index
    NODE_TEMPLATE = auto()  # Blake2b-256 of the template; in order of global index
    TEMPLATE = auto()  # SHA-256 of the template; in order of creation height, which the maker of a box chooses


Key = tuple[By, str]
Place = tuple[int, int, str]
Listings = Sequence[tuple[Key, Place]]


class Pages:
    """Ordered lists by key."""

    def __init__(self) -> None:
        self._lists: dict[Key, list[Place]] = {}

    def add(self, listings: Listings) -> None:
        """Puts a box in its place under each key."""
        for key, place in listings:
            places = self._lists.get(key)
            if places is None:
                self._lists[key] = [place]
            elif places[-1] < place:  # a new box, nearly always
                places.append(place)
            else:
                insort(places, place)

    def remove(self, listings: Listings) -> None:
        """Takes a box out; KeyError when there is no such list."""
        for key, place in listings:
            places = self._lists[key]
            del places[bisect_left(places, place)]
            if not places:
                del self._lists[key]

    def count(self, by: By, key: str) -> int:
        """How many boxes there are."""
        return len(self._lists.get((by, key), ()))

    def page(self, by: By, key: str, offset: int, limit: int, descending: bool) -> list[str]:
        """Box ids from `offset` on, at most `limit`."""
        places = self._lists.get((by, key), [])
        if not descending:
            return [place[-1] for place in places[offset : offset + limit]]
        end = max(0, len(places) - offset)
        return [place[-1] for place in reversed(places[max(0, end - limit) : end])]


class Ledger:
    """The state of the main chain."""

    def __init__(self) -> None:
        self.boxes: dict[str, ChainBox] = {}
        self.transactions: dict[str, ChainTx] = {}
        self.tokens: dict[str, Token] = {}
        self.orphans: dict[str, ChainBox] = {}
        self.all = Pages()
        self.unspent = Pages()
        self._spender: dict[str, str] = {}
        self._by_tree: dict[str, list[str]] = {}  # ids of the transactions that touch a tree, oldest first

    def spender(self, box_id: str) -> str | None:
        """The id of the main-chain transaction that spent this box."""
        return self._spender.get(box_id)

    def utxo(self, box_id: str) -> ErgoBox | None:
        """The box, if it is on the main chain and unspent."""
        view = self.utxo_view(box_id)
        return view.box if view else None

    def utxo_view(self, box_id: str) -> BoxView | None:
        """The same as plain facts."""
        box = self.boxes.get(box_id)
        return None if box is None or box_id in self._spender else box.view

    def orphans_by(self, by: By, key: str) -> list[ChainBox]:
        """The boxes of undone blocks, looked up like those of the main chain."""
        return [box for box in self.orphans.values() if (by, key) in _keys(box.view)]

    def transactions_of(self, tree: str) -> list[str]:
        """Ids of the transactions that make or spend boxes of a tree (hex), oldest first."""
        return self._by_tree.get(tree, [])

    def add_genesis(self, views: list[BoxView], block: Block) -> None:
        """Puts the boxes that exist before any transaction into the first block."""
        for view in views:
            self._create(view, block)

    def apply(self, block: Block) -> None:
        """Adds a block on top; its transactions must be valid."""
        for index, view in enumerate(block.transactions):
            row = ChainTx(view, len(self.transactions), index, block.height, block.block_id, block.header["timestamp"])
            self.transactions[view.tx_id] = row
            for box_id in view.inputs:
                self.unspent.remove(_listings(self.boxes[box_id]))
                self._spender[box_id] = view.tx_id
            for output in view.outputs:
                self._create(output, block)
            for tree in self._touched(view):
                self._by_tree.setdefault(tree, []).append(view.tx_id)
            self.tokens.update((token.token_id, token) for token in _issued(view))

    def add_orphans(self, block: Block) -> None:
        """Remembers the boxes of a block that was undone in another run."""
        for view in (box for tx in block.transactions for box in tx.outputs):
            if view.box_id not in self.boxes:
                self.orphans[view.box_id] = ChainBox(view, len(self.boxes), block.height, block.block_id)

    def undo(self, block: Block) -> None:
        """Takes the newest block away again."""
        for view in reversed(block.transactions):
            for token in _issued(view):
                del self.tokens[token.token_id]
            for tree in self._touched(view):
                self._by_tree[tree].pop()
            for output in reversed(view.outputs):
                self._remove(output.box_id)
            for box_id in view.inputs:
                del self._spender[box_id]
                self.unspent.add(_listings(self.boxes[box_id]))
            del self.transactions[view.tx_id]

    def _touched(self, view: TxView) -> dict[str, None]:
        spent = (self.boxes[box_id].view.tree for box_id in view.inputs)
        return dict.fromkeys((*spent, *(output.tree for output in view.outputs)))

    def _create(self, view: BoxView, block: Block) -> None:
        box = ChainBox(view, len(self.boxes), block.height, block.block_id)
        self.boxes[view.box_id] = box
        self.orphans.pop(view.box_id, None)
        listings = _listings(box)
        self.all.add(listings)
        self.unspent.add(listings)

    def _remove(self, box_id: str) -> None:
        box = self.orphans[box_id] = self.boxes.pop(box_id)
        listings = _listings(box)
        self.all.remove(listings)
        self.unspent.remove(listings)


def _listings(box: ChainBox) -> Listings:
    """Under which keys a box is listed, and where."""
    by_index, by_height = (0, box.gix, box.view.box_id), (box.view.creation_height, box.gix, box.view.box_id)
    return [(key, by_height if key[0] is By.TEMPLATE else by_index) for key in _keys(box.view)]


def _keys(view: BoxView) -> Sequence[Key]:
    keys = ((By.TREE, view.tree), *_template_keys(view.tree))
    if not view.tokens:
        return keys
    return (*keys, *((By.TOKEN, token_id) for token_id in dict.fromkeys(token_id for token_id, _ in view.tokens)))


@lru_cache(maxsize=8192)
def _template_keys(tree: str) -> tuple[tuple[By, str], ...]:
    serialized = bytes.fromhex(tree)
    try:
        return (By.TEMPLATE, explorer_template_hash(serialized)), (By.NODE_TEMPLATE, node_template_hash(serialized))
    except ValueError:  # the chain holds trees that nobody can parse; they have no template
        return ()


def _issued(view: TxView) -> Iterator[Token]:
    """The token that a transaction mints: its id is that of the first input."""
    token_id = view.inputs[0]
    holders = [box for box in view.outputs if any(held == token_id for held, _ in box.tokens)]
    if holders:
        emission = sum(amount for box in holders for held, amount in box.tokens if held == token_id)
        yield Token(token_id, holders[0].box_id, emission, *_eip4(holders[0]), _decimals_or_int(holders[0]))


def _eip4(view: BoxView) -> tuple[str | None, str | None, int | None]:
    name, description, decimals = (_text(serialized) for serialized in (*view.registers[:3], "", "", "")[:3])
    if name is None:
        return None, None, None
    return name, description, int(decimals) if decimals and decimals.isdecimal() else None


def _decimals_or_int(view: BoxView) -> int:
    serialized = view.registers[2] if len(view.registers) > 2 else ""
    text = _text(serialized)
    if text is not None:
        return int(text) if _INT.fullmatch(text) and abs(int(text)) < 2**31 else 0
    number = _value(serialized) if serialized.startswith("04") else None
    return number if isinstance(number, int) else 0


def _text(serialized: str) -> str | None:
    """The text in a register (hex); None where it is empty, of another type, or unreadable."""
    value = _value(serialized) if serialized.startswith("0e") else None  # Coll[Byte]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _value(serialized: str) -> object:
    try:
        return Constant.from_bytes(bytes.fromhex(serialized)).value
    except (ValueError, SigmaParsingException):
        return None
