"""The gateway client against gRPC servers that answer as a case needs it."""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import grpc
import pytest
from google.protobuf.message import Message

from aihd.errors import UsageError
from aihd.nodo.frames import Decoder, encode
from aihd.nodo.gate import Gate
from aihd.nodo.gateway import (
    BrokenAnswer,
    Endpoint,
    GatewayClient,
    GatewayError,
    Quarantined,
    Refused,
    TooSlow,
    UnknownService,
    Unreachable,
)
from aihd.nodo.hashing import ALGORITHMS, DEFAULT
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.pow import solve_pow
from aihd.nodo.pricing import Estimate
from aihd.nodo.profiles import VNEW

Handler = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]
SERVICE = bytes(range(32))
SHA3_256 = ALGORITHMS["sha3_256"](b"")
CLIENT = "0123456789abcdef" * 2
TOKEN = "5f" * 32
KINDS = {1: pb.Client, 3: pb.Configuration, 4: pb.Metadata.HashTag.Hash}


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """The port of a server that gives every method to `handler`, as raw frames."""

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            assert details.method.startswith("/celaut.Gateway/")
            return grpc.stream_stream_rpc_method_handler(handler)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def at(port: int, *, hash_algorithm: str = DEFAULT, gate: Gate | None = None) -> GatewayClient:
    """A client that asks nobody about version and TLS, so that a handler sees nothing but the calls of its case."""
    return GatewayClient(
        f"127.0.0.1:{port}", timeout=5, security="plaintext", profile=VNEW, hash_algorithm=hash_algorithm, gate=gate
    )


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[GatewayClient]:
    """A client of a server that gives every method to `handler`."""
    async with serving(handler) as port, at(port) as client:
        yield client


def answering(*frames: bytes) -> Handler:
    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for frame in frames:
            yield frame

    return handler


def failing(code: grpc.StatusCode, text: str, *first: bytes) -> Handler:
    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for frame in first:
            yield frame
        await context.abort(code, text)

    return handler


def framed(message: Message, index: int = 1) -> bytes:
    (frame,) = encode(message, index)
    return frame.SerializeToString()


def instance(token: str = "t" * 64) -> pb.ServiceInstance:
    made = pb.ServiceInstance(token=token)
    made.instance.api = b"\x0a\x02\x08\x01"
    slot = made.instance.uri_slot.add(internal_port=8080)
    slot.uri.add(ip="192.168.200.7", port=8080)
    slot.uri.add(ip="10.0.0.1", port=50001)
    return made


async def start(client: GatewayClient, timeout: float = 5) -> object:
    return await client.start_service(SERVICE, client_id=CLIENT, environment={}, timeout=timeout)


@pytest.mark.asyncio
async def test_start_service__when__environment_is_given__then__client_configuration_and_hash_arrive_in_this_order() -> (
    None
):
    received: list[object] = []

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        decoder = Decoder(KINDS)
        async for frame in requests:
            message = decoder.feed(Buffer.FromString(frame))
            received.extend([] if message is None else [message])
        decoder.finish()
        yield Buffer(signal=True).SerializeToString()
        yield framed(instance())

    async with served(handler) as client:
        started = await client.start_service(
            SERVICE, client_id=CLIENT, environment={"TOP": b"3", "RAW": b"\xff"}, timeout=5
        )
    configuration = pb.Configuration(
        environment_variables=[pb.BytesKeyValue(key="TOP", value=b"3"), pb.BytesKeyValue(key="RAW", value=b"\xff")]
    )
    assert received == [
        pb.Client(client_id=CLIENT),
        configuration,
        pb.Metadata.HashTag.Hash(type=SHA3_256, value=SERVICE),
    ]
    assert SHA3_256.hex() == "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
    assert started.slots == {8080: (Endpoint("192.168.200.7", 8080), Endpoint("10.0.0.1", 50001))}
    assert started.token not in repr(started)


@pytest.mark.asyncio
async def test_start_service__when__answer_is_larger_than_a_frame__then__it_arrives() -> None:
    large = instance()
    large.instance.api = b"x" * (3 << 20)
    frames = [frame.SerializeToString() for frame in encode(large, 1)]
    assert len(frames) > 4
    async with served(answering(*frames)) as client:
        started = await client.start_service(SERVICE, client_id=CLIENT, environment={}, timeout=5)
    assert 8080 in started.slots


