"""The whole task, paid, rated and bridged, on every version of nodo and by every adapter."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from onchain import DEPTH, NodeRig, World, market, node_rig, order
from small_services import SHOUT, SHOUT_IN_CONTAINER, SHOUT_OVER_HTTP, TALK, busybox, engine, service

from aihd.client.party import Party
from aihd.core.task import State
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.docker_executor import DockerExecutor
from aihd.devnet.gateway import EmbeddedGateway
from aihd.execution.adapters import Adapter
from aihd.execution.container import ContainerAdapter
from aihd.execution.engine import asking
from aihd.execution.serial import SerialAdapter, runtime_folders
from aihd.execution.template import Template
from aihd.execution.tunnel import TunnelAdapter
from aihd.nodo.gateway import StillThere
from aihd.nodo.profiles import V24, VFEB, VJUL, VNEW, Profile
from aihd.nodo.reputation import read_scores
from aihd.protocol.trees import address_of
from aihd.services.bridge import Bridge
from aihd.services.engine import Offered

PEER = "9" * 64
MARK, WEIGHT = 4, 8  # the client's mark; what a payment of 1 ERG weighs
MANIFEST = 'name = "x"\nprose = "x"\nentry = "main.py"\nport = 8080\nfiles = ["main.py"]\n'


@dataclass(frozen=True)
class Case:
    """A version of nodo, an adapter's template, and what goes in and comes out."""

    profile: Profile
    output: bytes
    fields: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    config: dict[str, str] = field(default_factory=dict)
    tls: bool = False
    docker: bool = False  # instances are containers of a real engine

    @property
    def adapter(self) -> str:
        return str(self.fields.get("adapter", "http"))


HTTP = {"slot": SLOT}
DIGEST = b'"words":2'
CONTAINER = {"adapter": "container", "input_file": "/data/input", "output_file": "/data/output"}
SERIAL = {"adapter": "serial", "end_marker": "AIH-END", "accept_unclean": True}
CASES = [
    Case(V24, DIGEST, HTTP),
    Case(VFEB, DIGEST, HTTP),
    Case(VJUL, DIGEST, HTTP, tls=True),
    Case(VNEW, DIGEST, HTTP, tls=True),
    Case(VNEW, b"ONE TWO", {"adapter": "tunnel", "slot": SLOT}, SHOUT, tls=True),
    Case(VNEW, b"three four\n", SERIAL, TALK, {"WHAT": "three four"}, tls=True),
    Case(VFEB, b"ONE TWO", CONTAINER, SHOUT_IN_CONTAINER),
    Case(V24, b"ONE TWO", CONTAINER, SHOUT_IN_CONTAINER),
    Case(V24, b"ONE TWO", HTTP, SHOUT_OVER_HTTP, docker=True),
]
# What nodo's tables can hold of it: nothing in 2024, peers since, services since the end of July 2026.
PEERS, SERVICES_TOO = (VFEB, VJUL, VNEW), (VNEW,)


@dataclass
class Place:
    """A market, a nodo of the case's version, a daemon beside it, a client."""

    world: World
    gateway: EmbeddedGateway
    service: bytes
    node: NodeRig
    party: Party

    def state(self, task_id: bytes) -> State | None:
        found = self.node.engine.journal.find(task_id)
        return found.state if found else None

    async def reach(self, task_id: bytes, state: State) -> None:
        await self.node.work(lambda: self.state(task_id) is state)


