"""ergo-lib's panics, made ordinary errors.

A Rust panic reaches Python as a `BaseException` that `except Exception` misses: it would end an asyncio task without a
trace. Calls that build or read boxes and trees of unknown origin go through `contained`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aihd.errors import one_line

T = TypeVar("T")


class PanicError(ValueError):
    """ergo-lib gave up on a value; the text is its own."""


def contained(call: Callable[[], T]) -> T:
    """What `call` returns; PanicError where ergo-lib panics. Every other exception passes through."""
    try:
        return call()
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the class itself cannot be imported
            raise
        raise PanicError(f"ergo-lib panicked: {one_line(error)}") from error
