"""One form for the two in which nodo keeps whom a peer is paid at: an Ergo address, or since July 2026 the hex of its tree.

Needs nothing but the standard library, since nodo's process imports it too.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_CHECKSUM: Final = 4
_P2PK, _P2S = 1, 3  # kinds of address: of one key, and of a whole script
_KEY: Final = 33
_LONGEST: Final = 8192  # characters; no address is longer


def tree_of(text: str) -> str:
    """The tree, as lowercase hex, of an address or of a tree's hex; anything else (a peer id, say) as it is."""
    text = text.strip()
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        pass
    decoded = _decoded(text)
    if decoded is None:
        return text
    kind, content = decoded[0] & 0x0F, decoded[1:-_CHECKSUM]
    if kind == _P2PK and len(content) == _KEY:
        return f"0008cd{content.hex()}"
    return content.hex() if kind == _P2S else text


def _decoded(text: str) -> bytes | None:
    """Head, content and checksum of an address; None when it is none."""
    if not text or len(text) > _LONGEST:
        return None
    number = 0
    for letter in text:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            return None
        number = number * 58 + digit
    leading = len(text) - len(text.lstrip(_ALPHABET[0]))
    data = bytes(leading) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if len(body) < 2 or blake2b(body, digest_size=32).digest()[:_CHECKSUM] != checksum:
        return None
    return data
