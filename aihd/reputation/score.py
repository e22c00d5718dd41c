"""From the opinions about one party to its score and confidence.

Promise: integers in, integers out, in units of 10^-9; the same opinions in any order give the same digits. Each rule and the attack that it
answers: docs/reputation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aihd.reputation.fixed import ONE, square_root
from aihd.reputation.pair import BUCKETS, Summary

HALF_CONFIDENCE: Final = 10 * ONE
"""Evidence at which the confidence is one half: about 6 different customers of 0.05 ERG each."""

CONSENSUS_OF: Final = 5  # fewer raters are no consensus
_OUTLIER: Final = 5  # tenths from the consensus at which an outlier speaks with half its weight
_COMPLAINT: Final = ONE // 2  # the least that an outlier's complaint keeps
_TOLERANCE: Final = ONE // 5  # by which a value may be above the recent mean: honest work has its bad weeks


@dataclass(frozen=True, slots=True)
class Score:
    """`value` -1 to 1 (is the work good?) and `confidence` 0 to 1 (how much speaks for that?), both in units of 10^-9."""

    value: int = 0
    confidence: int = 0

    @property
    def standing(self) -> int:
        """Value times confidence: the one number to choose by. An unknown party stands at 0."""
        return self.value * self.confidence // ONE


@dataclass(slots=True)
class Sums:
    """Summaries of one bucket added up, each times its fresh share (units of 10^-9), which no division rounds."""

    opinion: int = 0
    weight: int = 0
    evidence: int = 0
    ratings: int = 0
    raters: int = 0
    pairs: int = 0
    recent_opinion: int = 0
    recent_weight: int = 0

    def add(self, summary: Summary, fresh: int = ONE, sign: int = 1) -> None:
        fresh *= sign
        self.opinion += summary.opinion * fresh
        self.weight += summary.weight * fresh
        self.evidence += summary.evidence * fresh
        self.ratings += summary.ratings * fresh
        self.raters += fresh
        self.pairs += sign
        self.recent_opinion += summary.recent_opinion * fresh
        self.recent_weight += summary.recent_weight * fresh


@dataclass(frozen=True, slots=True)
class Verdict:
    """A score and what it was made from.

    `consensus` in tenths, None without one. `raters` and `ratings`: how many count, a circling one by its fresh share and the
    k-th of a pair as 1/k. `turned`: what the value is below the mean of all opinions, since recent work was worse. These, `diversity`
    and `evidence` in units of 10^-9.
    """

    score: Score
    consensus: int | None
    raters: int
    ratings: int
    diversity: int
    evidence: int
    turned: int


def fresh_share(paid: int, in_circle: int) -> int:
    """Returns the share of its weight that a rater keeps if of what it paid so much may have come round in a circle, in units of 10^-9.

    `in_circle`: an upper bound in nanoERG. Each nanoERG that came round takes another with it, else two who pay each other unequal sums
    would keep the difference. A pair that paid nothing moved no money.
    """
    return ONE - min(paid, 2 * in_circle) * ONE // paid if paid else ONE


def outlier_share(bucket: int, consensus: int | None) -> int:
    """Returns the share of its weight that an opinion keeps that far from the consensus.

    It is 1 / (1 + (distance / 0.5)^2), for a complaint at least half.

    A complaint costs its writer the payment, praise of oneself only the fees: so the first is heard even when alone.
    """
    if consensus is None:
        return ONE
    square = _OUTLIER * _OUTLIER
    share = ONE * square // (square + (bucket - consensus) ** 2)
    return max(share, _COMPLAINT) if bucket < consensus else share


def judge(buckets: Mapping[int, Sums]) -> Verdict:
    """Score of a party from its opinions, grouped by tenth."""
    consensus = _consensus(buckets)
    opinion = weight = evidence = raters = ratings = 0
    for bucket, sums in buckets.items():
        share = outlier_share(bucket, consensus)
        opinion += sums.opinion * share
        weight += sums.weight * share
        evidence += sums.evidence * share
        raters += sums.raters * ONE
        ratings += sums.ratings
    diversity = square_root(raters * ONE // ratings) if ratings else ONE
    evidence = evidence * diversity // ONE**3
    overall = max(-ONE, min(ONE, opinion // weight)) if weight else 0
    value = min(overall, _recent(buckets.values()) + _TOLERANCE)
    confidence = evidence * ONE // (evidence + HALF_CONFIDENCE)
    return Verdict(
        Score(value, confidence), consensus, raters // ONE, ratings // ONE, diversity, evidence, overall - value
    )


def _recent(sums: Iterable[Sums]) -> int:
    """Mean of the recent opinions, not damped by the consensus: that is of old, where somebody has turned. 1 when nothing weighs."""
    opinion = weight = 0
    for each in sums:
        opinion += each.recent_opinion
        weight += each.recent_weight
    return opinion // weight if weight else ONE


def _consensus(buckets: Mapping[int, Sums]) -> int | None:
    """The median of the opinions by evidence: the bucket at which half of it is reached."""
    if _pairs(buckets.values()) < CONSENSUS_OF:
        return None
    half = sum(sums.evidence for sums in buckets.values())
    if not half:
        return None  # nothing was at stake
    reached = 0
    for bucket in range(-BUCKETS, BUCKETS + 1):
        reached += 2 * buckets[bucket].evidence if bucket in buckets else 0
        if reached >= half:
            return bucket
    return None  # unreachable while any evidence is positive


def _pairs(sums: Iterable[Sums]) -> int:
    return sum(each.pairs for each in sums)
