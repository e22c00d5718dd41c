"""A score term by term: every rating that counts with each of its factors, and what they add up to.

Promise: the products of a line's factors are what the engine summed; an explanation and a score cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aihd.reputation.engine import Engine, Subject
from aihd.reputation.fixed import ONE
from aihd.reputation.history import Role, TaskRecord
from aihd.reputation.score import Verdict, judge, outlier_share


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingTerm:
    """One rating; its factors and `share` in units of 10^-9.

    `value`: ln(1 + V / 0.01 ERG); `evidence`: what that is for confidence, consensus and recent mean; `burn`: what both are multiplied by.
    `decay`: against the party's newest rating. `repeat`: 1/k. `fresh`: what circular money leaves. `outlier`: what the consensus leaves.
    `share`: of the mean of all opinions, `recent`: of the recent mean; the shares of each add up to 1, less rounding.
    """

    record: TaskRecord
    rater: bytes
    opinion: int
    value: int
    evidence: int
    burn: int
    decay: int
    repeat: int
    fresh: int
    outlier: int
    share: int
    recent: int


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
    weighed = [line for rater in subject.pairs for line in _weigh(engine, subject, rater, verdict)]
    terms = sorted(_finish(weighed), key=lambda term: term.record.order, reverse=True)
    known = sum(len(pair.records) for pair in subject.pairs.values())
    return Explanation(key, role, verdict, tuple(terms), known - len(terms), subject.self_dealt, waiting)


def _weigh(engine: Engine, subject: Subject, rater: bytes, verdict: Verdict) -> list[RatingTerm]:
    """The ratings of a pair, with `decay`, `share` and `recent` as sums still: growth, weight, and weight lately."""
    trust = engine.trust(subject, rater)
    summary = subject.summary(rater, trust)
    fresh = engine.fresh(subject, rater, summary)
    outlier = outlier_share(summary.bucket, verdict.consensus)
    lines = []
    for term in subject.pairs[rater].terms(subject.role, subject.clock, trust):
        line = RatingTerm(
            record=term.record,
            rater=rater,
            opinion=term.opinion,
            value=term.value,
            evidence=term.evidence,
            burn=term.burn,
            decay=term.growth,
            repeat=ONE // term.repeat,
            fresh=fresh,
            outlier=outlier,
            share=term.value * term.burn // ONE * term.growth // term.repeat * fresh * outlier,
            recent=term.evidence * term.burn // ONE * term.recent // term.repeat * fresh,
        )
        lines.append(line)
    return lines


def _finish(lines: list[RatingTerm]) -> Iterator[RatingTerm]:
    """The same with `decay` against the newest, `share` and `recent` of the whole."""
    newest = max((line.decay for line in lines), default=ONE)
    total, lately = sum(line.share for line in lines) or 1, sum(line.recent for line in lines) or 1
    for line in lines:
        decay, share, recent = line.decay * ONE // newest, line.share * ONE // total, line.recent * ONE // lately
        yield replace(line, decay=decay, share=share, recent=recent)
