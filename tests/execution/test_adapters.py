"""Tunnel, console log and templates, against a gateway that runs real processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from small_services import SHOUT, TALK

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.errors import ConfigError
from aihd.execution.adapters import Adapter, HttpAdapter, Job
from aihd.execution.errors import (
    BadAnswer,
    BadInput,
    Crashed,
    ExecutionError,
    NotListening,
    OutOfMemory,
    TooLarge,
    TooSlow,
)  # fmt: skip
from aihd.execution.failures import Failure, failure_of, note_of
from aihd.execution.inputs import StoredInput
from aihd.execution.serial import WARNING, SerialAdapter, runtime_folders
from aihd.execution.template import MAX_CHECKED, Template, read_template
from aihd.execution.tunnel import TunnelAdapter
from aihd.nodo.gateway import GatewayClient, ServiceInstance


@dataclass
class Sink:
    data: bytearray = field(default_factory=bytearray)

    def write(self, chunk: bytes) -> None:
        self.data += chunk


@dataclass
class Rig:
    folder: Path
    gateway: EmbeddedGateway
    client: GatewayClient
    client_id: str

    async def start(self, code: str, **environment: str) -> ServiceInstance:
        folder = self.folder / f"service-{abs(hash(code))}"
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(code)
        (folder / "service.toml").write_text(
            'name = "x"\nprose = "x"\nentry = "main.py"\nport = 8080\nfiles = ["main.py"]\n'
        )
        service = self.gateway.install(folder)
        variables = {name: value.encode() for name, value in environment.items()}
        return await self.client.start_service(service, client_id=self.client_id, environment=variables, timeout=20)

    async def run(
        self, adapter: Adapter, instance: ServiceInstance, template: Template, data: bytes = b"", **limits: Any
    ) -> bytes:
        path, sink = self.folder / "input", Sink()
        path.write_bytes(data)
        limits = {"timeout": 20, "limit": 10_000_000, **limits}
        try:
            await adapter.run(Job(instance.token, instance.slots, template, StoredInput(path, {}), **limits), sink)
        finally:
            await self.client.stop_service_confirmed(instance.token, database=self.gateway.database)
        return bytes(sink.data)

    def serial(self) -> SerialAdapter:
        return SerialAdapter(runtime_folders(self.gateway.storage))


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with EmbeddedGateway(tmp_path / "nodo", credit=PLENTY) as gateway, GatewayClient(gateway.address) as client:
        yield Rig(tmp_path, gateway, client, await client.generate_client())


SAYS_LENGTH = """
import os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
time.sleep(float(os.environ.get("LATE", "0")))
HTTPServer((os.environ["SLOT_HOST"], int(os.environ["SLOT_8080"])), Handler).serve_forever()
"""


def tunnel(**changes: Any) -> Template:
    return Template.model_validate({"name": "x", "adapter": "tunnel", "slot": 8080, **changes})


def serial(**changes: Any) -> Template:
    fields = {"name": "x", "adapter": "serial", "end_marker": "AIH-END", "accept_unclean": True, **changes}
    return Template.model_validate(fields)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_tunnel__when__the_service_reads_to_the_end__then__the_answer_is_whole(rig: Rig, size: int) -> None:
    data = (b"hello tunnel " * (size // 13 + 1))[:size]
    template = tunnel(connect_for="2 s")
    output = await rig.run(TunnelAdapter(rig.client.service_tunnel), await rig.start(SHOUT), template, data)
    assert output == data.upper()


@pytest.mark.asyncio
@pytest.mark.parametrize("size", [5, 3_000_000])
async def test_tunnel__when__the_port_accepts_before_the_service_listens__then__opened_again_until_it_answers(
    rig: Rig, size: int
) -> None:
    rig.gateway.faults.switch("early-ports", True)
    instance = await rig.start(SHOUT, LATE="0.7")
    output = await rig.run(TunnelAdapter(rig.client.service_tunnel), instance, tunnel(), b"x" * size)
    assert output == b"X" * size


@pytest.mark.asyncio
async def test_http__when__the_port_accepts_before_the_service_listens__then__the_input_is_sent_again(rig: Rig) -> None:
    rig.gateway.faults.switch("early-ports", True)
    instance = await rig.start(SAYS_LENGTH, LATE="0.7")
    template = Template.model_validate({"name": "x", "slot": 8080})
    async with aiohttp.ClientSession() as session:
        assert await rig.run(HttpAdapter(session), instance, template, b"x" * 100) == b"100"


@pytest.mark.asyncio
async def test_tunnel__when__the_slot_listens_later_or_the_service_stops_reading__then__still_its_answer(
    rig: Rig,
) -> None:
    adapter = TunnelAdapter(rig.client.service_tunnel)
    assert await rig.run(adapter, await rig.start(SHOUT, LATE="0.7"), tunnel(), b"late") == b"LATE"
    assert await rig.run(adapter, await rig.start(SHOUT, DEAF="1"), tunnel(), b"early") == b"EARLY"


@pytest.mark.asyncio
async def test_tunnel__when__there_is_no_whole_output__then__the_failure_says_why(rig: Rig) -> None:
    adapter = TunnelAdapter(rig.client.service_tunnel)
    with pytest.raises(NotListening, match=r"nobody listens at slot 8080 after 0\.3 s"):
        await rig.run(adapter, await rig.start(SHOUT, LATE="60"), tunnel(connect_for="0.3 s"))
    with pytest.raises(TooSlow, match="did not end within 1 s"):
        await rig.run(adapter, await rig.start(SHOUT, HANG="1"), tunnel(), b"x", timeout=1)
    with pytest.raises(TooLarge, match="more than 5000 bytes"):
        await rig.run(adapter, await rig.start(SHOUT, ENDLESS="1"), tunnel(), b"x", limit=5000)


@pytest.mark.asyncio
async def test_serial__when__the_marker_comes__then__what_stands_before_it_and_a_warning(rig: Rig) -> None:
    output = await rig.run(rig.serial(), await rig.start(TALK, WHAT="the result"), serial())
    assert output == b"Linux version 6.1 booting\nthe result\n"
    assert rig.serial().warning == WARNING


@pytest.mark.asyncio
async def test_serial__when__there_is_no_marker__then__crashed_or_too_slow_or_too_large(rig: Rig) -> None:
    with pytest.raises(Crashed, match="ended before the line"):
        await rig.run(rig.serial(), await rig.start(TALK, WHAT="x", MARK=""), serial())
    with pytest.raises(TooSlow, match="no line 'AIH-END'"):
        await rig.run(rig.serial(), await rig.start(TALK, WHAT="x", MARK="other"), serial(), timeout=1)
    with pytest.raises(TooLarge):
        await rig.run(rig.serial(), await rig.start(TALK, WHAT="x" * 100), serial(), limit=50)
    with pytest.raises(ExecutionError, match="no console log"):
        other = SerialAdapter([rig.folder])
        await rig.run(other, await rig.start(TALK, WHAT="x"), serial(connect_for="0.2 s"))


@pytest.mark.asyncio
async def test_adapter__when__cancelled__then__ends_at_once_and_the_instance_can_be_stopped(rig: Rig) -> None:
    for adapter, code, template in (
        (TunnelAdapter(rig.client.service_tunnel), SHOUT, tunnel()),
        (rig.serial(), TALK, serial()),
    ):
        instance = await rig.start(code, HANG="1", WHAT="x", MARK="none")
        running = asyncio.ensure_future(rig.run(adapter, instance, template, b"x"))
        await asyncio.sleep(0.5)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert rig.gateway.executor.pid(instance.token) is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "a hash or a name"),
        ({"name": "x", "hash": "0" * 64, "slot": 1}, "not both"),
        ({"name": "x"}, "needs a slot"),
        ({"name": "x", "adapter": "tunnel"}, "needs a slot"),
        ({"name": "x", "adapter": "serial", "end_marker": "e"}, "not a clean result"),
        ({"name": "x", "adapter": "serial", "accept_unclean": True}, "needs end_marker"),
        ({"name": "x", "adapter": "wasm"}, "adapter"),
        ({"name": "x", "slot": 1, "input_schema": {"type": "strnig"}}, "is no JSON schema"),
        ({"name": "x", "adapter": "container", "output_file": "relative"}, "output_file"),
        ({"name": "x", "slot": 1, "max_output": 5}, "max_output"),
        ({"name": "x", "slot": 1, "colour": "red"}, "colour"),
    ],
)
def test_template__when__it_cannot_be_right__then__the_field_is_named(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Template.model_validate(fields)


def test_template__when__read_from_its_examples__then__every_adapter_has_one(tmp_path: Path) -> None:
    folder = Path(__file__).parents[2] / "config" / "services"
    templates = [read_template(path) for path in sorted(folder.glob("*.toml"))]
    assert {template.adapter for template in templates} == {"http", "tunnel", "container", "serial"}
    (tmp_path / "bad.toml").write_text('name = "x"\nslot = 0\n')
    with pytest.raises(ConfigError, match=r"bad\.toml: slot"):
        read_template(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_template(tmp_path / "none.toml")


SCHEMA = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "maxLength": 5}}}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{}", "'text' is a required property"),
        (b'{"text": 1}', r"\$\.text"),
        (b'{"text": "too long"}', "too long"),
        (b"no json", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[" * 200_000, "is not JSON"),
        (b" " * (MAX_CHECKED + 1), "at most"),
    ],
)
def test_schema__when__the_input_does_not_fit__then__bad_input_says_where(
    tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "input").write_bytes(data)
    template = Template(name="x", slot=1, input_schema=SCHEMA)
    with pytest.raises(BadInput, match=says):
        template.check_input(tmp_path / "input")


def test_schema__when__it_fits_or_there_is_none__then__nothing(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b'{"text": "short"}')
    Template(name="x", slot=1, input_schema=SCHEMA).check_input(tmp_path / "input")
    (tmp_path / "input").write_bytes(b"anything")
    Template(name="x", slot=1).check_input(tmp_path / "input")


def test_schema__when__it_refers_to_another_server__then__refused_and_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"1")
    template = Template(name="x", slot=1, input_schema={"$ref": "http://127.0.0.1:1/schema.json"})
    with pytest.raises(BadInput, match="which it does not hold"):
        template.check_input(tmp_path / "input")


def test_failure__when__noted__then__its_kind_is_read_back_and_within_what_the_guard_takes() -> None:
    for failure in Failure:
        assert failure_of(note_of(failure, "why: a reason")) is failure
    assert failure_of("something else") is Failure.UNABLE
    assert {int(failure) for failure in Failure} == set(range(1, 9))
    kinds = {
        NotListening("x"): Failure.UNREACHABLE,
        BadAnswer("x", 422): Failure.BAD_INPUT,
        BadAnswer("x", 500): Failure.CRASHED,
        BadAnswer("x"): Failure.CRASHED,
        OutOfMemory("x"): Failure.OUT_OF_MEMORY,
        ExecutionError("x"): Failure.UNABLE,
        BadInput("x"): Failure.BAD_INPUT,
    }
    assert {type(error).__name__: error.kind for error in kinds} == {type(e).__name__: k for e, k in kinds.items()}
