"""The node's end of a ServiceTunnel: from the token's instance and slot to a TCP connection, and bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from google.protobuf.message import Message

from aihd.nodo.pb import aihd_celaut_pb2 as pb

RECEIVE: Final = 64 << 10  # bytes
CONNECT_TIMEOUT: Final = 10.0  # seconds


class TunnelError(Exception):
    """A tunnel that nodo refuses, as INVALID_ARGUMENT and with its text, before a byte went through."""


async def connect(
    handshake: Message | bytes | None, find: Callable[[str], pb.Instance | None]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the slot that the first message of a call names. `find`: a token's instance, of those here."""
    token, slot = _wanted(handshake)
    instance = find(token)
    if instance is None:
        raise TunnelError(f"No local instance for token '{token}'. Tunnels only reach instances running on this node.")
    uris = [uri for declared in instance.uri_slot if str(declared.internal_port) == slot for uri in declared.uri]
    if not uris:
        declared_ports = sorted(declared.internal_port for declared in instance.uri_slot)
        text = f"Slot {slot} is not declared by instance '{token}'. Declared slots: {declared_ports or 'none'}."
        raise TunnelError(text)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await asyncio.open_connection(uris[0].ip, uris[0].port)
    except (OSError, TimeoutError) as error:
        raise TunnelError(f"Cannot reach the service at {uris[0].ip}:{uris[0].port}: {error}") from error


def _wanted(handshake: Message | bytes | None) -> tuple[str, str]:
    if handshake is None:
        raise TunnelError("Empty tunnel stream: a TokenMessage must be sent first.")
    if not isinstance(handshake, pb.TokenMessage):
        raise TunnelError(f"The first tunnel message must be a TokenMessage, got {type(handshake).__name__}.")
    if not handshake.token:
        raise TunnelError("TokenMessage carries no token.")
    if not handshake.slot:
        raise TunnelError("TokenMessage carries no slot; the target port is required.")
    return handshake.token, handshake.slot


async def relay(
    messages: AsyncIterator[Message | bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncGenerator[bytes, None]:
    """What the service sends, until it closes; meanwhile `messages` go to it, and their end as the end of its input."""
    pump = asyncio.create_task(_pump(messages, writer), name="tunnel")
    try:
        with suppress(ConnectionError):  # a service that dies has closed
            while chunk := await reader.read(RECEIVE):
                yield chunk
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _pump(messages: AsyncIterator[Message | bytes], writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):  # the service closed: what it said still goes to the client
        async for message in messages:
            if isinstance(message, bytes):
                writer.write(message)
                await writer.drain()
        writer.write_eof()
