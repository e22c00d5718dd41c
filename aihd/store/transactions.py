"""The journal's part about signed transactions: what each is for, what became of it, and what it takes out of the wallet.

There is one live transaction for an intent. What took the place of another one, or was given up, stays: it may be mined after all.
"""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from aihd.core.sending import Origin
from aihd.errors import InvariantError

_GONE: Final = "('dropped', 'replaced')"  # statuses that leave room for another transaction of the same intent


class TxStatus(StrEnum):
    PENDING = "pending"  # to be resent until it is mined
    MINED = "mined"  # in a block that a reorg could still undo
    FINAL = "final"
    DROPPED = "dropped"  # can never be mined: an input went elsewhere
    REPLACED = "replaced"  # another one for the same intent shares an input with it: one of the two is mined


@dataclass(frozen=True, slots=True)
class TxRecord:
    """A signed transaction. `intent` names what it is for; `body` is its bytes; `fee` and `spent` (what left the wallet) are nanoERG.

    `replaces` is the id of the pending one for the same intent that this one takes the place of. `tip` is the height at which it was
    signed, `parents` the ids of our transactions that were in no block then and that it was built on, directly or not.
    """

    id: str
    intent: str
    kind: str
    task_id: bytes | None
    body: bytes
    fee: int
    spent: int
    status: TxStatus = TxStatus.PENDING
    height: int | None = None
    sent: int = 0
    note: str = ""
    replaces: str | None = None
    origin: Origin = Origin.DAEMON
    tip: int = 0
    parents: tuple[str, ...] = ()


_TX_COLUMNS: Final = tuple(field.name for field in fields(TxRecord))


