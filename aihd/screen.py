"""What people see on a terminal: everything that the command line shows goes through here, so text of others is never more than text."""

from __future__ import annotations

import io
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from aihd.text import plain


class PlainConsole(Console):
    """Shows every string as it is: what looks like markup is not, and what is not plainly visible is made so.

    Styles come from us alone, by `styled`.
    """

    def __init__(self) -> None:
        super().__init__(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text, lines=True), **options)


def console_of() -> Console:
    """As wide as the terminal; a file gets lines that fit the tables."""
    return PlainConsole()


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of texts, each plain or with a style of rich."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((plain(text, lines=True), style) for text, style in pairs))


def say(text: object = "", *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print a text whose parts others may have written."""
    print(plain(str(text), lines=True), file=file, end=end, flush=flush)


def ready_streams() -> None:
    """Characters that a terminal cannot show are replaced, and end nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
