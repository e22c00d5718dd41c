"""Which boxes of a wallet pay for a transaction, and what goes back to it.

Tokens are a multiset: a box may list one id more than once, and every unit counts. Change is split over boxes that the chain takes, few
boxes are preferred to many, and what no node would take for its size is told before anything is built.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ergo_lib_python.chain import ErgoBox

from aihd.errors import AihdError, Exit
from aihd.protocol.boxes import tokens_of
from aihd.protocol.constants import MIN_BOX
from aihd.protocol.rules import MAX_BOX_SIZE
from aihd.protocol.units import format_erg

# Holders of this token owe part of their value to the re-emission contract (EIP-27); a wallet of ours never spends such a box.
REEMISSION_TOKEN: Final = bytes.fromhex("d9a2cc8a09abfaed87afacfbb7daee79a6b26f10c6613fc13d3f3953e5521d1a")
MANY_BOXES: Final = 20  # above so many a smaller selection is looked for, even if it moves tokens

# What a box takes of a transaction at most, in bytes (id, proof of one signature, empty extension) and in units of cost.
INPUT_BYTES: Final = 90
INPUT_COST: Final = 3_000
OUTPUT_COST: Final = 400
TOKEN_COST: Final = 250  # for each entry of a box that is spent or made
TOKEN_BYTES: Final = 32 + 9
_MAX_TOKENS: Final = 120  # in one box of change; ergo-lib takes 122
# A box beside its script and tokens: value, creation height, counts, and the transaction and index that it came from.
BOX_BYTES: Final = 9 + 5 + 3 + 32 + 3

Tokens = Mapping[bytes, int]
"""Amounts by token id (32 bytes)."""
Entries = tuple[tuple[bytes, int], ...]


class InsufficientFundsError(AihdError):
    """The wallet cannot pay for a transaction; nothing was built."""

    exit_code = Exit.TEMPORARY


def total_of(entries: Iterable[Entries]) -> Counter[bytes]:
    """Amount of each token over the entries of boxes. A box may list one id more than once."""
    held: Counter[bytes] = Counter()
    for each in entries:
        for token, amount in each:
            held[token] += amount
    return held


@dataclass(frozen=True, slots=True)
class Part:
    """A box of change: nanoERG and tokens."""

    value: int
    tokens: Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the wallet has to add to a transaction: nanoERG and tokens (negative: what the other inputs leave over).

    `spent` are ids of boxes that are inputs already, `tree` takes the change, `per_byte` is the nanoERG that the chain asks for a byte of
    a box. `room_bytes` and `room_cost` is what boxes of the wallet and change may take.
    """

    value: int
    tokens: Tokens
    spent: frozenset[str]
    tree: bytes
    per_byte: int
    room_bytes: int
    room_cost: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Boxes of the wallet, in order, the change, and what is too little for a box of its own (nanoERG)."""

    boxes: tuple[ErgoBox, ...]
    change: tuple[Part, ...]
    crumbs: int = 0


def select(demand: Demand, wallet: Iterable[ErgoBox], first: Iterable[ErgoBox] = ()) -> Selection:
    """The boxes of `wallet`, in its order, that meet a demand; `first` in any case, none beside where the other inputs do.

    InsufficientFundsError names what is missing, or how much one transaction can move.
    """
    boxes = [box for box in spendable(wallet) if str(box.box_id) not in demand.spent]
    forced = [box for box in first if str(box.box_id) not in demand.spent]
    found = _taken(demand, boxes, forced)
    largest_first = sorted(boxes, key=lambda box: -box.value)
    if len(found.boxes) > MANY_BOXES:
        found = min(found, _taken(demand, largest_first, forced), key=lambda selection: len(selection.boxes))
    if not _fits(demand, found):
        some = gathered(largest_first, demand)
        raise InsufficientFundsError(
            f"it takes {len(found.boxes)} boxes of the wallet, and one transaction has room for {len(some)} with "
            f"{format_erg(sum(box.value for box in some))}: send less at once, or put boxes together (aihd wallet consolidate)"
        )
    return found


def spendable(wallet: Iterable[ErgoBox]) -> list[ErgoBox]:
    """The boxes of a wallet without those that the signer would refuse."""
    return [box for box in wallet if all(token != REEMISSION_TOKEN for token, _ in tokens_of(box))]


def gathered(boxes: Iterable[ErgoBox], demand: Demand) -> list[ErgoBox]:
    """The first of `boxes`, as many as one transaction has room for."""
    pot = _Pot(demand)
    for box in boxes:
        pot.add(box)
        if not _fits(demand, Selection(tuple(pot.boxes.values()), tuple(pot.parts(0)))):
            return list(pot.boxes.values())[:-1]
    return list(pot.boxes.values())


def batches(wallet: Iterable[ErgoBox], demand: Demand, leave: int) -> list[list[ErgoBox]]:
    """Boxes to put together, a transaction each, smallest first. The `leave` largest stay, and what is not worth the fee."""
    rest = sorted(spendable(wallet), key=lambda box: box.value)[: -leave or None]
    found: list[list[ErgoBox]] = []
    while rest:
        batch = gathered(rest, demand) or rest[:1]
        rest = rest[len(batch) :]
        pot = _Pot(demand)
        for box in batch:
            pot.add(box)
        if len(batch) > 1 and pot.selection(0) is not None:
            found.append(batch)
    return found


def _fits(demand: Demand, chosen: Selection) -> bool:
    """Whether the room is enough for boxes of the wallet and change."""
    entries = sum(len(box.tokens) for box in chosen.boxes) + sum(len(part.tokens) for part in chosen.change)
    size = INPUT_BYTES * len(chosen.boxes) + sum(size_of(demand.tree, part.tokens) for part in chosen.change)
    cost = INPUT_COST * len(chosen.boxes) + OUTPUT_COST * len(chosen.change) + TOKEN_COST * entries
    return size <= demand.room_bytes and cost <= demand.room_cost


def _taken(demand: Demand, boxes: Sequence[ErgoBox], forced: Sequence[ErgoBox]) -> Selection:
    pot = _Pot(demand)
    for box in {str(box.box_id): box for box in (*forced, *_holders(demand.tokens, boxes))}.values():
        pot.add(box)
    if (found := pot.selection(0)) is not None:
        return found
    for box in boxes:
        if str(box.box_id) not in pot.boxes:
            pot.add(box)
            if (found := pot.selection(MIN_BOX)) is not None:
                return found
    # Every box is taken: then smaller change will do.
    if (found := pot.selection(0)) is None:
        raise pot.short()
    return found


def _holders(tokens: Tokens, boxes: Sequence[ErgoBox]) -> list[ErgoBox]:
    """The boxes to take for the tokens that are missing: for each those that hold most of it."""
    missing = Counter({token: amount for token, amount in tokens.items() if amount > 0})
    if not missing:
        return []
    held = {str(box.box_id): total_of([tokens_of(box)]) for box in boxes}
    taken: dict[str, ErgoBox] = {}
    for token in list(missing):
        for box in sorted(boxes, key=lambda box: -held[str(box.box_id)][token]):
            key = str(box.box_id)
            if missing[token] > 0 and held[key][token] and key not in taken:
                taken[key] = box
                missing.subtract(held[key])
        if missing[token] > 0:
            raise InsufficientFundsError(f"the wallet is short of {missing[token]} of token {token.hex()}")
    return list(taken.values())


class _Pot:
    """Boxes of the wallet while they are chosen, and what they leave."""

    def __init__(self, demand: Demand) -> None:
        self.demand = demand
        self.boxes: dict[str, ErgoBox] = {}
        self.left = -demand.value
        self.kept = Counter({token: -amount for token, amount in demand.tokens.items()})

    def add(self, box: ErgoBox) -> None:
        self.boxes[str(box.box_id)] = box
        self.left += box.value
        for token, amount in tokens_of(box):
            self.kept[token] += amount

    def selection(self, least: int) -> Selection | None:
        """What is chosen, with at least `least` nanoERG in a box of change; None when too little is left to make it."""
        boxes, parts = tuple(self.boxes.values()), self.parts(least)
        spare = self.left - sum(part.value for part in parts)
        if spare >= 0 and parts:
            parts[-1] = replace(parts[-1], value=parts[-1].value + spare)
        if spare >= 0:
            return Selection(boxes, tuple(parts))
        # What no box may hold is the miner's, where no tokens depend on it.
        crumbs = self.left if not least and self.left >= 0 and not parts[-1].tokens else None
        return None if crumbs is None else Selection(boxes, (), crumbs)

    def parts(self, least: int) -> list[Part]:
        """The boxes of change, each worth the least that it may be."""
        packed = _packed([(token, amount) for token, amount in self.kept.items() if amount > 0], self.demand.tree)
        if self.left and not packed:
            packed = [()]
        return [Part(max(least, self.demand.per_byte * size_of(self.demand.tree, some)), some) for some in packed]

    def short(self) -> InsufficientFundsError:
        """What is missing when every box is taken."""
        parts = self.parts(0)
        carriers = sum(part.value for part in parts if part.tokens)
        what = f", {format_erg(carriers)} of it to carry tokens back" if carriers else ""
        missing = carriers - self.left
        return InsufficientFundsError(
            f"the wallet is short of {format_erg(missing)}: "
            f"{format_erg(max(0, self.demand.value) + carriers)} are needed{what}"
        )


def _packed(tokens: Sequence[tuple[bytes, int]], tree: bytes) -> list[Entries]:
    """Tokens, spread over as few boxes as the chain takes them in."""
    packed: list[Entries] = []
    for entry in tokens:
        if packed and len(packed[-1]) < _MAX_TOKENS and size_of(tree, (*packed[-1], entry)) <= MAX_BOX_SIZE:
            packed[-1] = (*packed[-1], entry)
        else:
            packed.append((entry,))
    return packed


def size_of(tree: bytes, tokens: Entries) -> int:
    """Bytes of a box without registers, at most."""
    return BOX_BYTES + len(tree) + sum(len(token) + (amount.bit_length() + 6) // 7 for token, amount in tokens)
