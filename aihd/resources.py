"""Where the files lie that are not Python: guards, deployment templates, example configuration."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def resource(*parts: str) -> Path:
    """Path of a shipped file, e.g. `resource("ergoscript", "bond.es")`; FileNotFoundError when there is none.

    A wheel carries them under aihd/_data; in a checkout they are the folders at the top.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError("/".join(parts))
