"""What a client orders with StartService and GetServiceEstimatedCost, and the service that it names, in each version's messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from aihd.devnet.gateway_clients import NodeError
from aihd.nodo.frames import decode
from aihd.nodo.hashing import ALGORITHMS, DEFAULT
from aihd.nodo.pb import aihd_celaut_pb2 as pb
from aihd.nodo.pb import aihd_gateway_2024_pb2 as old
from aihd.nodo.profiles import Profile
from aihd.nodo.registry import METADATA, REGISTRY

HASH_TYPE: Final = ALGORITHMS[DEFAULT](b"")


@dataclass(slots=True)
class Order:
    """As far as it was read: the node goes to work as soon as it knows client and service.

    `configuration`: None when no frame of it came. `clauses`: choices of resources, of 2024.
    """

    client: str = ""
    service_hash: bytes = b""
    configuration: pb.Configuration | None = None
    clauses: int = 0

    @property
    def initial(self) -> int | None:
        """The deposit that the client asks for; None when it leaves that to the node."""
        wanted = self.configuration
        return int(wanted.initial_mu.n) if wanted is not None and wanted.HasField("initial_mu") else None

    def take(self, message: Message | bytes) -> bool:
        """Note one message; whether there is enough to go to work."""
        match message:
            case pb.Client():
                self.client = message.client_id
            case pb.Configuration():
                self.configuration = message
            case old.Configuration():
                self.configuration, self.clauses = message.config, len(message.resources.clause)
            case pb.Metadata.HashTag.Hash():
                self.service_hash = self.service_hash or message.value
            case pb.Metadata():
                self.service_hash = self.service_hash or main_hash(message)
        return bool(self.client and self.service_hash)


def main_hash(metadata: pb.Metadata) -> bytes:
    """The hash by which nodo names the service of this metadata; empty when it names none."""
    return next((found.value for found in metadata.hashtag.hash if found.type == HASH_TYPE), b"")


async def read_order(frames: AsyncIterator[bytes], profile: Profile) -> Order:
    """The client's order, read until there is enough to go to work, as nodo reads it."""
    order = Order()
    kinds: dict[int, type[Message]] = {
        1: pb.Client, 2: pb.RecursionGuard, 4: pb.Metadata.HashTag.Hash, 5: pb.Metadata, 6: pb.Service,
        3: old.Configuration if profile.wrapped else pb.Configuration,
    }  # fmt: skip
    async with aclosing(decode(frames, kinds)) as messages:
        async for message in messages:
            if order.take(message):
                break
    return order


def check_order(order: Order, profile: Profile, *, estimate: bool) -> None:
    """Refuse an order without what this version insists on, in its words."""
    if profile.wrapped:
        if order.configuration is None:
            raise NodeError("'NoneType' object has no attribute 'HasField'")
        if not order.clauses:
            raise NodeError("Any clause supported.")
    elif estimate and order.configuration is None and not profile.gated:
        raise NodeError("'NoneType' object has no attribute 'initial_gas_amount'")


def stored_service(storage: Path, service_hash: bytes, profile: Profile) -> pb.Service | None:
    """A service of nodo's registry; None when it holds none of this hash, NodeError when its metadata is missing or not its own."""
    service_id = service_hash.hex()
    content = storage / REGISTRY / service_id
    if not content.is_file():
        return None
    metadata = storage / METADATA / service_id
    if not metadata.is_file():
        raise NodeError(f"No metadata for the service {service_id}")
    if main_hash(pb.Metadata.FromString(metadata.read_bytes())) != service_hash:
        raise NodeError(f"Corrupt metadata for the service {service_id}")
    if profile.wrapped:
        return _of_2024(old.Service.FromString(content.read_bytes()))
    return pb.Service.FromString(content.read_bytes())


def _of_2024(service: old.Service) -> pb.Service:
    """As later versions write it. A service said nothing of its resources then."""
    made = pb.Service()
    made.container.filesystem = service.container.filesystem
    made.container.init.entry_path.extend(service.container.entrypoint)
    made.container.resources.at_init.disk_space = 64 << 20
    for slot in service.api.slot:
        made.api.slot.add(port=slot.port)
    return made
