"""The boxes of one market and one wallet, kept block by block: what a block adds is added, what a reorg takes back is taken back.

Loaded once from a full listing, after that a block costs what it brings, however many boxes are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ergo_lib_python.chain import ErgoBox

from aihd.core.life import Sighting
from aihd.errors import InvariantError
from aihd.protocol.boxes import Content, On, tokens_of
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import GUARD_OF, Deployment, Guard
from aihd.protocol.trees import script_of

C = TypeVar("C", bound=Content)


@dataclass(frozen=True, slots=True)
class Header:
    """A block's place in the chain."""

    height: int
    id: bytes
    parent: bytes


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction of a block: its id, the ids of the boxes that it spends, and those of its outputs that are of interest."""

    id: str
    inputs: tuple[str, ...]
    outputs: tuple[ErgoBox, ...]


@dataclass(frozen=True, slots=True)
class Block:
    header: Header
    transactions: tuple[Mined, ...]


@dataclass(slots=True)
class _Applied:
    """What a block did, to take it back."""

    header: Header
    created: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    mined: list[str] = field(default_factory=list)


class Index:
    """`base` is the block of the full listing: what came before it cannot be taken back."""

    def __init__(self, deployment: Deployment, wallet: bytes, base: Header, listed: Iterable[Sighting]) -> None:
        self.base = base
        self._deployment = deployment
        self._trees = frozenset({wallet, *deployment.trees.values()})
        self._boxes: dict[str, Sighting] = {}
        self._unspent: dict[bytes, dict[str, ErgoBox]] = {tree: {} for tree in self._trees}
        self._tasks: dict[bytes, dict[str, None]] = {}  # box ids by task id, in the order in which they came
        self._typed: dict[str, On[Content] | None] = {}
        self._applied: list[_Applied] = []
        self._mined: dict[str, int] = {}
        for sighting in listed:
            self._add(sighting)

    @property
    def tip(self) -> Header:
        return self._applied[-1].header if self._applied else self.base

    @property
    def trees(self) -> frozenset[bytes]:
        """The scripts whose boxes are kept."""
        return self._trees

    def apply(self, block: Block) -> None:
        """Add the block that follows the tip; InvariantError for any other."""
        header = block.header
        if (header.parent, header.height) != (self.tip.id, self.tip.height + 1):
            raise InvariantError(
                f"block {header.id.hex()} of height {header.height} does not follow {self.tip.id.hex()}"
            )
        done = _Applied(header)
        self._applied.append(done)
        for tx in block.transactions:
            spent = [key for key in tx.inputs if key in self._boxes]
            for key in spent:
                self._boxes[key] = replace(self._boxes[key], spent_by=tx.id)
                self._unspent[script_of(self._boxes[key].box)].pop(key, None)
            created = [box for box in tx.outputs if script_of(box) in self._trees]
            for box in created:
                self._add(Sighting(box, header.height, header.id, None))
            if spent or created:
                self._mined[tx.id] = header.height
                done.mined.append(tx.id)
            done.spent += spent
            done.created += (str(box.box_id) for box in created)

    def add(self, sighting: Sighting) -> None:
        """A box from before the base that the listing lacked."""
        self._add(sighting)

    def undo(self) -> None:
        """Take back the tip; InvariantError at the base."""
        if not self._applied:
            raise InvariantError(f"block {self.base.id.hex()} is the base of the index and cannot be taken back")
        done = self._applied.pop()
        for key in done.spent:
            known = replace(self._boxes[key], spent_by=None)
            self._boxes[key] = known
            self._unspent[script_of(known.box)][key] = known.box
        for key in done.created:
            self._remove(key)
        for tx_id in done.mined:
            del self._mined[tx_id]

    def mined_at(self, tx_id: str) -> int | None:
        """Height of a transaction that touched a box of ours in a block since the base."""
        return self._mined.get(tx_id)

    def box(self, box_id: str) -> Sighting | None:
        return self._boxes.get(box_id)

    def unspent(self, tree: bytes) -> list[ErgoBox]:
        return list(self._unspent[tree].values())

    def typed(self, content: type[C]) -> Iterator[On[C]]:
        """The unspent boxes of a kind that are well formed; each is read once."""
        for key, box in self._unspent[self._deployment.trees[GUARD_OF[content]]].items():
            if key not in self._typed:
                self._typed[key] = self._read(content, box)
            found = self._typed[key]
            if found is not None and isinstance(found.content, content):
                yield On(found.box, found.content)

    def of_task(self, task_id: bytes) -> list[Sighting]:
        """Every known box of a task: its escrow, and all that hold or held its token."""
        return [self._boxes[key] for key in self._tasks.get(task_id, ())]

    def _read(self, content: type[C], box: ErgoBox) -> On[C] | None:
        try:
            return self._deployment.read(content, box)
        except BoxError:
            return None

    def _add(self, sighting: Sighting) -> None:
        box = sighting.box
        key, tree = str(box.box_id), script_of(box)
        if tree not in self._trees:
            return  # a task token outside of the market's scripts proves nothing
        self._boxes[key] = sighting
        self._unspent[tree].pop(key, None)  # a listing may show it twice, once unspent and once spent
        if sighting.spent_by is None:
            self._unspent[tree][key] = box
        task_id = self._task_of(box)
        if task_id is not None:
            self._tasks.setdefault(task_id, {})[key] = None

    def _remove(self, key: str) -> None:
        box = self._boxes.pop(key).box
        del self._unspent[script_of(box)][key]
        task_id = self._task_of(box)
        if task_id is not None:
            self._tasks[task_id].pop(key)

    def _task_of(self, box: ErgoBox) -> bytes | None:
        guard = self._deployment.guard_of(box)
        if guard is Guard.TASK:
            return bytes(box.box_id)
        if guard in (None, Guard.BOND, Guard.MINTER):
            return None
        tokens = tokens_of(box)
        return tokens[0][0] if tokens else None
