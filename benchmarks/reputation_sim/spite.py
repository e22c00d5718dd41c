"""What burning good work costs those who do it, and those whom they do it to."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Final

from aihd.protocol.constants import WHOLE_BPS
from aihd.reputation.engine import Engine
from aihd.reputation.fixed import ONE
from aihd.reputation.history import Role, TaskRecord
from benchmarks.reputation_sim.attacks import ATTACKS, ring
from benchmarks.reputation_sim.garbage import loss, takings
from benchmarks.reputation_sim.market import BLOCKS, Maker, Market
from benchmarks.reputation_sim.measure import standings
from benchmarks.reputation_sim.price import MINER_FEE

EXTRA: Final = 2 * MINER_FEE  # commit and reveal: what a burn costs more than the same purchase without a mark
BURNERS: Final = ("good work burned by customers", "good work burned by rivals", "burned in nine days")


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """Of one attack in one market; amounts in nanoERG, for the mean of the burned tasks.

    `cost`: to the burner, work included. `left`: to the node. `victims`: honest nodes that it hit, `kept`: share of their standing that
    they keep. `burner` and `others`: mean standing as clients.
    """

    attack: str
    burns: int
    cost: float
    left: float
    victims: int
    kept: float
    burner: float
    others: float


def harm(attack: str, nodes: int, seed: int) -> Harm:
    """Returns what an attack of `BURNERS` does in a market of a seed and size."""
    market = Maker(seed, nodes).make(ATTACKS[attack])
    burners = market.spiteful or set(market.keys("colluding"))
    burned = [record for record in market.records if record.client in burners and record.burned]
    paid = [record.worth for record in burned]
    victims = {record.node for record in burned} & set(market.keys("honest"))
    peace, war = standings(_peaceful(nodes, seed)), standings(market.records)
    burner, others = _as_clients(market, burners)
    return Harm(
        attack=attack,
        burns=len(burned),
        cost=fmean(map(loss, paid)),
        left=fmean(takings(payment, WHOLE_BPS, burned=True) for payment in paid),
        victims=len(victims),
        kept=sum(war[key] for key in victims) / sum(peace.get(key, 0.0) for key in victims),
        burner=burner,
        others=others,
    )


def _peaceful(nodes: int, seed: int) -> list[TaskRecord]:
    """The same market, in which the colluders leave the honest alone."""
    return Maker(seed, nodes).make(ring(5)).records


def _as_clients(market: Market, burners: set[bytes]) -> tuple[float, float]:
    """Mean standing as clients: of the burners, and of the other customers."""
    engine = Engine(final_depth=0)
    engine.advance(BLOCKS)
    engine.fold(market.records)
    standing = {key: engine.score(key, Role.CLIENT).standing / ONE for key in engine.known(Role.CLIENT)}
    liars = set(market.keys("colluding"))
    others = [number for key, number in standing.items() if key not in burners | liars]
    return fmean(standing[key] for key in burners if key in standing), fmean(others)
