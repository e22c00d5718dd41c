"""Register values to and from their bytes, strictly.

Writing gives ergo-lib constants; reading takes a box and refuses whatever is not exactly the type, size and range asked for, with an
error that names box, register, value and what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from ergo_lib_python.chain import Constant, ErgoBox, NonMandatoryRegisterId

from aihd.errors import AihdError, Exit
from aihd.protocol.box import Box
from aihd.protocol.wire import Reader, WireError, is_point

T = TypeVar("T")

REGISTER_IDS: Final = tuple(getattr(NonMandatoryRegisterId, f"R{n}") for n in range(4, 10))

# Leading bytes of a serialized constant: the type code of Ergo's Sigma values.
_BOOLEAN, _INT, _LONG, _SIGMA_PROP = b"\x01", b"\x04", b"\x05", b"\x08\xcd"
_COLL_BYTE, _COLL_INT, _COLL_LONG, _COLL_COLL_BYTE = b"\x0e", b"\x10", b"\x11", b"\x1a"

INT_RANGE: Final = (-(2**31), 2**31 - 1)
LONG_RANGE: Final = (-(2**63), 2**63 - 1)


class BoxError(AihdError):
    """A box is not what its script says it should be; it is never acted on."""

    exit_code = Exit.USAGE


def int_constant(value: int) -> Constant:
    return Constant.from_i32(_ranged(value, INT_RANGE, "Int"))


def long_constant(value: int) -> Constant:
    return Constant.from_i64(_ranged(value, LONG_RANGE, "Long"))


def coll_byte(value: bytes) -> Constant:
    return Constant(value)


def coll_int(values: Sequence[int]) -> Constant:
    return _coll(_COLL_INT, [int_constant(v) for v in values])


def coll_long(values: Sequence[int]) -> Constant:
    return _coll(_COLL_LONG, [long_constant(v) for v in values])


def coll_coll_byte(values: Sequence[bytes]) -> Constant:
    return _coll(_COLL_COLL_BYTE, [Constant(v) for v in values])


def _coll(prefix: bytes, items: list[Constant]) -> Constant:
    # An empty list carries no type of its own.
    return Constant(items) if items else Constant.from_bytes(prefix + b"\x00")


def sigma_prop(public_key: bytes) -> Constant:
    """A proveDlog of a 33-byte compressed key (ergo-lib builds it only from bytes)."""
    if len(public_key) != 33:
        raise BoxError(f"public key {public_key.hex()}: {len(public_key)} bytes, a compressed key has 33")
    return Constant.from_bytes(_SIGMA_PROP + public_key)


def _ranged(value: int, bounds: tuple[int, int], name: str) -> int:
    if not bounds[0] <= value <= bounds[1]:
        raise BoxError(f"{value} does not fit a register of type {name}")
    return value


class Registers:
    """Strict reader of the registers of one box; `kind` is the box's name in errors, e.g. "Bond". Nothing native sees the bytes."""

    def __init__(self, kind: str, box: ErgoBox | Box) -> None:
        self._kind = kind
        self._box = box
        self._registers = box.registers if isinstance(box, Box) else _registers_of(box)
        self.count = len(self._registers)

    def error(self, register: str, value: object, expected: str) -> BoxError:
        text = value.hex() if isinstance(value, bytes) else str(value)
        box_id = self._box.id if isinstance(self._box, Box) else self._box.box_id
        return BoxError(f"{self._kind} box {box_id}: {register} is {text[:80]}, expected {expected}")

    def _value(self, register: str, prefix: bytes, expected: str, read: Callable[[Reader], T]) -> T:
        """What `read` makes of the value of a register whose type is `prefix`, if that is all there is."""
        index = int(register[1:]) - 4
        if index >= self.count:
            raise self.error(register, "missing", expected)
        raw = self._registers[index]
        if not raw.startswith(prefix):
            raise self.error(register, raw, expected)
        reader = Reader(raw, len(prefix))
        try:
            value = read(reader)
        except WireError:
            raise self.error(register, raw, expected) from None
        if not reader.ended:
            raise self.error(register, raw, expected)
        return value

    def coll_byte(self, register: str, *, size: int | None = None, most: int | None = None) -> bytes:
        expected = f"Coll[Byte] of {size} bytes" if size is not None else f"Coll[Byte] of at most {most} bytes"
        value = self._value(register, _COLL_BYTE, expected, _byte_string)
        if (size is not None and len(value) != size) or (most is not None and len(value) > most):
            raise self.error(register, value, expected)
        return value

    def text(self, register: str, *, most: int) -> str:
        value = self.coll_byte(register, most=most)
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise self.error(register, value, "UTF-8 text") from None

    def any_text(self, register: str, *, most: int) -> str:
        """Text that a stranger wrote and no guard reads: whatever is not UTF-8 is kept by `surrogateescape`, byte for byte."""
        return self.coll_byte(register, most=most).decode(errors="surrogateescape")

    def public_key(self, register: str) -> bytes:
        expected = "SigmaProp of a single public key"
        key = self._value(register, _SIGMA_PROP, expected, lambda reader: reader.take(33))
        if not is_point(key):
            raise self.error(register, key, "a point of the curve")
        return key

    def boolean(self, register: str) -> bool:
        value = self._value(register, _BOOLEAN, "Boolean", Reader.byte)
        if value > 1:
            raise self.error(register, value, "Boolean")
        return bool(value)

    def int_value(self, register: str) -> int:
        return self._value(register, _INT, "Int", lambda reader: reader.zigzag(32))

    def long_value(self, register: str) -> int:
        return self._value(register, _LONG, "Long", lambda reader: reader.zigzag(64))

    def longs(self, register: str, count: int) -> tuple[int, ...]:
        return self._numbers(register, _COLL_LONG, f"Coll[Long] of {count} numbers", count, 64)

    def ints(self, register: str, count: int) -> tuple[int, ...]:
        return self._numbers(register, _COLL_INT, f"Coll[Int] of {count} numbers", count, 32)

    def byte_strings(self, register: str, *, size: int, most: int) -> tuple[bytes, ...]:
        expected = f"Coll[Coll[Byte]] of at most {most} items of {size} bytes"

        def read(reader: Reader) -> tuple[bytes, ...]:
            count = reader.vlq(16)
            if count > most:
                raise WireError(expected)
            return tuple(_byte_string(reader) for _ in range(count))

        found = self._value(register, _COLL_COLL_BYTE, expected, read)
        if not all(len(item) == size for item in found):
            raise self.error(register, b"".join(found), expected)
        return found

    def _numbers(self, register: str, prefix: bytes, expected: str, count: int, bits: int) -> tuple[int, ...]:
        def read(reader: Reader) -> tuple[int, ...]:
            if reader.vlq(16) != count:
                raise WireError(expected)
            return tuple(reader.zigzag(bits) for _ in range(count))

        return self._value(register, prefix, expected, read)


def _byte_string(reader: Reader) -> bytes:
    return reader.take(reader.vlq(16))


def _registers_of(box: ErgoBox) -> tuple[bytes, ...]:
    """The registers of a box that ergo-lib made."""
    registers = box.additional_registers
    return tuple(bytes(registers[REGISTER_IDS[number]]) for number in range(len(registers)))
