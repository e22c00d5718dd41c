"""The connection to a gateway: plaintext, or TLS with the node's own certificate as the only one accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from aihd.errors import UsageError
from aihd.nodo.failures import BrokenAnswer
from aihd.nodo.identity import SERVER_NAME, check_peer, fetch_certificate

Security = Literal["auto", "plaintext", "tls"]
FRAME_LIMIT: Final = 4 << 20
"""Bytes of one frame: what nodo itself receives at most. Its library sends 1 MiB."""

OPTIONS: Final = (
    ("grpc.max_receive_message_length", FRAME_LIMIT),
    # A gateway that comes back is found at once, not after gRPC's own back-off of up to two minutes.
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
    # A channel that is opened again must not meet the connections of the one before it, with their old certificate.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Link:
    """An open channel; `peer_id` of the node at its end, where TLS proves one."""

    channel: grpc.aio.Channel
    peer_id: str | None


def parse_address(address: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[v6 address]:port"; UsageError otherwise."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"gateway address {address!r} should be host:port")
    return host.strip("[]"), int(port)


async def connect(address: str, security: Security, peer_id: str | None, timeout: float) -> Link:
    """Open a channel. With "auto" the gateway is asked whether it speaks TLS.

    `peer_id`: the node that must be there. Only TLS can prove that, so it is never given up for plaintext then.
    Unreachable, Refused (another node) or BrokenAnswer (no certificate of a nodo, or none at all).
    """
    if security == "plaintext":
        if peer_id is not None:
            raise UsageError("gateway: a peer id can only be checked over TLS, not in plaintext")
        return Link(grpc.aio.insecure_channel(address, options=OPTIONS), None)
    certificate = await fetch_certificate(*parse_address(address), timeout)
    if certificate is None:
        if security == "auto" and peer_id is None:
            return await connect(address, "plaintext", None, timeout)
        raise BrokenAnswer(f"nodo's gateway {address} does not speak TLS")
    proved = check_peer(certificate, peer_id)
    pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM)
    options = (*OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME))
    return Link(grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(pem), options=options), proved)
