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

from aihd.protocol.units import format_erg
from benchmarks.reputation_sim.attacks import ATTACKS
from benchmarks.reputation_sim.measure import Measured, measure
from benchmarks.reputation_sim.price import Price, chain_point, standing

MARKETS: Final = ((200, 1), (200, 2), (200, 3), (600, 4), (2000, 5))  # nodes, seed
SEPARATION: Final = (
    *("attack by a fifth of the nodes", "nodes", "plain mean", "value mean", "EigenTrust", "aihd"),
    *("gain", "honest loss", "nine of ten lose less than"),
)
PRICES: Final = ("what is bought", "tasks", "payment of each", "spent for good", "locked meanwhile")
BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"

Rows = list[tuple[str, ...]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reputation_sim", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one market of 200 nodes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    chosen = parser.parse_args(arguments)
    tables = (
        (SEPARATION, list(_separation(MARKETS[:1] if chosen.quick else MARKETS))),
        (PRICES, [_price(price) for price in (chain_point(), standing(5), standing(9))]),
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


def _erg(amount: int) -> str:
    return format_erg(round(amount, -4))


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
