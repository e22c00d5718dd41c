"""The share of a payment that a client holds back until his mark, when he does not name one himself.

Held money makes garbage worthless to deliver, and puts an honest node at its client's mercy: so all is held from strangers, and nothing
from nodes that have a name to lose.
"""

from __future__ import annotations

from typing import Final

from aihd.protocol.constants import WHOLE_BPS

OF_STANDING: Final = 0.5
"""The standing by the market's history (value times confidence) from which on a node is trusted with the whole payment."""


def default_holdback(allow_list: bool, least_standing: float | None) -> int:
    """Returns the share to hold back, in basis points: 0 where only nodes of standing may claim, all of it where anybody may.

    `allow_list`: the task names the nodes that may claim it. `least_standing`: the lowest standing of those that may claim, -1 to 1; None
    where none is known. A list without standings was written by hand, by somebody who knows its nodes; one whose nodes turn out to
    be of no standing (a list of the best in a market that has no good ones yet) protects as little as no list.
    """
    trusted = allow_list if least_standing is None else least_standing >= OF_STANDING
    return 0 if trusted else WHOLE_BPS
