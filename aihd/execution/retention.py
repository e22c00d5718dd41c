"""How long inputs and outputs are kept: until the node may reclaim the receipt, which pays for keeping the output until then."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aihd.core.task import RELEASED, Task
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.protocol.constants import RECEIPT_RETENTION

GRACE: Final = 86_400.0
"""Seconds for which a file is kept though no task is known to need it."""


def expired(task: Task, height: int) -> bool:
    """Whether nothing of a task has to be kept at the tip's height: it ended without a receipt, or its receipt may be reclaimed.

    `task.since` is the height of the newest step, the receipt's own or a later one: so this errs on the side of keeping.
    """
    if task.where.is_undelivered:
        return task.final
    return task.where in RELEASED and task.since is not None and height > task.since + RECEIPT_RETENTION


def sweep(
    tasks: Iterable[Task], height: int, content: ContentStore, inputs: InputStore, grace: float = GRACE
) -> tuple[int, int]:
    """Delete what no task needs any more; the numbers of outputs and of inputs that went. An output that two tasks share is
    kept as long as one of them needs it. Blocks: to be called in a thread."""
    needed = [task for task in tasks if not expired(task, height)]
    outputs = {task.output_hash for task in needed if task.output_hash is not None}
    try:
        gone = content.sweep(outputs, grace)
    finally:  # what cannot be deleted here keeps nothing there
        others = inputs.sweep({task.id for task in needed}, grace)
    return gone, others
