"""The console log of an instance, as nodo writes it to a file: everything before a line that the service ends its output with.

It is no clean result: kernel and boot write to the same console, and the terminal changes line ends. So it is used only where
the operator has said so, and its warning goes with the result. The service gets no input but its configuration. nodo deletes
the log with the instance, therefore it is read while it grows.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from aihd.execution.adapters import Job, Limited, Output
from aihd.execution.errors import Crashed, ExecutionError, TooSlow

PIECE: Final = 1 << 16
PAUSE: Final = 0.1  # seconds between two looks at the log
LONGEST_LINE: Final = 1 << 20
WARNING: Final = (
    "the output is an instance's console log: it also holds what kernel and boot wrote, and is not a clean result"
)


def runtime_folders(storage: Path) -> tuple[Path, ...]:
    """Where nodo keeps the state of running instances, by version, beneath its main.STORAGE."""
    cache = storage / "__cache__"
    return cache / "microvm" / "runtime", cache / "cloud_hypervisor" / "runtime"


@dataclass(frozen=True, slots=True)
class SerialAdapter:
    """`folders` hold a state file `<token>.json` for each instance, whose key serial_log names the log."""

    folders: Sequence[Path]
    warning: str = WARNING

    async def run(self, job: Job, sink: Output) -> None:
        marker = job.template.end_marker
        if marker is None:
            raise ExecutionError("adapter 'serial' needs the end_marker of its template")
        try:
            async with asyncio.timeout(job.timeout):
                log = await self._log(job)
                with log.open("rb") as file:
                    await _copy(file, log, marker.encode(), Limited(sink, job.limit))
        except TimeoutError:
            raise TooSlow(f"no line {marker!r} in the console log within {job.timeout:g} s") from None
        except OSError as error:
            raise ExecutionError(f"the console log cannot be read: {error.strerror}") from None

    async def _log(self, job: Job) -> Path:
        deadline = time.monotonic() + job.template.connect_for
        while True:
            for folder in self.folders:
                with suppress(OSError, ValueError, KeyError, TypeError):
                    log = Path(json.loads((folder / f"{job.token}.json").read_bytes())["serial_log"])
                    if log.is_file():
                        return log
            if time.monotonic() >= deadline:
                raise ExecutionError(f"no console log of the instance in any of {[str(f) for f in self.folders]}")
            await asyncio.sleep(PAUSE)


async def _copy(file: BinaryIO, path: Path, marker: bytes, sink: Output) -> None:
    """Lines up to the marker's. A log that is deleted has ended; looked at before reading, so that nothing is missed."""
    rest = b""
    while True:
        over = not path.exists()
        piece = await asyncio.to_thread(file.read, PIECE)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.rstrip(b"\r") == marker:
                return
            sink.write(line + b"\n")
        if len(rest) > LONGEST_LINE:
            raise ExecutionError(f"the console log has a line of more than {LONGEST_LINE} bytes")
        if over and not piece:
            raise Crashed("the instance ended before the line that ends its output")
        if not piece:
            await asyncio.sleep(PAUSE)
