"""A journalled change of a task against the bare SQLite commit that it cannot do without."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from aihd.core.task import Task
from aihd.store.journal import Journal
from benchmarks.result import Result, best_of

CHANGES = 200


def journal_commit(folder: Path) -> Result:
    with Journal(folder / "journal.sqlite") as journal:
        journal.add(Task(b"t" * 32, b"s" * 32, b"c" * 32, 10**9, b"k" * 33, 100, 50, ""))
        ours = best_of(3, lambda: [journal.update(b"t" * 32, "changed", since=n) for n in range(CHANGES)])
    bare = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("PRAGMA synchronous = FULL")
    bare.execute("CREATE TABLE t (n INTEGER)")
    floor = best_of(3, lambda: [bare.execute("INSERT INTO t VALUES (?)", (n,)) for n in range(CHANGES)])
    bare.close()
    return Result("change a task and journal it", ours / CHANGES, floor / CHANGES, "one INSERT with synchronous=FULL")
