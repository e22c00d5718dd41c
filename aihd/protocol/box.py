"""A box as its bytes tell it, read by our own code before anything native looks at it.

Whatever a stranger put on the chain, an explorer's JSON or a node's is read by `box_of_json`: the bytes are built again from the fields
and hashed, so that a box is what its id says or is not a box. Only a box of kinds that are known here becomes a `Box`, which ergo-lib is
certain to read; what else stands under a script of ours is `Odd`: set aside and counted, nobody's fault but its maker's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox

from aihd.protocol.hashes import blake2b256
from aihd.protocol.panics import contained
from aihd.protocol.shapes import hexed, hexed_any, listed, mapped, mapped_in, whole
from aihd.protocol.wire import Reader, WireError, constant_at, is_constant, vlq

MAX_LONG: Final = 2**63 - 1
MAX_HEIGHT: Final = 2**31 - 1
MAX_TOKENS: Final = 122  # ergo-lib reads no more of them
MAX_REGISTERS: Final = 6
MAX_BYTES: Final = 4096  # of a box on the chain

_SIZE_BIT: Final = 0x08


class ForgedError(ValueError):
    """A box whose bytes do not have the id that it is shown with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box that ergo-lib can read. `value` is nanoERG, `tokens` are (id, amount) in order, `registers` serialized constants from R4 on."""

    id: str
    value: int
    tree: bytes
    creation_height: int
    tokens: tuple[tuple[bytes, int], ...]
    registers: tuple[bytes, ...]
    transaction_id: str
    index: int

    @property
    def box_id(self) -> str:
        """The id, by the name that it has in ergo-lib."""
        return self.id

    @property
    def raw_id(self) -> bytes:
        return bytes.fromhex(self.id)

    def to_bytes(self) -> bytes:
        """The serialized box, whose Blake2b256 is its id."""
        return _bytes_of(
            self.value,
            self.tree,
            self.creation_height,
            self.tokens,
            self.registers,
            bytes.fromhex(self.transaction_id),
            self.index,
        )

    def ergo(self) -> ErgoBox:
        """The box as ergo-lib's value, made anew each time: it takes up to 80 KB. ForgedError where ergo-lib reads other bytes."""
        made = contained(lambda: ErgoBox.from_bytes(self.to_bytes()))
        if str(made.box_id) != self.id:
            raise ForgedError(f"box {self.id} is another one for ergo-lib: {made.box_id}")
        return made


@dataclass(frozen=True, slots=True)
class Odd:
    """A box under a script of ours that cannot be used; `kind` says what is odd about it, in a word for a counter."""

    id: str
    tree: bytes
    kind: str


def box_of(box: ErgoBox | Box) -> Box:
    """A box that was made by ergo-lib, as ours."""
    if isinstance(box, Box):
        return box
    found = box_of_bytes(bytes(box), (bytes(box.ergo_tree),))
    if isinstance(found, Odd):
        raise ForgedError(f"box {box.box_id} is odd: {found.kind}")
    return found


def box_of_json(raw: Any, trees: Collection[bytes] = ()) -> Box | Odd:
    """A box of a node's or an explorer's JSON.

    `trees`: script bytes to be shared by the boxes under them, instead of a copy each.
    ShapeError where a field is missing or of another kind, ForgedError where the bytes do not have the id.
    """
    fields = mapped(raw)
    box_id, (value, tree, height, tokens, registers) = hexed(fields, "boxId", 32), fields_of(fields)
    tx_id, index = hexed(fields, "transactionId", 32), whole(fields, "index", 0, 2**16 - 1)
    data = _bytes_of(value, tree, height, tokens, registers, tx_id, index)
    if blake2b256(data) != box_id or not _dense(fields):
        raise ForgedError(f"box {box_id.hex()} is not what it says")
    shared = next((known for known in trees if known == tree), tree)
    kind = _oddity(value, tokens, registers, len(data))
    if kind is not None:
        return Odd(box_id.hex(), shared, kind)
    return Box(
        id=box_id.hex(),
        value=value,
        tree=shared,
        creation_height=height,
        tokens=tokens,
        registers=registers,
        transaction_id=tx_id.hex(),
        index=index,
    )


