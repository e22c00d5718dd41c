"""Why a task is where it is: its state, what it waits for, what comes next and until when, and its journal as a story. Pure.

A salt is never part of an explanation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Final

from aihd.core.assets import Assets, show_amount
from aihd.core.task import FINAL, RELEASED, Limits, State, Task, decide
from aihd.core.verdict import deadline
from aihd.errors import InvariantError
from aihd.protocol.constants import SETTLE_GRACE
from aihd.protocol.units import format_erg

Event = tuple[str, str, Mapping[str, Any]]

MEANING: Final[Mapping[State, str]] = {
    State.CLAIMING: "policy accepted it, and no claim of ours is on the chain yet",
    State.AWAITING_INPUT: "we claimed it and wait for the client's input",
    State.READY: "the input is here and fits its commitment; nodo is to run the service",
    State.RUNNING: "nodo runs the service",
    State.EXECUTED: "the output is stored; the receipt that releases the payment is to be published",
    State.FAILING: "it cannot be delivered; the client's money is to be given back before the deadline",
    State.RELEASED: "the receipt is published; our sealed mark for the client is to go on the chain",
    State.COMMITTED: "our sealed mark is on the chain; it is opened when the client has sealed his, or his time is over",
    State.REVEALED: "our mark is open; the client has until the deadline to open his",
    State.RATED: "nothing more can come of the rating; it is to be folded into our bond, and a held share paid or burned",
    State.SETTLED: "the rating is in our bond; blocks are to bury it",
    State.REFUNDED: "the client has its money back; the failure is to be folded into our bond",
    State.ADMITTED: "the failure is in our bond; blocks are to bury it",
    State.SLASHED: "we missed the deadline and the client took its share of the bond; blocks are to bury it",
    State.BEATEN: "the escrow went to another node or back to its client; blocks are to bury it",
    State.PAID: "it is paid, rated and final",
    State.BURNED: "the client gave it the mark 1, and the share that he held back was burned, for good",
    State.FAILED: "it could not be delivered; the client has its money back, for good",
    State.TIMED_OUT: "we missed the deadline and were slashed, for good",
    State.LOST: "it was never ours, or not for long",
}


def explain(
    task: Task, height: int | None, limits: Limits, events: Iterable[Event], assets: Assets | None = None
) -> dict[str, Any]:
    """The explanation as a document. `height` is the tip's as it was last seen, None when it never was.

    `payment`, `paid`, `held` and `burned` are in smallest units of the asset; `money` says the same in words.
    """
    until = deadline(task, limits)
    return {
        "task": task.id.hex(),
        "state": str(task.state),
        "because": MEANING[task.state] + (f" ({task.note})" if task.note else ""),
        "deadline": until,
        "blocks_left": until - height if until is not None and height is not None else None,
        "next": _next(task, height, limits),
        "payment": task.payment,
        "asset": task.asset.hex() if task.asset else "ERG",
        "worth": task.worth,
        **asdict(task.amounts),
        "money": money(task, assets or {}),
        "service": task.service_hash.hex(),
        "story": [{"at": at, "what": sentence(event, data, assets or {})} for at, event, data in events],
    }


def money(task: Task, assets: Assets) -> str:
    """What it pays, and what of that is ours, waits for the client's mark, or was burned."""
    show = partial(show_amount, assets, task.asset)
    amounts, told = task.amounts, [f"pays {show(task.payment)}"]
    told += [f"worth {format_erg(task.worth)}"] if task.asset else []
    if task.where not in RELEASED:
        told += [f"of which {show(task.held_share)} wait for the client's mark"] if task.held_share else []
    else:
        told += [f"{show(amounts.paid)} are ours"]
    told += [f"{show(amounts.held)} held until the rating is settled{_by(task)}"] if amounts.held else []
    told += [f"{show(amounts.burned)} burned by the client's mark"] if amounts.burned else []
    return ", ".join(told)


def _by(task: Task) -> str:
    """When at the latest: from then on anybody may."""
    return f" (height {task.reveal_deadline + SETTLE_GRACE} at the latest)" if task.reveal_deadline else ""


def _next(task: Task, height: int | None, limits: Limits) -> str:
    if task.state in FINAL:
        return "nothing: it is over"
    if height is None:
        return "unknown: the chain has not been seen yet"
    try:
        command = decide(task, height + 1, limits)
    except InvariantError as error:
        return f"unknown: {error}"
    return str(command) if command else "nothing now: it waits"


def sentence(event: str, data: Mapping[str, Any], assets: Assets) -> str:
    """One event in words."""
    if event == "accepted":
        asset = bytes.fromhex(data["asset"]) if data.get("asset") else None
        return f"accepted, it pays {show_amount(assets, asset, data['payment'])}"
    if event == "snapshot":
        return "its record was copied when the database was brought up to date"
    if "tx" in data:
        return _of_transaction(event, data)
    changes = ", ".join(f"{name} {_short(value)}" for name, value in data.items() if name != "salt")
    return f"{event}: {changes}" if changes else event


def _of_transaction(event: str, data: Mapping[str, Any]) -> str:
    parts = [event, data.get("kind", ""), f"{data['tx'][:16]}…"]
    parts += [f"at height {data['height']}"] if data.get("height") is not None else []
    parts += [f"({data['note']})"] if data.get("note") else []
    return " ".join(part for part in parts if part)


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:16]}…"
