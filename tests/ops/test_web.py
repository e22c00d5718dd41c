"""The operators' page, asked over real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from aihd.errors import ConfigError, Exit, TemporaryError
from aihd.ops.web import Health, ops_app, serve

HEALTHY = Health(True, "Healthy")
BEHIND = Health(False, "12 blocks behind the tip")


@dataclass
class Daemon:
    """What the page asks."""

    health: Health = HEALTHY
    readiness: Health = BEHIND
    document: dict[str, Any] = field(default_factory=lambda: {"verdict": "Healthy", "tasks": {"done": 2}})
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    @asynccontextmanager
    async def page(self) -> AsyncIterator[tuple[aiohttp.ClientSession, int]]:
        app = ops_app(
            healthy=lambda: self.health,
            ready=lambda: self.readiness,
            status=self.status,
            registry=self.registry,
        )
        async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            yield session, port

    async def status(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self.document


@pytest.mark.asyncio
async def test_health__when__daemon_is_well_and_then_not__then__200_and_503_with_the_verdict() -> None:
    daemon = Daemon()
    async with daemon.page() as (session, _):
        async with session.get("/healthz") as answer:
            assert (answer.status, await answer.json()) == (200, {"ok": True, "verdict": "Healthy"})
        daemon.health = Health(False, "the claim loop has not moved for 90 s")
        async with session.get("/healthz") as answer:
            assert (answer.status, (await answer.json())["ok"]) == (503, False)


@pytest.mark.asyncio
async def test_ready__when__not_synced__then__503_while_health_is_200() -> None:
    async with Daemon().page() as (session, _):
        async with session.get("/readyz") as answer:
            assert (answer.status, (await answer.json())["verdict"]) == (503, "12 blocks behind the tip")
        async with session.get("/healthz") as answer:
            assert answer.status == 200


@pytest.mark.asyncio
async def test_status__when__asked__then__document_as_json_that_no_cache_keeps() -> None:
    async with Daemon().page() as (session, _), session.get("/status.json") as answer:
        assert await answer.json() == {"verdict": "Healthy", "tasks": {"done": 2}}
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.asyncio
async def test_status__when__it_is_computed_at_once__then__also_answered() -> None:
    app = ops_app(
        healthy=lambda: HEALTHY,
        ready=lambda: HEALTHY,
        status=lambda: {"a": 1},
        registry=CollectorRegistry(),
    )
    async with (
        serve(app, "127.0.0.1", 0) as port,
        aiohttp.request("GET", f"http://127.0.0.1:{port}/status.json") as answer,
    ):
        assert await answer.json() == {"a": 1}


@pytest.mark.asyncio
async def test_metrics__when__asked__then__text_of_the_given_registry_only() -> None:
    daemon = Daemon()
    Counter("aihd_claims", "Claims sent.", registry=daemon.registry).inc(3)
    async with daemon.page() as (session, _), session.get("/metrics") as answer:
        text = await answer.text()
        assert answer.content_type == "text/plain"
    assert "aihd_claims_total 3.0" in text
    assert "python_info" not in text


@pytest.mark.asyncio
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status.json", "/metrics"])
async def test_page__when__method_could_change_something__then__405_and_head_is_allowed(path: str) -> None:
    async with Daemon().page() as (session, _):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            async with session.request(method, path) as answer:
                assert answer.status == 405
        async with session.head(path) as answer:
            assert answer.status in (200, 503)
            assert await answer.read() == b""


@pytest.mark.asyncio
async def test_serve__when__port_is_in_use__then__temporary_error_names_it() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        app = web.Application()
        with pytest.raises(
            TemporaryError, match=rf"port {port} of 127\.0\.0\.1 is in use: stop .* ops\.listen"
        ) as caught:
            async with serve(app, "127.0.0.1", port):
                pass
    assert caught.value.exit_code is Exit.TEMPORARY


@pytest.mark.asyncio
async def test_serve__when__address_is_not_ours__then__config_error_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"ops\.listen = 192\.0\.2\.1:1 cannot be listened on"):
        async with serve(web.Application(), "192.0.2.1", 1):
            pass


@pytest.mark.asyncio
async def test_serve__when__block_ends_with_a_connection_open__then__port_is_free_at_once() -> None:
    async with Daemon().page() as (session, port):
        await session.get("/healthz")
        begun = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - begun < 5
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("127.0.0.1.evil.example:9464", 421), ("localhost:9464", 200), ("LOCALHOST.", 200), ("", 421),
     ("[::1]:9464", 200), ("10.1.2.3", 200), ("node.lan:1", 421)],
)  # fmt: skip
async def test_page__when__asked_for_by_a_name_that_is_not_allowed__then__421_and_nothing_of_the_status(
    host: str, status: int
) -> None:
    async with Daemon().page() as (session, _):
        for path in ("/status.json", "/", "/metrics", "/healthz"):
            async with session.get(path, headers={"Host": host}) as answer:
                assert answer.status == status
                assert status == 200 or "Healthy" not in await answer.text()


@pytest.mark.asyncio
async def test_page__when__a_name_is_allowed__then__answered() -> None:
    daemon = Daemon()
    app = ops_app(
        healthy=lambda: daemon.health,
        ready=lambda: daemon.readiness,
        status=daemon.status,
        registry=daemon.registry,
        hosts=["Node.lan"],
    )
    async with (
        serve(app, "127.0.0.1", 0) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get("/healthz", headers={"Host": "node.lan:9464"}) as answer,
    ):
        assert answer.status == 200
