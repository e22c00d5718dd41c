"""The boxes of one market and one wallet, kept block by block: what a block adds is added, what a reorg takes back is taken back.

Loaded once from a full listing, after that a block costs what it brings, however many boxes are known. What a stranger puts under our
scripts is kept only if it is well formed and wanted; the rest costs a counter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from aihd.core.life import Sighting
from aihd.errors import InvariantError
from aihd.protocol.blocks import Mined
from aihd.protocol.box import CONTENT, Box, Odd
from aihd.protocol.boxes import Content, On
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import CONTENT_OF, GUARD_OF, Deployment, Guard

C = TypeVar("C", bound=Content)

UNDO: Final = 200
"""Blocks that can be taken back. A node goes back no more; over a deeper reorg everything is listed anew."""

Wanted = Callable[[On[Content], int | None], bool]
"""Whether a well-formed box of the market, with the height of its block, is to be kept."""
Lasting = Callable[[bytes], bool]
"""Whether the boxes of a task are to be kept when they are long spent."""


@dataclass(frozen=True, slots=True)
class Header:
    """A block's place in the chain."""

    height: int
    id: bytes
    parent: bytes


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
    passed: list[str] = field(default_factory=list)  # boxes that it made and that are not kept
    ended: dict[str, str] = field(default_factory=dict)  # boxes that it spent and that were not kept


