"""A score term by term: every rating that counts with each of its factors, and what they add up to.

Promise: the products of a line's factors are what the engine summed; an explanation and a score cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

from aihd.reputation.engine import Engine, Subject
from aihd.reputation.fixed import ONE
from aihd.reputation.history import Role, TaskRecord
from aihd.reputation.score import Verdict, judge, outlier_share


@dataclass(frozen=True, slots=True)
class RatingTerm:
    """One rating; its factors and `share` in units of 10^-9.

    `value`: ln(1 + V / 0.01 ERG). `decay`: against the party's newest rating. `repeat`: 1/k. `fresh`: what circular money
    leaves. `outlier`: what the consensus leaves. `share`: of the whole score; all shares add up to 1, less rounding.
    """

    record: TaskRecord
    rater: bytes
    opinion: int
    value: int
    decay: int
    repeat: int
    fresh: int
    outlier: int
    share: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """`terms` newest first. Not in them: `older` ratings outside a pair's window, `self_dealt` ones, and those `waiting` to be final."""

    key: bytes
    role: Role
    verdict: Verdict
    terms: tuple[RatingTerm, ...]
    older: int
    self_dealt: int
    waiting: int


def explain(engine: Engine, key: bytes, role: Role = Role.NODE) -> Explanation:
    """Why a key has the score that it has."""
    verdict = engine.verdict(key, role)
    subject = engine.subject(key, role)
    waiting = engine.waiting(key, role)
    if subject is None:
        return Explanation(key, role, judge({}), (), 0, 0, waiting)
    weighted = [line for rater in subject.pairs for line in _weigh(engine, subject, rater, verdict)]
    total = sum(weight for weight, _, _ in weighted) or 1
    newest = max((grown for _, grown, _ in weighted), default=ONE)
    terms = tuple(_finish(weight * ONE // total, grown * ONE // newest, term) for weight, grown, term in weighted)
    known = sum(len(pair.records) for pair in subject.pairs.values())
    ordered = tuple(sorted(terms, key=lambda term: term.record.order, reverse=True))
    return Explanation(key, role, verdict, ordered, known - len(terms), subject.self_dealt, waiting)


def _weigh(engine: Engine, subject: Subject, rater: bytes, verdict: Verdict) -> list[tuple[int, int, RatingTerm]]:
    """Weight, growth and unfinished line of each rating of a pair."""
    pair = subject.pairs[rater]
    summary = pair.summary(subject.role)
    fresh = engine.fresh(subject, rater, summary)
    outlier = outlier_share(summary.bucket, verdict.consensus)
    lines = []
    for term in pair.terms(subject.role):
        weight = term.value * term.growth // term.repeat * fresh * outlier
        repeat = ONE // term.repeat
        line = RatingTerm(term.record, rater, term.opinion, term.value, 0, repeat, fresh, outlier, 0)
        lines.append((weight, term.growth, line))
    return lines


def _finish(share: int, decay: int, line: RatingTerm) -> RatingTerm:
    return RatingTerm(
        line.record, line.rater, line.opinion, line.value, decay, line.repeat, line.fresh, line.outlier, share
    )
