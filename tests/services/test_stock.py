"""What is offered follows nodo's registry and the operator's rules, without a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from made import ASSET
from offchain import ERG
from onchain import NodeRig, World, market, node_rig, order

from aihd.client.client import Client
from aihd.config import Settings, load_settings
from aihd.core.assets import Asset
from aihd.core.task import State
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import EmbeddedGateway
from aihd.errors import ConfigError, DependencyError
from aihd.nodo.registry import METADATA, REGISTRY, Registry
from aihd.services.engine import Offered
from aihd.services.stock import RELOAD, Stock, goods_of

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
    clients: list[Client] = field(default_factory=list)

    @property
    def on_offer(self) -> set[bytes]:
        return set(self.node.engine.policy.services)

    async def post(self, service: bytes, **terms: object) -> bytes:
        (self.world.folder / "input").write_text("one two")
        if not self.clients:
            self.clients.append((await self.world.party("client")).client)
        (client,) = self.clients
        task_id = await client.post(order(service, **terms), self.world.folder / "input", {})
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


# ---------------------------------------------------------------- assets, holdback, the market's end

GOLD = {"name": "Gold", "id": ASSET.hex(), "decimals": 2, "max_worth": "2 ERG"}


@pytest.mark.asyncio
async def test_reload__when__tokens_are_taken__then__prices_by_asset_and_a_service_has_its_own(place: Place) -> None:
    own = {**COUNT, "min_payment": ["7 Gold"]}
    prices = {"policy.min_payment": ["0.05 ERG", "0.1 Gold"]}
    place.stock.reload(lambda: settings(DIGEST, own, assets=[GOLD], **prices))
    rules = place.node.engine.policy
    assert rules.services[place.digest].min_payment == {None: 50_000_000, ASSET: 10}
    assert rules.services[place.count].min_payment == {ASSET: 700}  # in ERG it is not sold
    assert rules.assets == {ASSET: Asset(name="Gold", decimals=2, max_worth=2 * ERG)}
    await place.post(place.count)
    await place.node.turn()
    assert place.node.engine.journal.declines()["price"] == (1, "this service is not sold for ERG")
    place.stock.reload(lambda: settings(DIGEST))
    assert place.node.engine.policy.assets == {}


@pytest.mark.asyncio
async def test_reload__when__holdback_is_bounded__then__by_standing_and_a_task_that_asks_more_is_passed_over(
    place: Place,
) -> None:
    bounds = {"policy.max_holdback": 50, "policy.max_holdback_of_strangers": 20, "policy.stranger_below": 0.5}
    place.stock.reload(lambda: settings(DIGEST, **bounds))
    assert place.node.engine.policy.holdback == ((-(10**9), 2_000), (5 * 10**8, 5_000))
    allowed = await place.post(place.digest, holdback_bps=2_000)
    await place.post(place.digest, holdback_bps=2_001)
    await place.node.turn()
    assert place.node.task(allowed).state is State.CLAIMING
    assert len(place.node.engine.journal.tasks()) == 1
    said = "it holds back 20.01 % until the client's mark, policy.max_holdback allows this client 20 %"
    assert place.node.engine.waiting["holdback"] == (1, said)  # his standing is not read yet


@pytest.mark.asyncio
async def test_reload__when__the_market_ends__then__its_height_stays_in_the_rules(place: Place) -> None:
    expiry = place.world.deployment.expiry
    place.stock.reload(lambda: settings(DIGEST, **{"policy.max_open_tasks": 7}))
    assert place.node.engine.policy.expiry == expiry > 900_000
    place.node.engine.policy = replace(place.node.engine.policy, expiry=place.world.chain.height + 30)
    await place.post(place.digest)
    await place.node.turn()
    code, (count, sentence) = next(iter(place.node.engine.journal.declines().items()))
    assert (code, count) == ("expiry", 1)
    assert f"the market ends at {place.node.engine.policy.expiry}" in sentence


@pytest.mark.asyncio
async def test_goods__when__a_template_asks_a_price_in_an_unknown_unit__then__refused_by_its_name(
    place: Place, tmp_path: Path
) -> None:
    template = tmp_path / "word-count.toml"
    template.write_text('name = "word-count"\nslot = 8080\nmin_payment = ["1 Silver"]\n')
    local = Registry(place.registry, place.registry.with_name(METADATA)).services()
    with pytest.raises(ConfigError, match="min_payment of word-count: 1 Silver is in a unit that no table"):
        goods_of(settings(DIGEST, **{"nodo.templates": [str(template)]}), local, ("http",), expiry=10**6)
