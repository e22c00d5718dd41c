"""What an operator is shown: the status document, made from plain facts so that every surface says the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aihd.core.assets import name_of, show_amount
from aihd.core.task import FINAL, OWED, State, Task
from aihd.core.verdict import Facts, HeldShare, Issue, WalletFacts, deadline, held_shares, judge


def status(facts: Facts) -> dict[str, Any]:
    """The status document: verdict and sentence, service, wallet, held shares, tasks, newest tasks, issues.

    Amounts are nanoERG, but for `payment`, `paid`, `held` and `burned` of a task and for `held`: smallest units of their asset.
    """
    judgement = judge(facts)
    owed = sum(task.worth for task in facts.open_tasks if task.state in OWED)
    return {
        "verdict": str(judgement.verdict),
        "sentence": judgement.sentence,
        "paused": facts.paused,
        "restored": facts.restored,
        "service": {
            "running": facts.running,
            "height": facts.height,
            "market": facts.market,
            "services": facts.services,
            "allowance": facts.allowance,
        },
        "wallet": _wallet(facts.wallet, owed),
        "held": [_held(share, facts) for share in held_shares(facts.open_tasks, facts.assets)],
        "tasks": {
            "open": sum(count for state, count in facts.states.items() if state not in FINAL),
            "states": {str(state): facts.states[state] for state in State if facts.states.get(state)},
            "declined": _counted(facts.declines),
            "waiting": _counted(facts.waiting),
        },
        "sources": [asdict(source) for source in facts.sources],
        "set_up": {"sources": facts.set_up, "blind": facts.blind},
        "set_aside": dict(facts.set_aside),
        "nodo": None if facts.nodo is None else asdict(facts.nodo),
        "newest": [_line(task, facts) for task in facts.newest],
        "issues": [_issue(issue, facts) for issue in judgement.issues],
    }


def _counted(counts: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    return {code: {"count": count, "last": last} for code, (count, last) in counts.items()}


def _held(share: HeldShare, facts: Facts) -> dict[str, Any]:
    return {
        "asset": name_of(facts.assets, share.asset),
        "amount": share.amount,
        "text": share.text,
        "until": share.until,
    }


def _issue(issue: Issue, facts: Facts) -> dict[str, Any]:
    left = None if issue.until is None or facts.height is None else max(0, issue.until - facts.height)
    return {
        "what": issue.what,
        "reason": issue.reason,
        "command": issue.command,
        "at_risk": issue.at_risk,
        "until": issue.until,
        "blocks_left": left,
        "hours_left": None if left is None else round(left * facts.seconds_per_block / 3600, 1),
    }


def _line(task: Task, facts: Facts) -> dict[str, Any]:
    return {
        "id": task.id.hex(),
        "state": str(task.state),
        "service": task.service_hash.hex(),
        "payment": task.payment,
        "asset": name_of(facts.assets, task.asset),
        "pays": show_amount(facts.assets, task.asset, task.payment),
        "worth": task.worth,
        **asdict(task.amounts),
        "deadline": deadline(task, facts.limits),
        "note": task.note,
    }


def _wallet(wallet: WalletFacts | None, owed: int) -> dict[str, Any]:
    if wallet is None:
        return {"owed": owed}
    return {**asdict(wallet), "owed": owed}