class Transactions(ABC):
    """The methods of a journal; what they returned from is on the disk."""

    _db: sqlite3.Connection

    @abstractmethod
    def _atomic(self, what: str) -> AbstractContextManager[sqlite3.Connection]:
        """One commit."""

    @abstractmethod
    def _log(self, db: sqlite3.Connection, task_id: bytes | None, event: str, data: Mapping[str, Any]) -> None:
        """An event, in the commit that is under way."""

    def record(self, tx: TxRecord) -> None:
        """Commit a signed transaction before it is sent; InvariantError when its intent already has a live one that it does not replace.

        One that was dropped may be recorded again: built anew at the same tip, it has the same id. The one that it replaces is REPLACED
        in the same commit, and has to be a pending one of the same intent.
        """
        marks = ", ".join("?" * len(_TX_COLUMNS))
        values = (*(getattr(tx, name) for name in _TX_COLUMNS[:-1]), ",".join(tx.parents))
        with self._atomic(f"signed {tx.kind}") as db:
            if tx.replaces is not None:
                self._replace(db, tx.replaces, tx.intent, by=tx.id)
            try:
                db.execute("DELETE FROM transactions WHERE id = ? AND status = 'dropped'", (tx.id,))
                db.execute(f"INSERT INTO transactions ({', '.join(_TX_COLUMNS)}) VALUES ({marks})", values)  # noqa: S608
            except sqlite3.IntegrityError:
                raise InvariantError(f"intent {tx.intent} already has a live transaction") from None
            self._log(db, tx.task_id, "signed", {"tx": tx.id, "kind": tx.kind, "intent": tx.intent})

    def _replace(self, db: sqlite3.Connection, old: str, intent: str, *, by: str) -> None:
        done = db.execute(
            "UPDATE transactions SET status = 'replaced', note = ? WHERE id = ? AND intent = ? AND status = 'pending'",
            (f"replaced by {by}", old, intent),
        )
        if done.rowcount != 1:
            raise InvariantError(f"{by} replaces {old}, which is not a pending transaction for {intent}")
        task = db.execute("SELECT task_id FROM transactions WHERE id = ?", (old,)).fetchone()
        self._log(db, task["task_id"], TxStatus.REPLACED, {"tx": old, "by": by})

    def mark(self, tx_id: str, status: TxStatus, *, height: int | None = None, note: str = "") -> None:
        """Note what became of a transaction.

        One that was given up and is mined after all takes the place back in the same commit: the pending one that had it is replaced now.
        """
        with self._atomic(status) as db:
            row = db.execute("SELECT intent, status FROM transactions WHERE id = ?", (tx_id,)).fetchone()
            if (
                row is not None
                and row["status"] in ("replaced", "dropped")
                and status in (TxStatus.MINED, TxStatus.FINAL)
            ):
                live = f"SELECT id FROM transactions WHERE intent = ? AND status NOT IN {_GONE}"  # noqa: S608 - a constant
                for other in db.execute(live, (row["intent"],)).fetchall():
                    self._replace(db, other["id"], row["intent"], by=tx_id)
            db.execute(
                "UPDATE transactions SET status = ?, height = ?, note = ? WHERE id = ?", (status, height, note, tx_id)
            )
            task = db.execute("SELECT task_id FROM transactions WHERE id = ?", (tx_id,)).fetchone()
            self._log(db, task["task_id"], status, {"tx": tx_id, "height": height, "note": note})

    def count_send(self, tx_id: str) -> None:
        with self._atomic("sent") as db:
            db.execute("UPDATE transactions SET sent = sent + 1 WHERE id = ?", (tx_id,))

    def live(self) -> list[TxRecord]:
        """Pending and mined transactions in the order in which they were signed."""
        rows = self._db.execute("SELECT * FROM transactions WHERE status IN ('pending', 'mined') ORDER BY seq")
        return [_tx(row) for row in rows]

    def transaction(self, tx_id: str) -> TxRecord | None:
        """One transaction, whatever became of it."""
        row = self._db.execute("SELECT * FROM transactions WHERE id = ?", (tx_id,)).fetchone()
        return _tx(row) if row else None

    def predecessors(self, intent: str) -> list[TxRecord]:
        """What was signed for an intent and is not live: each was replaced or dropped, and may not be mined beside a new one."""
        rows = self._db.execute(
            f"SELECT * FROM transactions WHERE intent = ? AND status IN {_GONE} ORDER BY seq",  # noqa: S608 - a constant
            (intent,),
        )
        return [_tx(row) for row in rows]

    def pending(self, intent: str) -> TxRecord | None:
        """The transaction of an intent that waits to be mined."""
        row = self._db.execute(
            "SELECT * FROM transactions WHERE intent = ? AND status = 'pending'", (intent,)
        ).fetchone()
        return _tx(row) if row else None

    def has_live(self, intent: str) -> bool:
        return self.live_of(intent) is not None

    def live_of(self, intent: str) -> TxRecord | None:
        """The one transaction of an intent that waits, or is in a block."""
        row = self._db.execute(
            f"SELECT * FROM transactions WHERE intent = ? AND status NOT IN {_GONE}",  # noqa: S608 - a constant
            (intent,),
        ).fetchone()
        return _tx(row) if row else None

    def claims_at_work(self) -> set[str]:
        """Ids of the transactions that claimed, or will claim, a task whose end is still to come: their reserves are not to be spent."""
        at_work = "final = 0 AND \"where\" IN ('open', 'claimed')"
        seen = f"SELECT lower(hex(claim_tx)) FROM tasks WHERE {at_work} AND claim_tx IS NOT NULL"  # noqa: S608
        # A claim is known to be mined a moment before its task is known to be claimed.
        sent = (
            "SELECT sent.id FROM transactions sent LEFT JOIN tasks ON tasks.id = sent.task_id WHERE kind = 'claim' AND "  # noqa: S608
            f"(status = 'pending' OR status = 'mined' AND {at_work})"
        )
        return {row[0] for row in self._db.execute(f"{seen} UNION {sent}")}

    def replaced(self) -> list[TxRecord]:
        """Replaced transactions of intents that none is final for: each could still be the one that is mined. In the order of signing."""
        rows = self._db.execute(
            "SELECT * FROM transactions AS old WHERE status = 'replaced' AND NOT EXISTS (SELECT 1 FROM transactions AS new "
            "WHERE new.intent = old.intent AND new.status = 'final') ORDER BY seq"
        )
        return [_tx(row) for row in rows]

    def reserved(self) -> int:
        """nanoERG that our pending transactions will take out of the wallet once they are mined."""
        row = self._db.execute(
            "SELECT COALESCE(sum(max(spent, 0)), 0) FROM transactions WHERE status = 'pending'"
        ).fetchone()
        return int(row[0])

    def spent_since(self, height: int) -> int:
        """nanoERG that what the daemon signed above a height takes out of the wallet, dropped and replaced ones left out.

        Heights, not times: a clock that is set, or a machine that slept, gives no second allowance.
        """
        row = self._db.execute(
            f"SELECT COALESCE(sum(max(spent, 0)), 0) FROM transactions WHERE status NOT IN {_GONE} AND origin = 'daemon' AND tip > ?",  # noqa: S608 - a constant
            (height,),
        ).fetchone()
        return int(row[0])

    def transactions(self, task_id: bytes | None = None) -> list[TxRecord]:
        """All transactions, of one task if asked, in order."""
        where, values = ("", ()) if task_id is None else (" WHERE task_id = ?", (task_id,))
        return [_tx(row) for row in self._db.execute(f"SELECT * FROM transactions{where} ORDER BY seq", values)]  # noqa: S608

    def signed(self) -> list[tuple[int, TxRecord]]:
        """Every transaction with the unix time at which it was signed, in order."""
        return [(row["at"], _tx(row)) for row in self._db.execute("SELECT * FROM transactions ORDER BY seq")]


def _tx(row: sqlite3.Row) -> TxRecord:
    values = {name: row[name] for name in _TX_COLUMNS}
    parents = tuple(filter(None, row["parents"].split(",")))
    return TxRecord(
        **{**values, "status": TxStatus(row["status"]), "origin": Origin(row["origin"]), "parents": parents}
    )
