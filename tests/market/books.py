"""Who should have how much: from the ends of the tasks and the fees of what was mined, and from the boxes on the chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaos.people import FEE, Ground, Job
from chaos.world import World

from aihd.core.task import Where
from aihd.protocol import guards
from aihd.protocol.constants import RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.plans import escrow_value


@dataclass(frozen=True, slots=True)
class End:
    """How one task ended on the chain: whose it was (None: nobody's), where it stood, its payment and what was slashed (nanoERG)."""

    node: bytes | None
    where: Where
    payment: int
    slashed: int = 0
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """A balance in nanoERG, and what it should be."""

    name: str
    is_: int
    should: int


def end_of(ground: Ground, job: Job, payment: int) -> End:
    """The end of a task on the main chain. A task that is not over stands where it stands."""
    life = ground.life(job.id)
    if life.claimed is None:
        spent = ground.chain.ledger.spender(job.id.hex()) is not None
        return End(None, Where.LOST if spent else Where.OPEN, payment)
    node = life.claimed.content.node
    where = life.where(ground.chain.height + 1) or Where.OPEN
    slashed = guards.slash(payment, payment) if where is Where.TIMED_OUT else 0
    return End(node, where, payment, slashed, where is Where.SETTLED)


def balance(ground: Ground, tree: bytes) -> int:
    """nanoERG under a tree on the chain."""
    return sum(box.value for box in ground.spendable(tree))


def total(ground: Ground) -> int:
    """All nanoERG that there are."""
    ledger = ground.chain.ledger
    return sum(box.view.value for box_id, box in ledger.boxes.items() if ledger.spender(box_id) is None)


def accounts(
    world: World, before: Mapping[bytes, int], ends: Iterable[End], fees: Mapping[bytes, int]
) -> list[Account]:
    """Every wallet, every bond and the treasury. `before` are balances by tree, and of bonds by node key.

    `fees` is what each key paid to miners."""
    ground, every = world.ground, list(ends)
    rows = [_treasury(world, before, every), _client(world, before, every, fees)]
    for place in world.places:
        key = place.signer.public_key
        mine = [end for end in every if end.node == key]
        earned = sum(end.payment - guards.treasury_fee(end.payment) for end in mine if _released(end))
        earned += sum(RATING_VALUE for end in mine if end.settled)
        tree = place.signer.tree
        should = before[tree] + earned - fees[key]
        rows.append(Account(place.name, balance(ground, tree), should))
        bond = ground.bond(key)
        should = before[key] - sum(end.slashed for end in mine)
        rows.append(Account(f"{place.name}'s bond", bond.value if bond else 0, should))
    return rows


def _released(end: End) -> bool:
    return end.where in (Where.RELEASED, Where.COMMITTED, Where.REVEALED, Where.RATED, Where.SETTLED)


def _treasury(world: World, before: Mapping[bytes, int], ends: list[End]) -> Account:
    tree = world.treasury.tree
    should = before[tree] + sum(guards.treasury_fee(end.payment) for end in ends if _released(end))
    return Account("treasury", balance(world.ground, tree), should)


def _client(world: World, before: Mapping[bytes, int], ends: list[End], fees: Mapping[bytes, int]) -> Account:
    tree = world.client.signer.tree
    should = before[tree] - fees[world.client.signer.public_key]
    for end in ends:
        should -= escrow_value(end.payment)
        if end.where is Where.FAILED:
            should += escrow_value(end.payment) - RECEIPT_VALUE
        elif end.where is Where.TIMED_OUT:
            should += escrow_value(end.payment) + end.slashed - FEE
        elif end.where is Where.LOST:  # taken back
            should += escrow_value(end.payment) - FEE
    return Account("client", balance(world.ground, tree), should)