async def opened(case: Case, folder: Path, stack: AsyncExitStack) -> Place:
    gateway_options, adapter, still_there = executor_of(case, folder, stack)
    world = await stack.enter_async_context(market(folder))
    gateway = await stack.enter_async_context(
        EmbeddedGateway(folder / "nodo", profile=case.profile, tls=case.tls, **gateway_options)
    )
    installed = gateway.install(source_of(case, folder))
    template = Template.model_validate({"hash": installed.hex(), **case.fields})
    offered = {installed: Offered("x", template.slot or 0, template.path, template)}
    node = await stack.enter_async_context(node_rig(world, gateway, offered))
    runtime = node.execute._runtime
    assert await runtime.gateway.profile() == case.profile
    assert (await runtime.gateway.peer_id() is not None) == case.tls
    adapters = {} if case.adapter == "http" else {case.adapter: adapter(node, gateway)}
    node.execute._runtime = replace(runtime, adapters=adapters, still_there=still_there)
    party = await world.party("client")
    with closing(sqlite3.connect(gateway.database, isolation_level=None)) as database:
        database.execute("INSERT INTO peer (id) VALUES (?)", (PEER,))
    bridge = Bridge(node.engine, gateway.database, {address_of(party.signer.tree): PEER})
    node.services = (*node.services[:-1], bridge)
    return Place(world, gateway, installed, node, party)


def executor_of(
    case: Case, folder: Path, stack: AsyncExitStack
) -> tuple[dict[str, Any], Callable[[NodeRig, EmbeddedGateway], Adapter], StillThere | None]:
    """How the gateway runs services, what makes the adapter of the case, and who says whether a container is there."""
    if case.docker or case.adapter == "container":
        url = stack.enter_context(engine())
        base = busybox(folder / "base")
        made = {"executor": lambda _, host, on_death: DockerExecutor(url, host, on_death, base)}
        return made, lambda node, gateway: ContainerAdapter(url), asking(url)
    if case.adapter == "serial":
        return {}, lambda node, gateway: SerialAdapter(runtime_folders(gateway.storage)), None
    return {}, lambda node, gateway: TunnelAdapter(node.execute._runtime.gateway.service_tunnel), None


def source_of(case: Case, folder: Path) -> Path:
    """The folder that the case's service is packed from."""
    if not case.code:
        return SERVICES / "text_digest"
    if case.docker or case.adapter == "container":
        return service(folder, "shout", case.code)
    source = folder / "service"
    source.mkdir()
    (source / "main.py").write_text(case.code)
    (source / "service.toml").write_text(MANIFEST)
    return source


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.profile.name}-{case.adapter}{'-docker' * case.docker}")
async def test_task__when__nodo_is_of_any_version__then__run_paid_verified_rated_and_bridged(
    tmp_path: Path, case: Case
) -> None:
    async with AsyncExitStack() as stack:
        place = await opened(case, tmp_path, stack)
        source, output = tmp_path / "input.txt", tmp_path / "output"
        source.write_bytes(b"one two")
        client = place.party.client
        task_id = await client.post(order(place.service), source, case.config)
        place.world.chain.mine()
        await place.reach(task_id, State.AWAITING_INPUT)
        await client.deliver(task_id)
        await place.reach(task_id, State.COMMITTED)
        await client.fetch(task_id, output)
        assert case.output in output.read_bytes()
        assert [f for f in await client.verify(task_id, output, case.config) if not f.holds] == []
        rated = asyncio.ensure_future(client.rate(task_id, MARK))
        await place.reach(task_id, State.SETTLED)
        await rated
        place.world.chain.mine(DEPTH)
        await place.reach(task_id, State.PAID)
        check_bridged(place, case, task_id)
        assert place.node.engine.health == {}, "and the instance is stopped for sure"


def check_bridged(place: Place, case: Case, task_id: bytes) -> None:
    """nodo's own tables hold what this version has room for."""
    task = place.node.task(task_id)
    assert task.bridged
    database = place.gateway.database
    peers, services = read_scores(database, "peer"), read_scores(database, "service")
    assert task.mark is not None and task.mark != 3
    assert peers == ({PEER: (task.mark - 3) * WEIGHT} if case.profile in PEERS else {})
    assert services == ({place.service.hex(): (MARK - 3) * WEIGHT} if case.profile in SERVICES_TOO else {})
