"""What the bridge's writes cost a nodo that reads and writes its own database all the time: what fails, what waits, what is lost.

    python -m benchmarks.bridge [--seconds 60] [--pace 1] [--folder /dev/shm]

Two processes on one file: ours writes a batch at its pace (the daemon's own is a minute), the other works as nodo does, with seven threads
on one connection and SELECTs left open. A commit waits for the disk, so how long the lock is held is mostly the disk: a folder in memory
shows what the bridge itself takes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sqlite3
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.table import Table

from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.devnet.nodo_writer import NodoWrites, work_as_nodo
from aihd.errors import TemporaryError
from aihd.nodo.reputation import Rating, overwritten, write_ratings

PEER = "9" * 64
OURS = 10**6  # a multiple that tells our points from nodo's single ones


def contended(path: Path, seconds: float, pace: float, pause: float) -> tuple[list[float], int, NodoWrites]:
    """Seconds that each of our writes held the lock, how often there was no moment for one, and what nodo did meanwhile."""
    held: list[float] = []
    written: list[Rating] = []
    busy = 0
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        nodo = pool.submit(work_as_nodo, path, (PEER,), seconds, pause=pause)
        while not nodo.done():
            fresh = [Rating(kind="peer", subject=PEER, delta=OURS, key=str(len(written)))]
            try:
                write_ratings(path, fresh, noted=True, again=overwritten(path, written), held=held.append)
                written += fresh
            except TemporaryError:
                busy += 1
            time.sleep(pace)
        found = nodo.result()
    while again := overwritten(path, written):
        write_ratings(path, [], again=again)
    return held, busy, found


def measure(version: NodoVersion, seconds: float, pace: float, pause: float, parent: Path | None) -> tuple[str, ...]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="aihd-bridge-", dir=parent) as folder:
        path = create_database(Path(folder), version)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO peer (id) VALUES (?)", (PEER,))
        held, busy, nodo = contended(path, seconds, pace, pause)
        with closing(sqlite3.connect(path)) as connection:
            (score,) = connection.execute("SELECT reputation_score FROM peer").fetchone()
    return (
        version,
        f"{pause * 1000:.0f} ms",
        f"{len(held)} ({busy} put off)",
        f"{sorted(held)[len(held) // 2] * 1000:.2f} / {max(held) * 1000:.2f} ms",
        str(nodo.done.total()),
        str(nodo.failed.total()),
        str(nodo.points[PEER] - score % OURS),
        str(len(held) - score // OURS) if version is NodoVersion.VNEW else "not told",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to write, for each version of nodo")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds between two of our writes")
    parser.add_argument("--folder", type=Path, help="where to put the database; else where temporary files go")
    given = parser.parse_args()
    table = Table(
        "nodo",
        "its pauses",
        "our writes",
        "lock held, half / all within",
        "nodo's statements",
        "that failed",
        "of its points lost",
        "of ours lost",
    )
    for version in (NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW):
        for pause in (0.0, 0.05):
            table.add_row(*measure(version, given.seconds, given.pace, pause, given.folder))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
