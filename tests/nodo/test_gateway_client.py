"""The gateway client against gRPC servers that answer as a case needs it."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from aihd.errors import UsageError
from aihd.nodo.frames import Decoder, encode
from aihd.nodo.gateway import (
    SHA3_256,
    BrokenAnswer,
    Endpoint,
    GatewayClient,
    Refused,
    TooSlow,
    UnknownService,
    Unreachable,
    solve_pow,
)
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer

Handler = Callable[[AsyncIterator[bytes], grpc.aio.ServicerContext], AsyncIterator[bytes]]
SERVICE = bytes(range(32))
CLIENT = "0123456789abcdef" * 2
TOKEN = "5f" * 32
KINDS = {1: pb.Client, 3: pb.Configuration, 4: pb.Metadata.HashTag.Hash}


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[GatewayClient]:
    """A client of a server that gives every method to `handler`, as raw frames."""

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            assert details.method.startswith("/celaut.Gateway/")
            return grpc.stream_stream_rpc_method_handler(handler)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with GatewayClient(f"127.0.0.1:{port}", timeout=5) as client:
            yield client
    finally:
        await server.stop(None)


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


def framed(message: pb.ServiceInstance | pb.Refund | pb.Metrics | pb.TokenMessage, index: int = 1) -> bytes:
    (frame,) = encode(message, index)
    return frame.SerializeToString()


def instance(token: str = "t" * 64) -> pb.ServiceInstance:
    made = pb.ServiceInstance(token=token)
    made.instance.api.slot.add(port=1)
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
    large.instance.api.slot[0].transport.prose = "x" * (3 << 20)
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
            with pytest.raises(Unreachable, match=r"^GetMetrics: "):
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
    client = GatewayClient("127.0.0.1:1")
    with pytest.raises(UsageError, match="not open"):
        await client.get_metrics("t")
    with pytest.raises(UsageError, match="service_hash has 3 bytes"):
        await client.start_service(b"abc", client_id=CLIENT, environment={}, timeout=1)
