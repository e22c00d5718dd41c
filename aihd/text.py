"""Foreign text made fit to be shown: on a terminal, in a log, on a page.

What a chain, a node, an explorer, a service or a file says may hold control and escape characters, change the direction of writing, or be
invisible. Here each of these becomes visible, in the one place that everything that is shown goes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(text: str, *, lines: bool = False) -> str:
    """The text with every character that is not plainly visible as its escape (`\\x1b`, `\\u202e`), and any white space as a space.

    With `lines` line feeds stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char == "\n") else _shown(char) for char in text)


def plain_all(value: Any) -> Any:
    """A document, made of what JSON is made of, with every text and key in it `plain`."""
    if isinstance(value, str):
        return plain(value, lines=True)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_all(item) for item in value]
    return value


def _shown(char: str) -> str:
    return " " if char.isspace() else char.encode("unicode_escape").decode()
