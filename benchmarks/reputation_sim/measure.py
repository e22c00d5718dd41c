"""What a score is worth in a market: separation, what colluding brings, what honest nodes lose."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, quantiles

from aihd.reputation.engine import Engine
from aihd.reputation.fixed import ONE
from aihd.reputation.history import TaskRecord
from benchmarks.reputation_sim.attacks import ATTACKS
from benchmarks.reputation_sim.market import BLOCKS, Maker, Market
from benchmarks.reputation_sim.rivals import Scores, eigentrust, plain_mean, undamped, value_mean


@dataclass(frozen=True, slots=True)
class Measured:
    """One attack in one market.

    `plain`, `value`, `eigen`, `ours`: ROC AUC of honest against colluding nodes. `gain`: what self-dealing adds to the colluders'
    standing, as a share of what honest nodes have from as many tasks (None where nobody deals with himself). `loss`: share of honest
    nodes' standing that the dampers take; `worst`: nine of ten lose less.
    """

    attack: str
    nodes: int
    plain: float
    value: float
    eigen: float
    ours: float
    gain: float | None
    loss: float
    worst: float


def measure(attack: str, nodes: int, seed: int) -> Measured:
    """Play an attack in a market of a seed and size."""
    market = Maker(seed, nodes).make(ATTACKS[attack])
    honest, colluding = market.keys("honest"), market.keys("colluding")
    ours = standings(market.records)
    rivals = [rival(market.records) for rival in (plain_mean, value_mean, eigentrust)]
    plain, value, eigen = (auc(scores, honest, colluding) for scores in rivals)
    loss, worst = _losses(market, honest)
    gain = _gain(market, ours)
    return Measured(attack, nodes, plain, value, eigen, auc(ours, honest, colluding), gain, loss, worst)


def standings(records: Iterable[TaskRecord]) -> Scores:
    """Our standing of every node, -1 to 1, when all records are final."""
    engine = Engine(final_depth=0)
    engine.advance(BLOCKS)
    engine.fold(records)
    return {node: engine.score(node).standing / ONE for node in {record.node for record in records}}


def auc(scores: Scores, good: list[bytes], bad: list[bytes]) -> float:
    """Chance that a good one stands above a bad one; a tie counts half. Who has no score stands at 0."""
    ranked = sorted([(scores.get(key, 0.0), 1) for key in good] + [(scores.get(key, 0.0), 0) for key in bad])
    ranks: dict[float, list[int]] = {}
    for place, (score, _) in enumerate(ranked):
        ranks.setdefault(score, []).append(place)
    total = sum(fmean(ranks[score]) for score, is_good in ranked if is_good)
    return (total - len(good) * (len(good) - 1) / 2) / (len(good) * len(bad))


def _gain(market: Market, ours: Scores) -> float | None:
    """Mean standing that the colluders' own deals add, over the mean standing of honest nodes from as many tasks."""
    if not market.dealt:
        return None
    colluding = market.keys("colluding")
    without = standings([record for record in market.records if record.task not in market.dealt])
    added = fmean(ours.get(key, 0.0) - without.get(key, 0.0) for key in colluding)
    bought = len(market.dealt) / len(colluding)
    return added / _standing_from(market, bought)


def _standing_from(market: Market, tasks: float) -> float:
    """Mean standing of honest nodes if each had that many tasks: the first of those that have at least so many."""
    served: dict[bytes, list[TaskRecord]] = {key: [] for key in market.keys("honest")}
    for record in market.records:
        if record.node in served and len(served[record.node]) < tasks:
            served[record.node].append(record)
    busy = {key for key, records in served.items() if len(records) >= tasks}
    scores = standings([record for key in busy for record in served[key]])
    return fmean(scores[key] for key in busy)


def _losses(market: Market, honest: list[bytes]) -> tuple[float, float]:
    """Share of the honest nodes' undamped standing that the dampers take, of all and of the last but a tenth: what being honest costs.

    Colluders' records are left out, so that what slander does is not mistaken for what the dampers do.
    """
    liars = set(market.keys("colluding"))
    peaceful = [record for record in market.records if record.client not in liars and record.node not in liars]
    with_dampers, without = standings(peaceful), undamped(peaceful)
    rated = [key for key in honest if without.get(key, 0.0) > 0]
    loss = 1 - sum(with_dampers[key] for key in rated) / sum(without[key] for key in rated)
    return loss, quantiles((1 - with_dampers[key] / without[key] for key in rated), n=10)[-1]
