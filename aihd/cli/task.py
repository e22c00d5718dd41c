"""Verbs of a client: post a task, follow it, bring the input, take and verify the output, rate, and get the money back."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from aihd.cli.common import ConfigOption, erg, settings_of, task_id_of, wallet_at_work
from aihd.client.client import Client, Order, Post
from aihd.client.download import MAX_OUTPUT, STANDARD_OUTPUT
from aihd.client.judge import judge
from aihd.client.judge import reexecute as reexecuted
from aihd.client.party import Party
from aihd.client.ranking import best, funders, known, refresh
from aihd.config import Settings
from aihd.core.task import Where
from aihd.errors import Exit, UsageError
from aihd.protocol.constants import MAX_ALLOWED
from aihd.protocol.units import format_size, parse_size
from aihd.screen import console_of, say

task_app = typer.Typer(no_args_is_help=True, help="Have a service run and pay for it.")
TaskId = Annotated[str, typer.Argument(help="id of the task, as `aihd task post` printed it")]
T = TypeVar("T")
CLOSED = (Where.FAILED, Where.TIMED_OUT, Where.LOST)


@task_app.command("post")
def task_post(
    input_path: Annotated[Path, typer.Argument(help="the file to run on")],
    service: Annotated[str, typer.Option(help="hash of the service, 64 hexadecimal digits")],
    payment: Annotated[str, typer.Option(help='with its unit, such as "0.5 ERG"')],
    config: ConfigOption = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE for the service")] = None,
    claim_window: Annotated[int, typer.Option(help="blocks until nobody may claim it any more")] = 60,
    exec_window: Annotated[int, typer.Option(help="blocks from the claim to the receipt")] = 120,
    selection_window: Annotated[int, typer.Option(help="blocks in which the lottery decides who claims")] = 8,
    min_reputation: Annotated[int, typer.Option(help="least score of the node's bond")] = 0,
    allow_best: Annotated[
        int,
        typer.Option(min=0, max=MAX_ALLOWED, help="only so many nodes, the best by `aihd reputation list`; 0 = any"),
    ] = 0,
) -> None:
    """Lock the payment for one run; prints the task id."""
    order = Order(
        _hash(service, "--service", "a service"),
        erg(payment),
        claim_window,
        exec_window,
        selection_window,
        min_reputation,
    )
    if not input_path.is_file():
        raise UsageError(f"{input_path}: there is no such file")
    asyncio.run(_post(settings_of(config), order, input_path, _environment(env or []), allow_best))


def _hash(text: str, option: str, what: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise UsageError(f"{option} {text!r}: expected the hash of {what}, 64 hexadecimal digits")
    return value


def _environment(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise UsageError(f"--env {wrong[0]!r}: expected NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


async def _post(settings: Settings, order: Order, input_path: Path, env: dict[str, str], allow_best: int) -> None:
    async with wallet_at_work(settings) as who:
        if allow_best:
            order = replace(order, allowed=await _best(who, settings, order, allow_best))
        say((await who.client.post(order, input_path, env)).hex())


async def _best(who: Party, settings: Settings, order: Order, count: int) -> tuple[bytes, ...]:
    await refresh(who)
    scores = known(who.journal, settings.chain.final_depth, funders(settings.reputation.public_funders))
    bonds = [bond.content for bond in await who.view.bonds()]
    found = best(bonds, scores, count, payment=order.payment, least=order.min_reputation)
    if not found:
        raise UsageError(f"--allow-best {count}: none of the market's {len(bonds)} bonds could take this task")
    return found


@task_app.command("list")
def task_list(config: ConfigOption = None) -> None:
    """The tasks that this wallet posted, with where they stand."""
    asyncio.run(_list(settings_of(config)))


async def _list(settings: Settings) -> None:
    async with wallet_at_work(settings) as who:
        table = Table("task", "stands", "input")
        for task_id in who.journal.posts():
            now = await who.client.progress(task_id)
            post = who.journal.post(task_id) or {}
            table.add_row(task_id.hex(), str(now.where) if now else "not seen", str(post.get("input_path")))
    console_of().print(table)


@task_app.command("watch")
def task_watch(task: TaskId, config: ConfigOption = None) -> int:
    """Follow a task; brings the input when the node is ready for it. Exit 1 when it was not delivered."""
    return asyncio.run(_watch(settings_of(config), task_id_of(task)))


async def _watch(settings: Settings, task_id: bytes) -> int:
    async with wallet_at_work(settings) as who:
        client = who.client
        last = Where.OPEN
        async for now in client.watch(task_id):
            say(f"height {now.height}: {now.where}", flush=True)
            last = now.where
            if now.where is Where.CLAIMED:
                await client.deliver(task_id)
            if now.life.receipt is not None:
                break
    return int(Exit.UNHEALTHY if last in CLOSED else Exit.OK)


@task_app.command("fetch")
def task_fetch(
    task: TaskId,
    out: Annotated[Path, typer.Option(help="where to write the output; - is the standard output")],
    config: ConfigOption = None,
    max_size: Annotated[str, typer.Option(help="the most that is taken of the node")] = format_size(MAX_OUTPUT),
) -> None:
    """Take the output and check it against the receipt."""
    asyncio.run(_fetch(settings_of(config), task_id_of(task), out, parse_size(max_size)))


async def _fetch(settings: Settings, task_id: bytes, out: Path, max_size: int) -> None:
    async with wallet_at_work(settings) as who:
        digest = await who.client.fetch(task_id, out, max_size)
    told = f"{out.stat().st_size} bytes" if out.is_file() else "written"
    say(
        f"{out}: {told}, sha3-256 {digest.hex()} as the receipt says",
        file=sys.stderr if out == STANDARD_OUTPUT else sys.stdout,
    )


@task_app.command("verify")
def task_verify(
    task: TaskId, output: Annotated[Path, typer.Option(help="the output to verify")], config: ConfigOption = None
) -> int:
    """Every check that a stranger can make of a receipt. Exit 1 when one fails."""
    return asyncio.run(_verify(settings_of(config), task_id_of(task), output))


async def _verify(settings: Settings, task_id: bytes, output: Path) -> int:
    async with wallet_at_work(settings) as who:
        post = who.journal.post(task_id)
        findings = await who.client.verify(task_id, output, post["config"] if post else None)
    for finding in findings:
        say(f"{'holds' if finding.holds else 'FAILS'}  {finding.what}: {finding.detail}")
    return int(Exit.OK if all(finding.holds for finding in findings) else Exit.UNHEALTHY)


@task_app.command("rate")
def task_rate(
    task: TaskId,
    mark: Annotated[int | None, typer.Argument(help="1 useless to 5 as promised")] = None,
    config: ConfigOption = None,
    expect_hash: Annotated[
        str | None, typer.Option(help="SHA3-256 that the output has to have: 5 if it has and can be fetched, else 1")
    ] = None,
    reexecute: Annotated[
        str | None, typer.Option(help="command that makes the same output of the input on its standard input")
    ] = None,
) -> None:
    """Commit to a mark and reveal it; returns when the mark is on the chain. The mark is given, or follows from a rule."""
    if sum(given is not None for given in (mark, expect_hash, reexecute)) != 1:
        raise UsageError("expected one of: a mark, --expect-hash, --reexecute")
    rule = Rule(
        mark, _hash(expect_hash, "--expect-hash", "an output") if expect_hash else None, shlex.split(reexecute or "")
    )
    say(f"{asyncio.run(_rate(settings_of(config), task_id_of(task), rule))} is on the chain")


@dataclass(frozen=True, slots=True)
class Rule:
    """How a mark is found: it is given, or follows from a hash, or from what a command makes."""

    mark: int | None
    expected: bytes | None
    command: list[str]


async def _rate(settings: Settings, task_id: bytes, rule: Rule) -> int:
    async with wallet_at_work(settings) as who:
        if rule.mark is not None:
            return await who.client.rate(task_id, rule.mark)
        expected = rule.expected or await _reexecuted(who, task_id, rule.command)
        judgement = await judge(who.client, task_id, expected, who.poll)
        say(f"{judgement.mark}: {judgement.reason}")
        return await who.client.rate(task_id, judgement.mark)


async def _reexecuted(who: Party, task_id: bytes, command: list[str]) -> bytes:
    post = who.journal.post(task_id)
    if post is None:
        raise UsageError(f"task {task_id.hex()} was not posted from this wallet's data folder")
    if not command:
        raise UsageError("--reexecute: expected a command")
    return await reexecuted(who.client, task_id, Post.read(post), command)


@task_app.command("refund")
def task_refund(task: TaskId, config: ConfigOption = None) -> None:
    """Cancel a task that nobody claimed, or time out one that was not delivered."""
    say(asyncio.run(_with_client(settings_of(config), lambda client: client.refund(task_id_of(task)))))


async def _with_client(settings: Settings, verb: Callable[[Client], Awaitable[T]]) -> T:
    async with wallet_at_work(settings) as who:
        return await verb(who.client)