@pytest.mark.asyncio
async def test_start_service__when__environment_is_larger_than_a_frame__then__it_arrives() -> None:
    size = 0

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        nonlocal size
        decoder = Decoder(KINDS)
        async for frame in requests:
            message = decoder.feed(Buffer.FromString(frame))
            if isinstance(message, pb.Configuration):
                size = len(message.environment_variables[0].value)
        yield framed(instance())

    async with served(handler) as client:
        await client.start_service(SERVICE, client_id=CLIENT, environment={"BIG": b"x" * (2 << 20)}, timeout=5)
    assert size == 2 << 20


@pytest.mark.asyncio
async def test_start_service__when__call_ends_with_no_answer__then__unknown_service() -> None:
    async with served(answering(Buffer(signal=True).SerializeToString())) as client:
        with pytest.raises(UnknownService, match=SERVICE.hex()):
            await start(client)


@pytest.mark.asyncio
async def test_start_service__when__error_follows_the_answer__then__the_instance_is_not_lost() -> None:
    async with served(failing(grpc.StatusCode.UNKNOWN, "too late", framed(instance()))) as client:
        assert await start(client)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNKNOWN, Refused),
        (grpc.StatusCode.INVALID_ARGUMENT, Refused),
        (grpc.StatusCode.UNAVAILABLE, Unreachable),
        (grpc.StatusCode.UNIMPLEMENTED, BrokenAnswer),
    ],
)
@pytest.mark.asyncio
async def test_start_service__when__node_ends_with_a_status__then__the_error_of_its_kind_carries_the_text(
    code: grpc.StatusCode, kind: type[Exception]
) -> None:
    async with served(failing(code, "Exception iterating responses: no\n  disk " + "x" * 5000)) as client:
        with pytest.raises(kind, match=r"^StartService: no disk x") as caught:
            await start(client)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "frames",
    [
        [b"\xff\xff\xff"],
        [framed(pb.ServiceInstance())],
        [Buffer(chunk=b"\xff\xff", head=Buffer.Head(index=1), separator=True).SerializeToString()],
        [Buffer(chunk=b"x", head=Buffer.Head(index=9), separator=True).SerializeToString()],
        [Buffer(chunk=b"x", head=Buffer.Head(index=0), separator=True).SerializeToString()],
        [Buffer(chunk=instance().SerializeToString(), head=Buffer.Head(index=1)).SerializeToString()],
        [Buffer(chunk=b"x" * (5 << 20), head=Buffer.Head(index=1), separator=True).SerializeToString()],
    ],
    ids=["no frame", "no token", "no message", "unknown index", "raw bytes", "no separator", "frame over the limit"],
)
@pytest.mark.asyncio
async def test_start_service__when__answer_breaks_the_protocol__then__broken_answer(frames: list[bytes]) -> None:
    async with served(answering(*frames)) as client:
        with pytest.raises(BrokenAnswer, match=r"^StartService: "):
            await start(client)


@pytest.mark.asyncio
async def test_start_service__when__node_is_silent__then__too_slow_after_the_timeout() -> None:
    async def silent(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        await asyncio.sleep(30)
        yield b""

    async with served(silent) as client:
        with pytest.raises(TooSlow, match=r"no answer within 0\.3 s"):
            await start(client, timeout=0.3)


@pytest.mark.asyncio
async def test_get_metrics__when__nobody_listens__then__unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with GatewayClient(f"127.0.0.1:{held.getsockname()[1]}", timeout=5) as client:
            with pytest.raises(Unreachable, match=r"127\.0\.0\.1:"):
                await client.get_metrics("t")


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("-12", -12), ("9" * 30, int("9" * 30))])
@pytest.mark.asyncio
async def test_get_metrics__when__balance_is_a_decimal__then__the_integer(text: str, value: int) -> None:
    async with served(answering(framed(pb.Metrics(balance=pb.Amount(n=text))))) as client:
        assert await client.get_metrics("t") == value


