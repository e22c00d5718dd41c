"""Runs packed services as containers of a real Docker engine, as a nodo of the Docker age does.

An image is made from scratch of the service's files, over a base folder if there is one: nothing is fetched from a registry. The
container bears the instance's token as its name. One that ended by itself stays, with its files, its log and its exit code, until `stop`;
nothing is left when the executor is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from docker.errors import ImageNotFound, NotFound
from docker.models.containers import Container

from aihd.devnet.packing import unpack
from aihd.errors import UsageError, one_line
from aihd.execution.engine import LOST, connect
from aihd.nodo.pb import aihd_celaut_pb2 as pb

LABEL: Final = "aihd.executor"
REPOSITORY: Final = "aihd-service"
PAUSE: Final = 0.2  # seconds between two looks for containers that have ended
PUBLISHED_FOR: Final = 5.0  # seconds for the engine to name the ports that it published


class DockerExecutor:
    """The running instances by token; the same face as `Executor`, to be given to the gateway in its place.

    `engine`: where Docker listens. `base`: a folder of what every image holds beneath the service's own files (a static
    busybox, a debootstrap). `on_death(token)` is called when an instance ends that nobody stopped. DependencyError without an engine.
    """

    def __init__(self, engine: str, host: str, on_death: Callable[[str], None], base: Path | None = None) -> None:
        self._client = connect(engine)
        self._host = host
        self._on_death = on_death
        self._base = base
        self._label = uuid4().hex
        self._alive: set[str] = set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self, token: str, service: pb.Service, environment: Mapping[str, str]) -> dict[int, int]:
        """Start an instance; the host's port for each port that the service declares. UsageError when it cannot be."""
        try:
            container = await asyncio.to_thread(self._create, token, service, dict(environment))
            ports = await asyncio.to_thread(self._start, container, [slot.port for slot in service.api.slot])
        except LOST as error:
            await self.stop(token)
            raise UsageError(f"the container cannot be started: {one_line(error).replace(token, '(token)')}") from error
        self._alive.add(token)
        self._watch = self._watch or asyncio.create_task(self._watch_all(), name="docker executor")
        return ports

    async def stop(self, token: str) -> bool:
        """Remove an instance's container; False when there is none."""
        self._alive.discard(token)
        return await asyncio.to_thread(self._remove, token)

    async def close(self) -> None:
        """Remove all containers."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        for container in await asyncio.to_thread(self._all):
            await self.stop(str(container.name))
        await asyncio.to_thread(self._client.close)

    def pid(self, token: str) -> int | None:
        """Process id of an instance's entry on this machine; None when it does not run."""
        try:
            return int(self._client.containers.get(token).attrs["State"]["Pid"]) or None
        except NotFound:
            return None

    def _create(self, token: str, service: pb.Service, environment: dict[str, str]) -> Container:
        entry = "/" + "/".join(service.container.init.entry_path).lstrip("/")
        slots = {f"SLOT_{slot.port}": str(slot.port) for slot in service.api.slot}
        return self._client.containers.create(
            self._image(service),
            command=[entry],
            name=token,
            environment={**environment, **slots, "SLOT_HOST": "0.0.0.0"},  # noqa: S104 - of the container's own network
            ports={f"{slot.port}/tcp": (self._host, 0) for slot in service.api.slot},
            mem_limit=service.container.resources.at_init.mem_limit or None,
            labels={LABEL: self._label},
        )

    def _start(self, container: Container, ports: list[int]) -> dict[int, int]:
        container.start()
        deadline = time.monotonic() + PUBLISHED_FOR
        while ports and time.monotonic() < deadline:
            container.reload()
            published = container.attrs["NetworkSettings"]["Ports"] or {}
            if all(published.get(f"{port}/tcp") for port in ports):
                return {port: int(published[f"{port}/tcp"][0]["HostPort"]) for port in ports}
            if container.status != "running":
                break  # it ended at once: nobody will listen, and its exit code tells why
            time.sleep(0.02)
        return {}

    def _image(self, service: pb.Service) -> str:
        """The image of the service, made when it is not there yet."""
        digest = hashlib.sha3_256(service.SerializeToString(deterministic=True) + str(self._base).encode())
        tag = digest.hexdigest()[:32]
        try:
            self._client.images.get(f"{REPOSITORY}:{tag}")
        except ImageNotFound:
            with tempfile.TemporaryDirectory(prefix="aihd-image-") as folder:
                root, archive = Path(folder) / "root", Path(folder) / "image.tar"
                root.mkdir()
                unpack(service, root)
                _write_tar(archive, [root] if self._base is None else [root, self._base])
                self._client.api.import_image_from_file(str(archive), repository=REPOSITORY, tag=tag)
        return f"{REPOSITORY}:{tag}"

    def _all(self) -> list[Container]:
        return self._client.containers.list(all=True, filters={"label": f"{LABEL}={self._label}"})

    def _remove(self, token: str) -> bool:
        try:
            self._client.containers.get(token).remove(force=True)
        except NotFound:
            return False
        return True

    async def _watch_all(self) -> None:
        while True:
            await asyncio.sleep(PAUSE)
            known = set(self._alive)
            running = {
                container.name for container in await asyncio.to_thread(self._all) if container.status == "running"
            }
            for token in (known - running) & self._alive:
                self._alive.discard(token)
                self._on_death(token)


def _write_tar(archive: Path, layers: list[Path]) -> None:
    """All files of the folders, of equal names the first one's: the engine takes no name twice."""
    seen: set[str] = set()

    with tarfile.open(archive, "w") as tar:
        for layer in layers:
            for path in sorted(layer.rglob("*")):
                name = str(path.relative_to(layer))
                if name not in seen:
                    seen.add(name)
                    tar.add(path, arcname=name, recursive=False)
