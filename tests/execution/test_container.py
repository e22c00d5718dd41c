"""Containers of a real engine: the executor that starts them, and the adapter that takes their output."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import docker
import pytest
import pytest_asyncio
from small_services import SHOUT_IN_CONTAINER, busybox, engine, service

from aihd.devnet.docker_executor import LABEL, DockerExecutor
from aihd.devnet.packing import pack
from aihd.errors import DependencyError, UsageError
from aihd.execution.adapters import HttpAdapter, Job
from aihd.execution.container import ContainerAdapter
from aihd.execution.errors import BadAnswer, Crashed, ExecutionError, OutOfMemory, TooLarge, TooSlow
from aihd.execution.inputs import StoredInput
from aihd.execution.template import Template
from aihd.nodo.gateway import Endpoint


@pytest.fixture(scope="module")
def docker_url() -> Iterator[str]:
    with engine() as url:
        yield url


@dataclass
class Sink:
    data: bytearray = field(default_factory=bytearray)

    def write(self, chunk: bytes) -> None:
        self.data += chunk


@dataclass
class Rig:
    url: str
    folder: Path
    executor: DockerExecutor
    dead: list[str]

    async def start(self, script: str, name: str = "service", **environment: str) -> tuple[str, dict[int, int]]:
        token = secrets.token_hex(32)
        packed, _ = pack(service(self.folder / secrets.token_hex(4), name, script))
        return token, await self.executor.start(token, packed, environment)

    async def run(
        self,
        script: str,
        data: bytes = b"",
        template: dict[str, str] | None = None,
        timeout: float = 20,
        limit: int = 1 << 20,
    ) -> bytes:
        token, _ = await self.start(script)
        path, sink = self.folder / "input", Sink()
        path.write_bytes(data)
        made = Template.model_validate({"name": "x", "adapter": "container", "connect_for": "2 s", **(template or {})})
        try:
            job = Job(token, {}, made, StoredInput(path, {}), timeout, limit)
            await ContainerAdapter(self.url).run(job, sink)
        finally:
            await self.executor.stop(token)
        return bytes(sink.data)


@pytest_asyncio.fixture
async def rig(docker_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    dead: list[str] = []
    executor = DockerExecutor(docker_url, "127.0.0.1", dead.append, busybox(tmp_path / "base"))
    try:
        yield Rig(docker_url, tmp_path, executor, dead)
    finally:
        await executor.close()


@pytest.mark.asyncio
async def test_container__when__its_output_is_a_file__then__any_bytes_come_out_as_they_went_in(rig: Rig) -> None:
    files = {"input_file": "/data/input", "output_file": "/data/output"}
    assert await rig.run(SHOUT_IN_CONTAINER, b"hello " * 1000, files) == b"HELLO " * 1000
    data = secrets.token_bytes(3_000_001)
    copy = SHOUT_IN_CONTAINER.replace("tr a-z A-Z", "cat")
    assert await rig.run(copy, data, files, limit=1 << 22) == data


@pytest.mark.asyncio
async def test_container__when__its_output_is_what_it_prints__then__all_of_it_and_nothing_of_its_errors(
    rig: Rig,
) -> None:
    script = "echo trouble >&2\nprintf 'ä line\\n'\nfor i in 1 2 3 4; do head -c 9999 /dev/zero | tr '\\0' x; done\n"
    assert await rig.run(script) == "ä line\n".encode() + b"x" * 39996


@pytest.mark.asyncio
async def test_container__when__it_prints_no_text__then__refused_and_not_paid_for_with_wrong_bytes(rig: Rig) -> None:
    with pytest.raises(BadAnswer, match="is no text"):
        await rig.run("printf 'a\\377b'\n")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("script", "error", "says"),
    [
        ("exit 3\n", Crashed, "exit code 3"),
        ("sh -c 'exit 137'\n", OutOfMemory, "exit code 137"),
        ("x=aaaaaaaaaaaaaaaa; while true; do x=$x$x$x$x; done\n", OutOfMemory, "memory limit"),
        ("echo x > /data/other\n", BadAnswer, "left no /data/output"),
        ("sleep 60\n", TooSlow, "did not end within 3 s"),
        ("head -c 2000000 /dev/zero > /data/output\n", TooLarge, "more than 1048576 bytes"),
    ],
    ids=["exit code", "killed", "memory", "no file", "time", "size"],
)
async def test_container__when__there_is_no_whole_output__then__the_failure_says_why(
    rig: Rig, script: str, error: type[ExecutionError], says: str
) -> None:
    with pytest.raises(error, match=says):
        await rig.run(script, b"", {"output_file": "/data/output"}, timeout=3 if error is TooSlow else 20)


@pytest.mark.asyncio
async def test_container__when__there_is_none_or_no_engine__then__an_error_without_the_token(rig: Rig) -> None:
    made = Template.model_validate({"name": "x", "adapter": "container", "connect_for": "0.2 s"})
    job = Job("f" * 64, {}, made, StoredInput(rig.folder / "none", {}), 5, 100)
    with pytest.raises(Crashed, match="there is no container") as caught:
        await ContainerAdapter(rig.url).run(job, Sink())
    assert job.token not in str(caught.value)
    with pytest.raises(DependencyError, match="no Docker engine answers at unix:///nowhere"):
        await ContainerAdapter("unix:///nowhere").run(job, Sink())
    with pytest.raises(DependencyError, match="no Docker engine answers"):
        DockerExecutor("unix:///nowhere", "127.0.0.1", rig.dead.append)


@pytest.mark.asyncio
async def test_executor__when__a_service_listens__then__its_slot_answers_with_its_environment(rig: Rig) -> None:
    script = (
        'body="$WHO $SLOT_HOST"\n'
        "while true; do { echo HTTP/1.1 200 OK; echo Content-Length: ${#body}; echo; printf '%s' \"$body\"; }"
        " | nc -l -p $SLOT_8080; done\n"
    )
    token, ports = await rig.start(script, WHO="me")
    template, sink = Template(name="x", slot=8080), Sink()
    (rig.folder / "input").write_bytes(b"x")
    slots = {8080: [Endpoint("127.0.0.1", ports[8080])]}
    async with aiohttp.ClientSession() as session:
        await HttpAdapter(session).run(
            Job(token, slots, template, StoredInput(rig.folder / "input", {}), 20, 100), sink
        )
    assert sink.data == b"me 0.0.0.0"
    assert rig.executor.pid(token)
    assert await rig.executor.stop(token)
    assert not await rig.executor.stop(token)
    assert rig.executor.pid(token) is None
    assert rig.dead == []


@pytest.mark.asyncio
async def test_executor__when__an_instance_ends_by_itself__then__it_is_told_and_stays_to_be_looked_at(rig: Rig) -> None:
    token, _ = await rig.start("exit 4\n")
    async with asyncio.timeout(20):
        while not rig.dead:
            await asyncio.sleep(0.05)
    assert rig.dead == [token]
    assert await rig.executor.stop(token)


@pytest.mark.asyncio
async def test_executor__when__closed_or_the_entry_is_missing__then__no_container_is_left(rig: Rig) -> None:
    await rig.start("sleep 100\n")
    packed, _ = pack(service(rig.folder, "broken", ""))
    packed.container.init.entry_path[:] = ["nothing"]
    with pytest.raises(UsageError, match="the container cannot be started"):
        await rig.executor.start(hashlib.sha256(b"t").hexdigest(), packed, {})
    await rig.executor.close()
    client = docker.DockerClient(base_url=rig.url)
    assert client.containers.list(all=True, filters={"label": LABEL}) == []
    client.close()
