"""Plays a game in a folder of its own, and says what came of it."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from chaos.logs import hearing
from chaos.promises import BrokenPromise
from chaos.run import MEMORY
from chaos.world import world

from aihd.core.task import Where
from aihd.protocol.units import format_erg

from .play import NAMES, Game

OVER = {
    Where.SETTLED: "PAID",
    Where.FAILURE_SETTLED: "FAILED with refund",
    Where.TIMED_OUT: "TIMED OUT",
    Where.LOST: "taken back",
}


@asynccontextmanager
async def game(tasks: int, seed: int) -> AsyncIterator[Game]:
    """A game that is over."""
    where = MEMORY if MEMORY.is_dir() else None
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="aihd-market-", dir=where))
        heard = stack.enter_context(hearing())
        made = await stack.enter_async_context(world(Path(folder), NAMES))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        chance = random.Random(seed)
        played = Game(made, session, chance, tasks)
        try:
            await played.play()
        except BrokenPromise:
            print("what the daemons said last:", *heard.lines, sep="\n  ")
            raise
        yield played


def wrong(played: Game) -> list[str]:
    """Everything that should not be."""
    ends = played.ends()
    found = [f"task {key.hex()} is {end.where}" for key, end in ends.items() if end.where not in OVER]
    found += [f"{row.name}: {row.is_ - row.should:+} nanoERG" for row in played.accounts() if row.is_ != row.should]
    if played.difference:
        found.append(f"all boxes together: {played.difference:+} nanoERG")
    return found + played.unexplained()


def show(played: Game) -> list[str]:
    """Print the table; what `wrong` found."""
    ends = played.ends()
    share = played.replaced / played.mined
    print(f"{len(ends)} tasks, {played.mined} blocks mined, {share:.0%} of them replaced; explorer: {dict(played.met)}")
    counts = Counter(OVER.get(end.where, str(end.where)) for end in ends.values())
    print(
        f"{played.vanished} posts went with a reorg for good; on the chain:",
        ", ".join(f"{what} {count}" for what, count in counts.most_common()),
    )
    for seat, name in zip(played.seats, NAMES, strict=True):
        states = Counter(str(state) for state in seat.promises.ended.values())
        print(f"{name}: {dict(states)}, {len(seat.good)} good turns, {seat.daemon.starts} starts")
    for row in played.accounts():
        print(f"{row.name:16} {format_erg(row.is_):>24}  {row.is_ - row.should:+} nanoERG")
    found = wrong(played)
    print("\n".join(found) or "the books add up to the nanoERG")
    return found