def box_of_bytes(data: bytes, trees: Collection[bytes] = ()) -> Box | Odd:
    """A serialized box whose script is one of `trees`, or states its own size. WireError where the bytes are none."""
    reader = Reader(data)
    value, tree = reader.vlq(64), _tree(reader, trees)
    height = reader.vlq(32)
    tokens = tuple((reader.take(32), reader.vlq(64)) for _ in range(reader.byte()))
    count, box_id = reader.byte(), blake2b256(data).hex()
    try:
        registers = tuple(constant_at(reader) for _ in range(count))
    except WireError:
        return Odd(box_id, tree, REGISTERS)
    tx_id, index = reader.take(32), reader.vlq(16)
    if not reader.ended:
        raise WireError(f"box {box_id} has bytes after its end")
    kind = _oddity(value, tokens, registers, len(data))
    if kind is not None:
        return Odd(box_id, tree, kind)
    return Box(
        id=box_id,
        value=value,
        tree=tree,
        creation_height=height,
        tokens=tokens,
        registers=registers,
        transaction_id=tx_id.hex(),
        index=index,
    )


REGISTERS: Final = "registers of a kind that is not known"
TOKENS: Final = "more tokens than can be spent"
AMOUNT: Final = "an amount that cannot be"
SIZE: Final = "more bytes than a box may have"
CONTENT: Final = "not what its script asks for"


def _oddity(value: int, tokens: tuple[tuple[bytes, int], ...], registers: tuple[bytes, ...], size: int) -> str | None:
    if not 0 < value <= MAX_LONG or not all(0 < amount <= MAX_LONG for _, amount in tokens):
        return AMOUNT
    if len(tokens) > MAX_TOKENS:
        return TOKENS
    if size > MAX_BYTES:
        return SIZE
    if len(registers) > MAX_REGISTERS or not all(map(is_constant, registers)):
        return REGISTERS
    return None


Fields = tuple[int, bytes, int, tuple[tuple[bytes, int], ...], tuple[bytes, ...]]


def fields_of(fields: Mapping[str, Any]) -> Fields:
    """Value, script, creation height, tokens and registers of an output in JSON, as they are; ShapeError where one is missing or odd."""
    tokens = tuple(
        (hexed(asset, "tokenId", 32), whole(asset, "amount", 0, MAX_LONG))
        for asset in map(mapped, listed(fields, "assets"))
    )
    registers = mapped_in(fields, "additionalRegisters")
    return (
        whole(fields, "value", 0, MAX_LONG),
        hexed_any(fields, "ergoTree"),
        whole(fields, "creationHeight", 0, MAX_HEIGHT),
        tokens,
        tuple(_register(registers, name) for name in sorted(registers)),
    )


def _dense(fields: Mapping[str, Any]) -> bool:
    """Whether no register between R4 and the last is left out: an explorer leaves out what it cannot show."""
    names = sorted(mapped_in(fields, "additionalRegisters"))
    return names == [f"R{number}" for number in range(4, 4 + len(names))]


def _register(raw: Mapping[str, Any], name: str) -> bytes:
    """A node gives the constant alone, an explorer an object around it."""
    return hexed_any(raw if isinstance(raw[name], str) else {name: mapped(raw[name]).get("serializedValue")}, name)


def _tree(reader: Reader, trees: Collection[bytes]) -> bytes:
    for tree in trees:
        if reader.data.startswith(tree, reader.at):
            reader.take(len(tree))
            return tree
    start, header = reader.at, reader.byte()
    if not header & _SIZE_BIT:
        raise WireError(f"the script at byte {start} is not known, and does not state its size")
    reader.take(reader.vlq(32))
    return reader.data[start : reader.at]


def _bytes_of(
    value: int,
    tree: bytes,
    height: int,
    tokens: tuple[tuple[bytes, int], ...],
    registers: tuple[bytes, ...],
    tx_id: bytes,
    index: int,
) -> bytes:
    held = b"".join(token + vlq(amount) for token, amount in tokens)
    head = vlq(value) + tree + vlq(height) + _count(tokens) + held
    return head + _count(registers) + b"".join(registers) + tx_id + vlq(index)


def _count(items: tuple[object, ...]) -> bytes:
    # 255 is the most that a box can have; of more there is no box, and no hash will fit.
    return bytes([min(len(items), 255)])
