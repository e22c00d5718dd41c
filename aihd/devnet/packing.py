"""Makes a nodo service of a folder, and files of a service.

The folder's `service.toml` names what goes in; the same folder always gives the same bytes and so the same service id,
the SHA3-256 of the serialized `celaut.Service`. Its metadata names that hash: nodo refuses a service whose metadata does not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aihd.errors import UsageError, one_line
from aihd.nodo.hashing import ALGORITHMS, DEFAULT
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.registry import METADATA, REGISTRY

MANIFEST = "service.toml"
Filesystem = pb.Service.Container.Filesystem


class Resources(BaseModel):
    """What an instance needs at its start, in bytes; nodo refuses a service that does not say its disk space."""

    model_config = ConfigDict(extra="forbid")
    mem_limit: int = Field(default=256 << 20, gt=0)
    disk_space: int = Field(default=64 << 20, gt=0)


class Manifest(BaseModel):
    """`service.toml`. `files` are paths from the folder; each lies in the service's root under its own name."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    prose: str
    entry: str
    port: int = Field(gt=0, lt=1 << 16)
    protocol: Literal["http"] = "http"
    files: list[str] = Field(min_length=1)
    resources: Resources = Resources()
    environment: dict[str, str] = {}


def read_manifest(folder: Path) -> Manifest:
    """The folder's service.toml; UsageError naming the field that is wrong."""
    path = folder / MANIFEST
    try:
        return Manifest.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UsageError(f"{path}: {one_line(error)}") from error


def pack(folder: Path) -> tuple[pb.Service, pb.Metadata]:
    """The service that a folder describes, and its metadata: its name as the first tag, outside the hash, and its hash."""
    manifest = read_manifest(folder)
    filesystem = _filesystem(folder / name for name in manifest.files)
    if manifest.entry not in {branch.name for branch in filesystem.branch}:
        raise UsageError(f"{folder / MANIFEST}: entry {manifest.entry!r} is not one of files {manifest.files}")
    service = pb.Service(prose=manifest.prose)
    container = service.container
    container.architecture.tags.append("python3")
    container.filesystem = filesystem.SerializeToString(deterministic=True)
    container.init.entry_path.append(manifest.entry)
    container.resources.at_init.mem_limit = manifest.resources.mem_limit
    container.resources.at_init.disk_space = manifest.resources.disk_space
    for key, prose in sorted(manifest.environment.items()):
        container.environment_variables.add(key=key, value=pb.DataFormat(prose=prose))
    slot = service.api.slot.add(port=manifest.port)
    slot.transport.tags.append("tcp")
    slot.protocol_stack.add(tags=[manifest.protocol])
    return service, describe(manifest.name, service.SerializeToString(deterministic=True))


def describe(name: str, content: bytes) -> pb.Metadata:
    """The metadata of a service of these bytes."""
    digest = ALGORITHMS[DEFAULT]
    metadata = pb.Metadata()
    metadata.hashtag.tag.append(name)
    metadata.hashtag.hash.add(type=digest(b""), value=digest(content))
    return metadata


def install(folder: Path, storage: Path, *, of_2024: bool = False) -> bytes:
    """Pack a folder into nodo's storage; the 32-byte service id. `of_2024`: in the numbers of that version."""
    service, metadata = pack(folder)
    content = service.SerializeToString(deterministic=True)
    if of_2024:
        content = _of_2024(service).SerializeToString(deterministic=True)
        metadata = describe(metadata.hashtag.tag[0], content)
    service_hash = metadata.hashtag.hash[0].value
    for kind, data in ((METADATA, metadata.SerializeToString(deterministic=True)), (REGISTRY, content)):
        target = storage / kind / service_hash.hex()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return service_hash


def _of_2024(service: pb.Service) -> old.Service:
    made = old.Service()
    made.container.architecture = b"python3"
    made.container.filesystem = service.container.filesystem
    made.container.entrypoint.extend(service.container.init.entry_path)
    for slot in service.api.slot:
        made.api.slot.add(port=slot.port, transport_protocol=b"tcp")
    return made


def unpack(service: pb.Service, target: Path) -> None:
    """Write the service's files under `target`; UsageError when a name would lead outside of it."""
    try:
        _unpack(Filesystem.FromString(service.container.filesystem), target)
    except DecodeError as error:
        raise UsageError(f"filesystem: {len(service.container.filesystem)} bytes are no Filesystem message") from error


def _filesystem(files: Iterable[Path]) -> Filesystem:
    filesystem = Filesystem()
    for path in sorted(files, key=lambda path: path.name):
        try:
            filesystem.branch.add(name=path.name, file=path.read_bytes())
        except OSError as error:
            raise UsageError(f"files: {path} cannot be read: {error.strerror}") from error
    return filesystem


def _unpack(filesystem: Filesystem, target: Path) -> None:
    for branch in filesystem.branch:
        path = target / branch.name
        if path.parent != target or branch.name in {"", ".", ".."}:
            raise UsageError(f"filesystem: {branch.name!r} is not the name of a file")
        match branch.WhichOneof("item"):
            case "file":
                path.write_bytes(branch.file)
                path.chmod(0o755)
            case "filesystem":
                path.mkdir()
                _unpack(branch.filesystem, path)
            case _:
                raise UsageError(f"filesystem: {branch.name!r} is a link, which this executor does not make")
