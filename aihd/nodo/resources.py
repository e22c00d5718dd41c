"""What an instance is to have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resources:
    """In bytes; None for the node's own choice. The nodo of 2024 takes it from who starts a service, later ones from the service itself."""

    mem_limit: int | None = None
    disk_space: int | None = None
