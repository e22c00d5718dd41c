"""Constants as the Explorer renders them: a type name and a text to search by."""

from __future__ import annotations

from functools import lru_cache

from ergo_lib_python.chain import Constant, SType

from aihd.devnet.sigma import DLOG
from aihd.protocol.panics import contained
from aihd.protocol.trees import parse_tree

Rendered = tuple[str | None, str | None]


@lru_cache(maxsize=65536)
def render(serialized: str) -> Rendered:
    """Type and text of a serialized constant (hex); both None where the Explorer gives null."""
    try:
        constant = contained(lambda: Constant.from_bytes(bytes.fromhex(serialized)))
        text = _text(constant)
        return (None, None) if text is None else (_type(constant.tpe), text)
    except Exception:  # noqa: BLE001 - ergo-lib has several errors for what it cannot read; the Explorer shows null
        return None, None


@lru_cache(maxsize=8192)
def tree_constants(tree: str) -> tuple[str | None, ...]:
    """The rendered constants of a tree (hex)."""
    try:
        constants = contained(lambda: parse_tree(bytes.fromhex(tree)).constants())
    except ValueError:
        return ()
    return tuple(render(bytes(constant).hex())[1] for constant in constants)


def _type(tpe: object) -> str:
    name = type(tpe).__name__.removeprefix("SType_")
    if isinstance(tpe, SType.SColl):
        return f"Coll[{_type(tpe._0)}]"
    if isinstance(tpe, SType.STuple):
        return f"({', '.join(_type(item) for item in tpe._0)})"
    return name


def _text(constant: Constant) -> str | None:
    tpe: object = constant.tpe
    if isinstance(tpe, SType.SSigmaProp):
        prop = bytes(constant)[1:]
        return prop[1:].hex() if prop[0] == DLOG else None
    if isinstance(tpe, SType.SBigInt):  # ergo-lib 0.28 cannot give the value of one
        return str(int.from_bytes(bytes(constant)[2:], "big", signed=True))
    if isinstance(tpe, SType.SUnit):
        return "()"
    return _plain(constant.value)


def _plain(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case bytes():
            return value.hex()
        case list() | tuple():
            items = [_text(item) for item in value]
            return None if None in items else f"[{','.join(str(item) for item in items)}]"
        case _:
            return bytes(value).hex() if hasattr(value, "__bytes__") else None
