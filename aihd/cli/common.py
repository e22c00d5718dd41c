"""What every verb needs: the settings, a console, a wallet at work, and how a transaction is shown before it is sent."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aihd.chain.contracts import load_deployment
from aihd.chain.signer import Signer
from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.client.party import Party, party
from aihd.config import Settings, load_settings, required
from aihd.errors import UsageError
from aihd.ops.lock import Turns
from aihd.ops.logs import setup_logging
from aihd.protocol.deployment import Deployment
from aihd.protocol.funding import Plan
from aihd.protocol.trees import FEE_TREE, address_of
from aihd.protocol.units import format_erg, parse_erg
from aihd.screen import console_of, say
from aihd.store.journal import Journal

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file; default $AIHD_CONFIG, then /etc/aihd/aihd.toml")
]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the transaction, send nothing")]


def settings_of(config: Path | None) -> Settings:
    return load_settings(config.resolve() if config else None, os.environ, {})


def erg(text: str) -> int:
    """An amount of the command line, in nanoERG."""
    return parse_erg(text)


def task_id_of(text: str, journal: Journal | None = None) -> bytes:
    """A task id of the command line; with a journal the digits that it begins with will do, where only one task has them."""
    digits = text.lower().rstrip("…")
    if re.fullmatch("[0-9a-f]{64}", digits):
        return bytes.fromhex(digits)
    if journal is None or not re.fullmatch("[0-9a-f]{4,63}", digits):
        raise UsageError(f"task {text!r}: expected its id, 64 hexadecimal digits, or the first of them (4 at least)")
    found = journal.named(digits)
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"task {text!r}: {'more than one task begins' if found else 'no task that is known here begins'} so"
    )


@asynccontextmanager
async def wallet_at_work(settings: Settings) -> AsyncIterator[Party]:
    """The wallet of the configuration on its market."""
    setup_logging("error", settings.ops.log_format)
    deployment, record = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    signer = Signer.from_file(
        required(settings.wallet.mnemonic_file, "wallet.mnemonic_file"), settings.wallet.password_file
    )
    async with party_of(settings, deployment, record.genesis_id, signer) as at_work:
        yield at_work


@asynccontextmanager
async def party_of(
    settings: Settings, deployment: Deployment, genesis_id: str, signer: Signer, *, founding: bool = False
) -> AsyncIterator[Party]:
    """A wallet on a market as the configuration has it. It holds its folder's lock only while it signs: waiting hinders nobody."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with party(
        node_urls=settings.chain.node_urls,
        explorer_urls=settings.chain.explorer_urls,
        deployment=deployment,
        genesis_id=genesis_id,
        signer=signer,
        database=settings.database,
        fee=settings.wallet.fee,
        poll=settings.chain.poll,
        final_depth=settings.chain.final_depth,
        founding=founding,
        private_nodes=settings.client.private_nodes,
        turns=Turns(settings.lock_file),
    ) as at_work:
        yield at_work


async def transact(who: Party, intent: Intent, build: Callable[[Situation], Plan], *, dry_run: bool) -> None:
    """Send a transaction and wait for its block, or only show it."""
    if dry_run:
        show_plan(console_of(), build(await who.submitter.situation()), who.view.deployment)
        return
    record = await who.transact(intent, build)
    say(f"{record.kind} {record.id} is mined")


def show_plan(console: Console, plan: Plan, deployment: Deployment) -> None:
    """A transaction, decoded: what goes in, what comes out under which guard, who signs."""
    signer = plan.signer.hex() if plan.signer else "nobody"
    console.print(f"{plan.kind} {plan.tx_id}, signed by {signer}, not sent", highlight=False)
    table = Table("", "value", "under", "tokens")
    for box in plan.inputs:
        table.add_row("in", format_erg(box.value), _under(bytes(box.ergo_tree), deployment), str(len(box.tokens)))
    for output in plan.outputs:
        table.add_row("out", format_erg(output.value), _under(output.tree, deployment), str(len(output.tokens)))
    console.print(table)


def _under(tree: bytes, deployment: Deployment) -> str:
    if tree == FEE_TREE:
        return "miner's fee"
    guard = next((g for g, known in deployment.trees.items() if known == tree), None)
    return f"{guard} guard" if guard else address_of(tree)
