from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from devnet_histories import KINDS, Scenario, check_ledger
from devnet_wallet import ERG, connected, funded, key, pay

from aihd.devnet.chain import LOST_FROM, Chain, RejectedError
from aihd.devnet.server import Devnet
from aihd.devnet.snapshot import read_snapshot, restore_snapshot, write_snapshot
from aihd.errors import UsageError

A, B = key(1), key(2)


def test_branch__when__it_overtakes__then__its_double_spend_wins_and_the_loser_is_dropped() -> None:
    chain = Chain()
    box = funded(chain, A)
    fork = chain.tip.block_id
    honest, rival = pay(chain, A, box, B.tree, ERG), pay(chain, A, box, A.tree, ERG)
    chain.submit(honest)
    (block,) = chain.mine()
    (side,) = chain.mine(on=fork, transactions=[rival])
    assert chain.tip is block and not chain.is_main(side)  # of equal branches the first seen
    assert chain.ids_at(block.height) == [block.block_id, side.block_id]
    chain.mine(on=side.block_id)
    assert chain.is_main(side) and not chain.is_main(block)
    assert chain.ledger.spender(str(box.box_id)) == str(rival.id)
    assert len(chain.pool) == 0
    check_ledger(chain)


def test_branches__when__several_race__then__the_longest_counts_and_transactions_follow_it() -> None:
    chain = Chain()
    tx_id = chain.submit(pay(chain, A, funded(chain, A), B.tree, ERG))
    fork = chain.tip.block_id
    (first,) = chain.mine()
    second = chain.mine(2, on=fork)[-1]
    assert chain.tip is second and tx_id in chain.pool
    third = chain.mine(3, on=fork)[-1]
    assert chain.tip is third and len(chain.ids_at(first.height)) == 3
    chain.mine(3, on=first.block_id)
    assert chain.is_main(first) and tx_id in chain.ledger.transactions and tx_id not in chain.pool
    check_ledger(chain)


def test_reorg__when__as_deep_as_can_be__then__down_to_the_headers_that_scripts_need() -> None:
    chain = Chain()
    for _ in range(5):
        chain.submit(pay(chain, A, funded(chain, A), B.tree, ERG))
    chain.mine(60)
    depth = chain.height - 10
    assert len(chain.reorg(depth)) == depth
    with pytest.raises(UsageError, match=r"depth 80: a reorg here takes 1 to"):
        chain.reorg(80)
    check_ledger(chain)


@pytest.mark.parametrize(("depth", "back"), [(1, True), (LOST_FROM - 1, True), (LOST_FROM, False), (58, False)])
def test_reorg__of_many_blocks__brings_nothing_back(depth: int, back: bool) -> None:
    chain = Chain()
    chain.mine(58)
    tx_id = chain.submit(pay(chain, A, funded(chain, A), B.tree, ERG))
    chain.mine(depth)
    chain.reorg(depth)
    assert (tx_id in chain.pool) is back
    check_ledger(chain)


def test_reorg__when__transactions_are_lost__then__none_comes_back() -> None:
    chain = Chain()
    box = funded(chain, A)
    chain.submit(pay(chain, A, box, B.tree, ERG))
    chain.mine()
    chain.reorg(1, lose=True)
    assert len(chain.pool) == 0 and chain.ledger.utxo(str(box.box_id)) is not None


def test_branch__when__its_transaction_is_invalid_there__then__refused_and_the_tip_stays() -> None:
    chain = Chain()
    before = chain.tip.block_id
    box = funded(chain, A)
    tip = chain.tip
    with pytest.raises(RejectedError, match="Missing inputs: 0"):
        chain.mine(on=before, transactions=[pay(chain, A, box, B.tree, ERG)])
    assert chain.tip is tip
    with pytest.raises(UsageError, match="it is unknown"):
        chain.mine(on="00" * 32)
    with pytest.raises(UsageError, match="it has height 3"):
        chain.mine(on=chain.blocks[2].block_id)


