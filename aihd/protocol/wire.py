"""Reads and writes the serialized values of Ergo: variable-length numbers and typed constants. Pure, and safe on foreign bytes.

A constant is skipped by its type code, strictly: only types that ergo-lib reads back to the same bytes are known here, and only in the
one form in which they are written. Whatever else a stranger may put into a register is a `WireError` and never reaches native code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

_FIELD: Final = 2**256 - 2**32 - 977  # of secp256k1
_NESTED: Final = 4  # levels of collections and pairs; real boxes have two

_BOOLEAN, _BYTE, _SHORT, _INT, _LONG, _BIG_INT, _GROUP_ELEMENT, _SIGMA_PROP = range(1, 9)
_PRIMITIVES: Final = range(_BOOLEAN, _SIGMA_PROP + 1)
_COLL, _COLL_COLL, _PAIR_FIRST, _PAIR_SECOND, _PAIR_SAME = 12, 24, 60, 72, 84
_PROVE_DLOG: Final = 0xCD

Type = int | tuple["Type", ...]
"""A primitive's code; one type: a collection of it; two: a pair."""


class WireError(ValueError):
    """Bytes that are not what they should be, or of a kind that is not known here."""


def vlq(number: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the lowest first."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class Reader:
    """A place in some bytes. Every read moves on; WireError past the end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def ended(self) -> bool:
        return self.at == len(self.data)

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise WireError(f"{count} bytes are wanted at byte {self.at}, {len(found)} are there")
        self.at += count
        return found

    def vlq(self, bits: int) -> int:
        """A number of at most so many bits, in its shortest form."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > bits:
                raise WireError(f"a number at byte {self.at} is longer than {bits} bits")
        if value >> bits or (byte == 0 and shift > 7):
            raise WireError(f"a number before byte {self.at} has more than {bits} bits, or more bytes than it needs")
        return value

    def zigzag(self, bits: int) -> int:
        """A signed number of so many bits."""
        value = self.vlq(64)
        if bits == 32 and value >= 2**64 - 2**31:
            value -= 2**64 - 2**32  # the reference takes the 32 bits for a signed number and widens that
        elif bits == 32 and value >= 2**31:
            raise WireError(f"the Int before byte {self.at} is not as it is written")
        number = value >> 1 ^ -(value & 1)
        if not -(1 << bits - 1) <= number < 1 << bits - 1:
            raise WireError(f"{number} before byte {self.at} does not fit {bits} bits")
        return number


def constant_at(reader: Reader) -> bytes:
    """The bytes of the constant that begins here, its type code included."""
    start = reader.at
    _skip(reader, _type(reader, _NESTED))
    return reader.data[start : reader.at]


def is_constant(data: bytes) -> bool:
    """Whether these bytes are exactly one constant of a kind that is known here."""
    reader = Reader(data)
    try:
        constant_at(reader)
    except WireError:
        return False
    return reader.ended


@lru_cache(maxsize=4096)
def is_point(data: bytes) -> bool:
    """Whether 33 bytes are a compressed point of the curve, other than infinity."""
    if len(data) != 33 or data[0] not in (2, 3):
        return False
    x = int.from_bytes(data[1:], "big")
    square = (pow(x, 3, _FIELD) + 7) % _FIELD
    return x < _FIELD and pow(square, (_FIELD - 1) // 2, _FIELD) == 1


def _type(reader: Reader, depth: int) -> Type:
    """A type in the one form in which it is written: what has a short code is never written in a long one."""
    code = reader.byte()
    if code in _PRIMITIVES:
        return code
    if depth == 0:
        raise WireError(f"a type at byte {reader.at} is nested too deep")
    if code == _COLL:
        return (_compound(reader, depth, but_collection=True),)
    if code - _COLL in _PRIMITIVES:
        return (code - _COLL,)
    if code == _COLL_COLL:
        return ((_compound(reader, depth),),)
    if code - _COLL_COLL in _PRIMITIVES:
        return ((code - _COLL_COLL,),)
    return _pair(reader, code, depth)


def _pair(reader: Reader, code: int, depth: int) -> Type:
    # ergo-lib writes a pair of Shorts otherwise than the reference, so it would be another box.
    if code - _PAIR_SAME in _PRIMITIVES and code - _PAIR_SAME != _SHORT:
        return (code - _PAIR_SAME, code - _PAIR_SAME)
    if code - _PAIR_FIRST in _PRIMITIVES:
        second = _type(reader, depth - 1)
        if second == code - _PAIR_FIRST:
            raise WireError(f"the type of a pair before byte {reader.at} has a shorter form")
        return (code - _PAIR_FIRST, second)
    if code - _PAIR_SECOND in _PRIMITIVES:
        return (_compound(reader, depth), code - _PAIR_SECOND)
    if code == _PAIR_FIRST:
        return (_compound(reader, depth), _compound(reader, depth))
    raise WireError(f"type code {code} at byte {reader.at} is not known")


def _compound(reader: Reader, depth: int, *, but_collection: bool = False) -> Type:
    """A type that is no primitive; `but_collection`: nor a collection."""
    found = _type(reader, depth - 1)
    if isinstance(found, int) or (but_collection and len(found) == 1):
        raise WireError(f"a type before byte {reader.at} has a shorter form")
    return found


def _skip(reader: Reader, kind: Type) -> None:
    if isinstance(kind, int):
        _VALUES[kind](reader)
    elif len(kind) == 1:
        _skip_collection(reader, kind[0])
    else:
        for part in kind:
            _skip(reader, part)


def _skip_collection(reader: Reader, item: Type) -> None:
    count = reader.vlq(16)
    if item == _BYTE:
        reader.take(count)
    elif item == _BOOLEAN:
        bits = reader.take((count + 7) // 8)
        if count % 8 and bits[-1] >> count % 8:
            raise WireError(f"unused bits before byte {reader.at} are set")
    else:
        for _ in range(count):
            _skip(reader, item)


def _boolean(reader: Reader) -> None:
    if reader.byte() > 1:
        raise WireError(f"the byte before {reader.at} is no Boolean")


def _big_int(reader: Reader) -> None:
    size = reader.vlq(16)
    value = reader.take(size) if 0 < size <= 32 else b""
    if not value or value != _shortest(int.from_bytes(value, "big", signed=True)):
        raise WireError(f"the BigInt before byte {reader.at} has no bytes, more than 32, or more than it needs")


def _shortest(number: int) -> bytes:
    bits = (number if number >= 0 else ~number).bit_length()
    return number.to_bytes(bits // 8 + 1, "big", signed=True)


def _point(reader: Reader) -> None:
    if not is_point(reader.take(33)):
        raise WireError(f"the 33 bytes before byte {reader.at} are no point of the curve")


def _sigma_prop(reader: Reader) -> None:
    if reader.byte() != _PROVE_DLOG:
        raise WireError(f"the SigmaProp at byte {reader.at} is more than one public key")
    _point(reader)


_VALUES: Final[dict[int, Callable[[Reader], object]]] = {
    _BOOLEAN: _boolean,
    _BYTE: Reader.byte,
    _SHORT: lambda reader: reader.zigzag(16),
    _INT: lambda reader: reader.zigzag(32),
    _LONG: lambda reader: reader.zigzag(64),
    _BIG_INT: _big_int,
    _GROUP_ELEMENT: _point,
    _SIGMA_PROP: _sigma_prop,
}
