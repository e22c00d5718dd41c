"""Which tasks were given as a payment: each counts once, however often and for whichever token it is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from aihd.nodo.database import opened, transaction
from aihd.ops.failpoints import reach

FILE: Final = "aihd_payments.sqlite"
"""In the folder of nodo's database."""
_TABLE: Final = "CREATE TABLE IF NOT EXISTS spent (task BLOB PRIMARY KEY, token TEXT NOT NULL) STRICT"


@dataclass(frozen=True, slots=True)
class Spent:
    """A small file of its own, written by nodo's process only."""

    path: Path

    @classmethod
    def beside(cls, database: Path) -> Self:
        """The one beside nodo's database."""
        return cls(database.parent / FILE)

    def spend(self, task_id: bytes, token: str) -> bool:
        """Note a task as given for a token; False when it was given before. Errors as `opened`.

        It is noted before nodo credits it: after a crash in between the credit is missing, and never there twice.
        """
        reach("payment spent: before")
        self.path.touch(exist_ok=True)
        with opened(self.path) as connection, transaction(connection):
            connection.execute(_TABLE)
            made = connection.execute("INSERT OR IGNORE INTO spent (task, token) VALUES (?, ?)", (task_id, token))
        reach("payment spent: after")
        return made.rowcount == 1
