"""Verbs about the wallet: new, encrypt and address of its file, consolidate of its boxes.

Words and passwords come from files and go to files, never through here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aihd.chain.mnemonic import new_mnemonic, read_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.chain.submitter import Intent
from aihd.chain.view import Situation
from aihd.cli.common import ConfigOption, DryRun, settings_of, show_plan, wallet_at_work
from aihd.client.party import Party
from aihd.config import Settings, required
from aihd.ops.secret_file import read_secret
from aihd.protocol.funding import Plan, put_together, to_put_together
from aihd.protocol.trees import address_of
from aihd.protocol.units import format_erg
from aihd.screen import console_of, say

wallet_app = typer.Typer(no_args_is_help=True, help="The wallet's file, and its boxes.")
PasswordFile = Annotated[Path | None, typer.Option("--password-file", help="file with the password to encrypt with")]
Out = Annotated[Path, typer.Option("--out", help="the file to write; never overwritten")]


@wallet_app.command("new")
def wallet_new(out: Out, password_file: PasswordFile = None) -> None:
    """Make a new key and write its 24 words to a file, encrypted if there is a password. Back it up: nobody else has it."""
    _write(out, new_mnemonic(), password_file)


@wallet_app.command("encrypt")
def wallet_encrypt(
    mnemonic_file: Annotated[Path, typer.Argument(help="file with the words")],
    out: Out,
    password_file: Annotated[Path, typer.Option("--password-file", help="file with the password")],
) -> None:
    """Write an encrypted copy of a file with words."""
    _write(out, read_mnemonic(mnemonic_file, None), password_file)


@wallet_app.command("address")
def wallet_address(config: ConfigOption = None) -> None:
    """The address of the configuration's wallet."""
    settings = settings_of(config)
    path = required(settings.wallet.mnemonic_file, "wallet.mnemonic_file")
    prefix = settings.chain.prefix
    say(address_of(Signer.from_file(path, settings.wallet.password_file).tree, prefix))


@wallet_app.command("consolidate")
def wallet_consolidate(
    leave: Annotated[int, typer.Option("--leave", min=0, help="this many of the largest boxes stay as they are")] = 8,
    config: ConfigOption = None,
    dry_run: DryRun = False,
) -> None:
    """Turn many small boxes into few, so that more can be sent at once. Costs a fee for each transaction."""
    asyncio.run(_consolidate(settings_of(config), leave, dry_run))


async def _consolidate(settings: Settings, leave: int, dry_run: bool) -> None:
    async with wallet_at_work(settings) as who:
        situation = await who.submitter.situation()
        batches = [frozenset(str(box.box_id) for box in each) for each in to_put_together(situation.funds, leave)]
        if not batches:
            say(f"the wallet has {len(situation.funds.boxes)} boxes: there is nothing to put together")
            return
        plans = [_together(situation, batch) for batch in batches]
        moved = sum(len(plan.inputs) for plan in plans)
        say(
            f"{moved} of the wallet's {len(situation.funds.boxes)} boxes become "
            f"{sum(len(plan.outputs) - 1 for plan in plans)} in {len(plans)} transactions, for {format_erg(sum(p.fee for p in plans))}"
        )
        if dry_run:
            for plan in plans[:1]:
                show_plan(console_of(), plan, who.view.deployment)
            return
        await _sent_at_once(who, batches)


async def _sent_at_once(who: Party, batches: list[frozenset[str]]) -> None:
    """Each spends boxes of its own, so all of them can be in one block."""
    records = []
    for batch in batches:
        intent = Intent(f"consolidate:{min(batch)}")
        records.append(await who.submitter.transact(intent, partial(_together, batch=batch)))
    for record in records:
        if record is not None:
            await who.submitter.confirmed(record, who.poll)
            say(f"{record.kind} {record.id} is mined")


def _together(situation: Situation, batch: frozenset[str]) -> Plan:
    boxes = [box for box in situation.funds.boxes if str(box.box_id) in batch]
    return put_together(boxes, situation.funds, situation.market.height)


def _write(out: Path, words: str, password_file: Path | None) -> None:
    password = read_secret(password_file, "--password-file") if password_file else None
    write_mnemonic(out, words, password)
    # Read back: a file that does not open again would be found out too late.
    address = address_of(Signer.from_file(out, password_file).tree)
    say(f"{out} holds the key of {address}{' (encrypted)' if password else ', not encrypted'}")
