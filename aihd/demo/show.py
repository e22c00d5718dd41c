"""What the demo shows: a live table of steps, then the verification, the balance sheet and the reputation row."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final, get_args

from rich.console import Console
from rich.live import Live
from rich.table import Table

from aihd.client.terms import in_words
from aihd.demo.play import MARK, Ending, order_of, play
from aihd.demo.story import Coin, Step
from aihd.demo.world import Sourcing, world
from aihd.errors import DependencyError, UsageError
from aihd.screen import styled

BLOCK_TIME: Final = 1.0
MAX_INPUT: Final = 100 * 2**20
SERVICES: Final = ("text-digest", "word-count")


async def demo(
    console: Console, input_path: Path | None, service: str, asset: str | None = None, sources: str = "both"
) -> None:
    """Run the demo in a temporary folder; leaves nothing behind, nothing running.

    With `asset` it pays in a token of that name; `sources` is one of `Sourcing`.
    """
    if service not in SERVICES:
        raise UsageError(f"--service {service!r}: there is {' and '.join(SERVICES)}")
    sourcing = next((known for known in get_args(Sourcing) if known == sources), None)
    if sourcing is None:
        raise UsageError(f"--sources {sources!r}: there is {', '.join(get_args(Sourcing))}")
    with tempfile.TemporaryDirectory(prefix="aihd-demo-") as name:
        folder = Path(name)
        source = _input(folder, input_path)
        console.print("Starting a chain, a gateway, a market, and two daemons with bonds …")
        async with world(folder, block_time=BLOCK_TIME, max_input=MAX_INPUT, asset=asset, sources=sourcing) as stage:
            order, names = order_of(stage, service), stage.assets
            paid = stage.coin.show(order.payment)
            what = f" ({source.stat().st_size} bytes) to service {service} for {paid}"
            console.print(styled((str(source), "bold"), what))
            for line in in_words(order, names):
                console.print(line, highlight=False)
            with Live(console=console, refresh_per_second=4) as live:
                told: list[Step] = []

                def tell(step: Step) -> None:
                    told.append(step)
                    live.update(_steps_table(told))

                ending = await play(stage, source, service, folder / "output", tell)
            console.print()
        _show(console, ending, service)
    if not ending.balanced or not all(finding.holds for finding in ending.findings):
        raise DependencyError("the demo did not end as it should: see the table above")


def _input(folder: Path, given: Path | None) -> Path:
    """The file to run on; UsageError when it cannot be. Without one, a small text."""
    if given is None:
        path = folder / "input.txt"
        path.write_text("The quick brown fox jumps over the lazy dog.\nPay only for what was run.\n")
        return path
    if not given.is_file():
        raise UsageError(f"--input {given}: there is no such file")
    if given.stat().st_size > MAX_INPUT:
        raise UsageError(f"--input {given}: {given.stat().st_size} bytes, the demo takes up to {MAX_INPUT}")
    return given


def _steps_table(told: list[Step]) -> Table:
    table = Table(title="One task", title_justify="left")
    for column, style in (("height", "cyan"), ("step", "bold"), ("transaction", "dim"), ("what happened", "")):
        table.add_column(column, style=style, justify="right" if column == "height" else "left")
    for step in told:
        name = styled((step.name, "green" if step.name.isupper() else ""))
        table.add_row(str(step.height), name, step.tx_id[:16], step.detail)
    return table


def _show(console: Console, ending: Ending, service: str) -> None:
    table = Table(title="The receipt, verified as a stranger would", title_justify="left")
    for column in ("check", "", "of what"):
        table.add_column(column)
    for finding in ending.findings:
        table.add_row(finding.what, styled(("holds", "green") if finding.holds else ("FAILS", "red")), finding.detail)
    console.print(table)
    for coin in ending.before:
        console.print(_sheet(ending, coin))
    score, index = ending.reputation
    console.print(
        f"Reputation in nodo's database: {service} has score {score} from {index} rating (the client gave {MARK})."
    )
    output = ending.output.read_bytes()[:200].decode(errors="replace")
    console.print("Output:", output.strip(), markup=False, highlight=False)


def _sheet(ending: Ending, coin: Coin) -> Table:
    table = Table(title=f"Balances in {coin.name}", title_justify="left")
    for column in ("who", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "who" else "right")
    before, after = ending.before[coin], ending.after[coin]
    for name, change in ending.changes(coin).items():
        who = f"{name} (ran it)" if name == ending.node else name
        table.add_row(who, coin.show(before[name]), coin.show(after[name]), coin.signed(change))
    for who, amount in ending.elsewhere(coin).items():
        table.add_row(who, "", "", coin.signed(amount))
    table.add_row(styled(("sum", "bold")), "", "", styled((coin.signed(ending.total(coin)), "bold")))
    return table
