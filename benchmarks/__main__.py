"""Run every benchmark and print a table."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.content import content_store
from benchmarks.devnet import devnet_start_and_page
from benchmarks.follower import poll
from benchmarks.instances import instances
from benchmarks.journal import journal_commit
from benchmarks.reputation import reputation
from benchmarks.signing import signing


async def main() -> None:
    table = Table("what", "ours", "floor", "ratio", "the floor is")
    with tempfile.TemporaryDirectory(prefix="aihd-bench-") as folder:
        devnet = await devnet_start_and_page(Path(folder))
        polls = await poll(Path(folder))
        content = await content_store(Path(folder))
        Path(folder, "instances").mkdir()
        lag = await instances(Path(folder) / "instances")
        for result in (content, lag, journal_commit(Path(folder)), signing(), *devnet, *polls, *reputation()):
            table.add_row(*result.row())
    Console(width=140).print(table)


asyncio.run(main())
