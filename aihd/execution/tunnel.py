"""The tunnel slot: the input goes raw through nodo's ServiceTunnel, then the sending half is closed; the output is what comes back.

nodo opens the tunnel to a slot that nobody listens at yet with a refusal, and starts an instance before it listens: the tunnel is
tried again while not a byte of output has come and the refusal says so. The input is sent anew then, to a service that has seen none of it.
A port may also accept before the service behind it listens, and break off: a tunnel that closes without a byte is opened again, ever more
rarely, until `connect_for` is over; only then an empty output is what the service says.
A raw stream has no length: what the service sent until it closed is the output, so a service that dies in between looks like one that
has ended. A service whose output can be cut without notice should be given the http adapter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from aihd.errors import DependencyError, one_line
from aihd.execution.adapters import Job, Limited, Output
from aihd.execution.errors import NotListening, TooSlow
from aihd.nodo.failures import Unreachable

PIECE: Final = 1 << 18
PAUSE: Final = 0.1  # seconds between attempts
NOBODY: Final = "Cannot reach the service"  # how nodo says that nobody listens at a slot


class Tunnel(Protocol):
    """An open stream to a slot."""

    async def write(self, data: bytes) -> bool: ...

    async def half_close(self) -> None: ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


OpenTunnel = Callable[[str, int], AbstractAsyncContextManager[Tunnel]]
"""(token, declared port) to a tunnel: GatewayClient.service_tunnel."""


class Came(Enum):
    """What came of a tunnel: an output, an end without a byte, or the word that nobody listens."""

    OUTPUT = 1
    NOTHING = 2
    NOBODY = 3


@dataclass(frozen=True, slots=True)
class TunnelAdapter:
    """Raw bytes through the gateway."""

    open: OpenTunnel
    warning: str = ""

    async def run(self, job: Job, sink: Output) -> None:
        template = job.template
        deadline = time.monotonic() + template.connect_for
        try:
            async with asyncio.timeout(job.timeout):
                pause = PAUSE
                while (came := await self._attempt(job, Limited(sink, job.limit), deadline)) is not Came.OUTPUT:
                    if came is Came.NOTHING and time.monotonic() + pause >= deadline:
                        return
                    await asyncio.sleep(pause)
                    pause = 2 * pause if came is Came.NOTHING else PAUSE
        except TimeoutError:
            raise TooSlow(f"the service at slot {template.slot} did not end within {job.timeout:g} s") from None

    async def _attempt(self, job: Job, sink: Limited, deadline: float) -> Came:
        """What one tunnel brought."""
        try:
            async with self.open(job.token, job.template.slot or 0) as tunnel:
                await _converse(tunnel, job.input.path, sink)
        except Unreachable:  # it broke while the input was on its way in
            if sink.taken or time.monotonic() >= deadline:
                raise
            return Came.NOBODY
        except DependencyError as error:
            if NOBODY not in str(error):
                raise
            if time.monotonic() >= deadline:
                raise NotListening(
                    f"nobody listens at slot {job.template.slot} after {job.template.connect_for:g} s: {one_line(error)}"
                ) from error
            return Came.NOBODY
        return Came.OUTPUT if sink.taken else Came.NOTHING


async def _converse(tunnel: Tunnel, path: Path, sink: Output) -> None:
    sending = asyncio.create_task(_send(tunnel, path))
    try:
        async for chunk in tunnel:
            sink.write(chunk)
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(tunnel: Tunnel, path: Path) -> None:
    """The file; a service that closes before it has read all may still answer well."""
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            if not await tunnel.write(piece):
                return
    await tunnel.half_close()
