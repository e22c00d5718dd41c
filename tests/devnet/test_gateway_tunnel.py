"""Tunnels through the embedded gateway, to services that echo, refuse to read, or are not there."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.nodo.gateway import GatewayClient, Refused, ServiceInstance, TooSlow, Tunnel, Unreachable

LISTEN = "import os, socket, time\ns = socket.create_server((os.environ['SLOT_HOST'], int(os.environ['SLOT_9000'])))\n"
HASHES = "import hashlib\nc, _ = s.accept()\nh = hashlib.sha3_256()\nwhile d := c.recv(65536): h.update(d)\nc.sendall(h.digest())\n"
ECHO = "c, _ = s.accept()\nwhile d := c.recv(65536): c.sendall(d)\nc.close()\n"
DEAF = "c, _ = s.accept()\nc.sendall(b'no')\nc.recv(1)\nc.close()\ntime.sleep(60)\n"
SILENT = "c, _ = s.accept()\ntime.sleep(60)\n"


@asynccontextmanager
async def running(folder: Path, program: str) -> AsyncIterator[tuple[GatewayClient, ServiceInstance]]:
    """A client of an embedded gateway that runs one instance of a service."""
    service = folder / "made"
    service.mkdir()
    (service / "main.py").write_text(LISTEN + program)
    (service / "service.toml").write_text(
        'name = "made"\nprose = "p"\nentry = "main.py"\nport = 9000\nfiles = ["main.py"]\n'
    )
    async with EmbeddedGateway(folder / "storage", credit=PLENTY) as gateway, GatewayClient(gateway.address) as client:
        me = await client.generate_client()
        started = await client.start_service(gateway.install(service), client_id=me, environment={}, timeout=10)
        while not listens(started.slots[9000][0].port):
            await asyncio.sleep(0.02)
        yield client, started


def listens(port: int) -> bool:
    """Whether a port listens, found without connecting to it: the services here take one connection."""
    return re.search(rf":{port:04X} \S+ 0A ", Path("/proc/net/tcp").read_text()) is not None


async def read(tunnel: Tunnel) -> bytes:
    return b"".join([chunk async for chunk in tunnel])


@pytest.mark.asyncio
async def test_service_tunnel__when__input_is_larger_than_frames__then__service_reads_all_of_it_and_answers_after_the_end(
    tmp_path: Path,
) -> None:
    data = bytes(range(256)) * (12 << 10)  # 3 MiB
    async with running(tmp_path, HASHES) as (client, started), client.service_tunnel(started.token, 9000) as tunnel:
        assert await tunnel.write(data[:1]) and await tunnel.write(b"") and await tunnel.write(data[1:])
        await tunnel.half_close()
        assert await read(tunnel) == hashlib.sha3_256(data).digest()


@pytest.mark.asyncio
async def test_service_tunnel__when__service_echoes__then__both_directions_flow_at_once(tmp_path: Path) -> None:
    data = b"0123456789abcdef" * (256 << 10)  # 4 MiB: more than any buffer between
    async with running(tmp_path, ECHO) as (client, started), client.service_tunnel(started.token, 9000) as tunnel:

        async def send() -> None:
            assert await tunnel.write(data)
            await tunnel.half_close()

        sending = asyncio.create_task(send())
        assert await read(tunnel) == data
        await sending


@pytest.mark.asyncio
async def test_service_tunnel__when__service_closes_without_reading_all__then__writer_learns_it_and_what_came_is_read(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, DEAF) as (client, started), client.service_tunnel(started.token, 9000) as tunnel:

        async def send() -> bool:
            return all([await tunnel.write(b"x" * (1 << 20)) for _ in range(64)])

        sending = asyncio.create_task(send())
        came = b""
        try:
            async for chunk in tunnel:
                came += chunk
        except Unreachable as error:
            assert "may not be whole" in str(error)
        assert came == b"no"
        assert not await sending


@pytest.mark.parametrize(
    ("slot", "token", "text"),
    [
        (9001, None, r"Slot 9001 is not declared by instance '\(token\)'. Declared slots: \[9000\]"),
        (9000, "5f" * 32, r"No local instance for token '\(token\)'"),
        (9000, "", "TokenMessage carries no token"),
    ],
)
@pytest.mark.parametrize("pushing", [False, True])
@pytest.mark.asyncio
async def test_service_tunnel__when__refused__then__the_node_s_reason_is_told_even_to_one_who_sends(
    tmp_path: Path, slot: int, token: str | None, text: str, pushing: bool
) -> None:
    async with (
        running(tmp_path, SILENT) as (client, started),
        client.service_tunnel(started.token if token is None else token, slot) as tunnel,
    ):
        sent = [await tunnel.write(b"x" * (1 << 20)) for _ in range(64)] if pushing else []
        with pytest.raises(Refused, match=text):
            await read(tunnel)
        assert not all(sent) or not pushing


@pytest.mark.asyncio
async def test_service_tunnel__when__nobody_listens_any_more__then__refused(tmp_path: Path) -> None:
    async with running(tmp_path, "s.accept()\ns.close()\ntime.sleep(60)\n") as (client, started):
        with socket.create_connection((started.slots[9000][0].host, started.slots[9000][0].port)):
            while listens(started.slots[9000][0].port):
                await asyncio.sleep(0.02)
        async with client.service_tunnel(started.token, 9000) as tunnel:
            with pytest.raises(Refused, match="Cannot reach the service"):
                await read(tunnel)


@pytest.mark.asyncio
async def test_service_tunnel__when__service_is_silent__then__too_slow_and_the_tunnel_can_be_left(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, SILENT) as (client, started):
        async with client.service_tunnel(started.token, 9000, timeout=0.3) as tunnel:
            with pytest.raises(TooSlow, match=r"within 0\.3 s"):
                await read(tunnel)
        async with client.service_tunnel(started.token, 9000) as tunnel:
            assert await tunnel.write(b"x")


@pytest.mark.asyncio
async def test_service_tunnel__when__nobody_is_at_the_address__then__unreachable() -> None:
    async with GatewayClient("127.0.0.1:1") as client:
        with pytest.raises(Unreachable):
            async with client.service_tunnel("t", 1, timeout=5):
                raise AssertionError("there is nothing to be a tunnel to")
