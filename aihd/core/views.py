"""What an operator is shown: the status document, made from plain facts so that every surface says the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from aihd.core.task import DEADLINES, FINAL, OWED, PAID_OPEN, Limits, State, Task
from aihd.errors import InvariantError
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
class SourceFacts:
    """A node or explorer and how it behaved: `lies` are those counted since the start; `resting` says why it is asked last, or nothing."""

    kind: str
    url: str
    lies: int
    resting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodoFacts:
    """Our credit at nodo, in its `unit`; `runs`: how many of the dearest service that we offer it is good for."""

    balance: int
    unit: str
    runs: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything a status is made of. `height` is the tip's; `troubles` maps a loop to what ails it.

    `newest` are the last tasks, newest first; `paused` and `restored` are the times since when, or None.
    """

    running: bool
    market: str
    height: int | None
    wallet: WalletFacts | None
    open_tasks: tuple[Task, ...]
    states: Mapping[State, int]
    declines: Mapping[str, tuple[int, str]]
    troubles: Mapping[str, str]
    limits: Limits
    newest: tuple[Task, ...] = ()
    paused: str | None = None
    restored: str | None = None
    sources: tuple[SourceFacts, ...] = ()
    nodo: NodoFacts | None = None


def status(facts: Facts) -> dict[str, Any]:
    """The status document: verdict and sentence, service, wallet, tasks, newest tasks, issues. Amounts are nanoERG."""
    issues = list(_issues(facts))
    at_risk = sum(issue.get("at_risk", 0) for issue in issues)
    verdict = Verdict.ERROR if at_risk else Verdict.ISSUES if issues else Verdict.HEALTHY
    owed = sum(task.payment for task in facts.open_tasks if task.state in OWED)
    return {
        "verdict": str(verdict),
        "sentence": _sentence(facts, issues, at_risk, owed),
        "paused": facts.paused,
        "restored": facts.restored,
        "service": {"running": facts.running, "height": facts.height, "market": facts.market},
        "wallet": _wallet(facts.wallet, owed),
        "tasks": {
            "open": sum(count for state, count in facts.states.items() if state not in FINAL),
            "states": {str(state): facts.states[state] for state in State if facts.states.get(state)},
            "declined": {code: {"count": count, "last": last} for code, (count, last) in facts.declines.items()},
        },
        "sources": [asdict(source) for source in facts.sources],
        "nodo": None if facts.nodo is None else asdict(facts.nodo),
        "newest": [_line(task, facts.limits) for task in facts.newest],
        "issues": issues,
    }


def deadline(task: Task, limits: Limits) -> int | None:
    """The height up to which its state may last; None for an end, and where the chain has not yet told what it follows from."""
    rule = None if task.state in FINAL else DEADLINES[task.state]
    try:
        return rule(task, limits) if rule else None
    except InvariantError:
        return None


def _line(task: Task, limits: Limits) -> dict[str, Any]:
    return {
        "id": task.id.hex(),
        "state": str(task.state),
        "service": task.service_hash.hex(),
        "payment": task.payment,
        "deadline": deadline(task, limits),
        "note": task.note,
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
    if facts.restored:
        yield {
            "what": "database",
            "reason": f"it was put back from the backup of {facts.restored}; what happened since is not known until the "
            "chain has been looked at in full",
        }
    for source in facts.sources:
        if source.resting and source.lies:
            yield {
                "what": f"{source.kind} {source.url}",
                "reason": f"it was found untrue, and is asked last: {source.resting}",
            }
    for name, reason in sorted(facts.troubles.items()):
        yield {"what": f"{name} loop", "reason": reason}
    for task in facts.open_tasks:
        if facts.height is None or task.state in FINAL:
            continue
        until = deadline(task, facts.limits)
        if until is not None and facts.height > until:
            yield {
                "what": f"task {task.id.hex()}",
                "reason": f"{task.state} since height {until} at the latest, and still not over" + _note(task),
                "at_risk": task.payment if task.state in OWED or task.state is State.FAILING else 0,
            }


def _note(task: Task) -> str:
    return f" ({task.note})" if task.note else ""


def _sentence(facts: Facts, issues: list[dict[str, Any]], at_risk: int, owed: int) -> str:
    paid = facts.states.get(State.PAID, 0)
    if at_risk:
        worst = max(issues, key=lambda issue: issue.get("at_risk", 0))
        return f"{format_erg(at_risk)} are at risk: {worst['what']}: {worst['reason']}"
    if issues:
        return f"{issues[0]['what']}: {issues[0]['reason']}"
    paused = f"Paused since {facts.paused}: no new task is taken. " if facts.paused else ""
    received = sum(task.state in PAID_OPEN for task in facts.open_tasks)
    already = f", {received} of them paid already" if received else ""
    return f"{paused}{len(facts.open_tasks)} tasks open{already}; {paid} closed as paid; {format_erg(owed)} owed to us."
