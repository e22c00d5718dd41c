from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Client, connected, funded, key, out, pay, sign
from ergo_lib_python.chain import Constant
from ergo_lib_python.transaction import Transaction

from aihd.devnet.faults import FAULTS, LAG
from aihd.protocol.trees import FEE_TREE, explorer_template_hash

A, B = key(1), key(2)
TEMPLATE = explorer_template_hash(DEADLINE_TREE)


async def switch(client: Client, name: str, on: bool = True, api: str | None = None) -> dict[str, Any]:
    answer = await client.node("/devnet/fault", {"name": name, "on": on, "api": api})
    assert answer.status == 200, answer
    listed: dict[str, Any] = answer.json
    return listed


async def raw(client: Client, url: str) -> tuple[int, str, str]:
    async with client.session.get(url) as response:
        return response.status, response.content_type, await response.text()


def contract_box(client: Client, height: int) -> Transaction:
    """A confirmed box under the contract that declares this creation height."""
    chain = client.chain
    fund = funded(chain, A)
    registers = [A.sigma_prop, Constant.from_i32(500)]
    outputs = [
        out(ERG, DEADLINE_TREE, height, registers=registers),
        out(fund.value - ERG - FEE, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [fund], outputs)
    chain.submit(tx)
    chain.mine()
    return tx


@pytest.mark.asyncio
async def test_fault__when__a_proxy_fails__then__every_route_of_that_api_and_no_other() -> None:
    async with connected() as client:
        explorer, node = f"{client.devnet.explorer_url}/api/v1/networkState", f"{client.devnet.node_url}/info"
        for name, status, kind in (("too-many-requests", 429, "text/plain"), ("html-errors", 502, "text/html")):
            await switch(client, name, api="explorer")
            assert (await raw(client, explorer))[:2] == (status, kind)
            assert (await raw(client, node))[0] == 200
            await switch(client, name, on=False)
            await switch(client, name, api="node")
            assert (await raw(client, node))[:2] == (status, kind)
            assert (await raw(client, explorer))[0] == 200
            assert name not in await switch(client, name, on=False)


@pytest.mark.asyncio
async def test_time_outs__when__on__then__no_answer_until_it_is_off_and_leaving_the_devnet_does_not_wait() -> None:
    async with connected() as client:
        url = f"{client.devnet.explorer_url}/api/v1/networkState"
        await switch(client, "time-outs")
        with pytest.raises(asyncio.TimeoutError):
            await client.session.get(url, timeout=aiohttp.ClientTimeout(total=0.1))
        waiting = asyncio.create_task(raw(client, url))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await switch(client, "time-outs", on=False)
        assert (await waiting)[0] == 504
        await switch(client, "time-outs")
        left_waiting = asyncio.create_task(raw(client, url))
        await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        with pytest.raises(aiohttp.ClientError):
            assert (await left_waiting)[0] == 200


@pytest.mark.asyncio
async def test_half_pages__when__on__then__the_first_half_under_the_whole_total() -> None:
    async with connected() as client:
        for _ in range(5):
            client.chain.faucet(A.address, ERG)
        client.chain.mine()
        path = f"/v1/boxes/unspent/byAddress/{A.address}"
        whole = (await client.explorer(path)).json
        await switch(client, "half-pages")
        half = (await client.explorer(path)).json
        assert half == {"items": whole["items"][:2], "total": 5}
        assert len((await client.node("/blocks/lastHeaders/10")).json) == 5
        assert (await client.explorer("/v1/networkState")).json["height"] == client.chain.height


@pytest.mark.asyncio
async def test_dropped_submits__when__on__then__200_with_the_id_and_nothing_waits() -> None:
    async with connected() as client:
        tx = pay(client.chain, A, funded(client.chain, A), B.tree, ERG)
        body = json.loads(tx.json())
        await switch(client, "dropped-submits")
        assert (await client.explorer("/v1/mempool/transactions/submit", body)).json == {"id": str(tx.id)}
        assert (await client.node("/transactions", body)).json == str(tx.id)
        assert len(client.chain.pool) == 0
        await switch(client, "dropped-submits", on=False)
        assert (await client.node("/transactions", body)).json == str(tx.id)
        assert len(client.chain.pool) == 1


@pytest.mark.asyncio
async def test_lag__when__on__then__explorer_and_index_are_behind_and_catch_up_through_a_reorg() -> None:
    async with connected() as client:
        chain = client.chain
        tx_id = chain.faucet(A.address, ERG)
        chain.mine()
        await switch(client, "lag")
        seen = (await client.explorer("/v1/networkState")).json
        assert (seen["height"], seen["lastBlockId"]) == (chain.height - LAG, chain.blocks[-LAG - 1].block_id)
        assert (await client.explorer(f"/v1/transactions/{tx_id}")).status == 404
        assert (await client.explorer(f"/v1/boxes/unspent/byAddress/{A.address}")).json["total"] == 0
        assert (await client.node("/blockchain/indexedHeight")).json == {"indexedHeight": 19, "fullHeight": 21}
        assert (await client.node("/info")).json["fullHeight"] == 21
        chain.mine(LAG)
        assert (await client.explorer(f"/v1/transactions/{tx_id}")).json["numConfirmations"] == 1
        chain.reorg(LAG + 1)
        assert (await client.explorer(f"/v1/transactions/{tx_id}")).status == 404
        chain.mine(LAG + 1)
        assert (await client.explorer(f"/v1/transactions/{tx_id}")).json["numConfirmations"] == 1
        await switch(client, "lag", on=False)
        assert (await client.explorer("/v1/networkState")).json["height"] == chain.height


@pytest.mark.asyncio
async def test_declared_order__when__off__then__a_template_s_boxes_come_as_they_were_made() -> None:
    async with connected() as client:
        client.chain.mine(5)
        late = contract_box(client, client.chain.height + 2)
        early = contract_box(client, client.chain.height)
        path = f"/v1/boxes/unspent/byErgoTreeTemplateHash/{TEMPLATE}"

        async def order() -> list[str]:
            listed = (await client.explorer(path)).json["items"]
            searched = await client.explorer("/v1/boxes/unspent/search", {"ergoTreeTemplateHash": TEMPLATE})
            assert searched.json["items"] == listed
            return [box["transactionId"] for box in listed]

        declared = sorted((late, early), key=lambda tx: tx.outputs[0].creation_height)
        assert await order() == [str(tx.id) for tx in declared]
        await switch(client, "declared-order", on=False)
        assert await order() == [str(late.id), str(early.id)]


@pytest.mark.asyncio
async def test_orphans__when__on_as_ever__then__all_boxes_of_a_template_hold_those_of_lost_blocks() -> None:
    async with connected() as client:
        tx = contract_box(client, client.chain.height)
        client.chain.reorg(1, lose=True)
        path = f"/v1/boxes/byErgoTreeTemplateHash/{TEMPLATE}"
        (orphan,) = (await client.explorer(path)).json["items"]
        assert (orphan["transactionId"], orphan["mainChain"]) == (str(tx.id), False)
        assert (await client.explorer(path.replace("boxes/", "boxes/unspent/"))).json["items"] == []
        await switch(client, "orphans", on=False)
        assert (await client.explorer(path)).json == {"items": [], "total": 0}


@pytest.mark.asyncio
async def test_unordered__when__on__then__pages_of_all_boxes_repeat_and_miss_some() -> None:
    async with connected() as client:
        for _ in range(30):
            client.chain.faucet(A.address, ERG)
        client.chain.mine()
        await switch(client, "unordered")
        path = f"/v1/boxes/byAddress/{A.address}?limit=10"
        pages = [(await client.explorer(f"{path}&offset={offset}")).json["items"] for offset in (0, 10, 20)]
        ids = [box["boxId"] for page in pages for box in page]
        assert len(ids) == 30 > len(set(ids))


@pytest.mark.asyncio
async def test_fault__when__unknown__then__refused_with_the_names_that_exist() -> None:
    async with connected() as client:
        for body, text in (
            ({"name": "gremlins", "on": True}, f"fault 'gremlins' is none of {', '.join(FAULTS)}"),
            ({"name": "lag", "on": True, "api": "wallet"}, "api 'wallet' is none of explorer, node"),
            ({"name": "orphans", "on": False, "api": "node"}, "fault 'orphans' is one of the Explorer's lists"),
            ({"name": "lag"}, '"on", true or false'),
        ):
            answer = await client.node("/devnet/fault", body)
            assert answer.status == 400 and text in answer.json["detail"]


@pytest.mark.asyncio
async def test_endless_pages__when__on__then__a_page_past_the_end_is_full_and_ends_with_the_fault() -> None:
    async with connected() as client:
        boxes = {str(funded(client.chain, A).box_id) for _ in range(3)}
        path = f"/v1/boxes/unspent/byErgoTree/{A.tree.hex()}"
        index = "/blockchain/box/unspent/byErgoTree"
        await switch(client, "endless-pages")
        for offset in (0, 2, 500):
            items = (await client.explorer(f"{path}?offset={offset}&limit=5")).json["items"]
            assert len(items) == 5 and {each["boxId"] for each in items} <= boxes
            listed = (await client.node(f"{index}?offset={offset}&limit=5", A.tree.hex())).json
            assert len(listed) == 5 and {each["boxId"] for each in listed} <= boxes
        foreign = (await client.node(f"{index}?offset=0&limit=5", B.tree.hex())).json
        assert {each["ergoTree"] for each in foreign} == {A.tree.hex()}
        await switch(client, "endless-pages", on=False)
        assert (await client.explorer(f"{path}?offset=500&limit=5")).json["items"] == []
