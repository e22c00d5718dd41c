"""The embedded gateway, driven by aihd's own client and by raw frames."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sqlite3
import tomllib
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

import aihd.devnet.services
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.devnet.gateway_ages import AGES
from aihd.devnet.packing import describe, pack, read_manifest
from aihd.errors import UsageError
from aihd.nodo.frames import encode_all
from aihd.nodo.gateway import GatewayClient, GatewayError, NoCredit, Refused, UnknownService
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.registry import LocalService, list_services
from aihd.nodo.reputation import WriteResult, write_reputation

NEWEST = AGES["VNEW"]
DEPOSIT, BUILD = NEWEST.deposit, NEWEST.build
EXAMPLES = [path.parent for path in sorted(Path(aihd.devnet.services.__file__).parent.glob("*/service.toml"))]


def rows(gateway: EmbeddedGateway, sql: str) -> list[Any]:
    with closing(sqlite3.connect(gateway.database)) as connection:
        return connection.execute(sql).fetchall()


def members(group: int | None) -> list[str]:
    """Processes of a group that run; one that only waits to be reaped does not."""
    assert group is not None
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(stat.parent.name)
    return found


async def gone(group: int | None) -> bool:
    """Whether the group ends soon: the kernel may need a moment after the signal."""
    for _ in range(100):
        if not members(group):
            return True
        await asyncio.sleep(0.02)
    return False


def make_service(folder: Path, program: str, **changes: object) -> Path:
    folder.mkdir()
    (folder / "main.py").write_text(program)
    manifest = {"name": "made", "prose": "p", "entry": "main.py", "port": 9000, "files": ["main.py"], **changes}
    (folder / "service.toml").write_text("".join(f"{key} = {value!r}\n" for key, value in manifest.items()))
    return folder


SLEEPER = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\ntime.sleep(60)\n"


@pytest.mark.asyncio
async def test_gateway__when__service_is_started_and_stopped__then__rows_balances_process_and_files_follow(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        assert list_services(gateway.storage) == (LocalService(service, "made"),)
        me = await client.generate_client()
        started = await client.start_service(service, client_id=me, environment={"A": b"b"}, timeout=10)
        group = gateway.executor.pid(started.token)
        assert members(group)
        assert rows(gateway, "SELECT id, father_id, balance_mu, service_id, envs FROM local_instances") == [
            (started.token, me, str(DEPOSIT), service.hex(), '{"A": "b"}')
        ]
        assert await client.get_metrics(started.token) == DEPOSIT
        assert await client.get_metrics(me) == PLENTY - BUILD - DEPOSIT
        assert await client.stop_service_confirmed(started.token, database=gateway.database) == DEPOSIT
        assert await gone(group)
        assert rows(gateway, "SELECT * FROM local_instances") == []
        assert await client.get_metrics(me) == PLENTY - BUILD, "what was built is paid for"
        assert await client.stop_service(started.token) == 0
        assert await client.stop_service_confirmed(started.token) == 0
        with pytest.raises(Refused, match="Invalid token"):
            await client.get_metrics(started.token)
    assert not any((tmp_path / "storage").rglob("instance-*"))


@pytest.mark.asyncio
async def test_gateway__when__it_leaves_with_instances_running__then__nothing_of_them_is_left(tmp_path: Path) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        me = await client.generate_client()
        tokens = [
            (await client.start_service(service, client_id=me, environment={}, timeout=10)).token for _ in range(3)
        ]
        groups = [gateway.executor.pid(token) for token in tokens]
    assert all([await gone(group) for group in groups])
    assert not any((tmp_path / "storage").rglob("instance-*"))
    assert rows(gateway, "SELECT * FROM local_instances") == []


@pytest.mark.asyncio
async def test_gateway__when__an_instance_dies__then__row_and_files_go_and_the_deposit_is_lost(tmp_path: Path) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        me = await client.generate_client()
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        started = await client.start_service(service, client_id=me, environment={}, timeout=10)
        group = gateway.executor.pid(started.token)
        assert group is not None
        os.kill(group, signal.SIGKILL)
        for _ in range(100):
            if not rows(gateway, "SELECT * FROM local_instances"):
                break
            await asyncio.sleep(0.05)
        assert rows(gateway, "SELECT * FROM local_instances") == []
        assert await gone(group)
        assert not any(gateway.storage.rglob("instance-*"))
        assert await client.stop_service_confirmed(started.token) == 0
        assert await client.get_metrics(me) == PLENTY - BUILD - DEPOSIT


@pytest.mark.asyncio
async def test_gateway__when__instance_looks_around__then__it_sees_only_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    seen = tmp_path / "seen"
    program = "import os, pathlib\npathlib.Path(os.environ['OUT']).write_text('\\n'.join(sorted(os.environ)))\n"
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", program))
        await client.start_service(
            service, client_id=await client.generate_client(), environment={"OUT": bytes(seen)}, timeout=10
        )
        for _ in range(100):
            if seen.exists() and seen.read_text():
                break
            await asyncio.sleep(0.05)
    assert seen.read_text().split() == ["HOME", "LANG", "OUT", "PATH", "SLOT_9000", "SLOT_HOST"]


@pytest.mark.asyncio
async def test_gateway__when__client_or_service_is_unknown__then__gate_refuses_or_call_ends_without_answer(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        for stranger in ("0" * 32, "dev-1", ""):
            with pytest.raises(Refused, match="requires a client_id minted by GenerateClient"):
                await client.start_service(service, client_id=stranger, environment={}, timeout=10)
        me = await client.generate_client()
        with pytest.raises(UnknownService, match="00" * 32):
            await client.start_service(bytes(32), client_id=me, environment={}, timeout=10)
        assert rows(gateway, "SELECT id FROM clients") == [(me,)]
        assert rows(gateway, "SELECT * FROM local_instances") == []


@pytest.mark.asyncio
async def test_generate_client__when__work_is_asked_for__then__done_and_accepted(tmp_path: Path) -> None:
    async with EmbeddedGateway(tmp_path / "storage", credit=PLENTY, pow_difficulty=2) as gateway:
        async with GatewayClient(gateway.address) as client:
            me = await client.generate_client()
        assert rows(gateway, "SELECT id FROM clients") == [(me,)]


@pytest.mark.asyncio
async def test_generate_client__when__solution_is_wrong_or_for_another_client__then__work_is_asked_for_again(
    tmp_path: Path,
) -> None:
    proof = pb.Client(client_id="a" * 32, challenge=f"{'a' * 32}:n:1:mac", pow_solution="1")
    async with EmbeddedGateway(tmp_path / "storage", credit=PLENTY, pow_difficulty=1) as gateway:
        frames = await raw_call(gateway, "GenerateClient", [(1, proof)])
        assert [frame.head.index for frame in frames] == [2]
        assert pb.PoWRequired.FromString(frames[0].chunk).difficulty == 1
        assert rows(gateway, "SELECT * FROM clients") == []


async def raw_call(gateway: EmbeddedGateway, method: str, messages: list[tuple[int, pb.Client]]) -> list[Buffer]:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        rpc = channel.stream_stream(f"/celaut.Gateway/{method}", request_serializer=Buffer.SerializeToString)
        return [Buffer.FromString(frame) async for frame in rpc(encode_all(messages), timeout=10)]


@pytest.mark.asyncio
async def test_start_service__when__answered__then__a_lone_signal_comes_first(tmp_path: Path) -> None:
    async with EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway:
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        me = "a" * 32
        await raw_call(gateway, "GenerateClient", [(1, pb.Client(client_id=me))])
        order: list[tuple[int, Any]] = [(1, pb.Client(client_id=me)), (4, pb.Metadata.HashTag.Hash(value=service))]
        signal_frame, answer = await raw_call(gateway, "StartService", order)
    assert signal_frame == Buffer(signal=True)
    assert pb.ServiceInstance.FromString(answer.chunk).instance.uri_slot[0].internal_port == 9000


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("metadata", "No metadata for the service"),
        ("hash", "Corrupt metadata for the service"),
        ("disk", "Disk space is not specified"),
        ("entry", "Unable to launch service .* entry 'gone.py' is not a file"),
        ("escape", "Unable to launch service .* '../out' is not the name of a file"),
        ("garbage", "Error parsing message"),
    ],
)
@pytest.mark.asyncio
async def test_start_service__when__stored_service_is_damaged__then__refused_with_nodo_s_text_and_deposit_returned(
    tmp_path: Path, damage: str, text: str
) -> None:
    service, _ = pack(make_service(tmp_path / "made", SLEEPER))
    if damage == "disk":
        service.container.resources.at_init.ClearField("disk_space")
    if damage == "entry":
        service.container.init.entry_path[:] = ["gone.py"]
    if damage == "escape":
        branch = pb.Service.Container.Filesystem.ItemBranch(name="../out", file=b"x")
        service.container.filesystem = pb.Service.Container.Filesystem(branch=[branch]).SerializeToString()
    content = b"\xff\xff\xff" if damage == "garbage" else service.SerializeToString()
    service_hash = hashlib.sha3_256(content).digest()
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        (gateway.storage / "__registry__" / service_hash.hex()).write_bytes(content)
        if damage != "metadata":
            metadata = describe("made", content if damage != "hash" else b"another")
            (gateway.storage / "__metadata__" / service_hash.hex()).write_bytes(metadata.SerializeToString())
        me = await client.generate_client()
        with pytest.raises(GatewayError, match=text):
            await client.start_service(service_hash, client_id=me, environment={}, timeout=10)
        assert await client.get_metrics(me) == PLENTY
        assert not any(gateway.storage.rglob("instance-*"))
    assert not (tmp_path / "storage" / "__cache__" / "microvm" / "runtime" / "out").exists()


@pytest.mark.asyncio
async def test_start_service__when__credit_is_spent__then__refused(tmp_path: Path) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        me = await client.generate_client()
        with closing(sqlite3.connect(gateway.database, isolation_level=None)) as connection:
            connection.execute("UPDATE clients SET balance_mu = ?", (str(BUILD + DEPOSIT - 1),))
        with pytest.raises(NoCredit, match="Launch service error spending gas"):
            await client.start_service(service, client_id=me, environment={}, timeout=10)


@pytest.mark.asyncio
async def test_gateway__when__frames_are_broken__then__unknown_with_nodo_s_prefix(tmp_path: Path) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        grpc.aio.insecure_channel(gateway.address) as channel,
    ):

        async def garbage() -> AsyncIterator[bytes]:
            yield b"\xff\xff"

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in channel.stream_stream("/celaut.Gateway/StopService")(garbage(), timeout=10):
                pass
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert str(caught.value.details()).startswith("Exception iterating responses: 2 bytes are no frame")


@pytest.mark.asyncio
async def test_gateway__when__opened_again_on_its_storage__then__clients_services_and_reputation_are_kept(
    tmp_path: Path,
) -> None:
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        service = gateway.install(make_service(tmp_path / "made", SLEEPER))
        me = await client.generate_client()
        assert write_reputation(gateway.database, "service", service.hex(), 3, key="k") is WriteResult.WRITTEN
    async with (
        EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as gateway,
        GatewayClient(gateway.address) as client,
    ):
        assert await client.start_service(service, client_id=me, environment={}, timeout=10)
        assert write_reputation(gateway.database, "service", service.hex(), 3, key="k") is WriteResult.ALREADY


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: str(folder.name))
def test_pack__when__an_example_is_packed_twice__then__same_bytes_and_nothing_but_its_files(folder: Path) -> None:
    first, metadata = pack(folder)
    second, _ = pack(folder)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    files = pb.Service.Container.Filesystem.FromString(first.container.filesystem)
    assert [branch.name for branch in files.branch] == ["main.py", "service.py"]
    assert metadata == describe(metadata.hashtag.tag[0], first.SerializeToString(deterministic=True))
    assert metadata.hashtag.tag[0] == tomllib.loads((folder / "service.toml").read_text())["name"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"port": 0}, "port"),
        ({"files": ["gone.py"]}, "gone.py"),
        ({"entry": "other.py"}, "entry 'other.py'"),
        ({"colour": "red"}, "colour"),
        ({"name": "No Spaces"}, "name"),
    ],
)
def test_pack__when__manifest_is_wrong__then__error_names_the_field(
    tmp_path: Path, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(UsageError, match=field):
        pack(make_service(tmp_path / "made", "", **changes))


def test_read_manifest__when__there_is_none__then__error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"service\.toml: .*No such file"):
        read_manifest(tmp_path)
