from __future__ import annotations

import asyncio
import time

import pytest
from devnet_wallet import ERG, connected, key
from ergo_lib_python.chain import NetworkPrefix

from aihd.devnet import Devnet
from aihd.devnet.ledger import By

A = key(1)


@pytest.mark.asyncio
async def test_devnet__when__block_time_is_set__then__blocks_come_by_themselves_with_the_clock_s_time() -> None:
    async with connected(block_time=0.02) as client:
        tx_id = (await client.node("/devnet/faucet", {"address": A.address, "nanoErg": ERG})).json["transactionId"]
        async with asyncio.timeout(10):
            while tx_id not in client.chain.ledger.transactions:
                await asyncio.sleep(0.01)
        assert abs(client.chain.tip.header["timestamp"] / 1000 - time.time()) < 10
        assert client.chain.ledger.unspent.count(By.TREE, A.tree.hex()) == 1


@pytest.mark.asyncio
async def test_devnet__when__mining_fails__then__run_and_leaving_both_raise() -> None:
    devnet = Devnet(block_time=0.01)
    with pytest.raises(KeyError, match="maxBlockSize"):
        async with devnet:
            del devnet.chain.parameters["maxBlockSize"]
            with pytest.raises(KeyError, match="maxBlockSize"):
                async with asyncio.timeout(10):
                    await devnet.run()


@pytest.mark.asyncio
async def test_devnet__when__port_is_taken__then__os_error_and_nothing_stays_open() -> None:
    async with Devnet() as first:
        taken = int(first.node_url.rsplit(":", 1)[1])
        second = Devnet(node_port=taken)
        with pytest.raises(OSError, match=r"address already in use"):
            async with second:
                pass
        explorer_port = int(second.explorer_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=r".*"):
            await asyncio.open_connection("127.0.0.1", explorer_port)


@pytest.mark.asyncio
async def test_devnet__when__testnet__then__its_addresses_and_its_name() -> None:
    async with connected(network=NetworkPrefix.Testnet, genesis={A.tree.hex(): ERG}) as client:
        assert (await client.node("/info")).json["network"] == "testnet"
        boxes = (await client.explorer(f"/v1/boxes/unspent/byErgoTree/{A.tree.hex()}")).json["items"]
        assert boxes[0]["address"].startswith("3W")
        assert boxes[0]["transactionId"] == "00" * 32
        assert (await client.explorer(f"/v1/boxes/unspent/byAddress/{A.address}")).status == 400


@pytest.mark.asyncio
async def test_control__when__asked_wrongly__then__400_with_the_field() -> None:
    async with connected() as client:
        for path, body, text in (
            ("mine", {"blocks": 0}, "\"blocks\", a whole number above 0; it has '0'"),
            ("mine", {"blocks": "2"}, "it has '2'"),
            ("mine", [], "it is '[]'"),
            ("reorg", {"depth": 99}, "depth 99: a reorg here takes 1 to 10 blocks"),
            ("faucet", {"address": A.address}, '"nanoErg", a whole number above 0'),
            ("issue", {"name": "", "amount": 5}, "name '': a text of 1 to 400 bytes"),
            ("issue", {"name": "a" * 401, "amount": 5}, "a text of 1 to 400 bytes"),
            ("issue", {"name": "a", "amount": 0}, "\"amount\", a whole number above 0; it has '0'"),
            ("issue", {"name": "a", "amount": 2**63}, "amount 9223372036854775808: a token has 1 to"),
            ("issue", {"name": "a", "amount": 5, "decimals": -1}, '"decimals", a whole number above -1'),
            ("issue", {"name": "a", "amount": 5, "decimals": 19}, "decimals 19: a number of 0 to 18"),
            ("issue", {"name": "a", "amount": 5, "address": "9x"}, "address '9x' is neither an address"),
            ("faucet", {"address": "x", "nanoErg": ERG}, "address 'x' is neither an address"),
        ):
            answer = await client.node(f"/devnet/{path}", body)
            assert answer.status == 400 and text in answer.json["detail"], answer


@pytest.mark.asyncio
async def test_status__when__asked__then__counts_what_there_is() -> None:
    async with connected() as client:
        client.chain.faucet(A.address, ERG)
        assert (await client.node("/devnet/mine", {})).json["height"] == 21
        client.chain.faucet(A.address, ERG)
        status = (await client.node("/devnet/status")).json
        assert (status["height"], status["unconfirmed"], status["transactions"]) == (21, 1, 2)
        assert status["boxes"] == 1 + 3 + 1 and status["orphanedBoxes"] == 0


@pytest.mark.asyncio
async def test_issue__with_an_address_or_without__gives_a_token_by_eip_4() -> None:
    async with Devnet() as devnet:
        most = 2**63 - 1
        coins = {
            devnet.issue("Beans", 100_000, 2, to=A.address, description="worth a coffee"): (
                "Beans",
                100_000,
                2,
                A.tree,
            ),
            devnet.issue("\u00dc\U0001f41c", most, 0): ("\u00dc\U0001f41c", most, 0, None),
            devnet.chain.issue("C", 1, 18, to=A.tree.hex()): ("C", 1, 18, A.tree),
        }
        devnet.chain.mine()
        ledger = devnet.chain.ledger
        assert len(coins) == len(ledger.tokens) == 3
        for token_id, (name, amount, decimals, tree) in coins.items():
            token = ledger.tokens[token_id]
            assert (token.name, token.emission, token.decimals, token.kind) == (name, amount, decimals, "EIP-004")
            held = ledger.boxes[token.box_id].view
            assert held.tokens == ((token_id, amount),) and (tree is None or held.tree == tree.hex())
