"""Register values to and from their bytes, strictly.

Writing gives ergo-lib constants; reading takes a box and refuses whatever is not exactly the type, size and range asked for, with an
error that names box, register, value and what would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ergo_lib_python.chain import Constant, ErgoBox, NonMandatoryRegisterId

from aihd.errors import AihdError, Exit

REGISTER_IDS: Final = tuple(getattr(NonMandatoryRegisterId, f"R{n}") for n in range(4, 10))

# Leading bytes of a serialized constant: the type code of Ergo's Sigma values.
_INT, _LONG, _SIGMA_PROP = b"\x04", b"\x05", b"\x08\xcd"
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
    """Strict reader of the registers of one box; `kind` is the box's name in errors, e.g. "Bond"."""

    def __init__(self, kind: str, box: ErgoBox) -> None:
        self._where = f"{kind} box {box.box_id}"
        self._registers = box.additional_registers
        self.count = len(self._registers)

    def error(self, register: str, value: object, expected: str) -> BoxError:
        text = value.hex() if isinstance(value, bytes) else str(value)
        return BoxError(f"{self._where}: {register} is {text[:80]}, expected {expected}")

    def _raw(self, register: str, prefix: bytes, expected: str) -> tuple[bytes, Constant]:
        index = int(register[1:]) - 4
        if index >= self.count:
            raise self.error(register, "missing", expected)
        constant = self._registers[REGISTER_IDS[index]]
        raw = bytes(constant)
        if not raw.startswith(prefix):
            raise self.error(register, raw, expected)
        return raw, constant

    def coll_byte(self, register: str, *, size: int | None = None, most: int | None = None) -> bytes:
        expected = f"Coll[Byte] of {size} bytes" if size is not None else f"Coll[Byte] of at most {most} bytes"
        raw, constant = self._raw(register, _COLL_BYTE, expected)
        value = constant.value
        if not isinstance(value, bytes):
            raise self.error(register, raw, expected)
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
        raw, _ = self._raw(register, _SIGMA_PROP, "SigmaProp of a single public key")
        if len(raw) != 35:
            raise self.error(register, raw, "SigmaProp of a single public key")
        return raw[2:]

    def int_value(self, register: str) -> int:
        raw, constant = self._raw(register, _INT, "Int")
        return self._number(register, constant, raw)

    def long_value(self, register: str) -> int:
        raw, constant = self._raw(register, _LONG, "Long")
        return self._number(register, constant, raw)

    def longs(self, register: str, count: int) -> tuple[int, ...]:
        return self._numbers(register, _COLL_LONG, f"Coll[Long] of {count} numbers", count)

    def ints(self, register: str, count: int) -> tuple[int, ...]:
        return self._numbers(register, _COLL_INT, f"Coll[Int] of {count} numbers", count)

    def byte_strings(self, register: str, *, size: int, most: int) -> tuple[bytes, ...]:
        expected = f"Coll[Coll[Byte]] of at most {most} items of {size} bytes"
        raw, constant = self._raw(register, _COLL_COLL_BYTE, expected)
        items = constant.value
        if not isinstance(items, list) or len(items) > most:
            raise self.error(register, raw, expected)
        found = tuple(item.value for item in items)
        if not all(isinstance(item, bytes) and len(item) == size for item in found):
            raise self.error(register, raw, expected)
        return tuple(item for item in found if isinstance(item, bytes))

    def _numbers(self, register: str, prefix: bytes, expected: str, count: int) -> tuple[int, ...]:
        raw, constant = self._raw(register, prefix, expected)
        items = constant.value
        if not isinstance(items, list) or len(items) != count:
            raise self.error(register, raw, expected)
        return tuple(self._number(register, item, raw) for item in items)

    def _number(self, register: str, constant: Constant, raw: bytes) -> int:
        # The stub of ergo-lib leaves int out of the possible values.
        value: object = constant.value
        if not isinstance(value, int):
            raise self.error(register, raw, "a number")
        return value
