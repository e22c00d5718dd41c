"""`python -m tests.market [tasks] [seed]`: plays the game and prints its table; ends non-zero where something does not add up."""

from __future__ import annotations

import asyncio
import sys

from .table import game, show


async def main(tasks: int = 200, seed: int = 1) -> int:
    async with game(tasks, seed) as played:
        return 1 if show(played) else 0


sys.exit(asyncio.run(main(*map(int, sys.argv[1:]))))
