"""Who a nodo is: the certificate that its gateway shows, and the identity key that vouches for it.

The certificate holds a key that lives as long as the process. An extension of it carries the node's identity (its peer
id) and that identity's signature over the certificate's own public key. So a certificate that was fetched from anybody
proves, by itself, which node made it; pinned as the only root, it proves that the connection ends there.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from contextlib import suppress
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aihd.nodo.failures import BrokenAnswer, Refused, Unreachable

SERVER_NAME: Final = "celaut-node"
"""The name in every nodo's certificate; it says nothing about the node."""

EXTENSION: Final = x509.ObjectIdentifier("2.25.276125094420857322236898758448456352855")
PREFIX: Final = "CELAUT"  # keeps the identity's signatures for other purposes apart
ED25519_HEX, SECP256K1_HEX = 64, 66  # digits of a peer id


async def fetch_certificate(host: str, port: int, timeout: float) -> bytes | None:
    """The certificate (DER) that a gateway shows to anybody, unchecked; None when it does not speak TLS.

    Unreachable when nobody listens there.
    """
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        raise Unreachable(f"nodo's gateway {host}:{port}: {error or 'no connection in time'}") from error
    try:
        await writer.start_tls(_unverified(), server_hostname=SERVER_NAME, ssl_handshake_timeout=timeout)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    except OSError:  # includes ssl.SSLError: a gateway in plaintext takes a handshake for garbage
        return None
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return bytes(shown) if shown else None


def _unverified() -> ssl.SSLContext:
    # Safe only because nothing is sent over this connection, and the certificate is checked by `peer_id_of` after.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def peer_id_of(certificate: bytes) -> str:
    """The peer id (lowercase hex) that a DER certificate proves; BrokenAnswer when it proves none."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        value = parsed.extensions.get_extension_for_oid(EXTENSION).value
        spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise BrokenAnswer(f"the gateway's certificate carries no identity of a nodo: {error}") from error
    content = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    peer_id, _, signature = content.decode("ascii", "replace").partition(":")
    if not _signed(peer_id, PREFIX + spki.hex(), signature):
        raise BrokenAnswer(f"the gateway's certificate is not signed by the identity {peer_id[:70]!r} that it names")
    return peer_id


def check_peer(certificate: bytes, expected: str | None) -> str:
    """The peer id of a certificate; Refused when it is not the `expected` one."""
    peer_id = peer_id_of(certificate)
    if expected is not None and peer_id != expected:
        raise Refused(f"the gateway is peer {peer_id}, expected {expected}: another node answers at this address")
    return peer_id


def _signed(peer_id: str, payload: str, signature: str) -> bool:
    try:
        key, signed = bytes.fromhex(peer_id), bytes.fromhex(signature)
        if peer_id != key.hex():
            return False  # one spelling per identity
        if len(peer_id) == ED25519_HEX:
            ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signed, payload.encode())
        else:
            _verify_ecdsa(key, signed, payload)
    except (ValueError, InvalidSignature):
        return False
    return True


def _verify_ecdsa(key: bytes, signed: bytes, payload: str) -> None:
    """A node of July 2026 signs with a secp256k1 key: r ‖ s over the SHA-1 of the SHA-256 of the payload."""
    if len(key) * 2 != SECP256K1_HEX or len(signed) != 64:
        raise ValueError("neither an Ed25519 nor a secp256k1 identity")
    signature = encode_dss_signature(int.from_bytes(signed[:32]), int.from_bytes(signed[32:]))
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), key)
    # SHA-1 is what python-ecdsa takes when it is told nothing; it hashes a hash here, so no collision can be chosen.
    public.verify(signature, hashlib.sha256(payload.encode()).digest(), ec.ECDSA(hashes.SHA1()))  # noqa: S303
