"""The whole task, paid, by every adapter; and what ends otherwise gives the money back with the kind of its failure on the chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from onchain import NodeRig, World, market, node_rig, order
from small_services import SHOUT, SHOUT_IN_CONTAINER, TALK, busybox, engine, service

from aihd.client.party import Party
from aihd.core.task import State
from aihd.devnet.docker_executor import DockerExecutor
from aihd.devnet.gateway import EmbeddedGateway
from aihd.execution.adapters import Adapter
from aihd.execution.container import ContainerAdapter
from aihd.execution.failures import Failure
from aihd.execution.serial import WARNING, SerialAdapter, runtime_folders
from aihd.execution.template import Template
from aihd.execution.tunnel import TunnelAdapter
from aihd.services.engine import Offered

Make = Callable[[NodeRig, EmbeddedGateway], Adapter]


class Stage:
    """A market with one node that runs one service."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder, self.stack = folder, stack

    async def open(self, source: Path, make: Make, fields: dict[str, Any], **gateway: Any) -> None:
        self.world: World = await self.stack.enter_async_context(market(self.folder))
        self.gateway = await self.stack.enter_async_context(EmbeddedGateway(self.folder / "nodo", **gateway))
        self.service = self.gateway.install(source)
        template = Template.model_validate({"hash": self.service.hex(), **fields})
        offered = {self.service: Offered("x", template.slot or 0, template.path, template)}
        self.node: NodeRig = await self.stack.enter_async_context(node_rig(self.world, self.gateway, offered))
        runtime = self.node.execute._runtime
        self.node.execute._runtime = replace(runtime, adapters={template.adapter: make(self.node, self.gateway)})
        self.party: Party = await self.world.party("client")

    async def task(self, data: bytes, config: dict[str, str], *ends: State) -> bytes:
        path = self.folder / "input"
        path.write_bytes(data)
        posted = await self.party.client.post(order(self.service), path, config)
        self.world.chain.mine(1)
        await self.node.work(lambda: self.state(posted) is State.AWAITING_INPUT)
        await self.party.client.deliver(posted)
        await self.node.work(lambda: self.state(posted) in ends)
        return posted

    def state(self, task_id: bytes) -> State | None:
        found = self.node.engine.journal.find(task_id)
        return found.state if found else None

    async def output(self, task_id: bytes) -> bytes:
        target = self.folder / "output"
        await self.party.client.fetch(task_id, target)
        return target.read_bytes()


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        yield Stage(tmp_path, stack)


def packed(folder: Path, code: str) -> Path:
    (folder / "service").mkdir()
    (folder / "service" / "main.py").write_text(code)
    manifest = 'name = "x"\nprose = "x"\nentry = "main.py"\nport = 8080\nfiles = ["main.py"]\n'
    (folder / "service" / "service.toml").write_text(manifest)
    return folder / "service"


PAID = (State.RELEASED, State.COMMITTED)


@pytest.mark.asyncio
async def test_task__when__run_by_tunnel__then__paid_and_the_output_is_what_came_back(stage: Stage) -> None:
    def make(node: NodeRig, gateway: EmbeddedGateway) -> Adapter:
        return TunnelAdapter(node.execute._runtime.gateway.service_tunnel)

    await stage.open(packed(stage.folder, SHOUT), make, {"adapter": "tunnel", "slot": 8080})
    task_id = await stage.task(b"by tunnel", {}, *PAID)
    assert await stage.output(task_id) == b"BY TUNNEL"
    assert stage.gateway.executor.pid(stage.node.task(task_id).instance or "") is None


@pytest.mark.asyncio
async def test_task__when__run_by_serial__then__paid_and_whoever_asks_is_warned(stage: Stage) -> None:
    def make(node: NodeRig, gateway: EmbeddedGateway) -> Adapter:
        return SerialAdapter(runtime_folders(gateway.storage))

    fields = {"adapter": "serial", "end_marker": "AIH-END", "accept_unclean": True}
    await stage.open(packed(stage.folder, TALK), make, fields)
    task_id = await stage.task(b"", {"WHAT": "the result"}, *PAID)
    assert b"the result\n" in await stage.output(task_id)
    assert stage.node.task(task_id).note == WARNING


@pytest.mark.asyncio
async def test_task__when__run_in_a_container__then__paid_or_given_back_with_the_exit_code(stage: Stage) -> None:
    url = stage.stack.enter_context(engine())
    base = busybox(stage.folder / "base")
    fields = {"adapter": "container", "input_file": "/data/input", "output_file": "/data/output"}
    script = '[ -n "$FAIL" ] && exit 137\n' + SHOUT_IN_CONTAINER
    await stage.open(
        service(stage.folder, "shout", script),
        lambda node, gateway: ContainerAdapter(url),
        fields,
        executor=lambda _, host, on_death: DockerExecutor(url, host, on_death, base),
    )
    task_id = await stage.task(b"in a container", {}, *PAID)
    assert await stage.output(task_id) == b"IN A CONTAINER"
    stage.world.chain.mine(4)
    failed = await stage.task(b"x", {"FAIL": "1"}, State.REFUNDED)
    failure = (await stage.party.view.life(failed)).failure
    assert failure is not None
    assert failure.content.failure_type == Failure.OUT_OF_MEMORY
    assert "exit code 137" in stage.node.task(failed).note
