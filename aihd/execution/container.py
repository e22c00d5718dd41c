"""A container of a nodo of the Docker age: its output is a file in it, or what it wrote to standard output, once it has ended well.

The input is put into the container as the template's `input_file`; when it is whole, an empty file `….ready` appears beside it. The
container's exit code says whether there is an output: 0, or else Crashed, OutOfMemory.

Standard output comes out of Docker's log, which keeps text only: bytes that are no UTF-8 are replaced there, and so may be a character that
was cut at one of its 16 KiB. An output that holds Docker's replacement mark is therefore refused; a service whose output is not
text should be given an `output_file`.

The engine's socket is root on this machine: this adapter is off unless the operator names it.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from aihd.errors import one_line
from aihd.execution.adapters import Job, Limited, Output
from aihd.execution.engine import LOST, connect, container_of
from aihd.execution.errors import BadAnswer, Crashed, ExecutionError, OutOfMemory, TooSlow

KILLED: Final = 137  # 128 + SIGKILL: what the kernel does to a process at the memory limit
PIECE: Final = 1 << 20
PAUSE: Final = 0.1  # seconds between two looks at a container
REPLACED: Final = "\ufffd".encode()
READY: Final = ".ready"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ContainerAdapter:
    """`engine` is where Docker listens, for example unix:///nodo/docker/docker.sock; `timeout` in seconds bounds one call to it."""

    engine: str
    timeout: float = 60.0
    warning: str = ""

    async def run(self, job: Job, sink: Output) -> None:
        limited = Limited(sink, job.limit)
        try:
            async with asyncio.timeout(job.timeout):
                await self._run(job, limited)
        except TimeoutError:
            raise TooSlow(f"the container did not end within {job.timeout:g} s") from None
        except LOST as error:
            text = one_line(error).replace(job.token, "(token)")
            raise ExecutionError(f"docker at {self.engine}: {text}") from error

    async def _run(self, job: Job, sink: Output) -> None:
        client = await asyncio.to_thread(connect, self.engine, self.timeout)
        try:
            container = await _until_there(client, job)
            if job.template.input_file is not None:
                await _in_thread(put_input, container, job.template.input_file, job.input.path)
            await _ended_well(container)
            if job.template.output_file is None:
                await _in_thread(_copy_log, container, sink)
            else:
                await _in_thread(_copy_file, container, job.template.output_file, sink)
        finally:
            await asyncio.to_thread(client.close)


async def _in_thread(work: Callable[..., T], *parts: object) -> T:
    """Run `work` in a thread, and when we are cancelled wait for it: it may not write to a sink that is gone."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *parts))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


async def _until_there(client: docker.DockerClient, job: Job) -> Container:
    """The instance's container."""
    deadline = time.monotonic() + job.template.connect_for
    while True:
        try:
            return await asyncio.to_thread(client.containers.get, container_of(job.token))
        except NotFound:
            if time.monotonic() >= deadline:
                raise Crashed(f"there is no container of the instance after {job.template.connect_for:g} s") from None
        await asyncio.sleep(PAUSE)


async def _ended_well(container: Container) -> None:
    """Wait for the end. It is looked for again and again: a call that waits for it could not be cancelled."""
    while True:
        try:
            await asyncio.to_thread(container.reload)
        except NotFound:
            raise Crashed("the container was removed before its output was taken") from None
        state = container.attrs["State"]
        if state["Status"] in ("exited", "dead"):
            break
        await asyncio.sleep(PAUSE)
    code = state["ExitCode"]
    if state["OOMKilled"] or code == KILLED:
        raise OutOfMemory(f"the container was killed (exit code {code}), as it is at its memory limit")
    if code != 0:
        raise Crashed(f"the container ended with exit code {code}")


def put_input(container: Container, target: str, source: Path) -> None:
    """Put a file into a container, streamed, and then the mark that it is whole."""
    with source.open("rb") as file:
        size = source.stat().st_size
        try:
            container.put_archive("/", _tar(target.lstrip("/"), file, size))
        except APIError as error:
            raise ExecutionError(f"the container does not take its input as {target}: {one_line(error)}") from error


def _tar(name: str, file: BinaryIO, size: int) -> Iterator[bytes]:
    yield _member(name, size)
    while piece := file.read(PIECE):
        yield piece
    yield bytes(-size % tarfile.BLOCKSIZE)
    yield _member(name + READY, 0)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _copy_file(container: Container, path: str, sink: Output) -> None:
    try:
        stream, _ = container.get_archive(path, chunk_size=PIECE)
    except NotFound:
        raise BadAnswer(f"the container ended well, but left no {path}") from None
    with tarfile.open(fileobj=_Joined(stream), mode="r|") as archive:
        member = archive.next()
        content = archive.extractfile(member) if member is not None and member.isreg() else None
        if content is None:
            raise BadAnswer(f"{path} in the container is no file")
        while piece := content.read(PIECE):
            sink.write(piece)


def _copy_log(container: Container, sink: Output) -> None:
    tail = b""
    stream = container.logs(stdout=True, stderr=False, stream=True, follow=False)
    try:
        for piece in stream:
            if REPLACED in tail + piece:
                raise BadAnswer("standard output is no text: Docker's log has replaced bytes of it; use an output_file")
            tail = piece[-2:]
            sink.write(piece)
    finally:
        deque(stream, maxlen=0)  # read to its end: the SDK leaves the socket open otherwise


class _Joined(io.RawIOBase):
    """A file to read out of the chunks of a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._rest) < size:
            piece = next(self._chunks, None)
            if piece is None:
                break
            self._rest += piece
        end = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:end], self._rest[end:]
        return data
