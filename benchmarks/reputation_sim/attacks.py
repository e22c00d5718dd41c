"""What colluders do. Each attack is played as well as its idea allows: enough praise to look better than honest on a plain mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aihd.protocol.constants import USELESS, WHOLE_BPS
from aihd.protocol.guards import held_share
from aihd.reputation.history import Outcome, TaskRecord
from benchmarks.reputation_sim.garbage import garbage
from benchmarks.reputation_sim.market import DRAIN, PUMP, TOKEN, Attack, Maker, Node, rings

SYBILS = 20  # client keys of one operator
UNDERSTATED = 1_000  # nanoERG that a token is said to be worth
MICRO = 1_500_000  # nanoERG: as little as a task with its boxes can usefully carry


def ring(size: int) -> Attack:
    """Members buy from each other with the keys that they serve with, everybody from everybody."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        maker.outside(liars)
        for members in rings(liars, size):
            pump(maker, members)

    return attack


def pump(maker: Maker, members: list[Node], start: float = 0.0) -> None:
    for node in members:
        others = [member.key for member in members if member is not node]
        for _ in range(PUMP):
            maker.deal(maker.chance.choice(others), node.key, maker.value(), maker.time(start))


def chain(size: int, steps: int) -> Attack:
    """Members stand in groups, each buying only from the next: no circle is shorter than the number of groups."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        maker.outside(liars)
        for members in rings(liars, size):
            groups = [group for step in range(steps) if (group := members[step::steps])]
            for step, group in enumerate(groups):
                _buy_from(maker, groups[step - 1], group)

    return attack


def _buy_from(maker: Maker, buyers: list[Node], sellers: list[Node]) -> None:
    for node in sellers:
        for _ in range(PUMP):
            maker.deal(maker.chance.choice(buyers).key, node.key, maker.value(), maker.time())


def sybils(*, hidden: bool) -> Attack:
    """Each operator has client keys of his own; unless hidden, the chain shows who funded them."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        maker.outside(liars)
        for node in liars:
            keys = [maker.key() for _ in range(SYBILS)]
            if not hidden:
                maker.fund(keys, node.key)
            for _ in range(PUMP):
                maker.deal(maker.chance.choice(keys), node.key, maker.value(), maker.time())

    return attack


