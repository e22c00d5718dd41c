"""How long the bridge keeps nodo from writing to its own database, while nodo writes to it all the time.

    python -m benchmarks.bridge [--seconds 60] [--folder /dev/shm]

A commit waits for the disk, so what is measured is mostly the disk, and on a busy one it is mostly its other users: a folder in memory
shows what the bridge itself takes.

Two processes on one file: ours writes as often as it may (a pause of 5 ms between two writes), the other behaves as nodo. The floor is the
same row changed and committed by a bare connection with nobody else there: what the disk itself takes for a safe commit.
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

from aihd.devnet.nodo_schema import NodoVersion, NodoWrites, create_database, write_as_nodo
from aihd.nodo.reputation import write_reputation

PEER = "9" * 64
OURS = 10**6  # a multiple that tells our points from nodo's single ones
LIMIT = 0.020


def contended(path: Path, seconds: float) -> tuple[list[float], NodoWrites]:
    """Seconds that each of our writes held the lock, and what nodo did meanwhile."""
    held: list[float] = []
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        nodo = pool.submit(write_as_nodo, path, PEER, seconds)
        while not nodo.done():
            write_reputation(path, "peer", PEER, OURS, key=str(len(held)), noted=True, held=held.append)
            time.sleep(0.005)
        return held, nodo.result()


def floor(path: Path, commits: int = 200) -> list[float]:
    """Seconds of each bare commit of one changed row."""
    taken: list[float] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for number in range(commits):
            since = time.perf_counter()
            connection.execute("UPDATE peer SET last_index_on_ledger = ?", (number,))
            taken.append(time.perf_counter() - since)
    return taken


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, round(share * len(ordered)) - 1)]


def measure(version: NodoVersion, seconds: float, parent: Path | None) -> tuple[str, ...]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="aihd-bridge-", dir=parent) as folder:
        path = create_database(Path(folder), version)
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO peer (id, reputation_score, reputation_index) VALUES (?, 0, 0)", (PEER,))
        bare = floor(path)
        held, nodo = contended(path, seconds)
        with closing(sqlite3.connect(path)) as connection:
            (score,) = connection.execute("SELECT reputation_score FROM peer").fetchone()
    p50, p99, bare50, bare99 = (percentile(v, s) for v in (held, bare) for s in (0.5, 0.99))
    return (
        version,
        str(len(held)),
        f"{p50 * 1000:.2f} / {p99 * 1000:.2f} / {max(held) * 1000:.2f} ms",
        f"{p50 / bare50:.2f} / {p99 / bare99:.2f}",
        "yes" if p99 <= LIMIT else "NO",
        f"{nodo.updates} ({nodo.longest_wait * 1000:.0f} ms)",
        str(nodo.updates - score % OURS),
        str(len(held) - score // OURS),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to write, for each version of nodo")
    parser.add_argument("--folder", type=Path, help="where to put the database; else where temporary files go")
    given = parser.parse_args()
    table = Table(
        "nodo",
        "our writes",
        "lock held p50 / p99 / max",
        "against the floor, p50 / p99",
        f"p99 <= {LIMIT * 1000:.0f} ms",
        "nodo's writes (longest wait)",
        "of nodo's lost",
        "of ours overwritten by nodo",
    )
    for version in (NodoVersion.VFEB, NodoVersion.VJUL, NodoVersion.VNEW):
        table.add_row(*measure(version, given.seconds, given.folder))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
