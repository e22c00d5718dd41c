"""Makes the history of a market: honest, careless and colluding parties over half a year, from a seed.

Nothing here knows a score. Honest nodes have regular customers and a heavy-tailed trade, one in seven buys as well, a quarter of the
tasks stay unrated, some customers share a purse, every fifth pays in a token. Customers hold back what is the default: nothing from a node
that they have used before, all from any other.
Colluders do bad work for whomever the lottery sends them, and deal with themselves as much as hides it from a plain mean.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from aihd.core.holdback import default_holdback
from aihd.protocol.guards import held_share
from aihd.protocol.units import NANO_PER_ERG
from aihd.reputation.history import Outcome, TaskRecord

BLOCKS: Final = 129_600  # 180 days
DRAIN: Final = 0.7  # of the time that a slow drainer works honestly
COLLUDING: Final = 0.2  # of all nodes
CARELESS: Final = 0.1
BUYING: Final = 0.15  # of the honest nodes
CLIENTS_PER_NODE: Final = 4
TASKS_PER_NODE: Final = 60
OUTSIDE: Final = 8  # tasks of strangers that a colluder gets: word goes round
LOYAL: Final = 0.6  # tasks that go to a node the client has used before
PUMP: Final = 60  # tasks that a colluder buys for his own mark: as many as honest work brings
SILENT: Final = 0.25  # tasks that nobody rates
TOKEN: Final = b"stable".ljust(32)
TOKEN_PAYERS: Final = 10  # one customer of so many pays in a token
STRANGERS: Final = default_holdback(allow_list=False, least_standing=None)  # basis points
REGULARS: Final = default_holdback(allow_list=True, least_standing=None)


@dataclass(slots=True)
class Node:
    """`good(time)`: chance that its work is good, `time` from 0 to 1."""

    key: bytes
    kind: str
    good: Callable[[float], float]
    popularity: float
    late: float = 0.0
    funding: bytes | None = None


@dataclass(slots=True)
class Market:
    """`dealt`: ids of the tasks in which colluders bought their own praise. `spiteful`: clients that burn all work."""

    nodes: list[Node] = field(default_factory=list)
    records: list[TaskRecord] = field(default_factory=list)
    dealt: set[bytes] = field(default_factory=set)
    spiteful: set[bytes] = field(default_factory=set)

    def keys(self, kind: str) -> list[bytes]:
        return [node.key for node in self.nodes if node.kind == kind]


Attack = Callable[["Maker", list[Node]], None]


class Maker:
    """One market in the making; the same seed, size and attack give the same records."""

    def __init__(self, seed: int, size: int) -> None:
        self.chance = random.Random(seed)
        self.size = size
        self.market = Market()
        self._tasks = count()
        self._funding: dict[bytes, bytes] = {}

    def make(self, attack: Attack) -> Market:
        colluding = round(self.size * COLLUDING)
        careless = round(self.size * CARELESS)
        self.honest = [self._honest() for _ in range(self.size - colluding - careless)]
        self.market.nodes += self.honest
        self.market.nodes += [self._careless() for _ in range(careless)]
        self.clients = self._clients()
        self._trade(self.market.nodes, TASKS_PER_NODE * len(self.market.nodes))
        liars = [Node(self.key(), "colluding", lambda _: 0.15, self.popularity()) for _ in range(colluding)]
        self.market.nodes += liars
        attack(self, liars)
        self.market.records.sort(key=lambda record: record.order)
        return self.market

    def key(self) -> bytes:
        return self.chance.randbytes(33)

    def popularity(self) -> float:
        return self.chance.paretovariate(1.5)

    def fund(self, keys: list[bytes], purse: bytes) -> None:
        """From now on these keys show the same funding."""
        for key in keys:
            self._funding[key] = purse

    def time(self, start: float = 0.0, end: float = 1.0) -> float:
        return self.chance.uniform(start, end)

    def value(self) -> int:
        """nanoERG of an ordinary task: half are below 0.05 ERG."""
        return max(10**6, min(10**13, round(0.05 * NANO_PER_ERG * self.chance.lognormvariate(0, 1.2))))

    def outside(self, liars: list[Node], tasks: int = OUTSIDE) -> None:
        """What strangers buy from the colluders."""
        self._trade(liars, tasks * len(liars))

    def deal(self, client: bytes, node: bytes, value: int, when: float, marks: tuple[int, int] = (5, 5)) -> None:
        """A task in which a colluder praises his own."""
        record = self.record(client, node, value, when, marks)
        self.market.dealt.add(record.task)

    def serve(self, client: bytes, node: Node, when: float, holdback: int) -> None:
        """A task between strangers: the mark follows the work. `holdback` is the share held back, in basis points."""
        chance = self.chance
        value, asset = self.value(), asset_of(client)
        if chance.random() < node.late:
            self.record(client, node.key, value, when, (0, 0), Outcome.TIMED_OUT, asset=asset)
            return
        good = chance.random() < node.good(when)
        mark = chance.choices((5, 4, 3), (80, 16, 4))[0] if good else chance.choices((1, 2, 3), (60, 30, 10))[0]
        silent = chance.random() < SILENT
        back = 0 if chance.random() < 0.1 else chance.choices((5, 4), (9, 1))[0]
        self.record(client, node.key, value, when, (0 if silent else mark, back), holdback=holdback, asset=asset)

    def record(
        self,
        client: bytes,
        node: bytes,
        value: int,
        when: float,
        marks: tuple[int, int],
        outcome: Outcome = Outcome.COMPLETED,
        *,
        holdback: int = 0,
        asset: bytes | None = None,
    ) -> TaskRecord:
        client_mark, node_mark = marks
        completed = outcome is Outcome.COMPLETED
        record = TaskRecord(
            height=round(when * BLOCKS),
            task=next(self._tasks).to_bytes(32, "big"),
            client=client,
            node=node,
            worth=value,
            outcome=outcome,
            client_mark=client_mark,
            node_mark=node_mark,
            client_committed=client_mark > 0,
            node_committed=node_mark > 0,
            client_funding=self._funding.get(client),
            node_funding=self._funding.get(node),
            held=held_share(value, value, holdback, in_token=asset is not None) if completed else 0,
            asset=asset,
        )
        self.market.records.append(record)
        return record

    def _honest(self) -> Node:
        skill = self.chance.betavariate(18, 2)
        return Node(self.key(), "honest", lambda _: skill, self.popularity(), late=0.01)

    def _careless(self) -> Node:
        skill = self.chance.betavariate(6, 4)
        return Node(self.key(), "careless", lambda _: skill, self.popularity(), late=0.05)

    def _clients(self) -> list[bytes]:
        """Customers, a tenth of which are firms of three keys with one purse; and nodes that buy."""
        pure = [self.key() for _ in range(self.size * CLIENTS_PER_NODE)]
        for start in range(0, len(pure) // 10, 3):
            self.fund(pure[start : start + 3], self.key())
        return pure + [node.key for node in self.honest if self.chance.random() < BUYING]

    def _trade(self, nodes: list[Node], tasks: int) -> None:
        weights = [self.chance.lognormvariate(0, 1.5) for _ in self.clients]
        regular: dict[bytes, list[Node]] = {}
        popularity = [node.popularity for node in nodes]
        newcomers = iter(self.chance.choices(nodes, popularity, k=tasks))
        times = sorted(self.time() for _ in range(tasks))
        for when, client in zip(times, self.chance.choices(self.clients, weights, k=tasks), strict=True):
            known = regular.setdefault(client, [])
            node = self.chance.choice(known) if known and self.chance.random() < LOYAL else next(newcomers)
            if node.key != client:
                self.serve(client, node, when, REGULARS if node in known else STRANGERS)
                known.append(node)


def asset_of(client: bytes) -> bytes | None:
    """Returns the token that a customer pays in; None for ERG."""
    return None if client[0] % TOKEN_PAYERS else TOKEN


def rings(members: list[Node], size: int) -> Iterator[list[Node]]:
    """The members in rings of a size; what is left over joins the last."""
    whole = max(1, len(members) // size)
    for ring in range(whole):
        yield members[ring * size : (ring + 1) * size if ring < whole - 1 else len(members)]