class Index:
    """`base` is the newest block that cannot be taken back: that of the full listing, later one UNDO blocks deep."""

    def __init__(
        self,
        deployment: Deployment,
        wallet: bytes,
        base: Header,
        listed: Iterable[Sighting | Odd],
        *,
        wanted: Wanted = lambda on, height: True,
        lasting: Lasting = lambda task_id: True,
    ) -> None:
        self.base = base
        self.listed_at = base.height
        self._deployment = deployment
        self._wallet = wallet
        self._wanted = wanted
        self._lasting = lasting
        self._trees = frozenset({wallet, *deployment.trees.values()})
        self._boxes: dict[str, Sighting] = {}
        self._unspent: dict[bytes, dict[str, Box]] = {tree: {} for tree in self._trees}
        self._tasks: dict[bytes, dict[str, None]] = {}  # box ids by task id, in the order in which they came
        self._typed: dict[str, On[Content]] = {}
        self._applied: list[_Applied] = []
        self._mined: dict[str, int] = {}
        self._passed: dict[str, str] = {}  # unspent boxes that are not kept; what is odd about each, if anything is
        for found in listed:
            self.add(found)

    @property
    def tip(self) -> Header:
        return self._applied[-1].header if self._applied else self.base

    @property
    def trees(self) -> frozenset[bytes]:
        """The scripts whose boxes are kept."""
        return self._trees

    @property
    def set_aside(self) -> Counter[str]:
        """Unspent boxes under our scripts that are of no use, by script and what is odd about them."""
        return Counter(kind for kind in self._passed.values() if kind)

    @property
    def passed(self) -> Collection[str]:
        """Ids of unspent boxes under our scripts that are known and not kept."""
        return self._passed.keys()

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
            self._apply(tx, done)
        if len(self._applied) > UNDO:
            self._settle(self._applied.pop(0))

    def _apply(self, tx: Mined, done: _Applied) -> None:
        spent = [key for key in tx.inputs if key in self._boxes]
        for key in spent:
            self._boxes[key] = replace(self._boxes[key], spent_by=tx.id)
            self._unspent[self._boxes[key].box.tree].pop(key, None)
        done.ended.update((key, self._passed.pop(key)) for key in tx.inputs if key in self._passed)
        touched = bool(spent)
        for output in tx.outputs:
            if output.tree not in self._trees:
                continue
            touched = True
            self.add(output if isinstance(output, Odd) else _new(output, done.header))
            (done.created if output.id in self._boxes else done.passed).append(output.id)
        if touched:
            self._mined[tx.id] = done.header.height
            done.mined.append(tx.id)
        done.spent += spent

    def add(self, found: Sighting | Odd) -> None:
        """A box from before the base."""
        kind = self._take(found)
        if kind is not None:
            self._passed[found.id if isinstance(found, Odd) else found.box.id] = kind

    def undo(self) -> None:
        """Take back the tip; InvariantError at the base."""
        if not self._applied:
            raise InvariantError(f"block {self.base.id.hex()} is the base of the index and cannot be taken back")
        done = self._applied.pop()
        for key in done.spent:
            known = replace(self._boxes[key], spent_by=None)
            self._boxes[key] = known
            self._unspent[known.box.tree][key] = known.box
        for key in done.created:
            self._remove(key)
        for tx_id in done.mined:
            del self._mined[tx_id]
        self._passed.update(done.ended)
        for key in done.passed:
            self._passed.pop(key, None)

    def mined_at(self, tx_id: str) -> int | None:
        """Height of a transaction that touched a box of ours in a block since the base."""
        return self._mined.get(tx_id)

    def box(self, box_id: str) -> Sighting | None:
        return self._boxes.get(box_id)

    def unspent(self, tree: bytes) -> list[Box]:
        return list(self._unspent[tree].values())

    def typed(self, content: type[C]) -> Iterator[On[C]]:
        """The unspent boxes of a kind that are well formed and wanted."""
        for key in self._unspent[self._deployment.trees[GUARD_OF[content]]]:
            found = self._typed[key]
            if isinstance(found.content, content):
                yield On(found.source, found.content)

    def of_task(self, task_id: bytes) -> list[Sighting]:
        """Every known box of a task: its escrow, and all that hold or held its token."""
        return [self._boxes[key] for key in self._tasks.get(task_id, ())]

    def _take(self, found: Sighting | Odd) -> str | None:
        """Keep a box, if it is to be kept; else what is odd about it, or nothing where it is only of no use to us."""
        if isinstance(found, Odd):
            return self._oddity(found.tree, found.kind)
        box = found.box
        if box.tree not in self._trees:
            return None  # a task token outside of the market's scripts proves nothing
        if box.tree != self._wallet:
            typed = self._read(box)
            if typed is None:
                return self._oddity(box.tree, CONTENT)
            if not self._wanted(typed, found.height):
                return ""
            self._typed[box.id] = typed
        self._keep(found)
        return None

    def _keep(self, sighting: Sighting) -> None:
        box = sighting.box
        self._boxes[box.id] = sighting
        self._unspent[box.tree].pop(box.id, None)  # a listing may show it twice, once unspent and once spent
        if sighting.spent_by is None:
            self._unspent[box.tree][box.id] = box
        task_id = self._task_of(box)
        if task_id is not None:
            self._tasks.setdefault(task_id, {})[box.id] = None

    def _oddity(self, tree: bytes, kind: str) -> str | None:
        if tree not in self._trees:
            return None
        guard = next((guard for guard, known in self._deployment.trees.items() if known == tree), None)
        return f"{guard or 'wallet'}: {kind}"

    def _read(self, box: Box) -> On[Content] | None:
        guard = self._deployment.guard_of(box)
        try:
            return None if guard is None else self._deployment.read(CONTENT_OF[guard], box)
        except BoxError:
            return None

    def _settle(self, done: _Applied) -> None:
        """The oldest block is final: what it spent is forgotten, unless it belongs to a task that goes on."""
        self.base = done.header
        for tx_id in done.mined:
            del self._mined[tx_id]
        for key in done.spent:
            task_id = self._task_of(self._boxes[key].box)
            if task_id is None or not self._lasting(task_id):
                self._remove(key)

    def _remove(self, key: str) -> None:
        box = self._boxes.pop(key).box
        self._unspent[box.tree].pop(key, None)
        self._typed.pop(key, None)
        task_id = self._task_of(box)
        if task_id is not None:
            self._tasks[task_id].pop(key)
            if not self._tasks[task_id]:
                del self._tasks[task_id]

    def _task_of(self, box: Box) -> bytes | None:
        guard = self._deployment.guard_of(box)
        if guard is Guard.TASK:
            return box.raw_id
        if guard in (None, Guard.BOND, Guard.MINTER):
            return None
        return box.tokens[0][0] if box.tokens else None


def _new(box: Box, header: Header) -> Sighting:
    return Sighting(box, header.height, header.id, None)
