"""A client at the door of a node that is hostile: the node wrote its address itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from offchain import digest

from aihd.client import node_door as module
from aihd.client.node_door import node_door, refusal_of
from aihd.errors import AihdError, DependencyError, TemporaryError, UsageError
from aihd.execution.locator import Fetcher
from aihd.ops.web import serve

TASK = digest("task")


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:1/", "http://10.1.2.3", "http://[::1]:9465", "http://[fe80::1%25eth0]/", "http://[fec0::1]/",
        "http://[64:ff9b:1::7f00:1]/", "http://[64:ff9b::7f00:1]/", "http://[::127.0.0.1]/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:0:127.0.0.1]/", "http://169.254.169.254/latest", "http://100.64.0.1", "http://0.0.0.0", "http://[::]",
        "http://[2002:7f00:1::]", "http://224.0.0.1", "http://198.18.0.1", "http://[fd00::1]", "http://255.255.255.255",
    ],
)  # fmt: skip
def test_endpoint__when__its_address_is_not_public__then__refused_here_and_as_a_locator(endpoint: str) -> None:
    assert "is not a public address" in (refusal_of(endpoint, private=False) or "")
    assert refusal_of(endpoint, private=True) is None
    assert "is not a public address" in (Fetcher().refusal(endpoint.replace("http:", "https:")) or "")


@pytest.mark.parametrize(
    "endpoint",
    ["", "ftp://x", "http://", "http:// x", "http://x:99999", "http://u:p@x", "http://x/?a=b", "http://x/#y", "file:///etc/passwd",
     "http://[::1", "\x1b[31m", "http://x:0x10", "//x/y"],
)  # fmt: skip
def test_endpoint__when__it_is_no_plain_address__then__refused_in_any_case(endpoint: str) -> None:
    for private in (True, False):
        assert refusal_of(endpoint, private=private)


@pytest.mark.parametrize(
    "endpoint", ["http://93.184.216.34:9465", "https://node.example/aihd/", "http://[2606:4700::1]:80"]
)
def test_endpoint__when__public__then__may_be_asked(endpoint: str) -> None:
    assert refusal_of(endpoint, private=False) is None


@pytest.mark.asyncio
async def test_door__when__a_name_leads_to_a_private_address__then__nobody_is_asked() -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"state": "x"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app, "127.0.0.1", 0) as port:
        for host in ("localhost", "2130706433", "127.1"):
            with pytest.raises(AihdError, match=r"not a public address|not a canonical"):
                async with node_door(f"http://{host}:{port}") as door:
                    await door.says(TASK)
    assert asked == []


@pytest.mark.asyncio
async def test_door__when__the_node_redirects_floods_or_mumbles__then__one_error_and_little_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.5)
    sent = 0

    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    async def elsewhere(_: web.Request) -> web.Response:
        return web.json_response({"state": "elsewhere"})

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 1 << 28:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    async def silent(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=b'{"state": ["\xff"], "note": 7')

    for handler, says in (
        (redirect, "answered 302"),
        (flood, "answered 200"),
        (silent, "nothing moved for"),
        (odd, "answered 200"),
    ):
        app = web.Application()
        app.router.add_get("/aih/1/tasks/{id}", handler)
        app.router.add_get("/aih/1/outputs/{id}", flood)
        app.router.add_get("/elsewhere", elsewhere)
        async with serve(app, "127.0.0.1", 0) as port, node_door(f"http://127.0.0.1:{port}", private=True) as door:
            with pytest.raises(TemporaryError, match=says):
                await door.says(TASK)
            assert sent < 1 << 24
            if handler is odd:
                with pytest.raises(DependencyError, match="sends more than 100000 bytes"):
                    async with door.output(digest("o"), TASK, 100_000) as pieces:
                        async for _ in pieces:
                            pass
                assert sent < 1 << 24


@pytest.mark.asyncio
async def test_bring__when__the_node_takes_nothing_for_too_long__then__given_up_and_a_slow_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.6)
    monkeypatch.setattr(module, "VERDICT", 0.6)
    patience = 0.0

    async def take(request: web.Request) -> web.Response:
        async for _ in request.content.iter_chunked(1 << 16):
            await asyncio.sleep(patience)
        return web.json_response({}, status=201)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 18)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_put("/aih/1/tasks/{id}/input", take)
    async with serve(app, "127.0.0.1", 0) as port, node_door(f"http://127.0.0.1:{port}", private=True) as door:
        await door.bring(TASK, body(), {})
        patience = 0.005  # 400 pieces: two seconds in all, and always something moves
        await door.bring(TASK, body(), {})
        patience = 30.0
        with pytest.raises(TemporaryError, match="nothing moved for"):
            await door.bring(TASK, body(), {})


@pytest.mark.asyncio
async def test_bring__when__the_node_says_it_is_the_wrong_input__then__no_reason_to_try_again() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": "input: its commitment is \x1b[31mred"}, status=400)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    app = web.Application()
    app.router.add_put("/aih/1/tasks/{id}/input", refuse)
    async with serve(app, "127.0.0.1", 0) as port, node_door(f"http://127.0.0.1:{port}", private=True) as door:
        with pytest.raises(UsageError, match="did not take the input") as said:
            await door.bring(TASK, body(), {})
    assert "\x1b" not in str(said.value)
