"""One protocol for every way that a running instance takes its input and gives its output.

An adapter is told of one run (`Job`) and writes the output to a sink. It returns only when the output is whole; whatever else
happens is an ExecutionError or a GatewayError that says which kind of failure it was, and what the sink has by then is thrown away.
Time is bounded by the caller's `asyncio.timeout` (TooSlow); the instance is stopped by the caller, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from aihd.execution.errors import ExecutionError, TooLarge
from aihd.execution.http import Endpoint, run_http
from aihd.execution.inputs import StoredInput
from aihd.execution.template import Template


class Output(Protocol):
    """What takes the output, in order."""

    def write(self, chunk: bytes) -> object: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a service: its instance's token (a secret) and slots, its input; `timeout` in seconds, `limit` in bytes of output."""

    token: str = field(repr=False)
    slots: Mapping[int, Sequence[Endpoint]]
    template: Template
    input: StoredInput
    timeout: float
    limit: int


class Adapter(Protocol):
    """A way of running jobs."""

    @property
    def warning(self) -> str:
        """What whoever pays for an output of this adapter has to know; empty if there is nothing."""
        ...

    async def run(self, job: Job, sink: Output) -> None:
        """Input in, output to `sink`."""
        ...


@dataclass(frozen=True, slots=True)
class HttpAdapter:
    """POST to a slot (aihd/execution/http.py)."""

    session: aiohttp.ClientSession
    warning: str = ""

    async def run(self, job: Job, sink: Output) -> None:
        template = job.template
        await run_http(
            self.session,
            slot_of(job),
            template.path,
            job.input.path,
            content_type=template.content_type,
            connect_for=template.connect_for,
            timeout=job.timeout,
            limit=job.limit,
            sink=sink,
        )


def slot_of(job: Job) -> Endpoint:
    """Where the template's slot listens; ExecutionError when the instance has no such slot."""
    endpoints = job.slots.get(job.template.slot or 0)
    if not endpoints:
        raise ExecutionError(f"the instance has no slot {job.template.slot}, only {sorted(job.slots)}")
    return endpoints[0]


class Limited:
    """A sink of at most `limit` bytes: TooLarge beyond."""

    def __init__(self, sink: Output, limit: int) -> None:
        self._sink = sink
        self._left = limit
        self._limit = limit

    @property
    def taken(self) -> int:
        """Bytes that came."""
        return self._limit - self._left

    def write(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise TooLarge(f"the service gave more than {self._limit} bytes")
        self._sink.write(chunk)
