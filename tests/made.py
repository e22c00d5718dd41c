"""Contents of boxes and records of tasks, with every term filled in that a test says nothing of.

Amounts are nanoERG; a payment is in ERG, and worth itself, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aihd.core import policy
from aihd.core.task import Task
from aihd.protocol.boxes import ClaimedTask, Rating, TaskEscrow

ERG: Final = 10**9
FEE: Final = 1_100_000
ASSET: Final = b"\xa5" * 32
TERMS: Final[Mapping[str, Any]] = {
    "service_hash": b"\2" * 32,
    "input_commitment": b"\3" * 32,
    "payment": ERG,
    "client": b"\4" * 33,
}


def task(**changes: Any) -> Task:
    """A task as the journal keeps it, open until something else is said; worth its payment."""
    return Task(
        **worth({"id": b"\1" * 32, **TERMS, "claim_deadline": 100, "exec_window": 60, "locator": "", **changes})
    )


def escrow(**changes: Any) -> TaskEscrow:
    """The terms of a posted task that anybody may claim at once; worth its payment."""
    lottery = {"min_reputation": 0, "selection_window": 0, "selection_difficulty": 1}
    return TaskEscrow(**worth({**TERMS, **lottery, "claim_deadline": 100, "exec_window": 60, **changes}))


def claimed(**changes: Any) -> ClaimedTask:
    """The terms of a task that a node has claimed; worth its payment."""
    return ClaimedTask(
        **worth({**TERMS, "exec_deadline": 160, "claim_height": 100, "node": b"\2" + b"\5" * 32, **changes})
    )


def rating(**changes: Any) -> Rating:
    """An open rating in which nobody has said anything."""
    defaults = {"client": b"\2" * 33, "node": b"\3" * 33, "worth": ERG, "commit_deadline": 100, "reveal_deadline": 160}
    return Rating(**{**defaults, **changes})


def limits(**changes: Any) -> policy.Limits:
    """What an operator asks who offers nothing and asks nothing."""
    defaults = {"min_profit": 0, "max_open": 4, "claim_margin": 3, "release_margin": 5, "tx_fee": FEE, "services": {}}
    return policy.Limits(**{**defaults, **changes})


def worth(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the worth of what is paid in ERG, unless they say another."""
    return {"worth": values["payment"], **values}
