"""The connection to a gateway, opened and found out about when first needed, and a question and its answer on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import grpc
from google.protobuf.message import Message

from aihd.errors import UsageError
from aihd.nodo.failures import BrokenAnswer, Refused, Unreachable, from_status, made_up
from aihd.nodo.frames import FrameError, decode, encode_all
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer
from aihd.nodo.profiles import Profile, detect
from aihd.nodo.transport import Link, Security, connect
from aihd.nodo.tunnel import Stream

# What must not happen twice: asked with a pause from the start, and not again once the last message may have arrived.
ACTS: Final = frozenset({"StartService"})
PAUSES: Final = (0.0, 0.05, 0.25)  # seconds after each message, by attempt: see failures.made_up
DRAIN: Final = 2.0  # seconds for a node to end a call after its answer

Call = Sequence[tuple[int, Message]]


class Connection:
    """One gateway's channel and version. Both are forgotten when the connection breaks."""

    def __init__(
        self, address: str, timeout: float, security: Security, peer_id: str | None, profile: Profile | None
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._security: Security = security
        self._peer_id = peer_id
        self._given = self._profile = profile
        self._link: Link | None = None
        self._left: list[Link] = []  # broken, but calls may still be ending on them
        self._finding: asyncio.Lock | None = None  # None: not open

    def open(self) -> None:
        """To be called before the first call."""
        self._finding = asyncio.Lock()

    async def close(self) -> None:
        """End all calls."""
        links, self._link, self._left, self._finding = [self._link, *self._left], None, [], None
        for link in links:
            if link is not None:
                await link.channel.close()

    def broken(self) -> None:
        """Find out anew, with the next call, what answers."""
        self._profile = self._given
        if self._link is not None and self._security != "plaintext":  # there gRPC connects again by itself
            self._left.append(self._link)
            self._link = None

    async def profile(self) -> Profile:
        """The version of nodo that answers; BrokenAnswer when it is none, Unreachable, TooSlow."""
        link = await self._linked("profile")
        if self._profile is None:
            async with self._lock("profile"):
                if self._profile is None:
                    self._profile = await detect(lambda service, method: self._implements(link, service, method))
        return self._profile

    async def peer_id(self) -> str | None:
        """The identity that the gateway's certificate proves; None over plaintext."""
        return (await self._linked("peer id")).peer_id

    async def stream(self, method: str, timeout: float | None, frames: AsyncIterator[Buffer] | None = None) -> Stream:
        """An open call of a method of the gateway's own version."""
        profile = await self.profile()
        return _stream((await self._linked(method)).channel, f"/{profile.service}/{method}", timeout, frames)

    async def ask(
        self, method: str, call: Call, kinds: Mapping[int, type[Message]], timeout: float
    ) -> Message | bytes | None:
        """First message of the answer, None when the call ended well without one; GatewayError."""
        try:
            return await self._ask(method, call, kinds, timeout)
        except Unreachable as error:
            self.broken()
            if "handshake failed" not in str(error).lower():
                raise
        # Nothing was sent: the certificate is another one. Either nodo was restarted, or somebody else answers.
        return await self._ask(method, call, kinds, timeout)

    async def _ask(
        self, method: str, call: Call, kinds: Mapping[int, type[Message]], timeout: float
    ) -> Message | bytes | None:
        acts = method in ACTS
        for pause in PAUSES[1:] if acts else PAUSES:
            whole = asyncio.Event()
            stream = await self.stream(method, timeout, _paced(call, pause, whole))
            try:
                return await _first(method, stream, kinds)
            except grpc.aio.AioRpcError as error:
                if not made_up(error):
                    secrets = [message.token for _, message in call if isinstance(message, pb.TokenMessage)]
                    raise from_status(method, error, timeout, secrets) from error
                if acts and whole.is_set():
                    raise Unreachable(
                        f"{method}: the call ended before its answer was read; the node may have acted"
                    ) from error
        # No call acts before its last message has arrived, and one of these did not, or to act again changes nothing.
        raise Refused(f"{method}: the node ended the call before it had read the request")

    async def _linked(self, wanted: str) -> Link:
        async with self._lock(wanted):
            if self._link is None:
                self._link = await connect(self._address, self._security, self._peer_id, self._timeout)
                # The node may show another certificate later, but must stay the same node.
                self._peer_id = self._link.peer_id
                while len(self._left) > 1:
                    await self._left.pop(0).channel.close()
            return self._link

    def _lock(self, wanted: str) -> asyncio.Lock:
        if self._finding is None:
            raise UsageError(f"{wanted}: the gateway client is not open; use `async with GatewayClient(...)`")
        return self._finding

    async def _implements(self, link: Link, service: str, method: str) -> bool:
        """Whether the gateway has a method: it is called without a message, which no method acts on."""
        stream = _stream(link.channel, f"/{service}/{method}", self._timeout, _nothing())
        try:
            async for _ in stream:
                break
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            failure = from_status("version", error, self._timeout)
            if not isinstance(failure, Refused) and error.code() is not grpc.StatusCode.INTERNAL:
                self.broken()
                raise failure from error
        finally:
            stream.cancel()
        return True


async def _first(method: str, stream: Stream, kinds: Mapping[int, type[Message]]) -> Message | bytes | None:
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


def _stream(
    channel: grpc.aio.Channel, path: str, timeout: float | None, frames: AsyncIterator[Buffer] | None
) -> Stream:
    return channel.stream_stream(path, request_serializer=Buffer.SerializeToString)(frames, timeout=timeout)


async def _paced(call: Call, pause: float, whole: asyncio.Event) -> AsyncIterator[Buffer]:
    """The frames of a call, with time after each message for the node to refuse it; `whole` is set before the last one."""
    frames = list(encode_all(call))
    for number, frame in enumerate(frames, start=1):
        if number == len(frames):
            whole.set()
        yield frame
        if frame.separator:
            await asyncio.sleep(pause)


async def _nothing() -> AsyncIterator[Buffer]:
    for frame in list[Buffer]():
        yield frame


async def _drain(answers: AsyncIterator[Message | bytes]) -> None:
    """Let the node end the call by itself: cancelling right after the answer could cut its own closing work short.

    Whatever happens here, the answer stands; losing the token of a started instance would be the worse end.
    """
    with suppress(grpc.aio.AioRpcError, FrameError, TimeoutError):
        async with asyncio.timeout(DRAIN):
            async for _ in answers:
                pass
