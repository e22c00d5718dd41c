"""Verbs of a client: post a task, follow it, bring the input, take and verify the output, rate, and get the money back."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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
from aihd.client.ranking import for_the_best, funders, known, refresh
from aihd.client.terms import in_words
from aihd.client.verify import conclusion
from aihd.config import Settings
from aihd.core.holdback import default_holdback
from aihd.core.task import Where
from aihd.errors import Exit, UsageError
from aihd.protocol import hashes
from aihd.protocol.constants import MAX_ALLOWED
from aihd.protocol.units import format_size, parse_quantity, parse_size
from aihd.screen import console_of, say

task_app = typer.Typer(no_args_is_help=True, help="Have a service run and pay for it.")
TaskId = Annotated[str, typer.Argument(help="id of the task, as `aihd task post` printed it")]
T = TypeVar("T")


@task_app.command("post")
def task_post(
    input_path: Annotated[Path, typer.Argument(help="the file to run on")],
    service: Annotated[str, typer.Option(help="hash of the service, 64 hexadecimal digits")],
    payment: Annotated[str, typer.Option(help='with its unit, such as "0.5 ERG" or, with [[assets]], "5 SigUSD"')],
    config: ConfigOption = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="NAME=VALUE for the service")] = None,
    asset: Annotated[
        str | None, typer.Option(help="id of a token without a table of [[assets]]; payment: whole units")
    ] = None,
    worth: Annotated[
        str | None, typer.Option(help="what a payment in a token is worth, in ERG; default: what [[assets]] says")
    ] = None,
    holdback: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="percent that wait for your mark; default 100, but 0 from nodes that stand at 0.5 or better",
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(help="seed of the run, 64 hexadecimal digits; default: of the claim's block")
    ] = None,
    claim_window: Annotated[int, typer.Option(help="blocks until nobody may claim it any more")] = 60,
    exec_window: Annotated[int, typer.Option(help="blocks from the claim to the receipt")] = 120,
    selection_window: Annotated[int, typer.Option(help="blocks in which the lottery decides who claims")] = 8,
    min_reputation: Annotated[int, typer.Option(help="least score of the node's bond")] = 0,
    allow_best: Annotated[
        int,
        typer.Option(min=0, max=MAX_ALLOWED, help="only so many nodes, the best by `aihd reputation list`; 0 = any"),
    ] = 0,
) -> None:
    """Lock the payment for one run; prints the task id, and on standard error what happens with the money."""
    settings = settings_of(config)
    token, amount = _payment(settings, payment, asset)
    wished = None if holdback is None else round(holdback * 100)
    order = Order(
        service_hash=_hash(service, "--service", "a service"),
        payment=amount,
        asset=token,
        worth=_worth(settings, token, amount, worth),
        holdback_bps=default_holdback(False, None) if wished is None else wished,
        claim_window=claim_window,
        exec_window=exec_window,
        selection_window=selection_window,
        min_reputation=min_reputation,
    )
    if not input_path.is_file():
        raise UsageError(f"{input_path}: there is no such file")
    environment = {**_environment(env or []), **({hashes.SEED_NAME: seed} if seed is not None else {})}
    hashes.chosen_seed(environment)
    asyncio.run(_post(settings, order, input_path, environment, allow_best=allow_best, holdback=wished))


def _payment(settings: Settings, payment: str, asset: str | None) -> tuple[bytes | None, int]:
    """The token of a payment (None for ERG) and its amount in smallest units."""
    if asset is None:
        try:
            return settings.amount_of(parse_quantity(payment), "--payment")
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from None
    if not payment.isdecimal():
        raise UsageError(f"--payment {payment!r}: with --asset expected a whole number of the token's smallest units")
    return _hash(asset, "--asset", "a token"), int(payment)


def _worth(settings: Settings, token: bytes | None, amount: int, worth: str | None) -> int:
    """nanoERG that a payment is said to be worth."""
    if token is None:
        if worth is not None:
            raise UsageError("--worth: a payment in ERG is worth itself")
        return amount
    if worth is not None:
        return erg(worth)
    known = settings.asset_names.get(token)
    if known is None:
        raise UsageError(f"--worth is missing: what {amount} units of token {token.hex()[:16]}… are worth, in ERG")
    return int(amount * known.max_worth // 10**known.decimals)


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


async def _post(
    settings: Settings,
    order: Order,
    input_path: Path,
    env: dict[str, str],
    *,
    allow_best: int,
    holdback: int | None,
) -> None:
    async with wallet_at_work(settings) as who:
        if allow_best:
            await refresh(who)
            scores = known(who.journal, settings.chain.final_depth, funders(settings.reputation.public_funders))
            bonds = [bond.content for bond in await who.view.bonds()]
            order = for_the_best(order, bonds, scores, allow_best, holdback=holdback)
        for line in in_words(order, settings.asset_names):
            say(line, file=sys.stderr)
        say((await who.client.post(order, input_path, env)).hex())


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
def task_watch(
    task: TaskId,
    out: Annotated[
        Path | None,
        typer.Option(help="write the output here when it is served; a node that never gives it gets the mark 1"),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Follow a task; brings the input when the node is ready for it. Exit 1 when it was not delivered."""
    return asyncio.run(_watch(settings_of(config), task_id_of(task), out))


async def _watch(settings: Settings, task_id: bytes, out: Path | None) -> int:
    async with wallet_at_work(settings) as who:
        client = who.client
        last = Where.OPEN
        async for now in client.watch(task_id):
            say(f"height {now.height}: {now.where}", flush=True)
            last = now.where
            if now.expired:
                say(f"nobody claimed it by height {now.claim_deadline}: aihd task refund {task_id.hex()}")
                return int(Exit.UNHEALTHY)
            if now.where is Where.CLAIMED:
                await client.bring(task_id, lambda why: say(why, file=sys.stderr))
            if now.life.receipt is not None:
                break
        if last.is_undelivered:
            return int(Exit.UNHEALTHY)
        return await _taken(client, task_id, out) if out is not None else int(Exit.OK)


async def _taken(client: Client, task_id: bytes, out: Path) -> int:
    mark = await client.take_or_complain(task_id, out)
    if mark is None:
        say(f"{out}: {out.stat().st_size} bytes, as the receipt says")
        return int(Exit.OK)
    say(f"no output with the receipt's hash came in time; mark {mark} is on the chain")
    return int(Exit.UNHEALTHY)


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
    say(conclusion(findings))
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
    """Take the money back: cancel a task of yours that nobody claimed, or time out one that was not delivered.

    Of another client's task whose claim deadline is over the money goes back to that client.
    """
    say(asyncio.run(_with_client(settings_of(config), lambda client: client.refund(task_id_of(task)))))


@task_app.command("timeout")
def task_timeout(task: TaskId, config: ConfigOption = None) -> None:
    """Return a claimed task whose deadline is over to its client, with a slice of the node's bond. Anybody may."""
    say(asyncio.run(_with_client(settings_of(config), lambda client: client.timeout(task_id_of(task)))))


async def _with_client(settings: Settings, verb: Callable[[Client], Awaitable[T]]) -> T:
    async with wallet_at_work(settings) as who:
        return await verb(who.client)
