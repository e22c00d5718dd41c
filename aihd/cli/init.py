"""`aihd init`: a configuration and a wallet file to begin with, asked for step by step. Nothing that is there is touched."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.config import config_example, load_settings
from aihd.errors import ConfigError, UsageError
from aihd.protocol.trees import address_of, prefix_of
from aihd.screen import say

EXPLORERS: Final = {
    "mainnet": "https://api.ergoplatform.com",
    "testnet": "https://api-testnet.ergoplatform.com",
    "devnet": "http://127.0.0.1:9090",
}


def init(
    file: Annotated[Path, typer.Option("--config", "-c", prompt="Configuration file to write")] = Path("aihd.toml"),
    network: Annotated[str, typer.Option(prompt="Network (mainnet, testnet or devnet)")] = "mainnet",
    node_url: Annotated[str, typer.Option(prompt="Ergo node, with the extra index")] = "http://127.0.0.1:9053",
    deployment: Annotated[str, typer.Option(prompt="Deployment file of the market")] = "/etc/aihd/deployment.json",
    mnemonic_file: Annotated[Path, typer.Option(prompt="File for the key of the hot wallet")] = Path("mnemonic"),
    data_dir: Annotated[Path, typer.Option(prompt="Folder for the database and files")] = Path("data"),
    endpoint: Annotated[
        str, typer.Option(prompt="Public address that clients send inputs to")
    ] = "https://aihd.example.org",
) -> None:
    """Write a commented configuration and, if there is none, a wallet file; then say what comes next. Overwrites nothing."""
    if network not in EXPLORERS:
        raise UsageError(f"--network {network!r}: expected mainnet, testnet or devnet")
    if file.exists():
        raise UsageError(f"{file} is there already and stays as it is: name another file")
    secret = mnemonic_file.absolute()
    values: dict[str, dict[str, str | list[str]]] = {
        "chain": {
            "network": network,
            "node_urls": [node_url],
            "explorer_urls": [EXPLORERS[network]],
            "deployment": deployment,
        },
        "wallet": {"mnemonic_file": str(secret)},
        "bond": {"endpoint": endpoint},
        "ops": {"data_dir": str(data_dir.absolute())},
    }
    made = not secret.exists()
    if not made:
        Signer.from_file(secret)  # what is wrong with it is told before anything is written
    _write_config(file, filled(config_example(), values))
    if made:
        write_mnemonic(secret, new_mnemonic(), None)
    prefix = prefix_of(network)
    address = address_of(Signer.from_file(secret).tree, prefix)
    say(f"{file} is written; every key is explained in it")
    say(f"{secret} {'holds a new key' if made else 'was there and is used'}: address {address}")
    say(
        "Next: copy that file to a safe place (nobody else has the key), send it some ERG for fees and the bond, offer a service in"
    )
    say(f"[[services]], then: aihd check -c {file}; aihd bond open --amount '10 ERG' -c {file}; aihd run -c {file}")


def filled(example: str, values: dict[str, dict[str, str | list[str]]]) -> str:
    """The example with these keys set, each in the line that explains it."""
    section, lines = "", []
    for line in example.splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        key = re.match(r"#?(\w+) = ", line)
        wanted = values.get(section, {})
        lines.append(f"{key[1]} = {json.dumps(wanted[key[1]])}" if key and key[1] in wanted else line)
    return "\n".join(lines) + "\n"


def _write_config(file: Path, text: str) -> None:
    """Write it new, and read it back: what is wrong with an answer is told now, and leaves no file behind."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
        raise ConfigError(f"{file} cannot be created: {error.strerror}") from None
    with os.fdopen(handle, "w") as out:
        out.write(text)
    try:
        load_settings(file.absolute(), {}, {})
    except ConfigError:
        file.unlink()
        raise
