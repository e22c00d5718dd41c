"""The services that a nodo on this machine holds, read from its storage folder."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from aihd.errors import DependencyError
from aihd.nodo.hashing import ALGORITHMS, hash_file
from aihd.nodo.pb.aihd_celaut_pb2 import Metadata

REGISTRY = "__registry__"
METADATA = "__metadata__"
SETTLED_NS: Final = 2_000_000_000  # age at which a folder's time can be trusted: clocks of file systems are coarse
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LocalService:
    """A service that nodo can start: its 32-byte id, and its first tag (empty when it has none)."""

    service_hash: bytes
    name: str


class Registry:
    """The two folders, looked at again only when one of them has changed."""

    def __init__(self, registry: Path, metadata: Path) -> None:
        """`registry`: nodo's main.REGISTRY; `metadata`: its main.METADATA_REGISTRY."""
        self._registry = registry
        self._metadata = metadata
        self._seen: tuple[int, int] | None = None
        self._services: tuple[LocalService, ...] = ()

    def services(self) -> tuple[LocalService, ...]:
        """Services with content and metadata that names it, as nodo needs both to start one; sorted by id.

        Between changes this costs two looks at the file system. DependencyError when the registry cannot be read.
        """
        times = (_changed(self._registry), _changed(self._metadata))
        if times != self._seen:
            found = ((name, _metadata(self._metadata, name)) for name in self.ids())
            self._services = tuple(
                LocalService(bytes.fromhex(name), _name(meta)) for name, meta in found if meta is not None
            )
            self._seen = times if max(times) < time.time_ns() - SETTLED_NS else None
        return self._services

    def ids(self) -> tuple[str, ...]:
        """Names of all services, startable or not; sorted. DependencyError when the registry cannot be read."""
        try:
            return tuple(sorted(entry.name for entry in self._registry.iterdir() if _ID.fullmatch(entry.name)))
        except OSError as error:
            raise DependencyError(f"nodo's registry {self._registry} cannot be read: {error.strerror}") from error

    def without_metadata(self) -> tuple[str, ...]:
        """Ids of services that nodo refuses to start because their metadata is missing, damaged or another service's."""
        return tuple(name for name in self.ids() if _metadata(self._metadata, name) is None)

    def algorithm_of(self, name: str) -> str | None:
        """The hash algorithm by which a service has its id; None when none fits.

        Also None for a service in blocks, which nodo keeps as a folder: its id is that of the blocks put together.
        """
        path = self._registry / name
        try:
            fits = (known for known in ALGORITHMS if path.is_file() and hash_file(path, known).hex() == name)
            return next(fits, None)
        except OSError:
            return None


def list_services(storage: Path) -> tuple[LocalService, ...]:
    """As `Registry.services`, for the folders' places below nodo's main.STORAGE."""
    return Registry(storage / REGISTRY, storage / METADATA).services()


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _metadata(folder: Path, name: str) -> Metadata | None:
    """The metadata of a service; None when it is none, or does not name the service: nodo refuses to start one like that, too."""
    try:
        metadata = Metadata.FromString((folder / name).read_bytes())
    except (OSError, DecodeError):
        return None
    return metadata if any(found.value.hex() == name for found in metadata.hashtag.hash) else None


def _name(metadata: Metadata) -> str:
    tags = metadata.hashtag.tag
    return tags[0] if tags else ""
