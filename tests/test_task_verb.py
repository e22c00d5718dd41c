"""`aihd task post`: what a client asks for is what is posted, and what happens with the money is said before anything is locked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from made import ASSET, ERG
from offchain import mnemonic_of
from onchain import World, market, order
from test_cli import Place, Said, place
from test_verbs import inside

from aihd.chain.mnemonic import write_mnemonic
from aihd.chain.signer import Signer
from aihd.client.terms import in_words
from aihd.core.assets import Asset
from aihd.protocol.boxes import TaskEscrow, tokens_of
from aihd.protocol.plans import value_of
from aihd.protocol.trees import address_of

__all__ = ["place"]  # the fixture

SERVICE = "ab" * 32
GOLD = f'[[assets]]\nname = "Gold"\nid = "{ASSET.hex()}"\ndecimals = 2\nmax_worth = "2 ERG"\n'
ASSETS = {ASSET: Asset(name="Gold", decimals=2, max_worth=2 * ERG)}


# ---------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        (
            {},
            "Locks 1.006 ERG: the payment of 1 ERG, and 0.006 ERG for receipt and rating; all but a fee comes back if nobody "
            "claims the task within 30 blocks, or the node does not deliver within 40.",
            "Nothing is held back: the node is paid in full when it publishes a receipt, whatever the output is worth.",
        ),
        (
            {"holdback_bps": 5_000},
            "Locks 1.006 ERG: the payment of 1 ERG",
            "0.494 ERG (50 % after fees) wait for your mark: rate the task 1 and they are burned, which gives you nothing back; "
            "with any other mark, or none, the node gets them.",
        ),
        ({"holdback_bps": 33}, "Locks", "0.0032604 ERG (0.33 % after fees) wait for your mark"),
        ({"holdback_bps": 10_000, "payment": 3_000_000 - 1}, "Locks", "Nothing is held back"),  # under the smallest box
        (
            {"holdback_bps": 5_000, "asset": ASSET, "payment": 500, "worth": ERG},
            "Locks 5 Gold and 0.018 ERG: the payment of 5 Gold, and 0.018 ERG for receipt and rating",
            "2.5 Gold wait for your mark",
        ),
        (
            {"asset": b"\xef" * 32, "payment": 500, "worth": ERG},
            "Locks 500 of token efefefefefefefef… and 0.018 ERG",
            "Nothing",
        ),
    ],
)
def test_in_words__when__an_order_is_told__then__what_is_locked_and_what_the_holdback_means(
    changes: dict[str, Any], first: str, second: str
) -> None:
    told = in_words(order(b"\2" * 32, **changes), ASSETS)
    assert told[0].startswith(first)
    assert told[1].startswith(second)


# ---------------------------------------------------------------- what is refused


@pytest.fixture
def wanted(place: Place) -> list[object]:
    source = place.folder / "input"
    source.write_text("one two")
    place.edit("[bond]", f"{GOLD}[bond]")
    return ["task", "post", source, "--service", SERVICE]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--payment", "1 ERG", "--worth", "1 ERG"], "--worth: a payment in ERG is worth itself"),
        (["--payment", "1 Silver"], "--payment: 1 Silver is in a unit that no table of [[assets]] names; known are ERG, Gold"),
        (["--payment", "0.001 Gold"], "finer than the 2 decimals that Gold has"),
        (["--payment", "1 ERG", "--asset", ASSET.hex()], "with --asset expected a whole number of the token's smallest units"),
        (["--payment", "5", "--asset", "zz"], "--asset 'zz': expected the hash of a token, 64 hexadecimal digits"),
        (["--payment", "5", "--asset", "ef" * 32], "--worth is missing: what 5 units of token efefefefefefefef… are worth, in ERG"),
        (["--payment", "5", "--asset", "ef" * 32, "--worth", "5"], "has no unit|is not a number with a unit"),
        (["--payment", "1 ERG", "--holdback", "101"], "Invalid value for '--holdback'"),
        (["--payment", "1 ERG", "--holdback", "-1"], "Invalid value for '--holdback'"),
        (["--payment", "1 ERG", "--holdback", "nan"], "holdback"),
        (["--payment", "1 ERG", "--seed", "5a"], "config: AIH_SEED is '5a', expected 64 hexadecimal digits"),
        (["--payment", "1 ERG", "--env", "AIH_SEED=x"], "config: AIH_SEED is 'x', expected 64 hexadecimal digits"),
    ],
)  # fmt: skip
def test_post__when__an_option_is_wrong__then__usage_and_what_would_be_right(
    place: Place, wanted: list[object], options: list[str], says: str
) -> None:
    said = inside(place, *wanted, *options)
    assert (said.code, said.out) == (64, "")
    assert any(part in said.err for part in says.split("|")), said.err
    assert "Traceback" not in said.err
    assert "Locks" not in said.err


# ---------------------------------------------------------------- what is posted


@dataclass(frozen=True, slots=True)
class Wallet:
    """A client's wallet with a configuration of its own, on a devnet with a market and a token."""

    world: World
    config: Path
    source: Path
    token: bytes

    async def post(self, *options: str) -> tuple[Said, TaskEscrow]:
        command = (sys.executable, "-m", "aihd", "task", "post", str(self.source), "--service", SERVICE, *options)
        run = asyncio.to_thread(
            subprocess.run, (*command, "--config", str(self.config)), capture_output=True, text=True, timeout=60
        )
        done = await self.world.mined(run)
        said = Said(done.returncode, done.stdout, done.stderr)
        assert said.code == 0, said.err
        self.world.chain.mine()
        box = self.world.chain.ledger.utxo(said.out.strip())
        assert box is not None
        task = self.world.deployment.read(TaskEscrow, box)
        assert task.value == value_of(task.content)
        return said, task.content


