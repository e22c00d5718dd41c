"""Transactions as bytes, written and read without ergo-lib.

A fuzzer builds far more transactions than it hands to sigma-rust, and ergo-lib serializes every tree some seven times to build one. The
format is the chain's; that it is met is asserted by a test against ergo-lib. What invariants read comes from here as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from ergo_lib_python.chain import Constant, ErgoBox

from aihd.protocol.codec import REGISTER_IDS

from .chain import PARAMETERS, Draft, Out, Tokens

INT, LONG, SIGMA, COLL_BYTE, COLL_INT, COLL_LONG, COLL_COLL_BYTE = 0x04, 0x05, 0x08, 0x0E, 0x10, 0x11, 0x1A
DLOG: Final = 0xCD
MIN_PER_BYTE: Final[int] = PARAMETERS["minValuePerByte"]
LONGEST: Final = 10**6  # no register of these tests has more items


class UnreadableError(ValueError):
    """A register is missing or of another type than its place asks for."""


def vlq(number: int) -> bytes:
    """An unsigned number, 7 bits a byte, lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


@dataclass(frozen=True, slots=True)
class Seen:
    """A box as it lies on the chain; `registers` are serialized constants from R4 on, `id` is empty for an output not yet made."""

    value: int
    tree: bytes
    tokens: Tokens
    registers: tuple[bytes, ...]
    height: int
    id: bytes = b""

    @classmethod
    def of(cls, box: ErgoBox) -> Self:
        found = box.additional_registers
        registers = tuple(bytes(found[register]) for register in REGISTER_IDS[: len(found)])
        tokens = tuple((bytes(t.token_id), int(t.amount)) for t in box.tokens)
        return cls(box.value, bytes(box.ergo_tree), tokens, registers, box.creation_height, bytes(box.box_id))

    @classmethod
    def made(cls, out: Out, height: int) -> Self:
        registers = tuple(bytes(constant) for constant in out.registers)
        return cls(out.value, out.tree, out.tokens, registers, height if out.height is None else out.height)

    def holds(self, token: bytes) -> int:
        """Units of a token."""
        return sum(amount for held, amount in self.tokens if held == token)

    def int_(self, number: int) -> int:
        return next(_zigzags(self._raw(number, INT), 1))

    def long(self, number: int) -> int:
        return next(_zigzags(self._raw(number, LONG), 1))

    def ints(self, number: int) -> tuple[int, ...]:
        return numbers(self._raw(number, COLL_INT))

    def longs(self, number: int) -> tuple[int, ...]:
        return numbers(self._raw(number, COLL_LONG))

    def bytes_(self, number: int) -> bytes:
        ((item),) = strings(b"\x01" + self._raw(number, COLL_BYTE))
        return item

    def strings(self, number: int) -> tuple[bytes, ...]:
        return strings(self._raw(number, COLL_COLL_BYTE))

    def key(self, number: int) -> bytes:
        """The key of a SigmaProp that one signature satisfies."""
        raw = self._raw(number, SIGMA)
        if len(raw) != 34 or raw[0] != DLOG:
            raise UnreadableError(f"R{number} asks for more or less than one signature: {raw.hex()[:80]}")
        return raw[1:]

    def _raw(self, number: int, kind: int) -> bytes:
        if number - 4 >= len(self.registers):
            raise UnreadableError(f"R{number} is missing")
        raw = self.registers[number - 4]
        if raw[0] != kind:
            raise UnreadableError(f"R{number} is of type {raw[0]:#x}, expected {kind:#x}")
        return raw[1:]


def numbers(raw: bytes) -> tuple[int, ...]:
    """The numbers of a collection, after its type."""
    count, rest = _unsigned(raw)
    return tuple(_zigzags(rest, count))


def strings(raw: bytes) -> tuple[bytes, ...]:
    """The byte strings of a collection of collections, after its type."""
    count, rest = _unsigned(raw)
    found = []
    for _ in range(count):
        size, rest = _unsigned(rest)
        found.append(rest[:size])
        rest = rest[size:]
    return tuple(found)


def _zigzags(raw: bytes, count: int) -> Iterator[int]:
    if count > LONGEST:
        raise UnreadableError(f"a collection of {count} numbers")
    for _ in range(count):
        number, raw = _unsigned(raw)
        yield number >> 1 if number % 2 == 0 else -(number >> 1) - 1


def _unsigned(raw: bytes) -> tuple[int, bytes]:
    number = 0
    for index, byte in enumerate(raw):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, raw[index + 1 :]
    raise UnreadableError("a number has no end")


_known: Final[dict[bytes, tuple[Seen, bytes]]] = {}


def known(box: ErgoBox) -> tuple[Seen, bytes]:
    """A box as `Seen` and in bytes, worked out once: writing a tree takes ergo-lib a millisecond, and it does not hash boxes."""
    box_id = bytes(box.box_id)
    if box_id not in _known:
        _known[box_id] = (Seen.of(box), bytes(box))
    return _known[box_id]


def seen(box: ErgoBox) -> Seen:
    return known(box)[0]


def outputs_of(draft: Draft) -> tuple[Out, ...]:
    """All outputs of a draft, the change that it leaves implicit included."""
    left = sum(seen(box).value for box in draft.inputs) - sum(out.value for out in draft.outputs)
    return (*draft.outputs, Out(left, draft.change)) if left else draft.outputs


def transaction_bytes(draft: Draft, outs: Sequence[Seen], proofs: Sequence[bytes]) -> bytes:
    """The transaction with these proofs; with empty ones, what proofs are made for."""
    tokens = list(dict.fromkeys(token for out in outs for token, _ in out.tokens))
    parts = [vlq(len(draft.inputs))]
    for index, (box, proof) in enumerate(zip(draft.inputs, proofs, strict=True)):
        parts += [seen(box).id, vlq(len(proof)), proof, _extension(draft.variables.get(index, {}))]
    parts += [vlq(len(draft.data_inputs)), *(seen(box).id for box in draft.data_inputs)]
    parts += [vlq(len(tokens)), *tokens, vlq(len(outs))]
    places = {token: vlq(place) for place, token in enumerate(tokens)}
    return b"".join((*parts, *(_output(out, places) for out in outs)))


def _extension(variables: Mapping[int, Constant]) -> bytes:
    return bytes([len(variables)]) + b"".join(bytes([key]) + bytes(value) for key, value in sorted(variables.items()))


def _output(out: Seen, places: Mapping[bytes, bytes]) -> bytes:
    tokens = b"".join(places[token] + vlq(amount) for token, amount in out.tokens)
    registers = bytes([len(out.registers)]) + b"".join(out.registers)
    return b"".join((vlq(out.value), out.tree, vlq(out.height), bytes([len(out.tokens)]), tokens, registers))


def box_size(out: Seen) -> int:
    """Bytes of the box that an output becomes: ids in place of token indices, and where it comes from."""
    ids = sum(31 for _ in out.tokens)
    return len(_output(out, {token: b"\x00" for token, _ in out.tokens})) + ids + 33


def digest(message: bytes) -> bytes:
    return hashlib.blake2b(message, digest_size=32).digest()
