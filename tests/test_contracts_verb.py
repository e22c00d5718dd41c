"""A market is founded by the command, and nothing is left of one that could not be."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from offchain import ERG, signer

from aihd.chain.contracts import load_deployment
from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.devnet import Devnet
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import address_of

TREASURY = address_of(signer("treasury").tree)


async def deploy(devnet: Devnet, folder: Path, *options: str) -> tuple[int, str]:
    """Run the command with a wallet of the folder; its code and all that it said."""
    settings = {
        "AIHD_CONFIG": os.devnull,
        "AIHD_CHAIN__NETWORK": "devnet",
        "AIHD_CHAIN__NODE_URLS": devnet.node_url,
        "AIHD_CHAIN__EXPLORER_URLS": devnet.explorer_url,
        "AIHD_CHAIN__POLL": "0.1 s",
        "AIHD_WALLET__MNEMONIC_FILE": str(folder / "mnemonic"),
        "AIHD_OPS__DATA_DIR": str(folder / "data"),
    }
    command = [sys.executable, "-m", "aihd", "contracts", "deploy", "--out", str(folder / "market.json")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIHD_")}
    process = await asyncio.create_subprocess_exec(
        *command,
        *("--treasury", TREASURY, *options),
        env=clean | settings,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


@pytest.mark.asyncio
async def test_deploy__when__the_wallet_is_poor__then__no_file__and__when__it_is_rich__then__a_market(
    tmp_path: Path,
) -> None:
    words = new_mnemonic()
    write_mnemonic(tmp_path / "mnemonic", words, None)
    address = address_of(Signer(words).tree)
    async with Devnet(block_time=0.3) as devnet:
        chain = devnet.chain
        chain.faucet(address, 2_000_000)
        chain.mine()
        code, said = await deploy(devnet, tmp_path)
        assert (code, "short of" in said, (tmp_path / "market.json").exists()) == (75, True, False), said
        chain.faucet(address, ERG)
        chain.mine()
        code, said = await deploy(devnet, tmp_path, "--dry-run")
        assert (code, "nothing was sent" in said, (tmp_path / "market.json").exists()) == (0, True, False), said
        code, said = await deploy(devnet, tmp_path)
        assert code == 0, said
        deployment, record = load_deployment(tmp_path / "market.json")
        assert record.genesis_id == chain.blocks[0].block_id
        minter = deployment.trees[Guard.MINTER]
        assert [box for key in chain.ledger.boxes if (box := chain.ledger.utxo(key)) and bytes(box.ergo_tree) == minter]
        code, said = await deploy(devnet, tmp_path)
        assert (code, "never overwritten" in said) == (64, True), said