@pytest_asyncio.fixture
async def wallet(tmp_path: Path) -> AsyncIterator[Wallet]:
    async with market(tmp_path) as world:
        words = mnemonic_of("a client")
        write_mnemonic(tmp_path / "mnemonic", words, None)
        client = Signer(words)
        world.fund(client)
        token = bytes.fromhex(world.chain.issue("Gold", 10_000, 2, to=address_of(client.tree)))
        world.chain.mine()
        config, source = tmp_path / "client.toml", tmp_path / "input"
        source.write_text("one two")
        config.write_text(f'''
[chain]
network = "devnet"
poll = "50 ms"
node_urls = ["{world.devnet.node_url}"]
explorer_urls = ["{world.devnet.explorer_url}"]
deployment = "{world.deployment_file}"
[wallet]
mnemonic_file = "{tmp_path / "mnemonic"}"
[ops]
data_dir = "{tmp_path / "client-data"}"
{GOLD.replace(ASSET.hex(), token.hex())}''')
        yield Wallet(world, config, source, token)


@pytest.mark.asyncio
async def test_post__when__in_erg__then__all_of_it_is_held_back_unless_the_client_says_otherwise(
    wallet: Wallet,
) -> None:
    said, terms = await wallet.post("--payment", "1 ERG")
    assert (terms.payment, terms.worth, terms.asset, terms.holdback_bps) == (ERG, ERG, None, 10_000)
    first, second = said.err.splitlines()
    assert first.startswith("Locks 1.006 ERG: ") and second.startswith(
        "0.988 ERG (100 % after fees) wait for your mark"
    )
    said, terms = await wallet.post("--payment", "0.5 ERG", "--holdback", "0", "--seed", "5a" * 32)
    assert (terms.payment, terms.holdback_bps) == (ERG // 2, 0)
    assert "Nothing is held back" in said.err
    _, terms = await wallet.post("--payment", "0.5 ERG", "--holdback", "12.34")
    assert terms.holdback_bps == 1_234


@pytest.mark.asyncio
async def test_post__when__in_a_token__then__locked_by_its_name_or_its_id_at_the_worth_that_is_said(
    wallet: Wallet,
) -> None:
    said, terms = await wallet.post("--payment", "5 Gold", "--holdback", "50")
    assert (terms.asset, terms.payment, terms.worth, terms.holdback_bps) == (wallet.token, 500, 10 * ERG, 5_000)
    assert "Locks 5 Gold and 0.108 ERG" in said.err and "2.5 Gold wait for your mark" in said.err
    _, terms = await wallet.post("--payment", "0.01 Gold", "--worth", "0.1 ERG")
    assert (terms.payment, terms.worth) == (1, ERG // 10)
    _, terms = await wallet.post("--payment", "7", "--asset", wallet.token.hex(), "--worth", "0.1 ERG")
    assert (terms.asset, terms.payment, terms.worth) == (wallet.token, 7, ERG // 10)
    held = [amount for box in wallet.world.boxes(Signer(mnemonic_of("a client")).tree) for _, amount in tokens_of(box)]
    assert sum(held) == 10_000 - 500 - 1 - 7
