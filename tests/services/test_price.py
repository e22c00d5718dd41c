"""What nodo asks for a run counts: unknown, nothing is taken; known, a task has to pay for it. And a paused node takes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from offchain import ERG, FEE
from onchain import NodeRig, World, market, node_rig, order

from aihd.client.client import Client
from aihd.core.task import State
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.execution.template import Template
from aihd.nodo.gateway import GatewayClient
from aihd.nodo.pricing import Rate
from aihd.protocol import guards
from aihd.protocol.constants import RATING_VALUE
from aihd.services.engine import Offered
from aihd.services.price import Price
from aihd.services.watch import Claim, Watch
from aihd.store.journal import PAUSED

SECONDS = 60.0


class Place:
    def __init__(
        self,
        world: World,
        node: NodeRig,
        client: Client,
        service: bytes,
        gateway: GatewayClient,
        embedded: EmbeddedGateway,
    ) -> None:
        self.world, self.node, self.client, self.service, self.gateway = world, node, client, service, gateway
        self.embedded, self.client_id = embedded, ""

    async def priced(self, rate: Rate | None, min_profit: int = 0) -> NodeRig:
        """The node, its costs counted and asked for; nodo declares a rate of its own only where it takes ERG."""
        rules = replace(self.node.engine.policy, min_profit=min_profit)
        engine = replace(self.node.engine, counts_cost=True, policy=rules)
        price = Price(engine, self.gateway, self.client_id, rate)
        return replace(self.node, engine=engine, services=(price, Watch(engine), Claim(engine)))

    async def post(self, payment: int) -> bytes:
        task_id = await self.client.post(order(self.service, payment=payment), self.world.folder / "input", {})
        self.world.chain.mine()
        return task_id


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(market(tmp_path))
        embedded = await stack.enter_async_context(EmbeddedGateway(tmp_path / "nodo"))
        service = embedded.install(SERVICES / "text_digest")
        template = Template.model_validate({"name": "text-digest", "slot": SLOT, "expected_duration": f"{SECONDS:g} s"})
        offered = {service: Offered("text-digest", SLOT, "/run", template)}
        node = await stack.enter_async_context(node_rig(world, embedded, offered))
        gateway = await stack.enter_async_context(GatewayClient(embedded.address))
        (tmp_path / "input").write_text("one two")
        party = await world.party("client")
        found = Place(world, node, party.client, service, gateway, embedded)
        found.client_id = await gateway.generate_client()
        embedded.credit(found.client_id, PLENTY)
        yield found


@pytest.mark.asyncio
async def test_watch__when__nodo_has_a_price__then__a_task_has_to_pay_for_it_and_fees(place: Place) -> None:
    estimate = await place.gateway.estimated_cost(place.service, client_id=place.client_id)
    assert estimate.of_run(SECONDS) > 0
    rate = await place.gateway.declared_rate(place.client_id)
    cost = rate.nanoerg(estimate.of_run(SECONDS))
    node = await place.priced(rate, min_profit=ERG)
    await node.look()
    for service in node.services:
        await service.step()
    assert node.engine.costs == {place.service: cost}
    needed = ERG + cost + 5 * FEE - RATING_VALUE
    least = next(p for p in range(needed, 2 * needed) if p - guards.treasury_fee(p) >= needed)
    poor, rich = await place.post(least - 1), await place.post(least)
    await node.look()
    for service in node.services:
        await service.step()
    journal = node.engine.journal
    assert journal.find(poor) is None
    assert journal.task(rich).state is State.CLAIMING


@pytest.mark.asyncio
async def test_watch__when__nodo_has_not_said_its_price__then__nothing_is_taken_until_it_has(place: Place) -> None:
    node = await place.priced(None)
    price, watch, _ = node.services
    task_id = await place.post(ERG)
    await node.look()
    await watch.step()
    assert node.engine.journal.find(task_id) is None
    await price.step()
    place.world.chain.mine()
    await node.look()
    await watch.step()
    assert node.engine.journal.task(task_id).state is State.CLAIMING


@pytest.mark.asyncio
async def test_watch__when__paused__then__nothing_is_taken_until_resumed(place: Place) -> None:
    journal = place.node.engine.journal
    journal.remember(PAUSED, "now")
    task_id = await place.post(ERG)
    for _ in range(3):
        await place.node.turn()
        place.world.chain.mine()
    assert journal.find(task_id) is None
    journal.forget(PAUSED)
    await place.node.work(
        lambda: journal.find(task_id) is not None and place.node.task(task_id).state is not State.CLAIMING
    )
    assert [tx.kind for tx in journal.transactions(task_id)] == ["claim"]
