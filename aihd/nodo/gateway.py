# ruff: noqa: N818 - the name of a failure is its kind
"""Client of nodo's Gateway: start a service, stop it, ask for balances.

Every failure says which kind it is, because they lead to different acts: the node refused (`Refused`), nobody answered
(`Unreachable`, `TooSlow`: whether the node acted is unknown), the node does not hold the service yet
(`UnknownService`), or what came back is not what the protocol promises (`BrokenAnswer`).
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from aihd.errors import DependencyError, UsageError, one_line
from aihd.nodo.database import holds_instance
from aihd.nodo.frames import FrameError, decode, encode_all
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer

SHA3_256 = hashlib.sha3_256().digest()
"""How nodo names a hash algorithm: the hash it gives to nothing."""

HASH_BYTES = 32
PATH = "/celaut.Gateway/"
FRAME_LIMIT = 4 << 20
"""Bytes of one frame: what nodo itself receives at most. Its library sends 1 MiB."""

MAX_POW_DIFFICULTY = 6
"""Hex digits; 6 are 17 million hashes, about 15 seconds. nodo asks for one digit per 500 clients it has."""

POW_SLICE = 10_000  # hashes between two turns of the event loop
PAUSES = (0.0, 0.05, 0.25)  # seconds after each message, by attempt: see _ended_while_sending
DRAIN = 2.0  # seconds for a node to end a call after its answer
STOP_PAUSE = 0.5  # seconds between two looks at an instance that should be gone

M = TypeVar("M", bound=Message)
Call = Sequence[tuple[int, Message]]


class GatewayError(DependencyError):
    """A call to nodo's gateway gave no usable answer."""


class Refused(GatewayError):
    """The node said no; the text is the node's own."""


class Unreachable(GatewayError):
    """The connection could not be made, or broke. In the second case the node may have acted."""


class TooSlow(GatewayError):
    """No answer in time; the node may have acted."""


class UnknownService(GatewayError):
    """The node has no such service. It looks for it among its peers from now on, so a later call may succeed."""


