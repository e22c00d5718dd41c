"""Our credit at nodo: nothing is claimed without it, a start refused for want of it fails no task, and the status names the cure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
import pytest_asyncio
from offchain import ERG
from onchain import NodeRig, World, market, node_rig, order
from prometheus_client import CollectorRegistry, generate_latest

from aihd.core.task import State
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.gateway_ages import AGES
from aihd.execution.template import Template
from aihd.nodo.pricing import Per, Rate
from aihd.nodo.profiles import NEWEST_FIRST, V24, VNEW, Profile
from aihd.ops.metrics import StatusCollector
from aihd.services.engine import Offered
from aihd.services.execute import Execute
from aihd.services.price import CREDIT, Price
from aihd.services.report import Report
from aihd.services.watch import Claim, Watch

BY_NAME = {profile.name: profile for profile in NEWEST_FIRST}


@dataclass
class Place:
    """A market and a bonded node whose client id has nothing at nodo, beside a price that is asked at every step."""

    world: World
    gateway: EmbeddedGateway
    node: NodeRig
    service: bytes
    client_id: str

    async def post(self, payment: int = ERG) -> bytes:
        path = self.world.folder / "input"
        path.write_text("one two")
        party = await self.world.party("client")
        self.client = party.client
        task_id = await party.client.post(order(self.service, payment=payment), path, {})
        self.world.chain.mine()
        return task_id

    @property
    def price(self) -> Price:
        (found,) = [service for service in self.node.services if isinstance(service, Price)]
        return found

    async def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.price._due = self.price._balance_due = 0.0
            await self.node.turn()
            await self.node.execute.drained()
            self.world.chain.mine()

    def credit(self, amount: int) -> None:
        self.gateway.credit(self.client_id, amount)


async def opened(stack: AsyncExitStack, folder: Path, profile: Profile, rate: Rate | None) -> Place:
    world = await stack.enter_async_context(market(folder))
    gateway = await stack.enter_async_context(EmbeddedGateway(folder / "nodo", profile=profile))
    service = gateway.install(SERVICES / "text_digest")
    template = Template.model_validate({"name": "text-digest", "slot": SLOT, "expected_duration": "10 s"})
    node = await stack.enter_async_context(
        node_rig(world, gateway, {service: Offered("text-digest", SLOT, "/run", template)})
    )
    runtime = node.execute._runtime
    gateway.credit(runtime.client_id, -PLENTY)
    engine = node.engine
    engine.counts_cost = True
    node.execute._runtime = replace(runtime, retry_after=0.0)
    price = Price(engine, runtime.gateway, runtime.client_id, rate)
    node.services = (price, *node.services)
    return Place(world, gateway, node, service, runtime.client_id)


@pytest_asyncio.fixture
async def place(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    profile = getattr(request, "param", VNEW)
    rate = Rate(Fraction(10**18), Per.ERG) if profile.unit == "gas" else None
    async with AsyncExitStack() as stack:
        yield await opened(stack, tmp_path, profile, rate)


@pytest.mark.asyncio
@pytest.mark.parametrize("place", NEWEST_FIRST, indirect=True, ids=lambda profile: str(profile.name))
async def test_watch__when__nodo_gives_a_new_client_nothing__then__nothing_is_claimed_until_the_named_command_was_given(
    place: Place,
) -> None:
    task_id, journal = await place.post(), place.node.engine.journal
    await place.turns()
    assert journal.find(task_id) is None
    (waits,) = place.node.engine.waiting.items()
    assert waits[0] == "credit" and waits[1][0] == 1
    sentence = place.node.engine.health[CREDIT]
    profile = await place.node.execute._runtime.gateway.profile()
    assert sentence.startswith("nodo does not trust our client id (it has 0 ")
    if profile.unit == "MU":
        start = AGES[profile.name].build + AGES[profile.name].deposit
        assert f"`nodo credit_client {place.client_id} {100 * start}`" in sentence
    else:
        assert "ALLOW_GAS_DEBT" in sentence
    report = Report(place.node.engine, place.node.reconcile)
    await report._refresh()
    document = report.document()
    assert document["verdict"] == "Not earning"
    assert all(part in document["sentence"] for part in sentence.split("; ", 1)), "what is so, and the command"
    assert document["nodo"] == {"balance": 0, "unit": profile.unit, "runs": 0}
    registry = CollectorRegistry()
    registry.register(StatusCollector(report.document))
    assert b"aihd_nodo_runs 0.0" in generate_latest(registry)
    place.credit(PLENTY)
    await place.turns()
    assert CREDIT not in place.node.engine.health
    assert journal.find(task_id) is not None
    await place.client.deliver(task_id)
    await place.node.work(lambda: place.node.task(task_id).state is State.COMMITTED)


@pytest.mark.asyncio
@pytest.mark.parametrize("place", [VNEW, V24], indirect=True, ids=lambda profile: str(profile.name))
async def test_start__when__the_credit_goes_after_the_claim__then__the_task_waits_and_is_run_once_it_is_back(
    place: Place,
) -> None:
    place.credit(PLENTY)
    task_id = await place.post()
    await place.node.work(lambda: place.node.engine.journal.find(task_id) is not None)
    await place.node.work(lambda: place.node.task(task_id).state is State.AWAITING_INPUT)
    place.credit(-PLENTY)
    await place.client.deliver(task_id)
    for _ in range(4):
        await place.node.turn()
        await place.node.execute.drained()
    task = place.node.task(task_id)
    assert task.state is State.READY, "no failure receipt is on its way"
    assert "does not trust our client id" in task.note
    other = await place.post()
    await place.node.turn()
    assert place.node.engine.journal.find(other) is None, "and no other task is claimed"
    place.credit(PLENTY)
    await place.node.work(lambda: place.node.task(task_id).state is State.COMMITTED)


@pytest.mark.asyncio
async def test_price__when__of_2024_and_no_rate_is_known__then__no_silent_default_but_a_reason_that_is_counted_and_shown(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        place = await opened(stack, tmp_path, V24, None)
        place.credit(PLENTY)
        task_id, engine = await place.post(), place.node.engine
        steps = [service for service in place.node.services if isinstance(service, Watch | Claim | Execute)]
        for _ in range(2):
            with pytest.raises(Exception, match=r"what gas of nodo costs in ERG is not known .* set nodo\.folder"):
                place.price._due = 0.0
                await place.price.step()
            await place.node.look()
            for service in steps:
                await service.step()
            place.world.chain.mine()
        assert engine.journal.find(task_id) is None
        assert engine.waiting["cost"][0] == 1


@pytest.mark.asyncio
async def test_price__when__the_build_is_dearer_than_the_payment__then__declined_with_both_amounts_and_taken_once_built(
    place: Place,
) -> None:
    place.credit(PLENTY)
    payment = 12_000_000
    task_id, journal = await place.post(payment), place.node.engine.journal
    await place.turns()
    assert journal.find(task_id) is None
    count, sentence = place.node.engine.waiting["profit"]
    age = AGES["VNEW"]
    assert count == 1 and f"{age.build + age.deposit + age.upkeep} for the run" in sentence
    started = await place.node.execute._runtime.gateway.start_service(
        place.service, client_id=place.client_id, environment={}, timeout=10
    )
    await place.node.execute._runtime.gateway.stop_service_confirmed(started.token)
    await place.turns()
    assert journal.find(task_id) is not None
