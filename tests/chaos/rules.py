"""What can happen: one function for each rule, with two small numbers to choose by. True when it did something."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aihd.devnet.chain import RejectedError
from aihd.devnet.faults import Api

from .gateway import TROUBLES
from .history import History
from .people import EXEC_WINDOW
from .world import ERG

Rule = Callable[[History, int, int], Awaitable[bool]]
MOST: Final = 2  # tasks in a sequence
HOLDBACKS: Final = (0, 5_000, 10_000)
PAYMENTS: Final = (ERG // 100, ERG // 20, ERG // 4, ERG)
WRONG: Final[tuple[tuple[Api, str], ...]] = (
    ("explorer", "down"),
    ("explorer", "html-errors"),
    ("explorer", "lag"),
    ("explorer", "frozen-cache"),
    ("explorer", "half-pages"),
    ("explorer", "twice"),
    ("explorer", "unordered"),
    ("explorer", "forged"),
    ("explorer", "spent"),
    ("explorer", "deep"),
    ("explorer", "hides"),
    ("node", "down"),
    ("node", "html-errors"),
    ("node", "too-many-requests"),
    ("node", "lost"),
    ("node", "dropped-submits"),
    ("node", "lag"),
)


async def turn(on: History, a: int, b: int) -> bool:
    """The daemon looks, and acts."""
    await on.turn()
    return True


async def live(on: History, a: int, b: int) -> bool:
    """Some blocks, with a turn before each."""
    for _ in range(1 + a % 5):
        await on.turn()
        on.mine()
    return True


async def mine(on: History, a: int, b: int) -> bool:
    """Blocks that the daemon does not see come."""
    on.mine_unseen(1 + a)
    return True


async def absent(on: History, a: int, b: int) -> bool:
    """The daemon sees nothing for so long that what it has claimed runs out of time."""
    if not any(on.claim_height(job) is not None for job in on.jobs):
        return False
    on.mine_unseen(EXEC_WINDOW + 1 + a)
    return True


async def post(on: History, a: int, b: int) -> bool:
    """A client posts: its input with it, or to be uploaded; now and then a bad one."""
    if len(on.jobs) >= MOST:
        return False
    job = on.world.client.post(
        on.world.service, PAYMENTS[a % 4], inline=b % 2 == 0, bad=b == 8, holdback_bps=HOLDBACKS[(a + b) % 3]
    )
    if job is None:
        return False
    job.lazy = b == 9
    if a < 8:
        on.mine()
    return True


async def deliver(on: History, a: int, b: int) -> bool:
    """A client uploads, if the node takes it; again if it likes."""
    waiting = [job for job in on.jobs if not job.inline]
    return bool(waiting) and await on.deliver(waiting[a % len(waiting)])


async def rate(on: History, a: int, b: int) -> bool:
    """Clients commit to their marks, or open them, and post again what was lost."""
    client = on.world.client
    acted = [client.rate(job) or client.post_again(job) for job in on.jobs]  # everybody, not only the first
    return any(acted)


async def race(on: History, a: int, b: int) -> bool:
    """A rival's claim is in the next block, whatever the mempool holds."""
    for job in on.jobs:
        tx = on.world.rival.claim(job.id)
        if tx is None:
            continue
        try:
            on.world.chain.mine(transactions=[tx])
        except RejectedError:
            continue
        on.disturbed()
        return True
    return False


async def steal(on: History, a: int, b: int) -> bool:
    """A reorg undoes our claim, and a rival has the task on the new branch."""
    for job in on.jobs:
        height = on.claim_height(job)
        if height is not None and (depth := on.world.chain.height - height + 1) <= 10:
            on.reorg(depth, lose=True)
            return await race(on, a, b)
    return False


async def reorg(on: History, a: int, b: int) -> bool:
    """One to ten blocks are replaced; what they held goes back to the mempool, or is lost."""
    on.reorg(1 + a, lose=b % 2 == 1)
    return True


async def drop(on: History, a: int, b: int) -> bool:
    """The mempool loses a transaction, or all of them by a restart of the node."""
    waiting = [entry.view.tx_id for entry in on.world.chain.pool]
    if not waiting:
        return False
    on.disturbed()
    if b >= 7:
        on.world.chain.restart()
    else:
        on.world.chain.drop(waiting[a % len(waiting)])
    return True


async def wrong(on: History, a: int, b: int) -> bool:
    """An explorer or the node begins to fail or lie, and goes on so until it is calm."""
    api, name = WRONG[(a * 10 + b) % len(WRONG)]
    on.switch(api, name)
    return True


async def trouble(on: History, a: int, b: int) -> bool:
    """nodo refuses, is silent, or its services are slow or broken."""
    on.trouble(TROUBLES[a % len(TROUBLES)])
    return True


async def calm(on: History, a: int, b: int) -> bool:
    """All is well again."""
    if on.is_calm and on.world.front.all_well:
        return False
    on.calm()
    return True


async def crash(on: History, a: int, b: int) -> bool:
    """The power goes between two steps."""
    await on.crash()
    return True


async def crash_inside(on: History, a: int, b: int) -> bool:
    """The power goes in the middle of a turn: at a request to the chain, before or after it was served."""
    await on.crash_inside(3 * a + b // 2, after=b % 2 == 1)
    return True


async def restart(on: History, a: int, b: int) -> bool:
    """The daemon is stopped in order and started again."""
    await on.restart()
    return True


async def clock(on: History, a: int, b: int) -> bool:
    """The clocks jump, by up to five days, forth or back."""
    on.clock((a - 5) * 86_400 + (b - 5) * 600)
    return True


async def disk_full(on: History, a: int, b: int) -> bool:
    """Nothing can be written while the daemon has a turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    on.disk_full()
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        await on.turn_alone()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    on.check()
    return True


# Each rule with how often it is drawn.
RULES: Final[Mapping[Rule, int]] = {
    turn: 3,
    live: 8,
    mine: 2,
    absent: 1,
    post: 6,
    deliver: 4,
    rate: 4,
    race: 1,
    steal: 1,
    reorg: 3,
    drop: 2,
    wrong: 3,
    trouble: 2,
    calm: 4,
    crash: 1,
    crash_inside: 2,
    restart: 1,
    clock: 1,
    disk_full: 1,
}
BY_NAME: Final[Mapping[str, Rule]] = {rule.__name__: rule for rule in RULES}
DECK: Final = tuple(rule.__name__ for rule, weight in RULES.items() for _ in range(weight))
