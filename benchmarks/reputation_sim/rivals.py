"""Other scores over the same history: plain mean, value-weighted mean, EigenTrust. Floats: nobody has to agree on these."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import log
from typing import Final

from aihd.reputation.fixed import ONE
from aihd.reputation.history import Role, TaskRecord

Scores = dict[bytes, float]
_PRIOR: Final = 0.15  # EigenTrust's share of the start vector, which is uniform: nobody is trusted beforehand
_ROUNDS: Final = 30


def plain_mean(records: Iterable[TaskRecord]) -> Scores:
    """Mean opinion of the raters, -1 to 1."""
    return _mean((record, 1.0) for record in records)


def value_mean(records: Iterable[TaskRecord]) -> Scores:
    """The same, weighted by nanoERG."""
    return _mean((record, float(record.worth)) for record in records)


def undamped(records: Iterable[TaskRecord]) -> Scores:
    """Our score with every damper off: mean by ln(1 + V / 0.01 ERG) and half-life, times the confidence of all evidence."""
    opinions: dict[bytes, float] = defaultdict(float)
    weights: dict[bytes, float] = defaultdict(float)
    evidence: dict[bytes, float] = defaultdict(float)
    for record in records:
        opinion = record.opinion(Role.NODE)
        if opinion is not None:
            value = log(1 + record.stake / 10**7)
            weight = value * 2 ** (record.height / 64_800)
            opinions[record.node] += weight * opinion / ONE
            weights[record.node] += weight
            evidence[record.node] += value
    return {node: opinions[node] / weights[node] * evidence[node] / (evidence[node] + 10) for node in opinions}


def eigentrust(records: Iterable[TaskRecord]) -> Scores:
    """Stationary trust of the graph in which each side of a task trusts the other by good minus bad marks, if more."""
    trust: dict[tuple[bytes, bytes], int] = defaultdict(int)
    for record in records:
        for rater, rated, role in ((record.client, record.node, Role.NODE), (record.node, record.client, Role.CLIENT)):
            opinion = record.opinion(role)
            if opinion:
                trust[rater, rated] += 1 if opinion > 0 else -1
    return _stationary({edge: satisfied for edge, satisfied in trust.items() if satisfied > 0}, _parties(trust))


def _parties(trust: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return sorted({party for edge in trust for party in edge})


def _stationary(trust: dict[tuple[bytes, bytes], int], parties: list[bytes]) -> Scores:
    number = {party: i for i, party in enumerate(parties)}
    given = [0] * len(parties)
    for (rater, _), satisfied in trust.items():
        given[number[rater]] += satisfied
    edges = [(number[a], number[b], satisfied / given[number[a]]) for (a, b), satisfied in trust.items()]
    now = [1 / len(parties)] * len(parties)
    for _ in range(_ROUNDS):
        moved = [0.0] * len(parties)
        for source, target, share in edges:
            moved[target] += now[source] * share
        idle = (1 - sum(moved)) / len(parties)  # those who trust nobody trust all
        now = [_PRIOR / len(parties) + (1 - _PRIOR) * (each + idle) for each in moved]
    return dict(zip(parties, now, strict=True))


def _mean(weighted: Iterable[tuple[TaskRecord, float]]) -> Scores:
    sums: dict[bytes, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for record, weight in weighted:
        opinion = record.opinion(Role.NODE)
        if opinion is not None:
            sums[record.node][0] += weight * opinion / ONE
            sums[record.node][1] += weight
    return {node: total / weight for node, (total, weight) in sums.items()}
