"""Verbs of a node's owner about the bond: show, open, topup, endpoint, withdraw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import aiohttp
import typer

from aihd.chain.contracts import load_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.submitter import Intent
from aihd.chain.view import ChainView, Situation
from aihd.cli.common import ConfigOption, DryRun, erg, settings_of, transact, wallet_at_work
from aihd.config import Settings, required
from aihd.errors import UsageError
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, On
from aihd.protocol.constants import COOLDOWN
from aihd.protocol.funding import Plan
from aihd.protocol.units import format_erg
from aihd.screen import console_of

bond_app = typer.Typer(
    no_args_is_help=True, help="The bond of this node. To change it, stop the daemon first: it uses the same wallet."
)
NO_BOND = "this wallet has no bond; open one with aihd bond open"
Amount = Annotated[str, typer.Option(help='with its unit, such as "5 ERG"')]


@bond_app.command("show")
def bond_show(config: ConfigOption = None) -> None:
    """The bond as it is on the chain, whether the daemon runs or not."""
    asyncio.run(_show(settings_of(config)))


async def _show(settings: Settings) -> None:
    deployment, _ = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    path = required(settings.wallet.mnemonic_file, "wallet.mnemonic_file")
    key = Signer.from_file(path, settings.wallet.password_file).public_key
    async with aiohttp.ClientSession() as session:
        node, explorer = Node(session, settings.chain.node_urls), Explorer(session, settings.chain.explorer_urls)
        found = [bond for bond in await ChainView(node, explorer, deployment).bonds() if bond.content.node == key]
    if not found:
        raise UsageError(NO_BOND)
    bond = found[0].content
    console = console_of()
    console.print(
        f"bond {format_erg(bond.amount)}, committed {format_erg(bond.committed)}, score {bond.score}, {bond.endpoint}"
    )
    counts = f"{bond.completed} completed, {bond.failed} failed, {bond.timed_out} timed out"
    console.print(
        f"{counts}; {bond.active} active, {len(bond.open_ids)} open; last active at height {bond.last_activity}"
    )


@bond_app.command("open")
def bond_open(amount: Amount, config: ConfigOption = None, dry_run: DryRun = False) -> None:
    """Stake an amount. Clients are told bond.endpoint of the configuration."""
    settings = settings_of(config)
    asyncio.run(_open(settings, erg(amount), required(settings.bond.endpoint, "bond.endpoint"), dry_run))


async def _open(settings: Settings, amount: int, endpoint: str, dry_run: bool) -> None:
    async with wallet_at_work(settings) as who:
        minter = await who.view.minter()
        key = who.signer.public_key

        def build(situation: Situation) -> Plan:
            if situation.bond is not None:
                raise UsageError(f"this wallet has a bond already: {situation.bond.id}; see aihd bond topup")
            return plans.open_bond(
                situation.market, minter, situation.funds, node=key, amount=amount, endpoint=endpoint
            )

        await transact(who, Intent(f"bond:{minter.id}"), build, dry_run=dry_run)


@bond_app.command("topup")
def bond_topup(amount: Amount, config: ConfigOption = None, dry_run: DryRun = False) -> None:
    """Add to the stake."""
    add = erg(amount)
    _change(config, dry_run, "topup", lambda s, bond: plans.manage(s.market, bond, s.funds, add=add))


@bond_app.command("endpoint")
def bond_endpoint(config: ConfigOption = None, dry_run: DryRun = False) -> None:
    """Tell clients bond.endpoint of the configuration."""
    endpoint = required(settings_of(config).bond.endpoint, "bond.endpoint")
    _change(config, dry_run, "endpoint", lambda s, bond: plans.manage(s.market, bond, s.funds, endpoint=endpoint))


@bond_app.command("withdraw")
def bond_withdraw(config: ConfigOption = None, dry_run: DryRun = False) -> None:
    """Take the stake back, with no task open and after the cool-down."""
    _change(config, dry_run, "withdraw", _withdraw)


def _withdraw(situation: Situation, bond: On[Bond]) -> Plan:
    content, height = bond.content, situation.market.height
    if content.open_ids:
        raise UsageError(f"{len(content.open_ids)} tasks are open on the bond; each has to be settled first")
    if height <= content.last_activity + COOLDOWN:
        raise UsageError(
            f"the bond may be withdrawn after height {content.last_activity + COOLDOWN}, the next block is {height}"
        )
    return plans.withdraw(situation.market, bond, situation.funds)


def _change(config: Path | None, dry_run: bool, verb: str, plan: Callable[[Situation, On[Bond]], Plan]) -> None:
    asyncio.run(_changed(settings_of(config), dry_run, verb, plan))


async def _changed(settings: Settings, dry_run: bool, verb: str, plan: Callable[[Situation, On[Bond]], Plan]) -> None:
    async with wallet_at_work(settings) as who:
        bond = _bond(await who.submitter.situation())
        # Each state of the bond can be changed once, so the box is part of the intent.
        await transact(who, Intent(f"{verb}:{bond.id}"), lambda s: plan(s, _bond(s)), dry_run=dry_run)


def _bond(situation: Situation) -> On[Bond]:
    if situation.bond is None:
        raise UsageError(NO_BOND)
    return situation.bond
