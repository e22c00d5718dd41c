"""Verbs of an operator about the tasks of the daemon: list, show, retry, abandon. They work beside it and leave the chain to it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from aihd.chain.submitter import Intent
from aihd.cli.admin import journal_of
from aihd.cli.common import ConfigOption, JsonOption, settings_of, task_id_of
from aihd.core.assets import show_amount
from aihd.core.task import Limits, Stage, State, Task, Where
from aihd.core.verdict import deadline
from aihd.errors import UsageError
from aihd.screen import console_of, say
from aihd.services.report import last_height
from aihd.store.fold import plain, shown
from aihd.store.journal import Journal

tasks_app = typer.Typer(no_args_is_help=True, help="The tasks that this node took.")
TaskId = Annotated[str, typer.Argument(help="id of the task, 64 hexadecimal digits")]


def known(journal: Journal, text: str) -> Task:
    """The task that the command line names; UsageError when it was never taken."""
    task_id = task_id_of(text, journal)
    task = journal.find(task_id)
    if task is None:
        declined = journal.declined(task_id)
        why = f": it was declined ({declined[0]}): {declined[1]}" if declined else ", and nothing is known of it"
        raise UsageError(f"task {text} was never accepted here{why}; aihd tasks list shows those that were")
    return task


@tasks_app.command("list")
def tasks_list(
    config: ConfigOption = None,
    every: Annotated[bool, typer.Option("--all", help="those that are over too")] = False,
    limit: Annotated[int, typer.Option(min=1, help="at most so many, the newest")] = 100,
    as_json: JsonOption = False,
) -> None:
    """The open tasks, the newest first."""
    settings = settings_of(config)
    with journal_of(settings) as journal:
        tasks = journal.tasks(limit) if every else journal.open_tasks()[: -limit - 1 : -1]
    if as_json:
        say(json.dumps([_document(task) for task in tasks], indent=2))
        return
    table = Table("task", "state", "payment", "until height", "note")
    for task in tasks:
        until = deadline(task, settings.margins)
        height, payment = (
            "" if until is None else str(until),
            show_amount(settings.asset_names, task.asset, task.payment),
        )
        table.add_row(task.id.hex(), str(task.state), payment, height, task.note)
    console_of().print(table)


@tasks_app.command("show")
def tasks_show(task: TaskId, config: ConfigOption = None) -> None:
    """Everything on record about a task, as JSON. Why it is where it is, says `aihd explain`."""
    with journal_of(settings_of(config)) as journal:
        found = known(journal, task)
        sent = [{"kind": tx.kind, "id": tx.id, "status": tx.status} for tx in journal.transactions(found.id)]
    say(json.dumps(_document(found) | {"transactions": sent}, indent=2))


def _document(task: Task) -> dict[str, object]:
    return {"state": str(task.state), **shown(plain(asdict(task)))}


@tasks_app.command("abandon")
def tasks_abandon(
    task: TaskId,
    config: ConfigOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Fail a claimed task honestly: the client gets its money back before the deadline, and we are not slashed."""
    settings = settings_of(config)
    with journal_of(settings, guest=True) as journal:
        found = known(journal, task)
        _may_change(journal, found)
        if found.stage is Stage.BROKEN:
            raise UsageError(f"task {task} is being failed already: {found.note or 'no reason is noted'}")
        if not yes:
            payment = show_amount(settings.asset_names, found.asset, found.payment)
            typer.confirm(f"Give {payment} back and fail this task?", abort=True)
        journal.update(found.id, "abandoned", stage=Stage.BROKEN, note="abandoned by the operator")
    say(f"task {task} will be failed at the daemon's next look")


@tasks_app.command("retry")
def tasks_retry(task: TaskId, config: ConfigOption = None) -> None:
    """Run a task again that could not be delivered, if its failure is not on its way and there is time left."""
    settings = settings_of(config)
    with journal_of(settings, guest=True) as journal:
        found = known(journal, task)
        _may_change(journal, found)
        if found.stage is not Stage.BROKEN:
            raise UsageError(f"task {task} is {found.state}: only one that is {State.FAILING} can be tried again")
        # Only looked for: to open the store would clear what the daemon is receiving.
        if not (settings.data_dir / "inputs" / found.id.hex()).is_dir():
            raise UsageError(f"task {task} cannot be run again: its input is not here")
        _has_time(found, last_height(journal), settings.margins)
        journal.update(found.id, "retried", stage=Stage.INPUT, instance=None, note="")
    say(f"task {task} will be run again at the daemon's next look")


@tasks_app.command("acknowledge")
def tasks_acknowledge(task: TaskId, config: ConfigOption = None) -> None:
    """Say that you have seen that a task's missed deadline cost a slice of the bond: the status names it no longer."""
    with journal_of(settings_of(config), guest=True) as journal:
        found = known(journal, task)
        if found.where is not Where.TIMED_OUT:
            raise UsageError(f"task {task} is {found.state}: it was not slashed")
        journal.update(found.id, "acknowledged", acknowledged=True)
    say(f"task {task} is acknowledged")


def _may_change(journal: Journal, task: Task) -> None:
    """UsageError unless the task is ours and its end is not decided: our own work counts only then."""
    if task.where is Where.OPEN:
        raise UsageError(
            f"task {task.id.hex()} is not claimed yet: nothing is owed; aihd pause keeps it from being claimed"
        )
    if task.where is not Where.CLAIMED:
        raise UsageError(f"task {task.id.hex()} is {task.state}: the chain has decided it")
    if journal.has_live(Intent("end", task.id).key):
        raise UsageError(f"task {task.id.hex()}: the transaction that ends it is signed, nothing can call it back")


def _has_time(task: Task, height: int | None, limits: Limits) -> None:
    if task.exec_deadline is None or height is None:
        raise UsageError(f"task {task.id.hex()}: its deadline is not known yet, try again after the daemon's next look")
    left = task.exec_deadline - limits.release_margin - (height + 1)
    if left < 1:
        raise UsageError(
            f"task {task.id.hex()}: its deadline is height {task.exec_deadline}, the tip is at {height}: no time is left"
        )
