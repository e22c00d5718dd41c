"""A journalled change of a task against the bare SQLite commit that it cannot do without."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from aihd.core.task import Task
from aihd.store.journal import Journal
from benchmarks.result import Result, best_of

CHANGES = 200


TASK: Final = Task(
    id=b"t" * 32,
    service_hash=b"s" * 32,
    input_commitment=b"c" * 32,
    worth=10**9,
    payment=10**9,
    client=b"k" * 33,
    claim_deadline=100,
    exec_window=50,
    locator="",
)


def journal_commit(folder: Path) -> Result:
    with Journal(folder / "journal.sqlite") as journal:
        journal.add(TASK)
        ours = best_of(3, lambda: [journal.update(b"t" * 32, "changed", since=n) for n in range(CHANGES)])
    bare = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE t (n INTEGER)")
    floor = best_of(3, lambda: [bare.execute("INSERT INTO t VALUES (?)", (n,)) for n in range(CHANGES)])
    bare.close()
    return Result("change a task and journal it", ours / CHANGES, floor / CHANGES, "one INSERT with synchronous=FULL")
