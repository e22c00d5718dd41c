"""The mempool: transactions that wait for a block, and the boxes they make and spend.

Arrival order is dependency order, since a transaction is taken in only when its parents are there.
A transaction that is replaced leaves its children behind; the next check drops them, as in a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aihd.devnet.views import BoxView, TxView

CAPACITY = 1000  # transactions


@dataclass(frozen=True, slots=True)
class PoolTx:
    """A waiting transaction; `arrived` in ms since the epoch."""

    view: TxView
    arrived: int

    @property
    def weight(self) -> int:
        """What decides between rivals: nanoERG of fee per KiB."""
        return self.view.fee * 1024 // self.view.size


class Mempool:
    """Waiting transactions by id, in arrival order; no rule is checked here."""

    def __init__(self) -> None:
        self._transactions: dict[str, PoolTx] = {}
        self._spender: dict[str, str] = {}
        self._outputs: dict[str, BoxView] = {}

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

    def lightest(self) -> PoolTx:
        """The waiting transaction of the least weight; ValueError when none waits."""
        return min(self._transactions.values(), key=lambda entry: entry.weight)

    def add(self, entry: PoolTx) -> None:
        """Takes a transaction in."""
        self._transactions[entry.view.tx_id] = entry
        self._spender.update(dict.fromkeys(entry.view.inputs, entry.view.tx_id))
        self._outputs.update((box.box_id, box) for box in entry.view.outputs)

    def remove(self, tx_id: str) -> None:
        """Lets a transaction go; nothing happens when it is not there."""
        entry = self._transactions.pop(tx_id, None)
        if entry is None:
            return
        for box_id in entry.view.inputs:
            if self._spender.get(box_id) == tx_id:
                del self._spender[box_id]
        for box in entry.view.outputs:
            self._outputs.pop(box.box_id, None)

    def clear(self) -> list[PoolTx]:
        """Empties the pool and gives what waited, in arrival order."""
        waiting = list(self)
        for entry in waiting:
            self.remove(entry.view.tx_id)
        return waiting
