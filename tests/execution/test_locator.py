"""Following a stranger's locator: what it may lead to, and what is refused before a byte is sent."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from offchain import digest

from aihd.errors import TemporaryError, UsageError
from aihd.execution.inputs import InputStore, data_locator
from aihd.execution.locator import Fetcher, is_public
from aihd.ops.web import serve
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment

SALT = digest("salt")
BODY = SALT + b"".join(envelope.encode({"A": "1"}, [b"the input"]))
COMMITMENT = input_commitment(SALT, [BODY[32:]])
TASK = digest("task")
DEVNET = Fetcher(timeout=1, devnet=True)


@dataclass
class Site:
    url: str
    asked: list[str]
    store: InputStore


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        match request.path:
            case "/input":
                return web.Response(body=BODY)
            case "/other":
                return web.Response(body=BODY[:-1] + b"x")
            case "/huge":
                return web.Response(body=bytes(300_000))
            case "/moved":
                raise web.HTTPFound("/input")
            case "/busy":
                raise web.HTTPServiceUnavailable
            case "/slow":
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(BODY[:10])
                await asyncio.sleep(1.5)
                return response
        raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with serve(app, "127.0.0.1", 0) as port:
        yield Site(f"http://127.0.0.1:{port}", asked, InputStore(tmp_path / "inputs", 1000))


async def everything(fetcher: Fetcher, locator: str) -> bytes:
    return b"".join([piece async for piece in fetcher.fetch(locator)])


@pytest.mark.asyncio
async def test_fetch__when__the_input_is_in_the_locator__then__its_bytes_or_what_is_wrong() -> None:
    assert await everything(Fetcher(), data_locator(BODY)) == BODY
    for wrong in ("data:application/octet-stream;base64,@@@", "data:application/octet-stream;base64,é"):
        with pytest.raises(UsageError, match="is not base64"):
            await everything(Fetcher(), wrong)


@pytest.mark.asyncio
async def test_obtain__when__the_server_has_it__then__kept_and_not_asked_for_again(site: Site) -> None:
    for _ in range(2):
        stored = await DEVNET.obtain(site.store, TASK, COMMITMENT, f"{site.url}/input")
        assert (stored.path.read_bytes(), stored.config) == (b"the input", {"A": "1"})
    assert site.asked == ["/input"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "error", "says"),
    [
        ("other", UsageError, "its commitment is"),
        ("huge", UsageError, "it is larger than the 1000 bytes"),
        ("moved", UsageError, "the server answers 302"),
        ("gone", UsageError, "the server answers 404"),
        ("busy", TemporaryError, "the server answers 503"),
        ("slow", TemporaryError, "not fetched within 1 s"),
    ],
)
async def test_obtain__when__it_is_not_to_be_had__then__said_whether_it_ever_will_and_nothing_kept(
    site: Site, path: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await DEVNET.obtain(site.store, TASK, COMMITMENT, f"{site.url}/{path}")
    assert site.store.get(TASK) is None
    assert site.asked == [f"/{path}"]


@pytest.mark.asyncio
async def test_fetch__when__it_leads_inside__then__refused_before_anything_is_sent(site: Site) -> None:
    port = site.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"):
        with pytest.raises((UsageError, TemporaryError)) as caught:
            await everything(Fetcher(timeout=5), f"https://{host}:{port}/input")
        assert any(text in str(caught.value) for text in ("is not a public address", "no address that can be asked"))
    assert site.asked == []


@pytest.mark.parametrize(
    ("locator", "says"),
    [
        ("http://example.org/x", "expected data:"),
        ("ftp://example.org/x", "kind 'ftp'"),
        ("file:///etc/passwd", "kind 'file'"),
        ("data:text/plain,hi", "kind 'data'"),
        ("https:///x", "name a host"),
        ("https://user:word@example.org/", "no user"),
        ("https://10.0.0.1/x", "10.0.0.1 is not a public address"),
        ("https://[fd00::1]/x", "not a public address"),
        ("nothing", "kind 'nothing'"),
    ],
)
def test_refusal__when__it_is_not_to_be_followed__then__says_why(locator: str, says: str) -> None:
    assert says in str(Fetcher().refusal(locator))


def test_refusal__when__it_may_be_followed__then__none() -> None:
    for locator in (
        "",
        data_locator(b"x"),
        "https://example.org/x",
        "https://1.1.1.1/x",
        "https://[2606:4700::1]:8443/",
    ):
        assert Fetcher().refusal(locator) is None
    assert Fetcher(devnet=True).refusal("http://127.0.0.1:1/x") is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.2.3", False), ("100.64.0.1", False), ("169.254.169.254", False),
        ("224.0.0.1", False), ("::", False), ("fe80::1", False), ("::ffff:10.0.0.1", False), ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False), ("255.255.255.255", False), ("ff02::1", False), ("192.168.200.1", False),
    ],
)  # fmt: skip
def test_is_public__when__an_address_is_or_leads_to_a_private_one__then__false(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
