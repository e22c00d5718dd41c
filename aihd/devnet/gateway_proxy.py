"""Ports as Docker publishes them: its proxy accepts before anybody listens behind it, and then resets the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

PIECE = 1 << 16


@dataclass(slots=True)
class _Published:
    servers: list[asyncio.Server] = field(default_factory=list)
    connections: set[asyncio.Task[None]] = field(default_factory=set)


class PortProxy:
    """The published ports of instances, by the instance's token."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._published: dict[str, _Published] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def publish(self, token: str, ports: Mapping[int, int]) -> dict[int, int]:
        """A port of our own for each of an instance's, by the port that the service declares."""
        found = self._published.setdefault(token, _Published())
        published: dict[int, int] = {}
        for declared, port in ports.items():

            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, behind: int = port) -> None:
                task = asyncio.create_task(self._relay(reader, writer, behind), name="port proxy")
                found.connections.add(task)
                task.add_done_callback(found.connections.discard)

            server = await asyncio.start_server(connected, self._host, 0)
            found.servers.append(server)
            published[declared] = server.sockets[0].getsockname()[1]
        return published

    def withdraw(self, token: str) -> None:
        """Publish an instance's ports no more; its connections break."""
        gone = self._published.pop(token, _Published())
        for server in gone.servers:
            server.close()
        for task in gone.connections:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            task.cancel()

    async def close(self) -> None:
        """Publish nothing more."""
        for token in list(self._published):
            self.withdraw(token)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        try:
            behind_reader, behind = await asyncio.open_connection(self._host, port)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, behind))
                both.create_task(_copy(behind_reader, writer))
        finally:
            for end in (behind, writer):
                end.close()
                with suppress(OSError, asyncio.CancelledError):
                    await end.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes, and their end; a connection that breaks on one side breaks on the other."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
