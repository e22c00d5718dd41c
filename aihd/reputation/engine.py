"""The score engine: folds in what the chain shows, takes back what a reorg undoes, answers with scores.

Promise: what it says depends on the set of records and the height alone. Any order of arrival, any way there over forks, gives what a fresh
engine gives. A new record touches its two parties and nobody else; a score costs what changed since it was last asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from aihd.reputation.clock import Clock
from aihd.reputation.fixed import ONE
from aihd.reputation.history import HistoryError, Role, TaskRecord
from aihd.reputation.pair import Pair, Summary
from aihd.reputation.score import Score, Sums, Verdict, fresh_share, judge

FINAL_DEPTH: Final = 10  # blocks on top of a record before it counts


class Subject:
    """One key in one role, and who rated it.

    `plain` sums up the raters whose money is fresh for sure; the `circling`, whose money may not be, are weighed when somebody asks.
    `trusts` holds by which trust a rater's burns are in `plain`, where that is not 0.
    """

    __slots__ = ("changed", "circling", "clock", "key", "pairs", "plain", "role", "self_dealt", "trusts")

    def __init__(self, key: bytes, role: Role) -> None:
        self.key = key
        self.role = role
        self.pairs: dict[bytes, Pair] = {}
        self.clock = Clock()
        self.self_dealt = 0
        self.changed: set[bytes] = set()  # raters that are in neither until somebody asks
        self.plain: dict[int, Sums] = {}
        self.circling: dict[bytes, Summary] = {}
        self.trusts: dict[bytes, int] = {}

    def summary(self, rater: bytes, trust: int) -> Summary:
        return self.pairs[rater].summary(self.role, self.clock, trust)

    def burned_by(self, rater: bytes) -> bool:
        """Returns true for a rater who burned something of this party's: then all that he burned and let go weighs his word."""
        return self.role is Role.NODE and self.pairs[rater].burns > 0

    def withdraw(self, rater: bytes) -> None:
        """Take a rater out of the sums, before what he says changes. His old share is worked out again: it is kept nowhere."""
        if rater in self.changed:
            return
        self.changed.add(rater)
        trust = self.trusts.pop(rater, 0)
        if self.circling.pop(rater, None) is None and rater in self.pairs:
            old = self.summary(rater, trust)
            sums = self.plain[old.bucket]
            sums.add(old, sign=-1)
            if not sums.pairs:
                del self.plain[old.bucket]


@dataclass(slots=True)
class Purse:
    """What a key, or a cluster of them, earned and spent in the market, at the most, in nanoERG, and whom it rated.

    `let_go` and `burns`: how often a cluster left to a node what it had held back, and how often it burned it.
    """

    earned: int = 0
    spent: int = 0
    let_go: int = 0
    burns: int = 0
    rated: set[Subject] = field(default_factory=set)
    victims: set[Subject] = field(default_factory=set)  # of these, the nodes whose money it burned

    @property
    def circling(self) -> bool:
        """Money can only come round through somebody who both earns and spends."""
        return self.earned > 0 and self.spent > 0

    @property
    def trust(self) -> int:
        """Returns how far its burns are the exception, -1 to 1 in units of 10^-9; of a first burn nothing is known, and it is 0.

        In sixteenths: who has burned often and long does not have to be weighed anew at each of his tasks.
        """
        if not self.burns:
            return 0
        return (self.let_go + 1 - self.burns) * _TRUST_STEPS // (self.let_go + self.burns) * (ONE // _TRUST_STEPS)

    @property
    def empty(self) -> bool:
        return not (self.earned or self.spent or self.let_go or self.burns or self.rated)


_TRUST_STEPS: Final = 16
_NOTHING: Final = Purse()
_NO_SUMS: Final = Sums()


