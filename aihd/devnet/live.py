"""A devnet in the terminal: height, mempool, balances and faults as they change, until TERM or INT."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from aihd.devnet.control_api import balance
from aihd.devnet.server import Devnet
from aihd.protocol.units import format_erg

REFRESH_SECONDS = 0.25
NEWEST = 5  # blocks and waiting transactions shown


async def show(devnet: Devnet, console: Console, addresses: Sequence[str]) -> None:
    """Shows a running devnet; returns at TERM or INT, and raises what its block loop raised.

    Where the console is no terminal, it prints one line for each new block instead.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    running = asyncio.create_task(devnet.run(), name="devnet-run")
    waiting = asyncio.create_task(ended.wait(), name="devnet-end")
    shown = asyncio.create_task(_keep_showing(devnet, console, addresses), name="devnet-show")
    tasks = {running, waiting, shown}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiting}:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    console.print(f"devnet stopped at height {devnet.chain.height}", highlight=False)


async def _keep_showing(devnet: Devnet, console: Console, addresses: Sequence[str]) -> None:
    if not console.is_terminal:
        await _print_blocks(devnet, console)
        return
    with Live(picture(devnet, addresses), console=console, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            # A terminal may stop reading (Ctrl-S); the chain goes on meanwhile.
            await asyncio.to_thread(live.update, picture(devnet, addresses), refresh=True)


async def _print_blocks(devnet: Devnet, console: Console) -> None:
    console.print(f"Explorer {devnet.explorer_url}, node {devnet.node_url}", highlight=False, soft_wrap=True)
    told = ""
    while True:
        tip = devnet.chain.tip
        if tip.block_id != told:
            told = tip.block_id
            text = f"height {tip.height} {told}, {len(tip.transactions)} transactions, {len(devnet.chain.pool)} waiting"
            console.print(text, highlight=False, soft_wrap=True)
        await asyncio.sleep(REFRESH_SECONDS)


def picture(devnet: Devnet, addresses: Sequence[str]) -> Table:
    """What there is to see of a devnet now."""
    chain = devnet.chain
    table = Table.grid(padding=(0, 2))
    table.add_row("Explorer", devnet.explorer_url)
    table.add_row("node", devnet.node_url)
    table.add_row("height", str(chain.height))
    for block in reversed(chain.blocks[-NEWEST:]):
        table.add_row("", f"{block.height}  {block.block_id[:16]}  {len(block.transactions)} transactions")
    table.add_row("mempool", f"{len(chain.pool)} waiting, weighed by {chain.pool.weighing}")
    for entry in chain.pool.heaviest_first()[:NEWEST]:
        table.add_row("", f"{entry.view.tx_id[:16]}  fee {format_erg(entry.view.fee)}  weight {entry.weight}")
    for address in addresses:
        table.add_row("balance", f"{address[:9]}…{address[-6:]}  {format_erg(balance(chain, address))}")
    faults = ", ".join(f"{name} ({' and '.join(apis)})" for name, apis in devnet.faults.listed().items())
    table.add_row("faults", faults or "none")
    if chain.judge.appkit is not None:
        table.add_row("JVM", f"{chain.judge.disagreements} disagreements")
    return table
