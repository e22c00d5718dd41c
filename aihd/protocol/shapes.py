"""Typed access to JSON that somebody else wrote: each function returns a value of the kind asked for, or raises ShapeError.

Every reader of foreign JSON goes through these, so that odd input has one class of error that names the field and what would be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 40


class ShapeError(ValueError):
    """JSON of another shape than expected."""


def mapped(raw: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(raw, dict):
        raise ShapeError(f"{_short(raw)} where an object is expected")
    return raw


def mapped_in(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The JSON object of a field."""
    found = raw.get(name)
    if not isinstance(found, dict):
        raise ShapeError(f"{name} is {_short(found)}, expected an object")
    return found


def sequence(raw: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(raw, list):
        raise ShapeError(f"{_short(raw)} where an array is expected")
    return raw


def listed(raw: Mapping[str, Any], name: str) -> list[Any]:
    """The array of a field."""
    found = raw.get(name)
    if not isinstance(found, list):
        raise ShapeError(f"{name} is {_short(found)}, expected an array")
    return found


def whole(raw: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """A whole number of a field, in a range; some servers write large ones as strings."""
    found = raw.get(name)
    if isinstance(found, str) and len(found) <= 100 and found.isascii() and found.isdecimal():
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise ShapeError(f"{name} is {_short(found)}, expected a whole number from {low} to {high}")
    return found


def optional_whole(raw: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    """As `whole`; None where the field is absent or null."""
    return None if raw.get(name) is None else whole(raw, name, low, high)


def hexed_any(raw: Mapping[str, Any], name: str) -> bytes:
    """The bytes of a hexadecimal field."""
    found = raw.get(name)
    if not isinstance(found, str):
        raise ShapeError(f"{name} is {_short(found)}, expected hexadecimal digits")
    try:
        return bytes.fromhex(found)
    except ValueError:
        raise ShapeError(f"{name} is {_short(found)}, expected hexadecimal digits") from None


def hexed(raw: Mapping[str, Any], name: str, size: int) -> bytes:
    """The bytes of a hexadecimal field of so many bytes."""
    found = hexed_any(raw, name)
    if len(found) != size:
        raise ShapeError(f"{name} has {len(found)} bytes, expected {size}")
    return found


def optional_hexed(raw: Mapping[str, Any], name: str, size: int) -> bytes | None:
    """As `hexed`; None where the field is absent or null."""
    return None if raw.get(name) is None else hexed(raw, name, size)


def text(raw: Mapping[str, Any], name: str) -> str:
    """A string of a field."""
    found = raw.get(name)
    if not isinstance(found, str):
        raise ShapeError(f"{name} is {_short(found)}, expected text")
    return found


def _short(value: Any) -> str:
    shown = (
        ascii(value) if isinstance(value, str | int | float | bool | None) else f"{type(value).__name__} {len(value)}"
    )
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
