"""Two plays in which a client tries to make its node miss a deadline by spending what the release depends on.

In each block the node and the client take turns, and the client has the last word: whatever the node has in the mempool, the client sees
it, outbids it, or invalidates what it is chained on. Its fees have no limit, the node's do. The node is awake: in every turn it looks
whether its release is mined or waits, and else builds it anew on the newest bond there is, pending ones too, with twice the fee where it is
outbid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from contracts.chain import CLIENT, NODE

from aihd.devnet.chain import RejectedError
from aihd.protocol import plans
from aihd.protocol.boxes import ClaimedTask, FailureReceipt, On, Rating, TaskEscrow
from aihd.protocol.constants import MAX_MINER_FEE, SETTLE_GRACE
from aihd.protocol.funding import Funds, Plan

from .ground import ERG, FEE, Ground
from .rules import Rules

WINDOW: Final = 20  # blocks that the node has: the shortest that a policy takes
PRIZE: Final = 9 * ERG + ERG // 2
SMALL: Final = ERG // 100
TURNS: Final = 3  # of each in a block
NODES_LIMIT: Final = 50 * FEE
NO_LIMIT: Final = 15 * ERG


@dataclass(frozen=True, slots=True)
class Ending:
    """`released` by the node within its deadline (or failed, where it was to fail), else timed out; `stake` is what its bond has left."""

    released: bool
    stake: int
    attempts: int


@dataclass
class Node:
    """An awake node with one task to deliver.

    `fails`: it admits a failure instead. `claims_first`: it takes new tasks before it delivers, as one does that has no reason to expect
    anything.
    """

    ground: Ground
    claimed: On[ClaimedTask]
    fails: bool = False
    claims_first: bool = True
    escrows: list[On[TaskEscrow]] = field(default_factory=list)
    pending: set[str] = field(default_factory=set)
    attempts: int = 0

    def act(self) -> None:
        steps = (self._claim, self._deliver) if self.claims_first else (self._deliver, self._claim)
        for step in steps:
            step()

    def _claim(self) -> None:
        """The next escrow that can be had, one at a time."""
        pool = self.ground.chain.pool
        if any(tx_id in pool for tx_id in self.pending):
            return
        while self.escrows:
            task = self.escrows.pop()
            try:
                claimed = self.ground.claim(task)
            except RejectedError:
                continue  # cancelled meanwhile
            self.pending.add(claimed.transaction_id)
            return

    def _deliver(self) -> None:
        ground = self.ground
        if ground.chain.pool.spender(self.claimed.id) or ground.spender(self.claimed):
            return
        self.attempts += 1
        ground.outbid(NODE, self._failure() if self.fails else self._release(), NODES_LIMIT)

    def _release(self) -> Callable[[Funds], Plan]:
        ground = self.ground
        release = partial(ground.rules.release, ground.market, self.claimed, ground.bond())
        if ground.rules.release_spends_the_bond:
            return release
        # It may raise the fee as far as the task pays for it, and never needs to.
        return lambda funds: release(Funds((), funds.change, min(funds.fee, MAX_MINER_FEE)))

    def _failure(self) -> Callable[[Funds], Plan]:
        ground, task_id = self.ground, plans.task_id_of(self.claimed)
        failure = FailureReceipt(task_id, NODE.pk, 2, b"e" * 32, ground.market.height, b"s" * 56)
        return partial(plans.fail, ground.market, self.claimed, failure)


def marks_kept_back(rules: Rules, seed: int, *, fails: bool = False) -> Ending:
    """A client with 20 ratings, whose last step it can take when it likes, takes one per block, each time with a settlement."""
    ground = Ground(rules, seed)
    ratings = _prepared(ground, WINDOW)
    if not rules.release_spends_the_bond:
        # Here nobody but the node settles before the grace is over, so the client waits that long; the node is in no hurry.
        last = max(rating.content.reveal_deadline for rating in ratings)
        ground.chain.mine(last + SETTLE_GRACE - ground.chain.height)
    node = Node(ground, _claimed(ground), fails)

    def attack(turn: int) -> None:
        """Settle one more rating on the confirmed bond in the last turn; whatever waits on that bond is outbid."""
        if turn < TURNS - 1 or not ratings:
            return
        rating = ratings.pop()
        if rules.release_spends_the_bond:
            rating = ground.reveal(rating, CLIENT, 5)
        settle = partial(rules.settle, ground.market, rating, ground.bond(confirmed=True))
        assert ground.outbid(CLIENT, settle, NO_LIMIT)

    return _until_over(ground, node, attack)


def cancelled_escrows(rules: Rules, seed: int, *, fails: bool = False, claims_first: bool = True) -> Ending:
    """A client posts escrows that the node claims, and cancels each while its claim waits; with the claim goes what is chained on it."""
    ground = Ground(rules, seed)
    posted = [ground.post(SMALL, 200) for _ in range(TURNS)]
    node = Node(ground, _claimed(ground), fails, claims_first, list(posted))

    def attack(turn: int) -> None:
        chain = ground.chain
        for task in posted:
            if chain.pool.spender(task.id) and chain.ledger.utxo(task.id):
                ground.outbid(CLIENT, partial(plans.cancel, ground.market, task), NO_LIMIT)
        if turn == 0:
            posted[:] = [ground.post(SMALL, 200) for _ in range(TURNS)]
        if turn == TURNS - 1:
            node.escrows = list(posted)

    return _until_over(ground, node, attack)


def _prepared(ground: Ground, count: int) -> list[On[Rating]]:
    """Ratings of small tasks that wait for the client's mark: both sides committed, the node has revealed."""
    rules, chain = ground.rules, ground.chain
    tasks = [ground.post(SMALL, 100) for _ in range(count)]
    chain.mine()
    claimed = [ground.claim(task) for task in tasks]
    chain.mine()
    ratings = []
    for each in claimed:
        made = ground.send(NODE, partial(rules.release, ground.market, each, ground.bond()))
        ratings.append(ground.rated(made[rules.rating_at], SMALL))
    chain.mine()
    ratings = [ground.commit(ground.commit(rating, CLIENT, 5), NODE, 4) for rating in ratings]
    chain.mine()
    ratings = [ground.reveal(rating, NODE, 4) for rating in ratings]
    chain.mine()
    return ratings


def _claimed(ground: Ground) -> On[ClaimedTask]:
    """The task that all is about, claimed and in a block; some of its time goes by with the work."""
    task = ground.post(PRIZE, WINDOW)
    ground.chain.mine()
    claimed = ground.claim(task)
    ground.chain.mine(1 + ground.random.randint(0, 3))
    return claimed


def _until_over(ground: Ground, node: Node, attack: Callable[[int], None]) -> Ending:
    """Turns and blocks until the claimed box is spent; after its deadline the client times it out."""
    chain, claimed = ground.chain, node.claimed
    deadline = claimed.content.exec_deadline
    while ground.spender(claimed) is None:
        if ground.market.height > deadline:
            ground.outbid(CLIENT, partial(plans.timeout, ground.market, claimed, ground.bond()), MAX_MINER_FEE)
            chain.mine()
            return Ending(False, ground.bond().content.amount, node.attempts)
        for turn in range(TURNS):
            node.act()
            attack(turn)
        chain.mine()
    return Ending(chain.height <= deadline, ground.bond().content.amount, node.attempts)
