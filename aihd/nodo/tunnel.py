"""A raw stream of bytes to one slot of a running instance, through nodo's ServiceTunnel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

import grpc

from aihd.nodo.failures import BrokenAnswer, GatewayError, Unreachable, from_status, made_up
from aihd.nodo.frames import CHUNK, RAW, FrameError, decode, encode
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb.aihd_buffer_pb2 import Buffer

METHOD: Final = "ServiceTunnel"
REFUSAL_WAIT: Final = 2.0  # seconds for a node to say why it ended a tunnel: see `refusal`
PIECE: Final = CHUNK - 1
"""Bytes of one frame: nodo's library would split a longer one."""

Stream: TypeAlias = grpc.aio.StreamStreamCall


class Tunnel:
    """Write, half close, and at the same time read: `async for chunk in tunnel`.

    Whatever goes wrong is told to the reader, and only there: a service may close before it has read all and still have
    answered well, so a writer only learns that nobody takes its bytes any more.
    """

    def __init__(
        self, stream: Stream, token: str, timeout: float | None, why: Callable[[], Awaitable[GatewayError | None]]
    ) -> None:
        """`stream`: an open call whose TokenMessage is sent; `why` asks the node why it ended a call."""
        self._stream = stream
        self._token = token
        self._timeout = timeout
        self._why = why
        self._chunks = self._read()

    async def write(self, data: bytes) -> bool:
        """Send bytes, as fast as the service takes them (no bytes: nothing); False when it has closed."""
        for start in range(0, len(data), PIECE):
            for frame in encode(data[start : start + PIECE], RAW):
                if not await self._send(frame):
                    return False
        return True

    async def half_close(self) -> None:
        """Say that no more bytes come: the service sees the end of its input."""
        await self._stream.done_writing()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes that the service sends, as they come, until it closes.

        Refused (with nodo's reason: no such instance or slot, nobody listens there), Unreachable, TooSlow or BrokenAnswer
        when the tunnel ended otherwise: then the bytes that came are not all.
        """
        return self._chunks

    async def aclose(self) -> None:
        """End the call, whatever its state."""
        self._stream.cancel()
        await self._chunks.aclose()

    async def _send(self, frame: Buffer) -> bool:
        try:
            await self._stream.write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the second: the call had ended before
            return False
        return True

    async def _read(self) -> AsyncGenerator[bytes, None]:
        silent = True
        try:
            async for message in decode(self._stream, {}):
                if isinstance(message, bytes) and message:
                    silent = False
                    yield message
        except FrameError as error:
            raise BrokenAnswer(f"{METHOD}: {error}") from error
        except grpc.aio.AioRpcError as error:
            if not made_up(error):
                raise from_status(METHOD, error, self._timeout, [self._token]) from error
            reason = await self._why() if silent else None
            text = f"{METHOD}: the tunnel closed while bytes were on their way in; its answer may not be whole"
            raise reason or Unreachable(text) from error


def opening(token: str, slot: int) -> Buffer:
    """The frame that opens a tunnel to a declared port of an instance."""
    (frame,) = encode(pb.TokenMessage(token=token, slot=str(slot)), 1)
    return frame


async def refusal(stream: Stream, token: str, slot: int) -> GatewayError | None:
    """Open a tunnel and send nothing through it; the reason if the node ends it within REFUSAL_WAIT, else None.

    For when grpc.aio has lost the reason (`made_up`): here nothing is being sent when the status comes.
    """
    try:
        await stream.write(opening(token, slot))
        async with asyncio.timeout(REFUSAL_WAIT):
            async for _ in stream:
                return None
    except grpc.aio.AioRpcError as error:
        return None if made_up(error) else from_status(METHOD, error, REFUSAL_WAIT, [token])
    except TimeoutError:
        return None
    finally:
        stream.cancel()
    return None
