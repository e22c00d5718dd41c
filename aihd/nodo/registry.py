"""The services that a nodo on this machine holds, read from its storage folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from aihd.errors import DependencyError
from aihd.nodo.pb.aihd_celaut_pb2 import Metadata

REGISTRY = "__registry__"
METADATA = "__metadata__"
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that nodo can start: its 32-byte id, and its first tag (empty when it has none)."""

    service_hash: bytes
    name: str


def list_services(storage: Path) -> tuple[LocalService, ...]:
    """Services with content and readable metadata, as nodo needs both to start one; sorted by id.

    `storage` is nodo's main.STORAGE. DependencyError when it holds no registry that can be read.
    """
    registry = storage / REGISTRY
    try:
        ids = sorted(entry.name for entry in registry.iterdir() if _ID.fullmatch(entry.name))
    except OSError as error:
        raise DependencyError(f"nodo's registry {registry} cannot be read: {error.strerror}") from error
    found = ((name, _metadata(storage / METADATA / name)) for name in ids)
    return tuple(LocalService(bytes.fromhex(name), _name(meta)) for name, meta in found if meta is not None)


def _metadata(path: Path) -> Metadata | None:
    try:
        return Metadata.FromString(path.read_bytes())
    except (OSError, DecodeError):
        return None  # nodo refuses to start such a service, too


def _name(metadata: Metadata) -> str:
    tags = metadata.hashtag.tag
    return tags[0] if tags else ""