class BrokenAnswer(GatewayError):
    """The answer is not what the protocol promises."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a slot of an instance listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """A running instance. `token` is a bearer credential (whoever has it can stop the instance): never publish it.

    `slots` maps the port that the service declared to the addresses where it is reached. The node answers when the
    instance's network is up: the port may begin to listen later.
    """

    token: str = field(repr=False)
    slots: Mapping[int, tuple[Endpoint, ...]]


class GatewayClient:
    """One plaintext channel to a gateway: `async with GatewayClient("192.168.200.1:50001") as gateway: ...`."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        """`address` is host:port; `timeout` in seconds bounds each call that takes no timeout of its own."""
        self._address = address
        self._timeout = timeout
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(
            self._address,
            options=[
                ("grpc.max_receive_message_length", FRAME_LIMIT),
                # A gateway that comes back is found at once, not after gRPC's own back-off of up to two minutes.
                ("grpc.max_reconnect_backoff_ms", 2000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def generate_client(self) -> str:
        """A client id that the node has accepted: 32 hex digits, proposed by us, paid for with work if it asks."""
        client_id = uuid.uuid4().hex
        kinds: dict[int, type[Message]] = {1: pb.Client, 2: pb.PoWRequired}
        answer = await self._ask("GenerateClient", [(1, pb.Client(client_id=client_id))], kinds, self._timeout)
        if isinstance(answer, pb.PoWRequired):
            solution = await solve_pow(answer.challenge, answer.difficulty)
            proof = pb.Client(client_id=client_id, challenge=answer.challenge, pow_solution=solution)
            answer = await self._ask("GenerateClient", [(1, proof)], kinds, self._timeout)
        if isinstance(answer, pb.PoWRequired):
            raise Refused("GenerateClient: the node asked for work again after a solution was sent")
        return _expect("GenerateClient", answer, pb.Client).client_id or client_id

    async def start_service(
        self, service_hash: bytes, *, client_id: str, environment: Mapping[str, bytes], timeout: float
    ) -> ServiceInstance:
        """Start one instance of the service with this 32-byte SHA3-256 id. UnknownService when the node lacks it."""
        if len(service_hash) != HASH_BYTES:
            raise UsageError(f"service_hash has {len(service_hash)} bytes, a SHA3-256 id has {HASH_BYTES}")
        call: list[tuple[int, Message]] = [(1, pb.Client(client_id=client_id))]
        configuration = pb.Configuration()
        for key, value in environment.items():
            configuration.environment_variables.add(key=key, value=value)
        if environment:
            call.append((3, configuration))
        # Last: the node launches on seeing the hash, with the configuration it has by then.
        call.append((4, pb.Metadata.HashTag.Hash(type=SHA3_256, value=service_hash)))
        answer = await self._ask("StartService", call, {1: pb.ServiceInstance}, timeout)
        if answer is None:
            raise UnknownService(f"StartService: the node does not hold service {service_hash.hex()}")
        return _instance(_expect("StartService", answer, pb.ServiceInstance))

    async def stop_service(self, token: str) -> int:
        """Ask to stop an instance; the refund in MU. 0 proves nothing: the node answers so to any token."""
        answer = await self._ask("StopService", [(1, pb.TokenMessage(token=token))], {1: pb.Refund}, self._timeout)
        return _integer("StopService", _expect("StopService", answer, pb.Refund).amount, absent=0)

    async def get_metrics(self, token: str) -> int:
        """Balance in MU of an instance (by its token) or of a client (by its id). Refused when there is none."""
        answer = await self._ask("GetMetrics", [(1, pb.TokenMessage(token=token))], {1: pb.Metrics}, self._timeout)
        return _integer("GetMetrics", _expect("GetMetrics", answer, pb.Metrics).balance)

    async def stop_service_confirmed(self, token: str, *, timeout: float = 30.0, database: Path | None = None) -> int:
        """Stop an instance and see that it is gone; the refund in MU. TooSlow when it is still there after `timeout`.

        With `database` (nodo's own file) its rows are the proof, which is also right for an instance that nodo runs on
        a peer. Without, the node's refusal of the token as invalid is.
        """
        deadline = time.monotonic() + timeout
        refund = 0
        while True:
            refund = await self.stop_service(token) or refund
            if await self._is_gone(token, database):
                return refund
            if time.monotonic() >= deadline:
                raise TooSlow(f"StopService: an instance still runs {timeout:g} s after it was told to stop")
            await asyncio.sleep(STOP_PAUSE)

    async def _is_gone(self, token: str, database: Path | None) -> bool:
        if database is not None:
            return not await asyncio.to_thread(holds_instance, database, token)
        try:
            await self.get_metrics(token)
        except Refused as error:
            # Any other refusal (a locked database, say) tells nothing about the instance.
            return "invalid token" in str(error).lower()
        return False

    async def _ask(
        self, method: str, call: Call, kinds: Mapping[int, type[Message]], timeout: float
    ) -> Message | bytes | None:
        """First message of the answer, None when the call ended well without one."""
        for pause in PAUSES:
            try:
                return await self._ask_once(method, call, kinds, timeout, pause)
            except grpc.aio.AioRpcError as error:
                if not _ended_while_sending(error):
                    raise _failure(method, error, timeout, call) from error
        raise Refused(f"{method}: the node ended the call before it had read the request")

    async def _ask_once(
        self, method: str, call: Call, kinds: Mapping[int, type[Message]], timeout: float, pause: float
    ) -> Message | bytes | None:
        if self._channel is None:
            raise UsageError(f"{method}: the gateway client is not open; use `async with GatewayClient(...)`")
        rpc = self._channel.stream_stream(PATH + method, request_serializer=Buffer.SerializeToString)
        stream = rpc(_paced(call, pause), timeout=timeout)
        try:
            answers = decode(stream, kinds)
            async for answer in answers:
                await _drain(answers)
                return answer
        except FrameError as error:
            raise BrokenAnswer(f"{method}: {error}") from error
        finally:
            stream.cancel()
        return None


async def _paced(call: Call, pause: float) -> AsyncIterator[Buffer]:
    """The frames of a call, with time after each message for the node to refuse it."""
    for frame in encode_all(call):
        yield frame
        if frame.separator:
            await asyncio.sleep(pause)


def _ended_while_sending(error: grpc.aio.AioRpcError) -> bool:
    """Whether the node ended the call before all was sent, which makes grpc.aio forget the status it sent (grpc #36066).

    What was being sent did not arrive, and no call acts before its last message has: so it may be made again.
    """
    return error.code() is grpc.StatusCode.INTERNAL and "SendMessageOperation" in (error.debug_error_string() or "")


async def _drain(answers: AsyncIterator[Message | bytes]) -> None:
    """Let the node end the call by itself: cancelling right after the answer could cut its own closing work short.

    Whatever happens here, the answer stands; losing the token of a started instance would be the worse end.
    """
    with suppress(grpc.aio.AioRpcError, FrameError, TimeoutError):
        async with asyncio.timeout(DRAIN):
            async for _ in answers:
                pass


def _failure(method: str, error: grpc.aio.AioRpcError, timeout: float, call: Call) -> GatewayError:
    text = (error.details() or error.code().name).removeprefix("Exception iterating responses: ")
    for _, message in call:
        if isinstance(message, pb.TokenMessage):  # nodo repeats it, and who reads a log must not get it
            text = text.replace(message.token, "(token)")
    text = f"{method}: {one_line(Exception(text))}"
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unreachable(text)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TooSlow(f"{method}: no answer within {timeout:g} s")
        case grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.INTERNAL | grpc.StatusCode.RESOURCE_EXHAUSTED:
            return BrokenAnswer(text)
        case _:
            return Refused(text)


def _expect(method: str, answer: Message | bytes | None, kind: type[M]) -> M:
    if not isinstance(answer, kind):
        came = "no answer" if answer is None else type(answer).__name__
        raise BrokenAnswer(f"{method}: {came}, expected {kind.__name__}")
    return answer


def _integer(method: str, amount: pb.Amount, *, absent: int | None = None) -> int:
    if not amount.n and absent is not None:
        return absent
    try:
        return int(amount.n, 10)
    except ValueError:
        raise BrokenAnswer(f"{method}: amount {amount.n[:40]!r}, expected a decimal integer") from None


def _instance(message: pb.ServiceInstance) -> ServiceInstance:
    if not message.token:
        raise BrokenAnswer("StartService: an instance without token")
    return ServiceInstance(message.token, {slot.internal_port: _endpoints(slot) for slot in message.instance.uri_slot})


def _endpoints(slot: pb.Instance.Uri_Slot) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(uri.ip, uri.port) for uri in slot.uri if uri.ip and 0 < uri.port < 1 << 16)


async def solve_pow(challenge: str, difficulty: int) -> str:
    """A text s for which the BLAKE2b-512 of challenge ‖ s, in hex, ends with `difficulty` zeros.

    Refused when that would take longer than a client id is worth (over MAX_POW_DIFFICULTY digits).
    """
    if difficulty > MAX_POW_DIFFICULTY:
        raise Refused(f"GenerateClient: the node asks for {difficulty} digits of work, at most {MAX_POW_DIFFICULTY}")
    start, zeros = hashlib.blake2b(challenge.encode()), "0" * difficulty
    for number in itertools.count():
        attempt = start.copy()
        attempt.update(b"%d" % number)
        if attempt.hexdigest().endswith(zeros):
            return str(number)
        if number % POW_SLICE == 0:
            await asyncio.sleep(0)
    raise AssertionError("unreachable: count() has no end")
