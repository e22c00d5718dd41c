"""`aihd wallet consolidate` on a chain: a wallet of hundreds of boxes can pay again, and loses nothing but the fees."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from offchain import ERG, FEE
from onchain import World, market, mined
from test_cli import Said, aihd

from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.protocol.trees import address_of

SMALL, COUNT = 1_500_000, 300


async def verb(world: World, *arguments: str) -> Said:
    """The command with the wallet of the folder, while blocks come."""
    env = {
        "AIHD_CONFIG": os.devnull,
        "AIHD_CHAIN__NETWORK": "devnet",
        "AIHD_CHAIN__NODE_URLS": world.devnet.node_url,
        "AIHD_CHAIN__EXPLORER_URLS": world.devnet.explorer_url,
        "AIHD_CHAIN__DEPLOYMENT": str(world.deployment_file),
        "AIHD_CHAIN__POLL": "0.1 s",
        "AIHD_WALLET__MNEMONIC_FILE": str(world.folder / "mnemonic"),
        "AIHD_OPS__DATA_DIR": str(world.folder / "data"),
    }
    return await mined(world.chain, asyncio.to_thread(aihd, "wallet", *arguments, **env), 60)


@pytest.mark.asyncio
async def test_consolidate__when__there_are_hundreds_of_boxes__then__few_with_the_same_money(tmp_path: Path) -> None:
    words = new_mnemonic()
    write_mnemonic(tmp_path / "mnemonic", words, None)
    me = Signer(words)
    async with market(tmp_path) as world:
        for _ in range(COUNT):
            world.chain.faucet(address_of(me.tree), SMALL)
        world.fund(me, ERG)
        said = await verb(world, "consolidate", "--leave", "1", "--dry-run")
        assert (said.code, said.out.splitlines()[0]) == (
            0,
            f"{COUNT} of the wallet's {COUNT + 1} boxes become 2 in 2 transactions, for 0.0022 ERG",
        ), said
        assert len(world.boxes(me.tree)) == COUNT + 1 and not len(world.chain.pool)
        said = await verb(world, "consolidate", "--leave", "1")
        assert (said.code, said.err, said.out.count("is mined")) == (0, "", 2), said
        assert len(world.boxes(me.tree)) == 3
        assert world.balance(me.tree) == COUNT * SMALL + ERG - 2 * FEE
        said = await verb(world, "consolidate")
        assert (said.code, said.out) == (0, "the wallet has 3 boxes: there is nothing to put together\n"), said
