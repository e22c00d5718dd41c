"""Signed transactions out of JSON, as a node reads them: ids are ignored and computed, numbers may come as texts, and an error names
the way to the value, the innermost step first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from ergo_lib_python.transaction import Transaction

from aihd.devnet.http import HttpError
from aihd.devnet.node_http import MALFORMED, hex_text
from aihd.devnet.views import TxView, view_transaction
from aihd.devnet.wire import Made, Spent, transaction_view

T = TypeVar("T")
Json = Any

LONG: Final = 64
INT: Final = 32
BYTE: Final = 8
KEPT_IN_ORDER: Final = 4  # context variables
_KINDS: Final = {LONG: "Long", INT: "Int", BYTE: "Byte"}
_REGISTERS: Final = tuple(f"R{number}" for number in range(4, 10))


def decoded(body: Json) -> TxView:
    """The transaction of a body; HttpError 400 in the node's words where it is none."""
    top = Cursor(body)
    inputs = top.field("inputs").each(_input)
    data_inputs = top.field("dataInputs").each(lambda item: item.field("boxId").hex().hex())
    return transaction_view(inputs, data_inputs, top.field("outputs").each(_output))


def view_of(tx: Transaction | TxView) -> TxView:
    """The plain facts of a transaction, its context variables in the order in which a node keeps them."""
    if isinstance(tx, TxView):
        return tx
    shape = json.loads(tx.json())
    few = all(len(spent["spendingProof"]["extension"]) <= KEPT_IN_ORDER for spent in shape["inputs"])
    return view_transaction(tx) if few else decoded(shape)


class Cursor:
    """A place in JSON, with the way that led there."""

    def __init__(self, value: Json, way: str = "", missing: bool = False) -> None:
        self._value, self._way, self._missing = value, way, missing

    def field(self, name: str) -> Cursor:
        """The value of a key."""
        way = f"DownField({name})" + (f",{self._way}" if self._way else "")
        here = self._value.get(name, _ABSENT) if isinstance(self._value, dict) else _ABSENT
        return Cursor(here, way, here is _ABSENT)

    def each(self, read: Callable[[Cursor], T]) -> list[T]:
        """Reads every item of a list by `read`."""
        items = self._present(list, "C[A]")
        ways = (f"{'MoveRight,' * index}DownArray,{self._way}" for index in range(len(items)))
        return [read(Cursor(item, way)) for item, way in zip(items, ways, strict=True)]

    def entries(self) -> list[tuple[str, Cursor]]:
        """Keys and values of an object."""
        pairs = self._present(dict, "[K, V]Map[K, V]")
        return [(key, self.field(key)) for key in pairs]

    def number(self, bits: int) -> int:
        """A whole number, or a text that is one."""
        value = self._present((int, float, str), _KINDS[bits])
        try:
            whole = int(value) if not isinstance(value, float) or value.is_integer() else None
        except ValueError:
            whole = None
        if whole is None or not -(1 << bits - 1) <= whole < 1 << bits - 1:
            raise self.wrong(_KINDS[bits])
        return whole

    def text(self) -> str:
        """A text."""
        text: str = self._present(str, "String")
        return text

    def hex(self) -> bytes:
        """Bytes out of a text in hex."""
        text = self.text()
        try:
            return hex_text(text, 400)
        except HttpError as error:
            raise self.wrong(f"java.io.IOException: {error.text}") from error

    def wrong(self, kind: str) -> HttpError:
        """The error about this place."""
        return HttpError(400, f"{MALFORMED}{kind}: {self._way}")

    def _present(self, kinds: type | tuple[type, ...], name: str) -> Any:
        if self._missing:
            raise self.wrong("Attempt to decode value on failed cursor")
        if isinstance(self._value, bool) or not isinstance(self._value, kinds):
            raise self.wrong(name)
        return self._value


_ABSENT: Final = object()


def _input(item: Cursor) -> Spent:
    box_id, proof = item.field("boxId").hex(), item.field("spendingProof")
    return Spent(box_id.hex(), proof.field("proofBytes").hex(), _extension(proof.field("extension")))


def _extension(item: Cursor) -> tuple[tuple[int, bytes], ...]:
    variables = item.entries()
    for key, _ in variables:
        if not key.lstrip("-").isdecimal() or not -128 <= int(key[:9]) < 128:
            raise item.wrong("Couldn't decode key.")
    return in_order(tuple((int(key), constant.hex()) for key, constant in variables))


def _output(item: Cursor) -> Made:
    value, tree = item.field("value").number(LONG), item.field("ergoTree").hex()
    tokens = item.field("assets").each(
        lambda each: (each.field("tokenId").hex().hex(), each.field("amount").number(LONG))
    )
    height, registers = item.field("creationHeight").number(INT), item.field("additionalRegisters")
    held = {name: constant.hex() for name, constant in registers.entries()}
    names = sorted(held)
    if names != list(_REGISTERS[: len(names)]):
        raise registers.wrong("Couldn't decode key.")
    return Made(value, tree, height, tuple(tokens), tuple(held[name] for name in names))


def in_order(variables: tuple[tuple[int, bytes], ...]) -> tuple[tuple[int, bytes], ...]:
    """Context variables in the order in which a node keeps and writes them.

    A few stay as they came. More are kept by hash, whatever order they were signed in: a signature over another order is no proof.
    """
    return (
        variables if len(variables) <= KEPT_IN_ORDER else tuple(sorted(variables, key=lambda each: _hash_path(each[0])))
    )


def _hash_path(number: int) -> tuple[int, ...]:
    """Where the node's hash map keeps a number: five bits of the scattered hash at each level, the lowest first."""
    mask = (1 << 32) - 1
    scattered = number & mask
    scattered = (scattered + (~(scattered << 9) & mask)) & mask
    scattered ^= scattered >> 14
    scattered = (scattered + (scattered << 4)) & mask
    scattered ^= scattered >> 10
    return tuple(scattered >> shift & 31 for shift in range(0, 35, 5))
