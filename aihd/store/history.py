"""The history of the market as it was read from the chain: bonds, tasks that were claimed, how they ended, and who funded whom.

All of it comes from the chain, so all of it can be taken back by height and read again: nothing here is ours, and a lost table costs time.
Each method is one commit, or none.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Final

from aihd.errors import TemporaryError
from aihd.reputation.history import Outcome, TaskRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A task that a bond took. `worth` is nanoERG, `payment` nanoERG too, or units of the token `asset`."""

    task: bytes
    service: bytes
    client: bytes
    node: bytes
    worth: int
    payment: int
    asset: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a claimed task ended; marks are 0 for none. `held` is the part of the payment that waited for the client's mark."""

    task: bytes
    outcome: Outcome
    held: int = 0
    client_mark: int = 0
    node_mark: int = 0
    client_committed: bool = False
    node_committed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What one transaction did to a bond or to the minter: the box that it spent (None: the first of all), and those that it made."""

    height: int
    block: bytes
    spent: bytes | None
    made: tuple[bytes, ...]
    event: Claimed | Ended | None = None


@dataclass(frozen=True, slots=True)
class Funding:
    """What first brought money to a key, at which height; `public`: a source that funds everybody."""

    key: bytes
    source: bytes
    height: int
    public: bool


_RECORDS: Final = """
SELECT history.*, c.source AS client_source, c.public AS client_public, n.source AS node_source, n.public AS node_public
FROM history LEFT JOIN funding AS c ON c.key = client LEFT JOIN funding AS n ON n.key = node
WHERE seq > ? ORDER BY seq
"""


class History:
    """The tables of the history in an open journal."""

    def __init__(
        self, db: sqlite3.Connection, atomic: Callable[[], AbstractContextManager[sqlite3.Connection]]
    ) -> None:
        self._db = db
        self._atomic = atomic

    def heads(self) -> list[bytes]:
        """Ids of the minter and of the bonds that nothing is known to have spent."""
        return [row["id"] for row in self._db.execute("SELECT id FROM history_boxes WHERE spent IS NULL ORDER BY id")]

    def blocks(self, above: int, upto: int) -> dict[int, bytes]:
        """Ids of the blocks in which something happened, by height, above < height <= upto."""
        rows = self._db.execute(
            "SELECT height, block FROM history_blocks WHERE height > ? AND height <= ?", (above, upto)
        )
        return {row["height"]: row["block"] for row in rows}

    def newest(self, upto: int = 2**31) -> int:
        """Height of the newest step, of those up to a height; 0 before the first."""
        row = self._db.execute(
            "SELECT COALESCE(max(height), 0) AS height FROM history_blocks WHERE height <= ?", (upto,)
        ).fetchone()
        return int(row["height"])

    def add(self, steps: Iterable[Step]) -> None:
        """Add steps that follow what is known; TemporaryError, and none added, when they are of different branches of the chain."""
        with self._atomic() as db:
            for step in steps:
                self._place(db, step)
                db.execute("UPDATE history_boxes SET spent = ? WHERE id = ?", (step.height, step.spent))
                made = [(box, step.height) for box in step.made]
                db.executemany("INSERT INTO history_boxes VALUES (?, ?, NULL)", made)
                if isinstance(step.event, Claimed):
                    self._claim(db, step.event, step.height)
                elif step.event is not None:
                    self._end(db, step.event, step.height)

    def _place(self, db: sqlite3.Connection, step: Step) -> None:
        known = db.execute("SELECT block FROM history_blocks WHERE height = ?", (step.height,)).fetchone()
        if known is None:
            db.execute("INSERT INTO history_blocks VALUES (?, ?)", (step.height, step.block))
        elif known["block"] != step.block:
            raise TemporaryError(
                f"height {step.height} of the market's history is of block {known['block'].hex()} and of "
                f"{step.block.hex()}: the chain was changing while it was read"
            )

    def _claim(self, db: sqlite3.Connection, claimed: Claimed, height: int) -> None:
        db.execute(
            "INSERT INTO history (task, claimed, service, client, node, worth, payment, asset) "
            "VALUES (:task, :claimed, :service, :client, :node, :worth, :payment, :asset)",
            {**asdict(claimed), "claimed": height},
        )

    def _end(self, db: sqlite3.Connection, end: Ended, height: int) -> None:
        # A task that is not there was claimed by a bond from itself, with no escrow: it is nobody's experience.
        db.execute(
            "UPDATE history SET ended = :ended, outcome = :outcome, held = :held, client_mark = :client_mark, "
            "node_mark = :node_mark, client_committed = :client_committed, node_committed = :node_committed, "
            "seq = (SELECT COALESCE(max(seq), 0) + 1 FROM history WHERE seq > 0) WHERE task = :task",
            {**asdict(end), "ended": height, "outcome": end.outcome.value},
        )

    def rollback(self, height: int) -> None:
        """Take back everything above a height."""
        with self._atomic() as db:
            for table, column in (
                ("history", "claimed"),
                ("history_boxes", "height"),
                ("history_blocks", "height"),
                ("funding", "height"),
            ):
                db.execute(f"DELETE FROM {table} WHERE {column} > ?", (height,))  # noqa: S608 - constants
            db.execute("UPDATE history_boxes SET spent = NULL WHERE spent > ?", (height,))
            db.execute(
                "UPDATE history SET ended = NULL, outcome = NULL, held = 0, client_mark = 0, node_mark = 0, "
                "client_committed = 0, node_committed = 0, seq = NULL WHERE ended > ?",
                (height,),
            )

    def unfunded(self, after: int = 0) -> list[bytes]:
        """Keys of parties to ended tasks (those that came `after` a number of `last`) of which it is not known what funded them."""
        rows = self._db.execute(
            "SELECT client AS key FROM history WHERE seq > ?1 UNION SELECT node FROM history WHERE seq > ?1 "
            "EXCEPT SELECT key FROM funding",
            (after,),
        )
        return [row["key"] for row in rows]

    def fund(self, found: Iterable[Funding]) -> None:
        """Keep what funded some keys."""
        with self._atomic() as db:
            rows = [(funding.key, funding.source, funding.height, funding.public) for funding in found]
            db.executemany("INSERT OR REPLACE INTO funding VALUES (?, ?, ?, ?)", rows)

    def last(self) -> int:
        """Number of the task that was the last to be found ended; 0 for none."""
        return int(
            self._db.execute("SELECT COALESCE(max(seq), 0) AS last FROM history WHERE seq > 0").fetchone()["last"]
        )

    def records(self, after: int = 0, public: Collection[bytes] = ()) -> list[TaskRecord]:
        """Ended tasks in the order in which they were found, those that came `after` a number of `last`.

        A `public` source of funds counts as none.
        """
        return [_record(row, public) for row in self._db.execute(_RECORDS, (after,))]


def _record(row: sqlite3.Row, public: Collection[bytes]) -> TaskRecord:
    def source(role: str) -> bytes | None:
        found: bytes | None = row[f"{role}_source"]
        return None if row[f"{role}_public"] or found in public else found

    return TaskRecord(
        height=row["ended"],
        task=row["task"],
        client=row["client"],
        node=row["node"],
        worth=row["worth"],
        outcome=Outcome(row["outcome"]),
        client_mark=row["client_mark"],
        node_mark=row["node_mark"],
        client_committed=bool(row["client_committed"]),
        node_committed=bool(row["node_committed"]),
        client_funding=source("client"),
        node_funding=source("node"),
        held=row["held"] if row["asset"] is None else row["worth"] * row["held"] // row["payment"],
        asset=row["asset"],
    )
