"""How much of a payment waits for the client's mark unless the client says otherwise. Pure."""

from __future__ import annotations

from typing import Final

from aihd.protocol.constants import WHOLE_BPS

KNOWN: Final = 0.5  # a standing by the market's history from which on a node has more to lose than one payment


def default_holdback(allow_list: bool, least_standing: float | None) -> int:
    """Returns the basis points to hold back: nothing where only nodes of standing may claim, the whole where anybody may.

    `allow_list` says that the client named the nodes, `least_standing` (-1 to 1) what the least of those who may claim stands at. A half
    would not do for strangers: a fresh name keeps the other half of each payment for garbage.
    """
    trusted = allow_list or (least_standing is not None and least_standing >= KNOWN)
    return 0 if trusted else WHOLE_BPS
