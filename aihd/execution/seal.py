"""Bytes of any size that only the holder of one Ergo key can read, and that cannot be changed, cut or put in another order.

    sealed = "aihs" ‖ 1 ‖ ephemeral key (33) ‖ chunk₀ ‖ chunk₁ ‖ … ‖ last chunk

The key of the chunks is HKDF-SHA256 of the secp256k1 Diffie-Hellman secret of the ephemeral and the reader's key, bound to both and to a
context (what the bytes are, and of which task), so that a sealed input is of no use as anything else. Each chunk is 64 KiB under
ChaCha20-Poly1305, the last one shorter; its nonce is its number and whether it is the last (the STREAM construction of Hoang, Reyhanitabar,
Rogaway and Vizár), so a missing end is noticed. Memory use does not depend on the size, and any chunk can be made or read on its own.

It hides and protects the bytes. It does not say who sealed them, and it does not hide their number.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aihd.errors import DependencyError

CONTENT_TYPE: Final = "application/x-aih-sealed"
CHUNK: Final = 1 << 16
"""Bytes of one chunk before it is sealed."""

MAGIC: Final = b"aihs\x01"
KEY_SIZE: Final = 33
HEADER_SIZE: Final = len(MAGIC) + KEY_SIZE
TAG_SIZE: Final = 16
SEALED_CHUNK: Final = CHUNK + TAG_SIZE

_CURVE: Final = ec.SECP256K1()
_ORDER: Final = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141

Agree = Callable[[bytes], bytes]
"""The holder of a secret key gives the Diffie-Hellman secret (32 bytes) that it shares with a public key (33 bytes)."""


class SealError(DependencyError):
    """Bytes that were not sealed for us and this purpose, or not all of them, or that somebody changed."""


def input_context(task_id: bytes) -> bytes:
    """Of what a client sends to a node."""
    return b"aih:input:" + task_id


def output_context(task_id: bytes, output_hash: bytes) -> bytes:
    """Of what a node gives to a client."""
    return b"aih:output:" + task_id + output_hash


def note_context(task_id: bytes) -> bytes:
    """Of what a node says to a client about a task."""
    return b"aih:note:" + task_id


@dataclass(frozen=True, slots=True)
class SealKey:
    """What seals one file for one reader: the public ephemeral key (33 bytes) and the key of the chunks (32 bytes).

    It opens nothing else, so who has it can be trusted less than who holds the key that it was made with.
    """

    ephemeral: bytes
    chunks: bytes


def seal_key(reader: bytes, context: bytes, ephemeral: ec.EllipticCurvePrivateKey) -> SealKey:
    """`reader` is a compressed key (33 bytes). An ephemeral key may seal one file only: nonces repeat otherwise."""
    public = _compressed(ephemeral.public_key())
    return SealKey(public, _derived(ephemeral.exchange(ec.ECDH(), _point(reader)), public, reader, context))


def chunk_key(agree: Agree, public_key: bytes, context: bytes, ephemeral: bytes) -> bytes:
    """The key of the chunks (32 bytes) that somebody sealed for `public_key`; SealError when `ephemeral` is no key."""
    _point(ephemeral)  # before the secret key touches it
    return _derived(agree(ephemeral), ephemeral, public_key, context)


class Sealer:
    """Seals one file for one reader; any chunk of it, in any order."""

    def __init__(self, key: SealKey) -> None:
        self.header = MAGIC + key.ephemeral
        self._cipher = ChaCha20Poly1305(key.chunks)

    def chunk(self, number: int, plain: bytes, *, last: bool) -> bytes:
        """Chunk `number` (from 0) sealed; all but the last are of CHUNK bytes."""
        return self._cipher.encrypt(_nonce(number, last), plain, None)

    def small(self, plain: bytes) -> bytes:
        """A whole file of at most CHUNK bytes, sealed."""
        return self.header + self.chunk(0, plain, last=True)


def fresh_key() -> ec.EllipticCurvePrivateKey:
    """An ephemeral key by chance."""
    return ec.generate_private_key(_CURVE)


def derived_key(public_key: bytes, agree: Agree, reader: bytes, context: bytes) -> ec.EllipticCurvePrivateKey:
    """An ephemeral key that the holder of `agree` always finds again, and nobody else can: so that the same file sealed for
    the same reader is the same bytes each time, and a broken download can go on where it stopped."""
    secret = agree(public_key)  # with ourselves: known to whoever holds the key, to no one else
    kdf = HKDF(SHA256(), length=48, salt=None, info=b"aih:seal:ephemeral:1" + reader + context)
    return ec.derive_private_key(int.from_bytes(kdf.derive(secret), "big") % (_ORDER - 1) + 1, _CURVE)


def sealed_size(size: int) -> int:
    """Bytes that a file of `size` bytes has once sealed."""
    return HEADER_SIZE + size + TAG_SIZE * chunks_of(size)


def chunks_of(size: int) -> int:
    """Chunks of a file; an empty one has one, too."""
    return max(1, -(-size // CHUNK))


async def seal(reader: bytes, context: bytes, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The pieces, sealed for `reader` with a fresh ephemeral key; SealError when `reader` is no key."""
    sealer = Sealer(seal_key(reader, context, fresh_key()))
    yield sealer.header
    number = 0
    async for plain, last in _cut(pieces, CHUNK):
        yield sealer.chunk(number, plain, last=last)
        number += 1


