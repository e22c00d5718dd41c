"""The example services as real processes, fed and emptied as aihd does it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

import aihd.devnet.services
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.execution.content import ContentStore
from aihd.execution.errors import BadAnswer
from aihd.execution.http import Body, run_http
from aihd.nodo.gateway import GatewayClient, ServiceInstance

SERVICES = Path(aihd.devnet.services.__file__).parent
PORT = 8080
LIMIT = 1 << 20


@pytest_asyncio.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[EmbeddedGateway]:
    async with EmbeddedGateway(tmp_path / "storage", credit=PLENTY) as running:
        yield running


@asynccontextmanager
async def instance(
    gateway: EmbeddedGateway, folder: str, environment: Mapping[str, bytes] | None = None
) -> AsyncIterator[ServiceInstance]:
    """A running example."""
    service = gateway.install(SERVICES / folder)
    async with GatewayClient(gateway.address) as client:
        started = await client.start_service(
            service, client_id=await client.generate_client(), environment=environment or {}, timeout=10
        )
        yield started
        assert await client.stop_service_confirmed(started.token) > 0


async def output(gateway: EmbeddedGateway, running: ServiceInstance, body: Body) -> bytes:
    """What the service makes of `body`, by way of a content store."""
    store = ContentStore(gateway.storage.parent / "content")
    (endpoint,) = running.slots[PORT]
    async with aiohttp.ClientSession() as session, store.receive(LIMIT) as sink:
        await run_http(session, endpoint, "/run", body, connect_for=10, timeout=30, limit=LIMIT, sink=sink)
        digest, size = await sink.commit()
    data = store.path(digest).read_bytes()
    assert (hashlib.sha3_256(data).digest(), len(data)) == (digest, size)
    return data


def peak_memory(gateway: EmbeddedGateway, running: ServiceInstance) -> int:
    """Bytes of memory that the instance's process has held at most."""
    status = Path(f"/proc/{gateway.executor.pid(running.token)}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


TEXT = "Año nuevo,\n  vida\tnueva\nfin €".encode()


@pytest.mark.asyncio
async def test_text_digest__when__given_a_text__then__canonical_json_of_digests_and_counts(
    gateway: EmbeddedGateway,
) -> None:
    async with instance(gateway, "text_digest") as running:
        data = await output(gateway, running, TEXT)
        assert await output(gateway, running, TEXT) == data
    expected = {
        "bytes": len(TEXT),
        "characters": len(TEXT.decode()),
        "lines": 3,
        "sha256": hashlib.sha256(TEXT).hexdigest(),
        "sha3_256": hashlib.sha3_256(TEXT).hexdigest(),
        "words": 6,
    }
    assert data == json.dumps(expected, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.asyncio
async def test_text_digest__when__input_is_empty_or_no_utf8_in_chunks__then__counts_are_right(
    gateway: EmbeddedGateway,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"ab\xe2", b"\x82\xac c", b"\xff ", b"d"):  # a euro sign cut in two, a byte that is no UTF-8
            yield piece

    async with instance(gateway, "text_digest", {"DIGEST_ALGORITHM": b"sha512"}) as running:
        empty = json.loads(await output(gateway, running, b""))
        cut = json.loads(await output(gateway, running, pieces()))
    assert empty == {"bytes": 0, "characters": 0, "lines": 0, "words": 0, "sha512": hashlib.sha512().hexdigest()}
    assert cut["sha512"] == hashlib.sha512(b"ab\xe2\x82\xac c\xff d").hexdigest()
    assert (cut["bytes"], cut["characters"], cut["lines"], cut["words"]) == (10, 8, 1, 3)


@pytest.mark.asyncio
async def test_word_count__when__input_has_20_mb__then__right_counts_with_little_memory(
    gateway: EmbeddedGateway, tmp_path: Path
) -> None:
    line = b"The quick brown fox; the lazy dog -- " + "Über ".encode() + b"x" * 300 + b"\n"
    repeats = (20 << 20) // len(line)
    big = tmp_path / "input"
    big.write_bytes(line * repeats)
    async with instance(gateway, "word_count", {"TOP": b"4"}) as running:
        data = await output(gateway, running, big)
        assert peak_memory(gateway, running) < 40 << 20
    assert data == b"%d the\n%d brown\n%d dog\n%d fox\n" % (2 * repeats, repeats, repeats, repeats)


@pytest.mark.asyncio
async def test_word_count__when__word_is_longer_than_a_piece__then__cut_at_the_same_places_as_a_short_text(
    gateway: EmbeddedGateway,
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"y" * 777
        yield b" end"

    full, rest = divmod(7770, 256)
    async with instance(gateway, "word_count") as running:
        data = await output(gateway, running, pieces())
    assert data == b"%d %s\n1 end\n1 %s\n" % (full, b"y" * 256, b"y" * rest)


@pytest.mark.parametrize(
    ("folder", "environment"),
    [("word_count", {"TOP": b"0"}), ("word_count", {"TOP": b"many"}), ("text_digest", {"DIGEST_ALGORITHM": b"md4"})],
)
@pytest.mark.asyncio
async def test_service__when__option_is_wrong__then__422_that_names_it(
    gateway: EmbeddedGateway, folder: str, environment: Mapping[str, bytes]
) -> None:
    (name,) = environment
    async with instance(gateway, folder, environment) as running:
        with pytest.raises(BadAnswer, match=f"answered 422: {name}=") as caught:
            await output(gateway, running, b"text")
    assert caught.value.status == 422


@pytest.mark.asyncio
async def test_service__when__path_method_or_body_is_wrong__then__an_error_status_and_it_goes_on(
    gateway: EmbeddedGateway,
) -> None:
    async with instance(gateway, "text_digest") as running, aiohttp.ClientSession() as session:
        await output(gateway, running, b"listens from now on")
        (endpoint,) = running.slots[PORT]
        url = f"http://{endpoint.host}:{endpoint.port}"
        async with session.post(f"{url}/other", data=b"") as answer:
            assert answer.status == 404
        async with session.get(f"{url}/run") as answer:
            assert answer.status == 501
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        writer.write(b"POST /run HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert json.loads(await output(gateway, running, b"ok"))["bytes"] == 2