class Engine:
    """Scores of all parties of a market at one height of the chain."""

    def __init__(self, final_depth: int = FINAL_DEPTH) -> None:
        self.height = 0
        self._depth = final_depth
        self._counted: list[TaskRecord] = []
        self._waiting: list[TaskRecord] = []  # sorted too, and newer than all that are counted
        self._subjects: tuple[dict[bytes, Subject], dict[bytes, Subject]] = ({}, {})  # by role
        self._purses: dict[bytes, Purse] = {}

    def __len__(self) -> int:
        """Records known, counted or not."""
        return len(self._counted) + len(self._waiting)

    def fold(self, records: Iterable[TaskRecord]) -> None:
        """Take in records, in any order. HistoryError, and nothing taken in, when one is there already."""
        new = sorted(records, key=_order)
        if not new:
            return
        late = bisect_right(self._counted, new[0].order, key=_order)
        waiting = sorted([*self._counted[late:], *self._waiting, *new], key=_order)
        _refuse_twice([*self._counted[max(0, late - 1) : late], *waiting])
        self._uncount(late)
        self._waiting = waiting
        self._count()

    def advance(self, height: int) -> None:
        """The chain has grown to this height: records that have become final count from now on."""
        if height < self.height:
            raise HistoryError(f"height {height} is below the known {self.height}: a shorter chain is a rollback")
        self.height = height
        self._count()

    def rollback(self, height: int) -> None:
        """The chain above this height is gone, and with it the records there; what is no longer final counts no longer."""
        self.height = min(self.height, height)
        final = bisect_right(self._counted, self.height - self._depth, key=_height)
        waiting = [*self._counted[final:], *self._waiting]
        self._uncount(final)
        self._waiting = waiting[: bisect_right(waiting, self.height, key=_height)]

    def known(self, role: Role) -> Iterator[bytes]:
        """Keys that have a score in a role."""
        return iter(self._subjects[role])

    def score(self, key: bytes, role: Role = Role.NODE) -> Score:
        """Score of a key; of an unknown one, 0 with confidence 0."""
        return self.verdict(key, role).score

    def verdict(self, key: bytes, role: Role = Role.NODE) -> Verdict:
        """Score of a key with the sums that it was made from."""
        subject = self._subjects[role].get(key)
        if subject is None:
            return judge({})
        self._refresh(subject)
        buckets = dict(subject.plain)
        for rater, summary in subject.circling.items():
            fresh = self.fresh(subject, rater, summary)
            if fresh:
                sums = replace(buckets.get(summary.bucket, _NO_SUMS))
                sums.add(summary, fresh)
                buckets[summary.bucket] = sums
        return judge(buckets)

    def trust(self, subject: Subject, rater: bytes) -> int:
        """Returns how far a rater's burns of this party count for more than bare marks, -1 to 1 in units of 10^-9."""
        return self._purses[rater].trust if subject.burned_by(rater) else 0

    def fresh(self, subject: Subject, rater: bytes, summary: Summary) -> int:
        """The share of a rater's word that circular money cannot have bought. Only praise is bought: a complaint is always fresh."""
        if summary.bucket <= 0:
            return ONE
        pair = subject.pairs[rater]
        names = (subject.key, pair.records[-1].cluster(subject.role))
        theirs = self._purses.get(rater, _NOTHING)
        own = [self._purses.get(name, _NOTHING) for name in names]
        if subject.role is Role.NODE:
            return fresh_share(pair.paid, min(theirs.earned, max(purse.spent for purse in own)))
        return fresh_share(pair.paid, min(theirs.spent, max(purse.earned for purse in own)))

    def subject(self, key: bytes, role: Role) -> Subject | None:
        """Who rated a key, for an explanation."""
        return self._subjects[role].get(key)

    def waiting(self, key: bytes, role: Role) -> int:
        """Records of a key that are not final yet."""
        return sum(1 for record in self._waiting if record.key(role) == key)

    def _count(self) -> None:
        final = bisect_right(self._waiting, self.height - self._depth, key=_height)
        for record in self._waiting[:final]:
            self._pay(record, 1)
            self._rate(record, Role.NODE)
            self._rate(record, Role.CLIENT)
            self._counted.append(record)
        del self._waiting[:final]

    def _uncount(self, keep: int) -> None:
        while len(self._counted) > keep:
            record = self._counted.pop()
            self._unrate(record, Role.CLIENT)
            self._unrate(record, Role.NODE)
            self._pay(record, -1)

    def _pay(self, record: TaskRecord, sign: int) -> None:
        moved, rater = sign * record.moved, record.cluster(Role.CLIENT)
        if moved:
            for name in {record.client, rater}:
                self._move(name, spent=moved)
            for name in {record.node, record.cluster(Role.NODE)}:
                self._move(name, earned=moved)
        if record.held and not record.self_dealt:
            self._move(rater, burns=sign) if record.burned else self._move(rater, let_go=sign)

    def _move(self, name: bytes, *, earned: int = 0, spent: int = 0, let_go: int = 0, burns: int = 0) -> None:
        purse = self._purses.get(name)
        if purse is None:
            purse = self._purses[name] = Purse()
        circled, trusted = purse.circling, purse.trust
        purse.earned += earned
        purse.spent += spent
        purse.let_go += let_go
        purse.burns += burns
        if purse.circling is not circled:
            for subject in purse.rated:
                subject.withdraw(name)
        elif purse.trust != trusted:
            for subject in purse.victims:
                subject.withdraw(name)
        if purse.empty:
            del self._purses[name]

    def _rate(self, record: TaskRecord, role: Role) -> None:
        if record.opinion(role) is None:
            return
        subjects, key = self._subjects[role], record.key(role)
        subject = subjects.get(key)
        if subject is None:
            subject = subjects[key] = Subject(key, role)
        if record.self_dealt:
            subject.self_dealt += 1
            return
        rater = record.cluster(_OTHER[role])
        subject.withdraw(rater)
        pair = subject.pairs.get(rater)
        if pair is None:
            pair = subject.pairs[rater] = Pair()
            self._purses.setdefault(rater, Purse()).rated.add(subject)
        pair.append(record)
        if subject.burned_by(rater):
            self._purses[rater].victims.add(subject)
        subject.clock.tick(record.height)

    def _unrate(self, record: TaskRecord, role: Role) -> None:
        if record.opinion(role) is None:
            return
        key = record.key(role)
        subject = self._subjects[role][key]
        if record.self_dealt:
            subject.self_dealt -= 1
        else:
            self._unpair(subject, record.cluster(_OTHER[role]))
        if not subject.pairs and not subject.self_dealt:
            del self._subjects[role][key]

    def _unpair(self, subject: Subject, rater: bytes) -> None:
        subject.withdraw(rater)
        pair = subject.pairs[rater]
        pair.pop()
        if not subject.burned_by(rater):
            self._purses[rater].victims.discard(subject)
        subject.clock.untick()
        if not pair.records:
            del subject.pairs[rater]
            self._purses[rater].rated.discard(subject)
            if self._purses[rater].empty:
                del self._purses[rater]

    def _refresh(self, subject: Subject) -> None:
        """Put the raters that changed back into the sums."""
        for rater in subject.changed:
            if rater in subject.pairs:
                self._sum(subject, rater)
        subject.changed.clear()

    def _sum(self, subject: Subject, rater: bytes) -> None:
        purse, trust = self._purses[rater], self.trust(subject, rater)
        summary = subject.summary(rater, trust)
        if purse.circling:
            subject.circling[rater] = summary
        else:
            if trust:
                subject.trusts[rater] = trust
            subject.plain.setdefault(summary.bucket, Sums()).add(summary)


_OTHER: Final = (Role.CLIENT, Role.NODE)  # who rates a party in that role


def _order(record: TaskRecord) -> tuple[int, bytes]:
    return (record.height, record.task)


def _height(record: TaskRecord) -> int:
    return record.height


def _refuse_twice(records: list[TaskRecord]) -> None:
    for older, newer in pairwise(records):
        if older.order == newer.order:
            raise HistoryError(f"task {newer.task.hex()} at height {newer.height} is known already: fold a record once")