def one_purse(size: int) -> Attack:
    """A ring whose members buy with other keys than they serve with; one purse funded them all."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        maker.outside(liars)
        for members in rings(liars, size):
            keys = [maker.key() for _ in members]
            maker.fund([*keys, *(member.key for member in members)], maker.key())
            for node in members:
                for _ in range(PUMP):
                    maker.deal(maker.chance.choice(keys), node.key, maker.value(), maker.time())

    return attack


def paid_back(maker: Maker, liars: list[Node]) -> None:
    """A half sells to the other for ERG, and buys as much for a token that is said to be worth next to nothing."""
    maker.outside(liars)
    half = len(liars) // 2
    _buy_from(maker, liars[half:], liars[:half])
    for node in liars[half:]:
        for _ in range(PUMP):
            buyer = maker.chance.choice(liars[:half])
            maker.record(buyer.key, node.key, UNDERSTATED, maker.time(), (5, 5), asset=TOKEN)


def slander(start: float = 0.0, holdback: int = 0) -> Attack:
    """Rings of five which also buy from the most used honest nodes and give them the worst mark: five times each, from a time on."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        ring(5)(maker, liars)
        busy = sorted(maker.honest, key=lambda node: node.popularity, reverse=True)[: len(maker.honest) // 4]
        for node in liars:
            for rival in maker.chance.sample(busy, 5):
                maker.record(node.key, rival.key, maker.value(), maker.time(start), (1, 5), holdback=holdback)

    return attack


def spite(maker: Maker, liars: list[Node]) -> None:
    """Every twentieth customer holds all back from everybody and burns it, good work or bad. The colluders do bad work and no more."""
    maker.outside(liars)
    spiteful = set(maker.chance.sample(maker.clients, len(maker.clients) // 20))
    for number, record in enumerate(maker.market.records):
        if record.client in spiteful and record.outcome is Outcome.COMPLETED:
            maker.market.records[number] = burned(record)
    maker.market.spiteful |= spiteful


def burned(record: TaskRecord) -> TaskRecord:
    """Returns the same task with all of its payment held back and burned."""
    held = held_share(record.worth, record.worth, WHOLE_BPS, in_token=record.asset is not None)
    return replace(record, client_mark=USELESS, client_committed=True, held=held)


def drain(start: float = DRAIN, *, cover: bool = True) -> Attack:
    """Honest until then, afterwards bad; rings of five cover it up, or nothing does."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        _turn(maker, liars, lambda when: when < start)
        for members in rings(liars, 5) if cover else ():
            pump(maker, members, start)

    return attack


def drain_by_turns(maker: Maker, liars: list[Node]) -> None:
    """A month honest, a fortnight bad, and so on, with rings of five."""
    _turn(maker, liars, lambda when: int(when * 12) % 3 < 2)
    for members in rings(liars, 5):
        pump(maker, members)


def _turn(maker: Maker, liars: list[Node], honest: Callable[[float], bool]) -> None:
    """Work that is as good as an honest node's at some times and bad at others; so many good times bring more customers."""
    for node in liars:
        node.good = lambda when: 0.9 if honest(when) else 0.15
    maker.outside(liars, 30)


def drain_under_micro(maker: Maker, liars: list[Node]) -> None:
    """A slow drain that also does small tasks well from the moment that it turns."""
    drain()(maker, liars)
    for node in liars:
        _small(maker, node, MICRO, PUMP // 2, DRAIN)


def micro(price: int = MICRO) -> Attack:
    """Good work in tasks of next to nothing, for strangers; bad work where there is money in it."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        for node in liars:
            _small(maker, node, price, PUMP)
        maker.outside(liars)

    return attack


def _small(maker: Maker, node: Node, price: int, tasks: int, start: float = 0.0) -> None:
    for _ in range(tasks):
        maker.record(maker.chance.choice(maker.clients), node.key, price, maker.time(start), (5, 5))


def everything(maker: Maker, liars: list[Node]) -> None:
    """All of the above at once, the hidden sybils excepted: each attack gets a share of the colluders."""
    attacks = (
        ring(2),
        ring(5),
        ring(20),
        ring(30),
        chain(30, 6),
        sybils(hidden=False),
        one_purse(5),
        slander(),
        micro(),
    )
    share = max(1, len(liars) // len(attacks))
    for number, attack in enumerate(attacks):
        end = (number + 1) * share if number < len(attacks) - 1 else len(liars)
        attack(maker, liars[number * share : end])


ATTACKS: dict[str, Attack] = {
    "rings of 2": ring(2),
    "rings of 5": ring(5),
    "rings of 20": ring(20),
    "rings of 30": ring(30),
    "circles of 6 steps": chain(30, 6),
    "rings of 5, one purse": one_purse(5),
    "sybil clients": sybils(hidden=False),
    "slander": slander(),
    "slow drain": drain(),
    "micro-tasks": micro(),
    "all of these": everything,
    "garbage, nothing held back": garbage(0),
    "garbage, half held back": garbage(WHOLE_BPS // 2),
    "garbage, all held back": garbage(WHOLE_BPS),
    "good work burned by rivals": slander(holdback=WHOLE_BPS),
    "good work burned by customers": spite,
    "sybils, funding hidden": sybils(hidden=True),
    # made to get round the rules against the ones above
    "drain in the last 15 %": drain(0.85),
    "drain by turns": drain_by_turns,
    "drain without a ring": drain(cover=False),
    "drain under micro-tasks": drain_under_micro,
    "micro-tasks of 0.003 ERG": micro(3_000_000),
    "micro-tasks of 0.005 ERG": micro(5_000_000),
    "micro-tasks of 0.01 ERG": micro(10_000_000),
    "slander in nine days": slander(0.95),
    "burned in nine days": slander(0.95, WHOLE_BPS),
    "rings paid back in tokens": paid_back,
}
