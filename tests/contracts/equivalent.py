"""Conditions that no attack can do without: why each of them adds nothing, or guards against what another guard refuses too.

The key is the guard and the condition as `mutate` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aihd.protocol.deployment import Guard

_HOLDS_ID: Final = "(id: Coll[Byte]) => id == taskId"

EQUIVALENT: Final[Mapping[tuple[Guard, str], str]] = {
    (Guard.RATING, "INPUTS.size > 1"): (
        "without it a rating that is the only input throws instead of being judged as a commit or reveal; such a transaction pays no fee "
        "(the rating's value may not fall) and reaches no mempool"
    ),
    (Guard.RATING, f"INPUTS(1).R8[Coll[Coll[Byte]]].get.exists({{ {_HOLDS_ID} }})"): (
        "a second line: INPUTS(1) holds exactly one bond token, so it is a bond, and one that does not hold the id refuses a rating itself"
    ),
    (Guard.CLAIMED, f"bond.R8[Coll[Coll[Byte]]].get.exists({{ {_HOLDS_ID} }})"): (
        "a second line: INPUTS(1) holds exactly one bond token, so it is a bond, and one that does not hold the id refuses the task itself"
    ),
    (Guard.BOND, f"openIds.exists({{ {_HOLDS_ID} }})"): (
        "a second line, the other side of the two above: what ends a task stands under the guard of claimed or of rating, and each asks "
        "for the id itself; both ask, so that neither promise hangs on another guard"
    ),
    (Guard.BOND, "(isSettle || HEIGHT.toLong > terms(2))"): (
        "a second line: before its deadline a claimed box wants a receipt in OUTPUTS(0), where this guard wants the bond"
    ),
}
