"""A secp256k1 key whose holder agrees on secrets, as the wallet's does."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ergo_lib_python.wallet import DerivationPath, ExtSecretKey


class Holder:
    """Somebody with a key."""

    def __init__(self, secret: int) -> None:
        self._key = ec.derive_private_key(secret, ec.SECP256K1())
        self.public_key = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    def agree(self, peer: bytes) -> bytes:
        return self._key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), peer))

    @classmethod
    def of(cls, mnemonic: str) -> Holder:
        """The key that a wallet has of this mnemonic."""
        secret = ExtSecretKey.from_mnemonic(mnemonic, "").derive(DerivationPath(0, [0])).secret_key()
        return cls(int.from_bytes(bytes(secret), "big"))
