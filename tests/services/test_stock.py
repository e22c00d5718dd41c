"""What is offered follows nodo's registry and the operator's rules, without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from offchain import ERG
from onchain import NodeRig, World, market, node_rig, order

from aihd.config import Settings, load_settings
from aihd.core.task import State
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import EmbeddedGateway
from aihd.errors import ConfigError, DependencyError
from aihd.nodo.registry import METADATA, REGISTRY, Registry
from aihd.services.engine import Offered
from aihd.services.stock import RELOAD, Stock

DIGEST = {"name": "text-digest", "slot": SLOT, "expected_duration": "2 s"}
COUNT = {"name": "word-count", "slot": SLOT, "expected_duration": "2 s"}


def settings(*services: dict[str, Any], **changes: object) -> Settings:
    chain = {"chain.network": "devnet", "chain.explorer_urls": ["http://127.0.0.1:1"]}
    return load_settings(None, {}, {**chain, "services": list(services), **changes})


@dataclass(frozen=True, slots=True)
class Place:
    world: World
    node: NodeRig
    stock: Stock
    registry: Path
    digest: bytes
    count: bytes

    @property
    def on_offer(self) -> set[bytes]:
        return set(self.node.engine.policy.services)

    async def post(self, service: bytes) -> bytes:
        (self.world.folder / "input").write_text("one two")
        client = (await self.world.party("client")).client
        task_id = await client.post(order(service), self.world.folder / "input", {})
        self.world.chain.mine()
        return task_id


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world, EmbeddedGateway(tmp_path / "nodo") as gateway:
        digest, count = (gateway.install(SERVICES / name) for name in ("text_digest", "word_count"))
        async with node_rig(world, gateway, {digest: Offered("text-digest", SLOT, "/run")}) as node:
            folders = (gateway.storage / REGISTRY, gateway.storage / METADATA)
            stock = Stock(node.engine, settings(DIGEST), Registry(*folders), ("http",))
            rig = replace(node, services=(stock, *node.services))
            yield Place(world, rig, stock, folders[0], digest, count)


@pytest.mark.asyncio
async def test_step__when__nodo_loses_a_service__then__not_offered_until_it_is_back(place: Place) -> None:
    file = place.registry / place.digest.hex()
    await place.stock.step()
    content = file.read_bytes()
    file.unlink()
    for _ in range(2):  # it is told as long as it is so
        with pytest.raises(DependencyError, match="not offered: text-digest names 0 services of nodo's registry"):
            await place.stock.step()
    assert place.on_offer == set()
    assert place.digest in place.node.engine.services, "tasks at work go on"
    file.write_bytes(content)
    await place.stock.step()
    assert place.on_offer == {place.digest}


@pytest.mark.asyncio
async def test_reload__when__a_service_is_added__then__a_task_that_was_declined_is_taken(place: Place) -> None:
    task_id = await place.post(place.count)
    await place.node.turn()
    assert place.node.engine.journal.declines()["service"][0] == 1
    place.stock.reload(lambda: settings(DIGEST, COUNT))
    assert place.on_offer == {place.digest, place.count}
    place.world.chain.mine()
    await place.node.turn()
    assert place.node.task(task_id).state is State.CLAIMING


@pytest.mark.asyncio
async def test_reload__when__the_rules_are_others__then__they_hold_from_now_on(place: Place) -> None:
    place.stock.reload(lambda: settings(DIGEST, **{"policy.min_payment": "2 ERG", "policy.max_open_tasks": 7}))
    rules = place.node.engine.policy
    assert (rules.services[place.digest].min_payment, rules.max_open) == ({None: 2 * ERG}, 7)
    await place.post(place.digest)
    await place.node.turn()
    assert place.node.engine.journal.declines()["price"][0] == 1


@pytest.mark.asyncio
async def test_reload__when__the_configuration_is_wrong__then__all_stays_and_the_status_says_why(place: Place) -> None:
    engine = place.node.engine
    before = engine.policy

    def wrong() -> Settings:
        raise ConfigError("policy.min_payment: 'much' is no amount")

    place.stock.reload(wrong)
    assert engine.policy is before
    assert engine.health[RELOAD] == "the configuration was not taken: policy.min_payment: 'much' is no amount"
    place.stock.reload(lambda: settings(DIGEST))
    assert RELOAD not in engine.health


@pytest.mark.asyncio
async def test_reload__when__a_service_needs_an_adapter_that_was_not_set_up__then__said_and_the_others_are_offered(
    place: Place,
) -> None:
    place.stock.reload(lambda: settings(DIGEST, {"name": "word-count", "adapter": "container"}))
    assert place.on_offer == {place.digest}
    with pytest.raises(DependencyError, match="word-count: adapter 'container' is there after a restart"):
        await place.stock.step()
