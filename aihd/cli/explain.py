"""Verbs that answer an operator's questions: explain, earnings, policy."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from aihd.cli.admin import journal_of
from aihd.cli.common import ConfigOption, JsonOption, settings_of
from aihd.cli.tasks import TaskId, known
from aihd.config import Policy, Settings
from aihd.core import explain as core
from aihd.core.assets import Assets, name_of, show_amount
from aihd.core.books import (
    ERG,
    Row,
    books,
    of_failure,
    of_release,
    of_settlement,
    of_slash,
    of_transaction,
)
from aihd.core.policy import FEW_RUNS
from aihd.core.task import RELEASED, Task, Where
from aihd.protocol.units import format_erg
from aihd.screen import console_of, say
from aihd.services.report import last_height
from aihd.store.journal import Journal, TxStatus

# --- explain


def explain(task: TaskId, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Why a task is where it is: what it waits for, what comes next and until when, and its story so far."""
    settings = settings_of(config)
    with journal_of(settings) as journal:
        found = known(journal, task)
        events = journal.events(found.id)
        document = core.explain(found, last_height(journal), settings.margins, events, settings.asset_names)
        document["transactions"] = [
            {
                "kind": tx.kind,
                "id": tx.id,
                "status": str(tx.status),
                "height": tx.height,
                "sent": tx.sent,
                "fee": tx.fee,
            }
            for tx in journal.transactions(found.id)
        ]
    if as_json:
        say(json.dumps(document, indent=2))
    else:
        _tell(console_of(), document)


def _tell(console: Console, document: dict[str, Any]) -> None:
    def line(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    line(f"Task {document['task']} is {document['state']}: {document['because']}.")
    line(f"It {document['money']}.")
    line(f"Service {document['service']}.")
    if document["deadline"] is not None:
        left = document["blocks_left"]
        line(
            f"This may last until height {document['deadline']}"
            + (f", {left} blocks from now." if left is not None else ".")
        )
    line(f"Next: {document['next']}.\n")
    for event in document["story"]:
        line(f"{event['at'][:19].replace('T', ' ')}  {event['what']}")
    if document["transactions"]:
        table = Table("transaction", "kind", "status", "height", "sent", "fee")
        for tx in document["transactions"]:
            height = "" if tx["height"] is None else str(tx["height"])
            table.add_row(tx["id"], tx["kind"], tx["status"], height, str(tx["sent"]), format_erg(tx["fee"]))
        console.print(table)


# --- earnings


def earnings(
    config: ConfigOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="as CSV, amounts in nanoERG")] = False,
) -> None:
    """What came in and what it cost, by day (UTC), service and asset: of what is in a block, not of what may come.

    A held share is counted as held until its rating is settled, and then as paid or burned.
    """
    settings = settings_of(config)
    with journal_of(settings) as journal:
        rows = books(_moves(journal))
    names = [field.name for field in fields(Row)]
    if as_csv:
        writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
        return
    table = Table(*names)
    for row in rows:
        table.add_row(*_cells(row, settings.asset_names))
    console_of().print(table)


def _cells(row: Row, assets: Assets) -> Iterator[str]:
    token = None if row.asset == ERG else bytes.fromhex(row.asset)
    yield row.day
    yield row.service[:16] or "(wallet, bond)"
    yield name_of(assets, token)
    yield str(row.paid)
    yield from (show_amount(assets, token, amount) for amount in (row.payments, row.held, row.burned, row.refunded))
    yield from (format_erg(amount) for amount in (row.fees, row.slashed, row.net))


def _moves(journal: Journal) -> Iterator[Row]:
    tasks = {task.id: task for task in journal.tasks(-1)}
    for at, tx in journal.signed():
        if tx.status in (TxStatus.MINED, TxStatus.FINAL):
            day = datetime.fromtimestamp(at, UTC).date().isoformat()
            task = tasks.get(tx.task_id) if tx.task_id else None
            yield of_transaction(task, day=day, kind=tx.kind, fee=tx.fee, spent=tx.spent)
    for task in tasks.values():
        yield from _ends(journal, task)


