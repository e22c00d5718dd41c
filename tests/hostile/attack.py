"""Strangers, in a process of their own: `python -m tests.hostile.attack PORT TASK OUTPUT SECONDS COUNT`; how often each kind came, as JSON.

silent    connects and says nothing                     half      half of a head
dribble   a head, byte by byte                          body      an upload whose body never ends
bomb      a packed body                                 forged    a whole upload under a wrong signature
deaf      asks for outputs again and again, reads none  noise     bytes that are no HTTP
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

ADDRESSES: Final = 250  # that they come from
KIND: Final = "application/x-aih-sealed"


class Strangers:
    """What they aim at, and for how long."""

    def __init__(self, port: int, task: str, output: str, seconds: float) -> None:
        self._port = port
        self._task = task
        self._output = output
        self._end = time.monotonic() + seconds
        self.came: Counter[str] = Counter()
        bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
        self._bomb = bomb.compress(bytes(50_000_000)) + bomb.flush()

    @property
    def over(self) -> bool:
        return time.monotonic() > self._end

    async def one(self, number: int) -> None:
        """One stranger: whenever he is thrown out, he comes again after a moment."""
        kinds: list[Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = [
            self.silent, self.half, self.dribble, self.body, self.bomb, self.forged, self.deaf, self.noise,
        ]  # fmt: skip
        act = kinds[number % len(kinds)]
        address = f"127.0.1.{1 + number % ADDRESSES}"
        while not self.over:
            writer = None
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
                self.came[act.__name__] += 1
                async with asyncio.timeout(max(0.1, self._end - time.monotonic())):
                    await act(reader, writer)
            if writer is not None:
                writer.transport.abort()
            await asyncio.sleep(random.uniform(0.5, 2))

    def _put(self, *more: str, length: int = 10_000_000) -> bytes:
        head = [f"PUT /aih/1/tasks/{self._task}/input HTTP/1.1", "Host: x", f"Content-Length: {length}", *more]
        return "\r\n".join([*head, "", ""]).encode()

    async def silent(self, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def half(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._put()[:40])
        await reader.read(1)

    async def dribble(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in self._put("X-Long: " + "x" * 3000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.5)

    async def body(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._put(f"Content-Type: {KIND}", "AIH-Signature: " + "00" * 56))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.2)

    async def bomb(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._put(f"Content-Type: {KIND}", "Content-Encoding: gzip", length=len(self._bomb)) + self._bomb)
        await reader.read(1000)

    async def forged(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._put(f"Content-Type: {KIND}", f"AIH-Signature: {os.urandom(56).hex()}", length=1 << 16))
        writer.write(bytes(1 << 16))
        await reader.read(1000)

    async def deaf(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ask = f"GET /aih/1/outputs/{self._output}?task={self._task} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        while True:
            writer.write(ask * 20)
            await writer.drain()
            await asyncio.sleep(0.1)

    async def noise(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(os.urandom(2000))
        await reader.read(1000)


async def main(port: int, task: str, output: str, seconds: float, count: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 200), hard))
    strangers = Strangers(port, task, output, seconds)
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await asyncio.gather(*(strangers.one(number) for number in range(count)))
    print(json.dumps(strangers.came))


if __name__ == "__main__":
    _, port, task, output, seconds, count = sys.argv
    asyncio.run(main(int(port), task, output, float(seconds), int(count)))
