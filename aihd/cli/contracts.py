"""Verbs about the guards: show, verify, deploy, and compile for those who change one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
from rich.table import Table

from aihd.chain.contracts import describe, differences, load_deployment, write_deployment, write_templates
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.submitter import Intent
from aihd.cli.common import ConfigOption, DryRun, JsonOption, party_of, settings_of, transact
from aihd.client.party import plan_deployment
from aihd.config import Settings, required
from aihd.errors import Exit, UsageError
from aihd.protocol import plans
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import address_of, tree_of
from aihd.resources import resource
from aihd.screen import console_of, say

contracts_app = typer.Typer(no_args_is_help=True, help="The guards of the market.")


@contracts_app.command("show")
def contracts_show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every address, tree and hash of the deployment."""

    deployment, _ = load_deployment(required(settings_of(config).chain.deployment, "chain.deployment"))
    document = describe(deployment)
    if as_json:
        say(json.dumps(document, indent=2))
        return
    console = console_of()
    console.print(f"Market {document['id']} on {document['network']}, bond token {document['bond_token']}")
    table = Table("guard", "bytes", "script hash", "template sha-256 (explorer)", "address")
    for guard in document["guards"]:
        hashes = (guard["blake2b256"][:16] + "…", guard["template_sha256"][:16] + "…")
        table.add_row(guard["guard"], str(len(guard["tree"]) // 2), *hashes, guard["address"][:24] + "…")
    console.print(table)


@contracts_app.command("verify")
def contracts_verify() -> int:
    """Compile every guard with the reference compiler and compare with the committed templates, byte for byte."""

    from aihd.chain.appkit import Appkit

    with Appkit() as appkit:
        found = {difference.guard for difference in differences(appkit)}
    for guard in Guard:
        say(f"{guard:8} {'DIFFERS from its source' if guard in found else 'is what its source compiles to'}")
    return int(Exit.UNHEALTHY if found else Exit.OK)


@contracts_app.command("compile", hidden=True)
def contracts_compile() -> None:
    """Compile every guard into ergoscript/compiled (for those who change a guard)."""

    from aihd.chain.appkit import Appkit

    with Appkit() as appkit:
        write_templates(appkit, resource("ergoscript", "compiled"))


@contracts_app.command("deploy")
def contracts_deploy(
    out: Annotated[Path, typer.Option(help="the deployment file to write")],
    treasury: Annotated[str, typer.Option(help="address that receives the treasury's share")],
    config: ConfigOption = None,
    dry_run: DryRun = False,
) -> None:
    """Found a market: mint its bond tokens into a minter and write the deployment file."""
    asyncio.run(_deploy(settings_of(config), out, treasury, dry_run))


async def _deploy(settings: Settings, out: Path, treasury: str, dry_run: bool) -> None:
    if out.exists():
        raise UsageError(f"--out {out}: it exists already, and a deployment is never overwritten")
    prefix = settings.chain.prefix
    try:
        treasury_tree = tree_of(treasury, prefix)
    except ValueError as error:
        raise UsageError(f"--treasury {treasury}: {error}") from None
    chain, wallet = settings.chain, settings.wallet
    signer = Signer.from_file(required(wallet.mnemonic_file, "wallet.mnemonic_file"), wallet.password_file)
    address = address_of(signer.tree, prefix)
    deployment = await plan_deployment(
        chain.explorer_urls,
        signer,
        address,
        network=chain.network,
        treasury=treasury_tree,
        node_urls=chain.node_urls,
    )
    async with aiohttp.ClientSession() as session:
        genesis_id = (await Node(session, chain.node_urls).info()).genesis_id
    async with party_of(settings, deployment, genesis_id, signer, founding=True) as deployer:
        if not dry_run:
            # Before the transaction: a market whose file is lost is lost.
            write_deployment(out, deployment, genesis_id)
        try:
            await transact(deployer, Intent("deploy"), lambda s: plans.deploy(s.market, s.funds), dry_run=dry_run)
        except BaseException:
            if not dry_run and not deployer.journal.has_live("deploy"):
                out.unlink()  # nothing was sent: there is no such market
            raise
    say(f"market {deployment.id}: {'nothing was sent' if dry_run else f'described in {out}'}")
