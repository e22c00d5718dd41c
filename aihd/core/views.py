"""What an operator is shown: the status document, made from plain facts so that every surface says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aihd.core.task import DEADLINES, FINAL, OWED, Limits, State, Task
from aihd.protocol.units import format_erg


class Verdict(StrEnum):
    """The first word of a status."""

    HEALTHY = "Healthy"
    ISSUES = "Issues detected"
    ERROR = "Error"


@dataclass(frozen=True, slots=True)
class WalletFacts:
    """nanoERG, as of the last look at the chain."""

    address: str
    confirmed: int
    reserved: int
    bond: int
    committed: int
    score: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a status is made of. `height` is the tip's; `troubles` maps a loop to what ails it."""

    running: bool
    market: str
    height: int | None
    wallet: WalletFacts | None
    open_tasks: tuple[Task, ...]
    states: Mapping[State, int]
    declines: Mapping[str, tuple[int, str]]
    troubles: Mapping[str, str]
    limits: Limits


def status(facts: Facts) -> dict[str, Any]:
    """The status document: verdict and sentence, service, wallet, tasks, issues. Amounts are nanoERG."""
    issues = list(_issues(facts))
    at_risk = sum(issue.get("at_risk", 0) for issue in issues)
    verdict = Verdict.ERROR if at_risk else Verdict.ISSUES if issues else Verdict.HEALTHY
    owed = sum(task.payment for task in facts.open_tasks if task.state in OWED)
    return {
        "verdict": str(verdict),
        "sentence": _sentence(facts, issues, at_risk, owed),
        "service": {"running": facts.running, "height": facts.height, "market": facts.market},
        "wallet": _wallet(facts.wallet, owed),
        "tasks": {
            "open": sum(count for state, count in facts.states.items() if state not in FINAL),
            "states": {str(state): facts.states[state] for state in State if facts.states.get(state)},
            "declined": {code: {"count": count, "last": last} for code, (count, last) in facts.declines.items()},
        },
        "issues": issues,
    }


def _wallet(wallet: WalletFacts | None, owed: int) -> dict[str, Any]:
    if wallet is None:
        return {"owed": owed}
    return {
        "address": wallet.address,
        "confirmed": wallet.confirmed,
        "reserved": wallet.reserved,
        "owed": owed,
        "bond": wallet.bond,
        "committed": wallet.committed,
        "score": wallet.score,
    }


def _issues(facts: Facts) -> Iterable[dict[str, Any]]:
    if not facts.running:
        yield {"what": "service", "reason": f"aihd is not running; {len(facts.open_tasks)} tasks are open"}
    for name, reason in sorted(facts.troubles.items()):
        yield {"what": f"{name} loop", "reason": reason}
    for task in facts.open_tasks:
        if facts.height is None or task.state in FINAL:
            continue
        deadline = DEADLINES[task.state](task, facts.limits)
        if facts.height > deadline:
            yield {
                "what": f"task {task.id.hex()}",
                "reason": f"{task.state} since height {deadline} at the latest, and still not over" + _note(task),
                "at_risk": task.payment if task.state in OWED or task.state is State.FAILING else 0,
            }


def _note(task: Task) -> str:
    return f" ({task.note})" if task.note else ""


def _sentence(facts: Facts, issues: list[dict[str, Any]], at_risk: int, owed: int) -> str:
    paid = facts.states.get(State.PAID, 0)
    if at_risk:
        return f"{format_erg(at_risk)} are at risk: {issues[0]['what']}: {issues[0]['reason']}"
    if issues:
        return f"{issues[0]['what']}: {issues[0]['reason']}"
    return f"{len(facts.open_tasks)} tasks open, {paid} paid, {format_erg(owed)} owed to us."
