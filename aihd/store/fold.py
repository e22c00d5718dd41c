"""Tasks as their events tell them: what the journal says again, from nothing, without looking at the table of tasks.

A task's first event carries its whole row (`accepted`, or `snapshot` where a database of an older schema was brought up to date); every
later change carries the changed fields. So the fold of all events is the table, and where it is not, one of the two is wrong. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from aihd.core.task import Stage, Task, Where

WHOLE: Final = frozenset({"accepted", "snapshot"})
COLUMNS: Final = tuple(field.name for field in fields(Task))
_BYTES: Final = frozenset(field.name for field in fields(Task) if str(field.type).startswith("bytes"))
_FLAGS: Final = frozenset(field.name for field in fields(Task) if str(field.type) == "bool")
_REQUIRED: Final = frozenset({"id", "service_hash", "exec_window"})  # an `accepted` of schema 1 had the payment only
_SECRET: Final = frozenset({"salt"})


def plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a task as JSON holds them: bytes as hexadecimal digits."""
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in changes.items()}


def shown(data: Mapping[str, Any]) -> dict[str, Any]:
    """An event's data without what nobody may see."""
    return {name: value for name, value in data.items() if name not in _SECRET}


def task_of(values: Mapping[str, Any]) -> Task:
    """The task of a row or of folded events; fields that an older aihd did not know have their defaults."""
    known = {name: _typed(name, values[name]) for name in COLUMNS if name in values}
    known.setdefault("worth", values["payment"])  # all there was when a payment was always in ERG
    return Task(**{**known, "where": Where(values["where"]), "stage": Stage(values["stage"])})


def _typed(name: str, value: Any) -> Any:
    if name in _FLAGS:
        return bool(value)
    return bytes.fromhex(value) if name in _BYTES and isinstance(value, str) else value


def fold(events: Iterable[tuple[bytes | None, str, Mapping[str, Any]]]) -> dict[bytes, Task]:
    """The tasks that (task id, event, data) in their order make; events before a task's first whole row are passed over."""
    rows: dict[bytes, dict[str, Any]] = {}
    for task_id, event, data in events:
        if task_id is None or "tx" in data:
            continue  # about the database, or about a transaction: neither changes a task
        if event in WHOLE and data.keys() >= _REQUIRED:
            rows[task_id] = dict(data)
        elif task_id in rows:
            rows[task_id].update(data)
    return {task_id: task_of(row) for task_id, row in rows.items()}


def differences(told: Mapping[bytes, Task], stored: Mapping[bytes, Task]) -> list[str]:
    """What the events tell otherwise than the table, one sentence each; no secret is shown."""
    found = [
        f"task {task_id.hex()}: its events tell of it, the table does not" for task_id in told.keys() - stored.keys()
    ]
    found += [
        f"task {task_id.hex()}: it is in the table, its events do not tell of it"
        for task_id in stored.keys() - told.keys()
    ]
    for task_id in sorted(told.keys() & stored.keys()):
        ours, theirs = asdict(stored[task_id]), asdict(told[task_id])
        found += [
            _difference(task_id, name, ours[name], theirs[name]) for name in COLUMNS if ours[name] != theirs[name]
        ]
    return sorted(found)


def _difference(task_id: bytes, name: str, stored: Any, told: Any) -> str:
    if name in _SECRET:
        return f"task {task_id.hex()}: its {name} in the table is not that of its events"
    values = plain({"stored": stored, "told": told})
    return f"task {task_id.hex()}: {name} is {values['stored']!r} in the table, {values['told']!r} by its events"
