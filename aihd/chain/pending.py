"""Our transactions that a reorg could still change, with what is known of each and what rests on what.

Two transactions exclude each other when one box is spent by one of them, or by what it is built on, and by another one on the other side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ergo_lib_python.transaction import Transaction

from aihd.core.sending import TAKEN, Answer, Facts, Standing, age_of, bears
from aihd.store.journal import Journal, TxRecord, TxStatus

Spends = Mapping[str, str]
"""By the id of a box the id of the transaction that spends it."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A transaction with the ids of the boxes that it spends and makes."""

    tx: Transaction
    inputs: frozenset[str]
    outputs: frozenset[str]


class Pending:
    """The live transactions of a journal. What nodes said of them is forgotten with the process, and asked for again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._height = 0
        self._since: dict[str, int] = {}  # height at which those that a reorg took out of a block were last seen in it
        self._answers: dict[str, Answer] = {}
        self._unwanted: set[str] = set()
        self._parsed: dict[str, Parsed] = {}

    def parsed(self, record: TxRecord) -> Parsed:
        """Its transaction, parsed once while it is live: every situation asks for all of them."""
        found = self._parsed.get(record.id)
        if found is None:
            tx = Transaction.from_bytes(record.body)
            inputs = frozenset(str(tx_input.box_id) for tx_input in tx.inputs)
            found = self._parsed[record.id] = Parsed(tx, inputs, frozenset(str(box.box_id) for box in tx.outputs))
        return found

    def state(self) -> tuple[tuple[str, TxStatus], ...]:
        """What is live: equal at two moments when nothing was signed, mined or ended in between."""
        return tuple((record.id, record.status) for record in self._journal.live())

    def facts(self) -> dict[str, Facts]:
        """What is known of each, in the order of signing."""
        found: dict[str, Facts] = {}
        makers: dict[str, str] = {}
        for record in self._journal.live():
            parsed = self.parsed(record)
            parents = {makers[box] for box in parsed.inputs if box in makers}
            mined = record.status is TxStatus.MINED
            found[record.id] = Facts(
                standing=Standing.MINED if mined else Standing.WAITING,
                answer=self._answers.get(record.id),
                # The block after the one that it was signed at could not have it yet: nodes had begun with it.
                age=age_of(self._height - self._since.get(record.id, record.tip + 1)),
                orphaned=not mined and not all(bears(found[parent]) for parent in parents),
                unwanted=record.id in self._unwanted,
            )
            makers.update((box, record.id) for box in parsed.outputs)
        return found

    def bearing(self, without: Collection[str] = ()) -> list[tuple[Transaction, int | None]]:
        """Those that others may be built on, but for some, each with the height that it was mined at (None: not yet)."""
        facts = self.facts()
        return [
            (self.parsed(record).tx, record.height)
            for record in self._journal.live()
            if record.id not in without and bears(facts[record.id])
        ]

    def line_of(self, record: TxRecord) -> tuple[str, ...]:
        """A transaction and those live ones that were built on it, in the order of signing."""
        line, made = [record.id], set(self.parsed(record).outputs)
        for other in self._journal.live():
            parsed = self.parsed(other)
            if other.id not in line and made & parsed.inputs:
                line.append(other.id)
                made |= parsed.outputs
        return tuple(line)

    def ancestors(self, inputs: Collection[str]) -> tuple[str, ...]:
        """The waiting ones that something with these inputs is built on, directly or not, in the order of signing."""
        needed = set(inputs)
        found: list[str] = []
        for record in reversed(self._journal.live()):
            parsed = self.parsed(record)
            if record.status is TxStatus.PENDING and parsed.outputs & needed:
                found.append(record.id)
                needed |= parsed.inputs
        return tuple(reversed(found))

    def spends(self, record: TxRecord) -> dict[str, str]:
        """All that has to be spent for a transaction to be mined: by itself, and by what it was built on."""
        every = [record, *(parent for tx_id in record.parents if (parent := self._journal.transaction(tx_id)))]
        return {box: each.id for each in every for box in self.parsed(each).inputs}

    def spent(self, without: Collection[str] = ()) -> set[str]:
        """Ids of the boxes that live ones spend."""
        live = (record for record in self._journal.live() if record.id not in without)
        return {box for record in live for box in self.parsed(record).inputs}

    def makers(self) -> dict[str, TxRecord]:
        """By the id of a box the live one that makes it."""
        return {box: record for record in self._journal.live() for box in self.parsed(record).outputs}

    # -- what becomes known

    def heard(self, tx_id: str, answer: Answer) -> None:
        """What the nodes said of one. One that they had and have no more may have been mined just now: its age begins anew."""
        if self._answers.get(tx_id) in TAKEN and answer not in TAKEN:
            self._since[tx_id] = self._height
        self._answers[tx_id] = answer

    def unwant(self, records: Iterable[TxRecord]) -> None:
        """The purpose of these is better served by others."""
        self._unwanted.update(record.id for record in records)

    def reach(self, height: int) -> None:
        """A tip is looked at: those that wait are older now."""
        self._height = height

    def tidy(self) -> None:
        """All were looked at: what is over is forgotten."""
        live = {record.id: record for record in self._journal.live()}
        waiting = {tx_id for tx_id, record in live.items() if record.status is TxStatus.PENDING}
        self._since = {tx_id: since for tx_id, since in self._since.items() if tx_id in waiting}
        self._since.update((tx_id, self._height) for tx_id in live.keys() - waiting)
        self._answers = {tx_id: answer for tx_id, answer in self._answers.items() if tx_id in waiting}
        self._unwanted &= waiting
        self._parsed = {tx_id: parsed for tx_id, parsed in self._parsed.items() if tx_id in live}


def exclude(one: Spends, other: Spends) -> bool:
    """Whether at most one of two transactions can ever be mined."""
    return any(other.get(box, tx_id) != tx_id for box, tx_id in one.items())