def played() -> Chain:
    scenario = Scenario()
    numbers = iter(range(7, 10**9, 7919))
    scenario.play([(KINDS[next(numbers) % len(KINDS)], next(numbers), next(numbers), next(numbers)) for _ in range(40)])
    return scenario.chain


def test_snapshot__when__restored__then__the_same_chain_goes_on_in_the_same_way(tmp_path: Path) -> None:
    original, copy = played(), Chain(seed=99)
    write_snapshot(original.save(), tmp_path / "chain")
    restore_snapshot(copy, tmp_path / "chain")
    assert copy.blocks == original.blocks and copy.ledger.boxes == original.ledger.boxes
    assert copy.ledger.tokens == original.ledger.tokens and copy.ledger.orphans.keys() == original.ledger.orphans.keys()
    assert [entry.view for entry in copy.pool] == [entry.view for entry in original.pool]
    for chain in (original, copy):
        chain.faucet(A.address, ERG)
        chain.mine(3)
        chain.reorg(2)
        chain.mine(on=chain.blocks[-3].block_id)
    assert [block.block_id for block in copy.blocks] == [block.block_id for block in original.blocks]
    check_ledger(copy)


def test_snapshot__when__not_whole_or_not_one__then__named(tmp_path: Path) -> None:
    chain, path = Chain(), tmp_path / "chain"
    write_snapshot(chain.save(), path)
    whole = path.read_text()
    header = chain.tip.header
    for broken, text in (
        (whole[:-20], "not a snapshot"),
        ('{"format": "another"}', "its format is 'another'"),
        (whole.replace(str(header["timestamp"]), str(header["timestamp"] + 1)), "has another hash than its id"),
    ):
        path.write_text(broken)
        with pytest.raises(UsageError, match=text):
            read_snapshot(path)
    with pytest.raises(UsageError, match="not a snapshot"):
        read_snapshot(tmp_path / "nothing")


@pytest.mark.asyncio
async def test_control__when__saved_forked_and_restored__then__as_it_was(tmp_path: Path) -> None:
    async with connected(snapshots=tmp_path) as client:
        chain = client.chain
        funded(chain, A)
        tx = pay(chain, A, funded(chain, A), B.tree, ERG)
        await client.send(tx)
        saved = (await client.node("/devnet/snapshot", {"name": "before"})).json
        assert (saved["name"], saved["height"]) == ("before", chain.height)
        tip = chain.tip.block_id
        assert (await client.node("/devnet/drop", {"transactionId": str(tx.id)})).json == {"unconfirmed": 0}
        made = (await client.node("/devnet/mine", {"blocks": 2, "on": chain.blocks[-2].block_id})).json["blocks"]
        assert chain.tip.block_id == made[-1] != tip
        assert (await client.node("/devnet/restart", {})).json == {"weighing": "size"}
        assert (await client.node("/devnet/restore", {"name": "before"})).json["height"] == chain.height == 22
        assert chain.tip.block_id == tip and str(tx.id) in chain.pool
        found = (await client.explorer(f"/v1/boxes/unspent/byAddress/{A.address}")).json
        assert found["total"] == 2
        for name in ("../before", "/etc/passwd", "", "nothing"):
            assert (await client.node("/devnet/restore", {"name": name})).status == 400
    async with Devnet(snapshots=tmp_path, restore="before") as again:
        assert again.chain.tip.block_id == tip


@pytest.mark.asyncio
async def test_pacing__when__exponential__then__block_times_differ_and_the_seed_decides_them() -> None:
    async with connected(block_time=0.02, pacing="exponential") as client:
        async with client.session.get(f"{client.devnet.node_url}/info") as response:
            assert response.status == 200
        start = client.chain.height
        while client.chain.height < start + 5:
            await asyncio.sleep(0.02)
        times = [block.header["timestamp"] for block in client.chain.blocks[start:]]
        assert len({later - earlier for earlier, later in pairwise(times)}) > 1