def _ends(journal: Journal, task: Task) -> Iterator[Row]:
    """What the chain did with a task's payment, on the days on which we saw it."""
    if task.where in RELEASED:
        yield of_release(task, _day(journal, task, RELEASED))
    if task.where is Where.SETTLED and task.held_share:
        yield of_settlement(task, _day(journal, task, {Where.SETTLED}))
    if task.where in (Where.FAILED, Where.FAILURE_SETTLED):
        yield of_failure(task, _day(journal, task, {Where.FAILED, Where.FAILURE_SETTLED}))
    if task.where is Where.TIMED_OUT:
        yield of_slash(task, _day(journal, task, {Where.TIMED_OUT}))


def _day(journal: Journal, task: Task, wheres: Collection[Where]) -> str:
    """The day on which a task was first seen at one of these places for good: after the last time that it was seen elsewhere."""
    days = [(at[:10], data["where"] in wheres) for at, _, data in journal.events(task.id) if "where" in data]
    day = "unknown"
    for number, (at, there) in enumerate(days):
        if there and (number == 0 or not days[number - 1][1]):
            day = at
    return day


# --- policy


def policy(config: ConfigOption = None) -> None:
    """The rules in force, with their numbers and how often each declined a task. What no rule accepts is declined."""
    settings = settings_of(config)
    declines: dict[str, tuple[int, str]] = {}
    if settings.database.exists():
        with journal_of(settings) as journal:
            declines = journal.declines()
    table = Table("rule", "asks", "declined", "the last one")
    rules = dict(_rules(settings))
    for code in [*rules, *sorted(declines.keys() - rules.keys())]:
        count, last = declines.get(code, (0, ""))
        table.add_row(code, rules.get(code, ""), str(count), last)
    console_of().print(table)
    for service in settings.offered:
        least = " or ".join(map(str, service.min_payment or settings.policy.min_payment))
        name = service.name or service.hash
        say(f"service {name}: at least {least}, a run takes {service.expected_duration:g} s")
    if not settings.offered:
        say("no service is offered: every task is declined")


def _holdback(rules: Policy) -> str:
    most = f"at most {rules.max_holdback:g} % held back"
    strangers = rules.strangers_holdback
    return (
        most
        if strangers == rules.max_holdback
        else f"{most}, {strangers:g} % below a standing of {rules.stranger_below:g}"
    )


def _rules(settings: Settings) -> Iterator[tuple[str, str]]:
    rules = settings.policy
    yield "service", f"one of the {len(settings.offered)} that the configuration offers"
    yield "price", f"at least {' or '.join(map(str, rules.min_payment))}, or what its service asks"
    yield "asset", f"a payment in {' or '.join(['ERG', *(asset.name for asset in settings.assets)])}"
    yield "worth", "a token that is not said to be worth more than [[assets]] believes"
    yield "holdback", _holdback(rules)
    yield "expiry", "an end before the market's"
    yield "profit", f"at least {format_erg(rules.min_profit)} after all fees of {format_erg(settings.wallet.fee)}"
    if rules.count_nodo_cost:
        yield "cost", "nodo's estimate of a run, and a rate by which it counts"
    yield "credit", f"our client id at nodo can pay the start of {FEW_RUNS} runs, and of every task at work"
    yield "claim_deadline", f"{rules.claim_margin_blocks} blocks left to claim it"
    yield "exec_window", f"twice the blocks of a run and {settings.margins.release_margin} to publish the receipt"
    yield "busy", f"fewer than {rules.max_open_tasks} tasks at work"
    yield "bond", "a worth that twice the bond still covers, with what is committed already"
    yield "bond_slots", "room in the bond for one more open task"
    yield "reputation", "no higher score than ours"
    yield "allow_list", "no list of nodes, or one that names us"
    if rules.min_client_score is not None:
        yield "client", f"a client that stands at {rules.min_client_score:g} or better by the market's history"
    yield "own", "a client that is not ourselves"
    yield "locator", "an input that comes in a way we know"
    yield "funded", "an escrow that holds what its terms need"
    yield "version", "the protocol version that we speak"
    yield "not_selected", "that the lottery draws our bond"
