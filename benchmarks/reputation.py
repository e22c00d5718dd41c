"""A million ratings scored from scratch, one more folded in, and the memory they hold, against the loop that no scoring can do without."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

from aihd.reputation.engine import Engine
from aihd.reputation.history import Role, TaskRecord
from benchmarks.result import Result

RATINGS: Final = 1_000_000
NODES: Final = 2_000
CLIENTS: Final = 20_000
PER_BLOCK: Final = 4


def reputation(ratings: int = RATINGS) -> tuple[Result, Result]:
    """Seconds of processor time of both, which other work on the machine does not lengthen; the memory is printed.

    A fold is a record that becomes final and both parties' new scores: the slowest of 200 for the busiest node counts.
    """
    empty = _resident()
    records = _history(ratings + 200)
    gc.collect()
    before, start = _resident(), time.process_time()
    engine = Engine(final_depth=0)
    engine.advance(records[ratings - 1].height)
    engine.fold(records[:ratings])
    for role in Role:
        for key in engine.known(role):
            engine.score(key, role)
    scratch = time.process_time() - start
    held, added = (before - empty) / ratings, (_resident() - before) / ratings
    print(f"{ratings} ratings: {held:.0f} bytes of memory for each record, {added:.0f} more for the engine")
    start = time.process_time()
    _plain_sums(records[:ratings])
    floor = time.process_time() - start
    busiest = Counter(record.node for record in records).most_common(1)[0][0]
    slowest = max(_fold(engine, record, busiest) for record in records[ratings:])
    return (
        Result(f"score {ratings} ratings from scratch", scratch, floor, "two sums per party, no weights"),
        Result("fold in one more for the busiest node", slowest, scratch / ratings, "one rating's share of the above"),
    )


def _fold(engine: Engine, record: TaskRecord, node: bytes) -> float:
    late = TaskRecord(record.height, record.task, record.client, node, record.worth, client_mark=4, node_mark=5)
    start = time.process_time()
    engine.advance(late.height)
    engine.fold([late])
    engine.score(late.node, Role.NODE)
    engine.score(late.client, Role.CLIENT)
    return time.process_time() - start


def _history(size: int) -> list[TaskRecord]:
    """Heavy tails on both sides; every tenth node buys, too. Of half the tasks all is held back; one in twelve is burned."""
    chance = random.Random(1)
    nodes = [chance.randbytes(33) for _ in range(NODES)]
    clients = [chance.randbytes(33) for _ in range(CLIENTS)] + nodes[::10]
    buyers = chance.choices(clients, [chance.paretovariate(1.2) for _ in clients], k=size)
    sellers = chance.choices(nodes, [chance.paretovariate(1.2) for _ in nodes], k=size)
    return [_record(chance, number, *parties) for number, parties in enumerate(zip(buyers, sellers, strict=True))]


def _record(chance: random.Random, number: int, buyer: bytes, seller: bytes) -> TaskRecord:
    worth = chance.randint(10**6, 10**9)
    return TaskRecord(
        number // PER_BLOCK,
        number.to_bytes(32, "big"),
        buyer,
        seller,
        worth,
        client_mark=chance.choice((1, 3, 4, 5, 5, 5)),
        node_mark=chance.choice((4, 5, 5)),
        held=chance.choice((0, worth)),
    )


def _plain_sums(records: list[TaskRecord]) -> dict[bytes, int]:
    sums: dict[bytes, int] = {}
    for record in records:
        sums[record.node] = sums.get(record.node, 0) + record.client_mark
        sums[record.client] = sums.get(record.client, 0) + record.node_mark
    return sums


def _resident() -> int:
    """Bytes of memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


if __name__ == "__main__":
    for result in reputation():
        print(*result.row())
