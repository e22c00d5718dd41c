"""The identity that an embedded gateway shows over TLS: made anew with each gateway, its certificate with each start."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from aihd.nodo.identity import EXTENSION, PREFIX, SERVER_NAME

Scheme = Literal["ed25519", "secp256k1"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as a gRPC server takes them."""

    pem: bytes
    key: bytes


class Identity:
    """A node's key. `scheme`: Ed25519 since August 2026, secp256k1 before."""

    def __init__(self, scheme: Scheme = "ed25519") -> None:
        self._edwards = ed25519.Ed25519PrivateKey.generate() if scheme == "ed25519" else None
        self._koblitz = ec.generate_private_key(ec.SECP256K1())

    @property
    def peer_id(self) -> str:
        """The public key in lowercase hex."""
        if self._edwards is not None:
            return self._edwards.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        return self._koblitz.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex()

    def sign(self, payload: str) -> str:
        """A signature in hex, as this scheme makes it."""
        if self._edwards is not None:
            return self._edwards.sign(payload.encode()).hex()
        digest = hashlib.sha256(payload.encode()).digest()
        r, s = decode_dss_signature(self._koblitz.sign(digest, ec.ECDSA(hashes.SHA1())))  # noqa: S303 - as nodo does
        return (r.to_bytes(32) + s.to_bytes(32)).hex()

    def certificate(self, content: str | None = None) -> Certificate:
        """A new certificate that this identity vouches for; `content`: what the extension says instead."""
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        said = f"{self.peer_id}:{self.sign(PREFIX + spki.hex())}" if content is None else content
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
            .not_valid_after(datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
            .add_extension(x509.UnrecognizedExtension(EXTENSION, said.encode()), critical=False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Certificate(made.public_bytes(Encoding.PEM), private)
