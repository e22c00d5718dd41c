"""Nodes that claim, publish the hash of rubbish and are gone: what it brings them, and for how long.

A fresh name takes a task an hour from whoever lets anybody claim, as the default for such a task allows: from every bond whose own counter
is not below zero. It draws each rating out as long as the guards let it, so that the first mark of 1 reaches the counter late, and opens
the next name when it has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from statistics import fmean
from typing import Final

from aihd.protocol.constants import (
    BOND_MULTIPLIER,
    RATING_VALUE,
    RECEIPT_VALUE,
    SETTLE_GRACE,
    USELESS,
    WINDOW_MAX,
)
from aihd.protocol.guards import held_share, treasury_fee, weight
from aihd.protocol.units import NANO_PER_ERG
from benchmarks.reputation_sim.market import BLOCKS, SILENT, Attack, Maker, Node, asset_of
from benchmarks.reputation_sim.price import MINER_FEE

STAKE: Final = NANO_PER_ERG
EVERY: Final = 30  # blocks from one task to the next: an hour
SILENCE_KNOWN: Final = (
    WINDOW_MAX + 1
)  # blocks after its release at which the node settles what no client has committed to
DRAWN_OUT: Final = 2 * WINDOW_MAX + SETTLE_GRACE + 1  # and at which anybody settles what a client has marked
SENTENCE: Final = (USELESS - 3) * 1  # what such a mark adds to the counter, times the weight


@dataclass(slots=True)
class Career:
    """One name from its first claim until nobody gives it work; amounts in nanoERG, `blocks` from the first claim to the end."""

    payments: list[int] = field(default_factory=list)
    earned: int = -2 * MINER_FEE  # the bond is opened and withdrawn
    blocks: int = 0


def garbage(holdback: int) -> Attack:
    """Each colluder is a fresh name that delivers rubbish; customers hold back that share, in basis points."""

    def attack(maker: Maker, liars: list[Node]) -> None:
        for node in liars:
            play(maker, node, holdback)

    return attack


def careers(holdback: int, nodes: int, seed: int) -> list[Career]:
    """Returns how the fresh names of one market fared."""
    played: list[Career] = []
    Maker(seed, nodes).make(lambda maker, liars: played.extend(play(maker, node, holdback) for node in liars))
    return played


def play(maker: Maker, node: Node, holdback: int) -> Career:
    """One name's life in a market, with its records."""
    career, customers = Career(), [client for client in maker.clients if asset_of(client) is None]
    start = height = round(maker.time(0, 0.95) * BLOCKS)
    counter = committed = 0
    settling: list[tuple[int, int, int]] = []  # height, worth, what it adds to the counter
    while True:
        while settling and settling[0][0] <= height:
            _, worth, points = heappop(settling)
            committed, counter = committed - worth, counter + points
        if counter < 0:
            career.blocks = height - start
            return career
        payment = maker.value()
        if committed + payment <= STAKE * BOND_MULTIPLIER:
            mark = 0 if maker.chance.random() < SILENT else USELESS
            settled = height + 1 + (DRAWN_OUT if mark else SILENCE_KNOWN)
            maker.record(
                maker.chance.choice(customers), node.key, payment, settled / BLOCKS, (mark, 0), holdback=holdback
            )
            career.payments.append(payment)
            career.earned += takings(payment, holdback, burned=mark == USELESS)
            committed += payment
            heappush(settling, (settled, payment, SENTENCE * weight(payment) if mark else 0))
        height += EVERY


def takings(payment: int, holdback: int, *, burned: bool) -> int:
    """Returns the nanoERG that a task leaves to a node that does nothing for it.

    It pays the claim, gets its part at the release, and collects the boxes that pay for settling and for keeping the receipt.
    """
    held = held_share(payment, payment, holdback, in_token=False)
    released = payment - treasury_fee(payment) - held - MINER_FEE
    boxes = RECEIPT_VALUE - MINER_FEE + RATING_VALUE - MINER_FEE
    return released + boxes - MINER_FEE + (0 if burned else held)


def loss(payment: int) -> int:
    """Returns the nanoERG that the task cost its client: the escrow, and the fees for post, commit and reveal."""
    return payment + RECEIPT_VALUE + RATING_VALUE + 3 * MINER_FEE


def mean_of(played: list[Career]) -> tuple[float, float, float, float, float]:
    """Returns tasks and blocks of a name; payment and earnings of a task, and the share that these are of it."""
    tasks = sum(len(career.payments) for career in played)
    paid, earned = sum(sum(career.payments) for career in played), sum(career.earned for career in played)
    return tasks / len(played), fmean(career.blocks for career in played), paid / tasks, earned / tasks, earned / paid