async def unseal(agree: Agree, public_key: bytes, context: bytes, pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """What was sealed for `public_key`, chunk by chunk, each checked before it is given out.

    SealError at the first chunk that is wrong, and at the end when the end is missing: only what is read to its end is whole.
    """

    async def key_of(ephemeral: bytes) -> bytes:
        return chunk_key(agree, public_key, context, ephemeral)

    async for plain in open_with(key_of, pieces):
        yield plain


async def open_with(key_of: Callable[[bytes], Awaitable[bytes]], pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """As `unseal`, where somebody else holds the secret key: `key_of` is asked once for the key of the chunks to an ephemeral key."""
    source, head = aiter(pieces), b""
    async for piece in source:
        head += piece
        if len(head) >= HEADER_SIZE:
            break
    if len(head) < HEADER_SIZE or not head.startswith(MAGIC):
        raise SealError(f"sealed: it begins with {head[:5].hex() or 'nothing'}, expected {MAGIC.hex()} and a key")
    cipher = ChaCha20Poly1305(await key_of(head[len(MAGIC) : HEADER_SIZE]))
    number = 0
    async for sealed, last in _cut(_then(head[HEADER_SIZE:], source), SEALED_CHUNK):
        try:
            plain = cipher.decrypt(_nonce(number, last), sealed, None)
        except InvalidTag:
            raise SealError(
                f"sealed: chunk {number} is changed, cut, out of order, or not for this key and purpose"
            ) from None
        yield plain
        number += 1


def _derived(secret: bytes, ephemeral: bytes, reader: bytes, context: bytes) -> bytes:
    return HKDF(SHA256(), length=32, salt=None, info=b"aih:seal:1" + ephemeral + reader + context).derive(secret)


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _point(key: bytes) -> ec.EllipticCurvePublicKey:
    try:
        if len(key) != KEY_SIZE:
            raise ValueError(key)
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, key)
    except ValueError:
        raise SealError(f"sealed: {key.hex()[:80]} is no compressed secp256k1 key of {KEY_SIZE} bytes") from None


def _compressed(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


async def _then(first: bytes, rest: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


async def _cut(pieces: AsyncIterable[bytes], size: int) -> AsyncIterator[tuple[bytes, bool]]:
    """(piece, whether it is the last): all of `size` bytes but the last, which is empty only if there is nothing at all."""
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) > size:
            yield bytes(buffer[:size]), False
            del buffer[:size]
    yield bytes(buffer), True
