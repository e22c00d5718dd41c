"""Play every attack in markets of several sizes and seeds, and print what each score was worth.

`--quick`: one market of 200 nodes. `--write FILE`: put the tables between the markers of a Markdown file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

from rich.console import Console
from rich.table import Table

from aihd.protocol.constants import WHOLE_BPS
from aihd.protocol.units import format_erg
from benchmarks.reputation_sim.attacks import ATTACKS
from benchmarks.reputation_sim.garbage import careers, loss, mean_of
from benchmarks.reputation_sim.measure import Measured, measure
from benchmarks.reputation_sim.price import Price, chain_point, standing
from benchmarks.reputation_sim.spite import BURNERS, EXTRA, Harm, harm

MARKETS: Final = ((200, 1), (200, 2), (200, 3), (600, 4), (2000, 5))  # nodes, seed
SEPARATION: Final = (
    *("attack by a fifth of the nodes", "nodes", "plain mean", "value mean", "EigenTrust", "aihd"),
    *("gain", "honest loss", "nine of ten lose less than"),
)
PRICES: Final = ("what is bought", "tasks", "payment of each", "spent for good", "locked meanwhile")
GARBAGE: Final = (
    *(
        "held back from strangers",
        "tasks of a name",
        "hours until nobody gives it work",
        "payment of each",
        "earned by each",
    ),
    *("of the payment", "lost by the client"),
)
SPITE: Final = (
    *("good work burned", "tasks", "cost of each, with the work", "of that for burning", "left to the node", "victims"),
    *("keep of their standing", "burner's standing as a client", "other clients'"),
)
BLOCKS_AN_HOUR: Final = 30
BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"

Rows = list[tuple[str, ...]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reputation_sim", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one market of 200 nodes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    chosen = parser.parse_args(arguments)
    tables = (
        (SEPARATION, list(_separation(MARKETS[:1] if chosen.quick else MARKETS))),
        (
            PRICES,
            [
                _price(price)
                for price in (chain_point(), *(standing(n, in_token=t) for n in (5, 9) for t in (False, True)))
            ],
        ),
        (GARBAGE, [_garbage(holdback) for holdback in (0, WHOLE_BPS // 2, WHOLE_BPS)]),
        (SPITE, [_harm(harm(attack, *MARKETS[0])) for attack in BURNERS]),
    )
    for head, rows in tables:
        _show(head, rows)
    if chosen.write:
        _write(chosen.write, "\n\n".join(_markdown(head, rows) for head, rows in tables))


def _separation(markets: Sequence[tuple[int, int]]) -> Iterable[tuple[str, ...]]:
    """A row for each attack and size; seeds of one size are averaged."""
    for attack in ATTACKS:
        for nodes in sorted({size for size, _ in markets}):
            yield _row([measure(attack, nodes, seed) for size, seed in markets if size == nodes])


def _row(runs: list[Measured]) -> tuple[str, ...]:
    aucs = (fmean(getattr(run, name) for run in runs) for name in ("plain", "value", "eigen", "ours"))
    gains = [run.gain for run in runs if run.gain is not None]
    gain = f"{fmean(gains):.1%}" if gains else "-"
    losses = (fmean(getattr(run, name) for run in runs) for name in ("loss", "worst"))
    return (
        runs[0].attack,
        str(runs[0].nodes),
        *(f"{auc:.3f}" for auc in aucs),
        gain,
        *(f"{loss:.1%}" for loss in losses),
    )


def _price(price: Price) -> tuple[str, ...]:
    return (price.what, str(price.tasks), *(_erg(amount) for amount in (price.payment, price.spent, price.locked)))


def _garbage(holdback: int) -> tuple[str, ...]:
    tasks, blocks, payment, earned, share = mean_of(careers(holdback, *MARKETS[0]))
    hours = f"{blocks / BLOCKS_AN_HOUR:.1f}"
    lost = _erg(loss(round(payment)))
    return (f"{holdback / WHOLE_BPS:.0%}", f"{tasks:.1f}", hours, _erg(payment), _erg(earned), f"{share:.0%}", lost)


def _harm(found: Harm) -> tuple[str, ...]:
    amounts = (_erg(amount) for amount in (found.cost, EXTRA, found.left))
    standings = (f"{found.burner:.2f}", f"{found.others:.2f}")
    return (found.attack, str(found.burns), *amounts, str(found.victims), f"{found.kept:.0%}", *standings)


def _erg(amount: float) -> str:
    return format_erg(round(int(amount), -4))


def _show(head: tuple[str, ...], rows: Rows) -> None:
    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def _markdown(head: tuple[str, ...], rows: Rows) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write(path: Path, tables: str) -> None:
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}")


if __name__ == "__main__":
    main()
