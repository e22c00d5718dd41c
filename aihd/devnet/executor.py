"""Runs packed services as processes of this machine, in the place of nodo's virtual machines.

An instance is a process group with a folder of its own and an environment that holds nothing of ours. It ends with
`stop`, by itself, or with the executor, and nothing of it is left then. There is no wall around it: run only services
you trust. As nodo does it, a state file `<token>.json` beside the folder names the instance's console log.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from aihd.devnet.packing import unpack
from aihd.errors import UsageError
from aihd.nodo.pb import aihd_celaut_pb2 as pb

SERIAL_LOG = "serial.log"
NICE: Final = ("nice", "-n", "15")  # a service is a guest: many that start at once must not starve their host
PREFIX = "instance-"


class Instances(Protocol):
    """What runs instances for the gateway: processes (`Executor`) or containers (`DockerExecutor`)."""

    async def start(self, token: str, service: pb.Service, environment: Mapping[str, str]) -> dict[int, int]: ...

    async def stop(self, token: str) -> bool: ...

    async def close(self) -> None: ...

    def pid(self, token: str) -> int | None: ...


@dataclass(frozen=True, slots=True)
class _Running:
    process: asyncio.subprocess.Process
    folder: Path
    watch: asyncio.Task[None]


class Executor:
    """The running instances by token. An instance finds in SLOT_<declared port> the port, and in SLOT_HOST the address,
    that it has to listen on. `on_death(token)` is called when one ends that nobody stopped."""

    def __init__(self, runtime: Path, host: str, on_death: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._host = host
        self._on_death = on_death
        self._running: dict[str, _Running] = {}
        # Making a process holds the loop until the child has begun: one at a time, so that others get their turns in between.
        self._spawning = asyncio.Lock()

    async def start(self, token: str, service: pb.Service, environment: Mapping[str, str]) -> dict[int, int]:
        """Start an instance; the host's port for each port that the service declares. UsageError when it cannot be."""
        folder = self._runtime / f"{PREFIX}{token}"
        try:
            root = folder / "root"
            root.mkdir(parents=True)
            state = {"serial_log": str(folder / SERIAL_LOG)}
            _state_file(folder).write_text(json.dumps(state))
            unpack(service, root)
            ports = {slot.port: _free_port(self._host) for slot in service.api.slot}
            async with self._spawning:
                process = await self._spawn(_command(service, root), root, environment, ports)
        except BaseException:
            _remove_files(folder)
            raise
        watch = asyncio.create_task(self._watch(token, process), name=f"instance {token[:8]}")
        self._running[token] = _Running(process, folder, watch)
        return ports

    async def stop(self, token: str) -> bool:
        """End an instance, its children and its files; False when there is none."""
        running = self._running.pop(token, None)
        if running is None:
            return False
        await _end(running)
        return True

    async def close(self) -> None:
        """End all instances."""
        while self._running:
            await self.stop(next(iter(self._running)))

    def pid(self, token: str) -> int | None:
        """Process id (and group id) of an instance; None when it does not run."""
        running = self._running.get(token)
        return running.process.pid if running else None

    async def _spawn(
        self, command: list[str], root: Path, environment: Mapping[str, str], ports: Mapping[int, int]
    ) -> asyncio.subprocess.Process:
        slots = {f"SLOT_{internal}": str(port) for internal, port in ports.items()}
        slots["SLOT_HOST"] = self._host
        base = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(root)}
        with (root.parent / SERIAL_LOG).open("wb") as log:
            try:
                return await asyncio.create_subprocess_exec(
                    *command,
                    cwd=root,
                    env={**base, **environment, **slots},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,  # not a session: the kernel would give each of them as much time as all of ours together
                )
            except (OSError, ValueError) as error:  # ValueError: a zero byte in a variable
                raise UsageError(f"entry {command[-1]!r} cannot be started: {error}") from error

    async def _watch(self, token: str, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        running = self._running.pop(token, None)
        if running is not None:
            _remove(running)
            self._on_death(token)


async def _end(running: _Running) -> None:
    _kill_group(running.process.pid)
    await running.watch
    await asyncio.to_thread(_remove, running)


def _remove(running: _Running) -> None:
    _kill_group(running.process.pid)  # children that outlived the entry
    _remove_files(running.folder)


def _remove_files(folder: Path) -> None:
    _state_file(folder).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _state_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name.removeprefix(PREFIX)}.json")


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _command(service: pb.Service, root: Path) -> list[str]:
    entry = "/".join(service.container.init.entry_path)
    path = (root / entry.lstrip("/")).resolve()
    if not path.is_file() or not path.is_relative_to(root.resolve()):
        raise UsageError(f"entry {entry!r} is not a file of the service")
    if path.suffix == ".py":
        # -S -s -E: the service sees Python's standard library, not what is installed beside aihd.
        return [*NICE, sys.executable, "-S", "-s", "-E", "-B", str(path)]
    if not os.access(path, os.X_OK):
        raise UsageError(f"entry {entry!r} cannot be started: it is not executable")
    return [*NICE, str(path)]


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
