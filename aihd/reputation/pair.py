"""What one rater says of one party: its newest ratings, each repeat speaking less.

Promise: a summary depends on the records of the pair alone, and costs the same however long the two have dealt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from aihd.reputation.clock import Clock
from aihd.reputation.fixed import ONE, evidence_weight, growth, recent_growth, value_weight
from aihd.reputation.history import Role, TaskRecord

LOUDER: Final = ONE // 4
"""By how much a burn outweighs a bare mark at the most, from a rater who else lets nodes have what he held back."""

SOFTER: Final = ONE // 2
"""By how much it falls short of one at the most, from a rater who burns whatever he can."""

WINDOW: Final = 32
"""The newest ratings of a pair that count. The next would add a 33rd of its weight, and the cost of a rating would have no bound."""

BUCKETS: Final = 10  # to each side of 0: opinions are compared in tenths


class Summary(NamedTuple):
    """What a pair adds to the sums of the rated party.

    `bucket`: mean opinion in tenths. `opinion` and `weight`: sums by which the score is the mean. `evidence`: what the confidence grows by.
    `ratings`: how many there are, the k-th newest counting 1/k. `recent_opinion` and `recent_weight`: sums by evidence and the party's
    own clock, by which its recent work is the mean. All but `bucket` in units of 10^-9.
    """

    bucket: int
    opinion: int
    weight: int
    evidence: int
    ratings: int
    recent_opinion: int
    recent_weight: int


class Term(NamedTuple):
    """One rating that counts: its opinion, ln of its stake, that as evidence, what a burn makes of both, its growth over the years and
    over the last weeks, and how many newer ones of the pair there are, plus one."""

    record: TaskRecord
    opinion: int
    value: int
    evidence: int
    burn: int
    growth: int
    recent: int
    repeat: int


class Pair:
    """The records in which one cluster of keys rates one party, oldest first."""

    __slots__ = ("burns", "paid", "records")

    def __init__(self) -> None:
        self.records: list[TaskRecord] = []
        self.paid = 0
        self.burns = 0

    def append(self, record: TaskRecord) -> None:
        self.records.append(record)
        self.paid += record.paid
        self.burns += record.burned > 0

    def pop(self) -> TaskRecord:
        record = self.records.pop()
        self.paid -= record.paid
        self.burns -= record.burned > 0
        return record

    def terms(self, role: Role, clock: Clock, trust: int) -> Iterator[Term]:
        """The ratings that count, newest first: a customer who changes his mind is heard, whatever he said before.

        `trust`: how far the rater's burns are the exception, -1 to 1 in units of 10^-9: so far they count for more than bare marks.
        """
        for repeat, record in enumerate(reversed(self.records[-WINDOW:]), 1):
            opinion = record.opinion(role)
            assert opinion is not None, "a record without an opinion is in no pair"
            value, recent = value_weight(record.stake), recent_growth(clock.reading(record.height))
            proof, burn = evidence_weight(value), _burn(record, trust)
            yield Term(record, opinion, value, proof, burn, growth(record.height), recent, repeat)

    def summary(self, role: Role, clock: Clock, trust: int) -> Summary:
        total = weights = evidence = ratings = recent_total = recents = 0
        for _, opinion, value, proof, burn, grown, recent, repeat in self.terms(role, clock, trust):
            weight = value * burn // ONE * grown // repeat
            total += weight * opinion
            weights += weight
            proved = proof * burn // ONE
            evidence += proved // repeat
            ratings += ONE // repeat
            weight = proved * recent // repeat
            recent_total += weight * opinion
            recents += weight
        bucket = (total * 2 * BUCKETS + weights * ONE) // (weights * 2 * ONE)  # the nearest tenth
        return Summary(bucket, total, weights, evidence, ratings, recent_total, recents)


def _burn(record: TaskRecord, trust: int) -> int:
    """Returns the factor of a rating for what it burned: by the share of the payment that was held, and by the trust in its rater."""
    most = LOUDER if trust > 0 else SOFTER
    return ONE + most * record.burned * trust // (record.worth * ONE)
