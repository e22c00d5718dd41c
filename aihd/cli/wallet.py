"""Verbs about the wallet's file: new, encrypt, address. Words and passwords come from files and go to files, never through here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aihd.chain.mnemonic import new_mnemonic, read_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.cli.common import ConfigOption, settings_of
from aihd.config import required
from aihd.ops.secret_file import read_secret
from aihd.protocol.trees import address_of, prefix_of
from aihd.screen import say

wallet_app = typer.Typer(no_args_is_help=True, help="The wallet's file.")
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
    prefix = prefix_of(settings.chain.network)
    say(address_of(Signer.from_file(path, settings.wallet.password_file).tree, prefix))


def _write(out: Path, words: str, password_file: Path | None) -> None:
    password = read_secret(password_file, "--password-file") if password_file else None
    write_mnemonic(out, words, password)
    # Read back: a file that does not open again would be found out too late.
    address = address_of(Signer.from_file(out, password_file).tree)
    say(f"{out} holds the key of {address}{' (encrypted)' if password else ', not encrypted'}")
