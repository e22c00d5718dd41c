"""The mempool: transactions that wait for a block, and the boxes they make and spend.

As in a node: a transaction weighs its fee per size or per cost, and besides what its descendants in the pool weigh, so
parents come before their children. A transaction that is replaced leaves its children behind; the next check drops
them. What a check found invalid is not taken again for a while. No rule of the chain is checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from aihd.devnet.views import BoxView, TxView

CAPACITY = 1000  # transactions
MEMORY = 10_000  # ids of invalid transactions; a node's bloom filter forgets, too
MEMORY_BLOCKS = 120  # how long an id is remembered: about four hours
FAMILY_DEPTH = 500  # generations above a transaction that carry its weight

Weighing = Literal["size", "cost"]


@dataclass(slots=True)
class PoolTx:
    """A waiting transaction; `arrived` in ms since the epoch, `cost` in block cost units, `weight` with descendants."""

    view: TxView
    arrived: int
    cost: int = 0
    weight: int = field(default=0, compare=False)


class Mempool:
    """Waiting transactions by id, in arrival order. `memory`: for how many blocks an invalid one's id is refused."""

    def __init__(self, weighing: Weighing = "size", capacity: int = CAPACITY, memory: int = MEMORY_BLOCKS) -> None:
        self.weighing: Weighing = weighing
        self.capacity = capacity
        self._memory = memory
        self._transactions: dict[str, PoolTx] = {}
        self._spender: dict[str, str] = {}
        self._outputs: dict[str, BoxView] = {}
        self._invalid: dict[str, int] = {}  # height at which it was found

    def __len__(self) -> int:
        return len(self._transactions)

    def __contains__(self, tx_id: str) -> bool:
        return tx_id in self._transactions

    def __iter__(self) -> Iterator[PoolTx]:
        return iter(tuple(self._transactions.values()))

    def get(self, tx_id: str) -> PoolTx | None:
        """The waiting transaction of this id."""
        return self._transactions.get(tx_id)

    def output(self, box_id: str) -> BoxView | None:
        """The box of this id that a waiting transaction makes, spent in the pool or not."""
        return self._outputs.get(box_id)

    def outputs(self) -> Iterator[BoxView]:
        """Every box that a waiting transaction makes."""
        return iter(tuple(self._outputs.values()))

    def spender(self, box_id: str) -> str | None:
        """The id of the waiting transaction that spends this box."""
        return self._spender.get(box_id)

    def rivals(self, view: TxView) -> list[PoolTx]:
        """The waiting transactions that spend an input of `view`, each once."""
        ids = dict.fromkeys(self._spender[box_id] for box_id in view.inputs if box_id in self._spender)
        return [self._transactions[tx_id] for tx_id in ids]

    def own_weight(self, entry: PoolTx) -> int:
        """nanoERG of fee per KiB, or per 1024 units of cost."""
        return entry.view.fee * 1024 // (entry.view.size if self.weighing == "size" else max(1, entry.cost))

    def heaviest_first(self) -> list[PoolTx]:
        """In the order in which a miner takes them; equal ones as they arrived."""
        return sorted(self._transactions.values(), key=lambda entry: -entry.weight)

    def lightest(self) -> PoolTx:
        """The waiting transaction of the least weight, the youngest of equals; ValueError when none waits."""
        return min(reversed(self._transactions.values()), key=lambda entry: entry.weight)

    def add(self, entry: PoolTx) -> None:
        """Takes a transaction in, and lets its ancestors weigh as much more."""
        entry.weight = self.own_weight(entry)
        self._transactions[entry.view.tx_id] = entry
        self._spender.update(dict.fromkeys(entry.view.inputs, entry.view.tx_id))
        self._outputs.update((box.box_id, box) for box in entry.view.outputs)
        self._weigh_ancestors(entry, entry.weight)

    def remove(self, tx_id: str) -> None:
        """Lets a transaction go; nothing happens when it is not there."""
        entry = self._transactions.pop(tx_id, None)
        if entry is None:
            return
        self._weigh_ancestors(entry, -entry.weight)
        for box_id in entry.view.inputs:
            if self._spender.get(box_id) == tx_id:
                del self._spender[box_id]
        for box in entry.view.outputs:
            self._outputs.pop(box.box_id, None)

    def clear(self) -> list[PoolTx]:
        """Empties the pool and gives what waited, in arrival order."""
        waiting = list(self)
        for index in (self._transactions, self._spender, self._outputs):
            index.clear()
        return waiting

    def remember_invalid(self, tx_id: str, height: int) -> None:
        """Refuses this from now on."""
        self._invalid[tx_id] = height
        while len(self._invalid) > MEMORY:
            del self._invalid[next(iter(self._invalid))]

    def found_invalid(self, tx_id: str, height: int) -> bool:
        """Says if a check has dropped it not long before this height."""
        return tx_id in self._invalid and height - self._invalid[tx_id] < self._memory

    def _weigh_ancestors(self, entry: PoolTx, change: int) -> None:
        generation = [entry]
        for _ in range(FAMILY_DEPTH):
            made_by = (self._outputs[i].tx_id for child in generation for i in child.view.inputs if i in self._outputs)
            generation = [self._transactions[tx_id] for tx_id in dict.fromkeys(made_by)]
            if not generation:
                return
            for parent in generation:
                parent.weight += change