@pytest.mark.parametrize("text", ["", "1e58", "0x10", "1.5", "9" * 5000])
@pytest.mark.asyncio
async def test_get_metrics__when__balance_is_no_decimal__then__broken_answer(text: str) -> None:
    async with served(answering(framed(pb.Metrics(balance=pb.Amount(n=text))))) as client:
        with pytest.raises(BrokenAnswer, match="expected a decimal integer"):
            await client.get_metrics("t")


@pytest.mark.asyncio
async def test_stop_service__when__refund_has_no_amount__then__zero() -> None:
    async with served(answering(framed(pb.Refund()))) as client:
        assert await client.stop_service("t") == 0


@pytest.mark.asyncio
async def test_get_metrics__when__refusal_repeats_the_token__then__the_error_does_not() -> None:
    async with served(failing(grpc.StatusCode.UNKNOWN, f"Invalid token: {TOKEN}")) as client:
        with pytest.raises(Refused, match="Invalid token") as caught:
            await client.get_metrics(TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("text", ["database is locked", "Client X is calling too fast"])
@pytest.mark.asyncio
async def test_stop_service_confirmed__when__metrics_fail_for_another_reason__then__not_taken_for_gone(
    text: str,
) -> None:
    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        calls.append(1)
        if len(calls) % 2:  # StopService, GetMetrics, StopService, ...
            yield framed(pb.Refund(amount=pb.Amount(n="7" if len(calls) == 1 else "0")))
        else:
            await context.abort(grpc.StatusCode.UNKNOWN, text if len(calls) < 4 else "Invalid token: gone")

    calls: list[int] = []
    async with served(handler) as client:
        with pytest.raises(TooSlow, match="still runs"):
            await client.stop_service_confirmed(TOKEN, timeout=0)
        assert await client.stop_service_confirmed(TOKEN, timeout=5) == 0
    assert len(calls) == 4


@pytest.mark.parametrize("difficulty", [0, 1, 3])
@pytest.mark.asyncio
async def test_solve_pow__when__node_asks_for_zeros__then__the_solution_has_them(difficulty: int) -> None:
    solution = await solve_pow("client:nonce:1:mac", difficulty)
    assert hashlib.blake2b(f"client:nonce:1:mac{solution}".encode()).hexdigest().endswith("0" * difficulty)


@pytest.mark.asyncio
async def test_solve_pow__when__difficulty_is_absurd__then__refused_at_once() -> None:
    with pytest.raises(Refused, match="60 digits of work"):
        await solve_pow("challenge", 60)


@pytest.mark.asyncio
async def test_call__when__client_is_not_open_or_hash_is_short__then__usage_error() -> None:
    client = GatewayClient("127.0.0.1:1", security="plaintext", profile=VNEW)
    with pytest.raises(UsageError, match="not open"):
        await client.get_metrics("t")
    async with client:
        with pytest.raises(UsageError, match="service_hash has 3 bytes"):
            await client.start_service(b"abc", client_id=CLIENT, environment={}, timeout=1)


@pytest.mark.parametrize("address", ["127.0.0.1", ":1", "host:0", "host:65536", "host:x", ""])
@pytest.mark.asyncio
async def test_call__when__address_is_no_host_and_port__then__usage_error_repeats_it(address: str) -> None:
    async with GatewayClient(address) as client:
        with pytest.raises(UsageError, match=re.escape(repr(address))):
            await client.get_metrics("t")


def test_client__when__hash_algorithm_is_unknown__then__usage_error_names_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'md5' should be one of sha3_256, sha256, shake_256, blake2b"):
        GatewayClient("127.0.0.1:1", hash_algorithm="md5")


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.asyncio
async def test_start_service__when__node_names_services_by_another_algorithm__then__hash_says_which(name: str) -> None:
    types: list[bytes] = []

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        decoder = Decoder(KINDS)
        async for frame in requests:
            message = decoder.feed(Buffer.FromString(frame))
            types.extend([message.type] if isinstance(message, pb.Metadata.HashTag.Hash) else [])
        yield framed(instance())

    async with serving(handler) as port, at(port, hash_algorithm=name) as client:
        await start(client)
    assert types == [ALGORITHMS[name](b"")]


@pytest.mark.parametrize(("window", "made"), [(1000.0, 3), (0.05, 7)])
@pytest.mark.asyncio
async def test_gated_calls__when__the_client_is_fast__then__the_rest_wait_for_the_next_window(
    window: float, made: int
) -> None:
    calls: list[str] = []

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        calls.append("call")
        async for _ in requests:
            pass
        yield framed(instance())

    async with serving(handler) as port, at(port, gate=Gate(3, window)) as client:
        starts = [asyncio.ensure_future(start(client)) for _ in range(7)]
        done, waiting = await asyncio.wait(starts, timeout=0.5 if made < 7 else 30)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
    assert len(done) == len(calls) == made


@pytest.mark.asyncio
async def test_gated_calls__when__node_quarantines_the_client__then__it_is_left_alone_until_that_is_over() -> None:
    calls: list[str] = []

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        calls.append("call")
        async for _ in requests:
            pass
        await context.abort(grpc.StatusCode.UNKNOWN, "Client X is calling too fast and is temporarily quarantined.")
        yield b""

    async with serving(handler) as port, at(port) as client:
        for _ in range(3):
            with pytest.raises(Quarantined) as caught:
                await start(client)
    assert calls == ["call"]
    assert 0 < caught.value.seconds <= 300


@pytest.mark.asyncio
async def test_estimated_cost__when__answered__then__amounts_and_the_most_that_a_run_costs() -> None:
    message = pb.EstimatedCost(cost=pb.Amount(n="1000"), maintenance_seconds_loop=10)
    message.init_maintenance_cost.n, message.max_maintenance_cost.n = "7", "9"
    async with served(answering(framed(message))) as client:
        estimate = await client.estimated_cost(SERVICE, client_id=CLIENT)
    assert estimate == Estimate(1000, 7, 9, 10)
    assert [estimate.of_run(seconds) for seconds in (0, 0.1, 10, 10.1)] == [1000, 1009, 1009, 1018]


@pytest.mark.parametrize(("cost", "loop"), [("1.5", 10), ("-1", 10), ("1", -10)])
@pytest.mark.asyncio
async def test_estimated_cost__when__it_makes_no_sense__then__broken_answer(cost: str, loop: int) -> None:
    message = pb.EstimatedCost(cost=pb.Amount(n=cost), maintenance_seconds_loop=loop)
    async with served(answering(framed(message))) as client:
        with pytest.raises(BrokenAnswer, match="GetServiceEstimatedCost"):
            await client.estimated_cost(SERVICE, client_id=CLIENT)


@pytest.mark.parametrize(("tag", "rate"), [("ergo", "0"), ("ergo", ""), ("bitcoin", "5")])
@pytest.mark.asyncio
async def test_declared_rate__when__node_takes_no_erg__then__refused(tag: str, rate: str) -> None:
    peer = pb.Peer()
    peer.payment_contracts.add(mu_per_unit=pb.Amount(n=rate)).contract.ledger.tags.append(tag)
    async with served(answering(framed(peer))) as client:
        with pytest.raises(Refused, match="declares no rate for ERG"):
            await client.declared_rate(CLIENT)


@pytest.mark.asyncio
async def test_start_service__when__answers_are_nonsense__then__an_instance_or_a_gateway_error_and_never_a_hang() -> (
    None
):
    random = Random(11)
    good = instance().SerializeToString()

    def frame() -> bytes:
        body = random.choice([good, good[: random.randrange(len(good))], random.randbytes(20), b""])
        made = Buffer(chunk=body, head=Buffer.Head(index=random.choice([0, 1, 1, 2, -1])), separator=True)
        for name in ("chunk", "head", "separator"):
            if random.random() < 0.2:
                made.ClearField(name)
        data = made.SerializeToString()
        return data if random.random() < 0.7 else data[: random.randrange(len(data) + 1)] + random.randbytes(3)

    async def handler(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        for _ in range(random.randrange(4)):
            yield frame()

    kinds = Counter[str]()
    async with serving(handler) as port, at(port, gate=Gate(1000, 1)) as client:
        for _ in range(300):
            try:
                await start(client)
                kinds["instance"] += 1
            except GatewayError as error:
                kinds[type(error).__name__] += 1
    assert kinds.total() == 300
    assert kinds.keys() == {"instance", "BrokenAnswer", "UnknownService"}
