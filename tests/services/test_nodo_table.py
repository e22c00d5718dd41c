"""Each nodo with its own metadata rules, prices, rates, balances and tables: a task is paid, or not claimed for the right reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from fractions import Fraction
from pathlib import Path

import pytest
from offchain import ERG
from onchain import DEPTH
from test_credit import Place, opened
from test_stock import settings

from aihd.core.task import State
from aihd.demo.world import SLOT
from aihd.devnet.gateway import PLENTY
from aihd.devnet.gateway_ages import AGES, Age
from aihd.errors import AihdError
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pricing import Per, Rate
from aihd.nodo.profiles import V24, VFEB, VJUL, VNEW, Profile
from aihd.nodo.registry import METADATA, REGISTRY, Registry
from aihd.services.stock import Stock

DIGEST = {"name": "text-digest", "slot": SLOT, "expected_duration": "10 s"}
MARGINS = {"policy.claim_margin_blocks": 3, "policy.release_margin_blocks": 1, "chain.final_depth": DEPTH}
CHEAP = 11_000_000  # nanoERG: pays for a start, and not for the fees beside it
PROFILES = [V24, VFEB, VJUL, VNEW]


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, ...]]]:
    """Rows, printed when all are there."""
    rows: list[tuple[str, ...]] = [("nodo", "what it is like", "the task")]
    yield rows
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print()
    for row in rows:
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def rate_of(age: Age) -> Rate | None:
    """What the operator or nodo's configuration says, where nodo declares nothing: a start for 0.01 ERG."""
    return Rate(Fraction(age.build + age.deposit, 10_000_000), Per.NANOERG) if age.rate is None else None


class Row:
    """One nodo, one market, and what became of a task under each circumstance."""

    def __init__(self, place: Place, profile: Profile, rows: list[tuple[str, ...]]) -> None:
        self.place, self.profile, self.rows, self.last = place, profile, rows, ""
        engine, storage = place.node.engine, place.gateway.storage
        registry = Registry(storage / REGISTRY, storage / METADATA)
        self.stock = Stock(engine, settings(DIGEST, **MARGINS), registry, ("http",))

    async def turns(self, count: int = 3) -> None:
        """The daemon's services, each as its own loop would have it: a trouble of one keeps no other from its work."""
        node = self.place.node
        await self.place.node.look()
        for _ in range(count):
            self.place.price._due = self.place.price._balance_due = 0.0
            for service in (self.stock, *node.services):
                try:
                    await service.step()
                except AihdError as error:
                    self.last = str(error)
            await node.execute.drained()
            self.place.world.chain.mine()
            await node.look()

    async def declined(self, what: str, code: str, payment: int = ERG) -> None:
        task_id, engine = await self.place.post(payment), self.place.node.engine
        await self.turns()
        assert engine.journal.find(task_id) is None
        # What may be fine later waits, with its reason; what never will be is counted.
        reasons = {**engine.journal.declines(), **engine.waiting}
        assert code in reasons, (reasons, self.last)
        _, sentence = reasons[code]
        self.rows.append((str(self.profile.name), what, f"not claimed, {code}: {sentence}"[:150]))

    async def paid(self, what: str) -> None:
        task_id = await self.place.post()
        await self.turns()
        await self.place.client.deliver(task_id)
        await self.place.node.work(lambda: self.place.node.task(task_id).state is State.COMMITTED)
        self.rows.append((str(self.profile.name), what, "paid"))

    async def with_metadata_of_another(self) -> None:
        """nodo starts no service whose metadata does not name it, whatever its registry holds."""
        file = self.place.gateway.storage / METADATA / self.place.service.hex()
        right = file.read_bytes()
        file.unlink()
        other = pb.Metadata()
        other.hashtag.tag.append("text-digest")
        file.write_bytes(other.SerializeToString())
        await self.turns(1)
        await self.declined("the metadata does not name the service", "service")
        file.unlink()
        file.write_bytes(right)
        await self.turns(1)


@pytest.mark.asyncio
@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: str(profile.name))
async def test_task__when__nodo_is_as_that_version_is__then__paid_or_not_claimed_for_the_right_reason(
    tmp_path: Path, profile: Profile, table: list[tuple[str, ...]]
) -> None:
    age = AGES[profile.name]
    async with AsyncExitStack() as stack:
        place = await opened(stack, tmp_path, profile, rate_of(age))
        row = Row(place, profile, table)
        await row.declined("a new client id has no credit", "credit")
        place.credit(PLENTY)
        await row.turns(1)
        if age.rate is None:
            rate, place.price._rate = place.price._rate, None
            place.node.engine.costs.clear()
            await row.declined("nobody says what its unit costs", "cost")
            place.price._rate = rate
            await row.turns(1)
        await row.with_metadata_of_another()
        await row.declined("the payment is below what a run costs", "profit", CHEAP)
        await row.paid("all is well")
