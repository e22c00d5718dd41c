"""Who should have how much: from the ends of the tasks and the fees of what was mined, and from the boxes on the chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from chaos.people import FEE, Ground, Job
from chaos.world import World

from aihd.core.task import RELEASED, Where
from aihd.protocol import guards
from aihd.protocol.constants import BURN, MIN_BOX, RATING_VALUE, USELESS


@dataclass(frozen=True, slots=True)
class End:
    """How one task ended on the chain: whose it was (None: nobody's) and where it stood; its payment, what was slashed, what waits for
    its rating to be settled, and what was burned (nanoERG)."""

    node: bytes | None
    where: Where
    payment: int
    slashed: int = 0
    held: int = 0
    burned: int = 0

    @property
    def released(self) -> bool:
        return self.where in RELEASED

    @property
    def earned(self) -> int:
        """What it brought its node without the fees. A rating's value is the node's, once it is settled; a failure's was its own before."""
        if self.released:
            left = self.payment - guards.treasury_fee(self.payment) - self.held - self.burned
            return left + (RATING_VALUE if self.where is Where.SETTLED else 0)
        return -RATING_VALUE if self.where is Where.FAILED else 0

    @property
    def back(self) -> int:
        """What came back to its client."""
        locked = guards.escrow_value(self.payment, self.payment, in_token=False)
        if self.where in (Where.FAILED, Where.FAILURE_SETTLED):
            return locked - MIN_BOX
        if self.where is Where.TIMED_OUT:
            return locked + self.slashed - FEE
        return locked - FEE if self.where is Where.LOST else 0  # taken back


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
    rating = life.rating.content if life.rating else None
    share = rating.held if rating is not None else 0
    if where is not Where.SETTLED:
        return End(node, where, payment, slashed, held=share)
    return End(node, where, payment, burned=share if rating is not None and rating.client_mark == USELESS else 0)


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
    burned = Account("burned", balance(ground, BURN), sum(end.burned for end in every))
    rows = [_treasury(world, before, every), _client(world, before, every, fees), burned]
    for place in world.places:
        key = place.signer.public_key
        mine = [end for end in every if end.node == key]
        tree = place.signer.tree
        should = before[tree] + sum(end.earned for end in mine) - fees[key]
        rows.append(Account(place.name, balance(ground, tree), should))
        bond = ground.bond(key)
        should = before[key] - sum(end.slashed for end in mine)
        rows.append(Account(f"{place.name}'s bond", bond.value if bond else 0, should))
    return rows


def _treasury(world: World, before: Mapping[bytes, int], ends: list[End]) -> Account:
    tree = world.treasury.tree
    should = before[tree] + sum(guards.treasury_fee(end.payment) for end in ends if end.released)
    return Account("treasury", balance(world.ground, tree), should)


def _client(world: World, before: Mapping[bytes, int], ends: list[End], fees: Mapping[bytes, int]) -> Account:
    tree = world.client.signer.tree
    should = before[tree] - fees[world.client.signer.public_key]
    should += sum(end.back - guards.escrow_value(end.payment, end.payment, in_token=False) for end in ends)
    return Account("client", balance(world.ground, tree), should)
