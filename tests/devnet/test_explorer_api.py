from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Client, connected, funded, key, out, pay, sign, types_of
from ergo_lib_python.chain import Constant, ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.protocol.context import state_context
from aihd.protocol.trees import FEE_TREE, explorer_template_hash

A, B = key(1), key(2)
BOX_TYPES = {
    **dict.fromkeys(("boxId", "transactionId", "blockId", "ergoTree", "ergoTreeConstants", "ergoTreeScript"), "str"),
    **dict.fromkeys(("value", "index", "globalIndex", "creationHeight", "settlementHeight"), "int"),
    **{"address": "str", "assets": "list", "additionalRegisters": "dict", "spentTransactionId": "NoneType"},
    "mainChain": "bool",
}
INPUT_TYPES = {
    **dict.fromkeys(("boxId", "spendingProof", "outputBlockId", "outputTransactionId", "ergoTree", "address"), "str"),
    **dict.fromkeys(
        ("value", "index", "outputIndex", "outputGlobalIndex", "outputCreatedAt", "outputSettledAt"), "int"
    ),
    **{"ergoTreeConstants": "str", "ergoTreeScript": "str", "assets": "list", "additionalRegisters": "dict"},
}


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with connected() as client:
        yield client


def guarded(client: Client, *, rate: int, deadline: int = 500, height: int | None = None) -> Transaction:
    """Waiting: a box with registers and a minted token under the contract."""
    chain = client.chain
    fund = funded(chain, A)
    registers = [A.sigma_prop, Constant.from_i32(deadline), Constant.from_i64(rate), Constant(b"\x00\xff")]
    at = chain.height if height is None else height
    outputs = [
        out(ERG, DEADLINE_TREE, at, tokens=[(str(fund.box_id), 5)], registers=registers),
        out(fund.value - ERG - FEE, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [fund], outputs)
    chain.submit(tx)
    return tx


@pytest.mark.asyncio
async def test_box__when__in_a_block__then__keys_types_and_renderings_of_the_real_one(client: Client) -> None:
    tx = guarded(client, rate=7)
    box_id = str(tx.outputs[0].box_id)
    assert (await client.explorer(f"/v1/boxes/{box_id}")).json == {"status": 404, "reason": "Not found"}
    client.chain.mine()
    box = (await client.explorer(f"/v1/boxes/{box_id}")).json
    assert types_of(box) == BOX_TYPES
    assert box["additionalRegisters"]["R4"] == {
        "serializedValue": f"08cd{A.public.hex()}",
        "sigmaType": "SSigmaProp",
        "renderedValue": A.public.hex(),
    }
    rendered = {name: (r["sigmaType"], r["renderedValue"]) for name, r in box["additionalRegisters"].items()}
    assert rendered["R5"] == ("SInt", "500")
    assert rendered["R6"] == ("SLong", "7")
    assert rendered["R7"] == ("Coll[SByte]", "00ff")
    assert box["assets"][0]["tokenId"] == str(tx.inputs[0].box_id)
    assert types_of(box["assets"][0]) == {
        **{"tokenId": "str", "index": "int", "amount": "int"},
        **dict.fromkeys(("name", "decimals", "type"), "NoneType"),  # R4 is no text: not an EIP-4 token
    }
    assert str(ErgoBox.from_json(box).box_id) == box_id


@pytest.mark.asyncio
async def test_box__when__its_block_is_orphaned__then__still_there_and_not_on_the_main_chain(client: Client) -> None:
    tx = guarded(client, rate=7)
    box_id = str(tx.outputs[0].box_id)
    client.chain.mine()
    client.chain.reorg(1)
    orphan = (await client.explorer(f"/v1/boxes/{box_id}")).json
    assert orphan["mainChain"] is False
    assert (await client.explorer(f"/v1/transactions/{tx.id}")).status == 404
    assert (await client.explorer(f"/v1/boxes/unspent/byErgoTree/{DEADLINE_TREE.hex()}")).json["total"] == 0
    client.chain.mine()
    assert (await client.explorer(f"/v1/boxes/{box_id}")).json["mainChain"] is True


@pytest.mark.asyncio
async def test_boxes__when__paged__then__no_box_twice_and_limits_hold(client: Client) -> None:
    for _ in range(7):
        client.chain.faucet(A.address, ERG)
    client.chain.mine()
    for path in (f"/v1/boxes/unspent/byErgoTree/{A.tree.hex()}", f"/v1/boxes/unspent/byAddress/{A.address}"):
        pages = [(await client.explorer(f"{path}?offset={offset}&limit=3")).json for offset in (0, 3, 6, 9)]
        assert [len(page["items"]) for page in pages] == [3, 3, 1, 0]
        assert {page["total"] for page in pages} == {7}
        order = [box["globalIndex"] for page in pages for box in page["items"]]
        assert order == sorted(set(order), reverse=True)
        ascending = (await client.explorer(f"{path}?sortDirection=asc")).json["items"]
        assert [box["globalIndex"] for box in ascending] == order[::-1]
    for query in ("limit=501", "limit=0", "offset=-1", "limit=x", "sortDirection=up"):
        answer = await client.explorer(f"/v1/boxes/unspent/byAddress/{A.address}?{query}")
        assert answer.status == 400 and answer.json["reason"].startswith("Bad request: ")
    assert (await client.explorer(f"/v1/boxes/byTokenId/{'00' * 32}?limit=101")).status == 400
    assert (await client.explorer("/v1/boxes/unspent/byAddress/9nonsense")).status == 400


@pytest.mark.asyncio
async def test_boxes__when__spent__then__only_the_all_lists_have_them(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    tx = pay(chain, A, box, B.tree, box.value - FEE)
    chain.submit(tx)
    chain.mine()
    for route in (f"byAddress/{A.address}", f"byErgoTree/{A.tree.hex()}"):
        (spent,) = (await client.explorer(f"/v1/boxes/{route}")).json["items"]
        assert spent["spentTransactionId"] == str(tx.id)
        assert (await client.explorer(f"/v1/boxes/unspent/{route}")).json == {"items": [], "total": 0}


@pytest.mark.asyncio
async def test_boxes_with_pool__when__chain_and_mempool_hold_some__then__bare_list_without_the_spent(
    client: Client,
) -> None:
    chain = client.chain
    old, kept = funded(chain, A), funded(chain, A)
    tx = pay(chain, A, old, A.tree, ERG)
    chain.submit(tx)
    boxes = (await client.explorer(f"/v1/boxes/unspent/unconfirmed/byAddress/{A.address}")).json
    assert [box["boxId"] for box in boxes] == [str(tx.outputs[i].box_id) for i in (0, 2)] + [str(kept.box_id)]
    fresh = boxes[0]
    assert [fresh[name] for name in ("blockId", "globalIndex", "settlementHeight")] == [None] * 3
    assert fresh["mainChain"] is False and boxes[-1]["mainChain"] is True


@pytest.mark.asyncio
async def test_template__when__creation_heights_differ__then__listed_by_them_ascending(client: Client) -> None:
    client.chain.mine(10)
    late = guarded(client, rate=1)
    client.chain.mine(3)
    early = guarded(client, rate=2, height=client.chain.height + 1)
    client.chain.mine()
    path = f"/v1/boxes/unspent/byErgoTreeTemplateHash/{explorer_template_hash(DEADLINE_TREE)}"
    items = (await client.explorer(path)).json["items"]
    assert [box["creationHeight"] for box in items] == sorted(box["creationHeight"] for box in items)
    assert [box["transactionId"] for box in items] == [str(late.id), str(early.id)]


@pytest.mark.asyncio
async def test_search__when__registers_constants_and_assets_are_named__then__all_must_match(client: Client) -> None:
    chain = client.chain
    first = guarded(client, rate=7)
    second = guarded(client, rate=8)
    chain.mine()
    template = explorer_template_hash(DEADLINE_TREE)

    async def ids(route: str = "/v1/boxes/unspent/search", **query: Any) -> list[str]:
        answer = await client.explorer(route, {"ergoTreeTemplateHash": template, **query})
        assert answer.json["total"] == len(answer.json["items"])
        return [box["transactionId"] for box in answer.json["items"]]

    assert await ids() == [str(first.id), str(second.id)]
    assert await ids(registers={"R6": "7"}) == [str(first.id)]
    assert await ids(registers={"R6": "7", "R5": "501"}) == []
    assert await ids(registers={"R9": "7"}) == []
    assert await ids(assets=[str(second.inputs[0].box_id)]) == [str(second.id)]
    assert await ids(constants={"0": "0", "1": "0"}, registers={"R7": "00ff"}) == [str(first.id), str(second.id)]
    assert await ids(constants={"0": "1"}) == []
    assert await ids(constants={"9": "0"}) == []
    assert await ids("/v1/boxes/search", registers={"R4": B.public.hex()}) == []
    assert (await client.explorer("/v1/boxes/unspent/search", {"registers": {}})).status == 400
    assert (
        await client.explorer("/v1/boxes/unspent/search?limit=501", {"ergoTreeTemplateHash": template})
    ).status == 400


@pytest.mark.asyncio
async def test_transaction__when__confirmed__then__shape_and_confirmations_of_the_real_one(client: Client) -> None:
    tx = guarded(client, rate=7)
    client.chain.mine(3)
    info = (await client.explorer(f"/v1/transactions/{tx.id}")).json
    assert types_of(info) == {
        **dict.fromkeys(("id", "blockId"), "str"),
        **dict.fromkeys(("inclusionHeight", "timestamp", "index", "globalIndex", "numConfirmations", "size"), "int"),
        **dict.fromkeys(("inputs", "dataInputs", "outputs"), "list"),
    }
    assert info["numConfirmations"] == 3
    assert types_of(info["inputs"][0]) == INPUT_TYPES
    assert types_of(info["outputs"][0]) == BOX_TYPES
    listed = (await client.explorer(f"/v1/addresses/{A.address}/transactions")).json
    assert listed["items"][0] == info and listed["total"] == 2
    low = (await client.explorer(f"/v1/addresses/{A.address}/transactions?toHeight=21")).json
    assert low["total"] == 1


@pytest.mark.asyncio
async def test_balance__when__boxes_and_tokens_are_held__then__confirmed_and_waiting_apart(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    chain.mine()
    chain.faucet(A.address, 2 * ERG)
    path = f"/v1/addresses/{A.address}/balance"
    confirmed = {"nanoErgs": box.value, "tokens": []}
    assert (await client.explorer(f"{path}/confirmed")).json == confirmed
    assert (await client.explorer(f"{path}/confirmed?minConfirmations=3")).json["nanoErgs"] == 0
    total = (await client.explorer(f"{path}/total")).json
    assert total == {"confirmed": confirmed, "unconfirmed": {"nanoErgs": 2 * ERG, "tokens": []}}


@pytest.mark.asyncio
async def test_token__when__issued_by_eip4__then__named_in_token_and_assets(client: Client) -> None:
    chain = client.chain
    fund = funded(chain, A)
    token = str(fund.box_id)
    texts = [Constant(b"Receipt"), Constant(b"what was done"), Constant(b"2")]
    outputs = [
        out(fund.value - FEE, A.tree, chain.height, tokens=[(token, 42)], registers=texts),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [fund], outputs)
    chain.submit(tx)
    chain.mine()
    assert (await client.explorer(f"/v1/tokens/{token}")).json == {
        **{"id": token, "boxId": str(tx.outputs[0].box_id), "emissionAmount": 42, "name": "Receipt"},
        **{"description": "what was done", "type": "EIP-004", "decimals": 2},
    }
    (box,) = (await client.explorer(f"/v1/boxes/unspent/byTokenId/{token}")).json["items"]
    asset = {"tokenId": token, "index": 0, "amount": 42, "name": "Receipt", "decimals": 2, "type": "EIP-004"}
    assert box["assets"] == [asset]
    balance = (await client.explorer(f"/v1/addresses/{A.address}/balance/confirmed")).json
    assert balance["tokens"] == [
        {"tokenId": token, "amount": 42, "decimals": 2, "name": "Receipt", "tokenType": "EIP-004"}
    ]


@pytest.mark.asyncio
async def test_submit__when__node_would_refuse__then__200_and_nothing_waits(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    bad = json.loads(pay(chain, A, box, B.tree, ERG).json())
    bad["inputs"][0]["spendingProof"]["proofBytes"] = "00" * 56
    answer = await client.explorer("/v1/mempool/transactions/submit", bad)
    assert (answer.status, answer.json) == (200, {"id": bad["id"]})
    assert len(chain.pool) == 0


@pytest.mark.asyncio
async def test_submit__when__inputs_are_known__then__relayed_and_seen_by_every_mempool_route(client: Client) -> None:
    chain = client.chain
    tx = pay(chain, A, funded(chain, A), B.tree, ERG)
    await client.explorer("/v1/mempool/transactions/submit", json.loads(tx.json()))
    (waiting,) = (await client.explorer(f"/v1/mempool/transactions/byAddress/{B.address}")).json["items"]
    assert types_of(waiting) == {
        **{"id": "str", "creationTimestamp": "int", "size": "int"},
        **dict.fromkeys(("inputs", "dataInputs", "outputs"), "list"),
    }
    old = (await client.explorer(f"/v0/transactions/unconfirmed/{tx.id}")).json
    assert old["outputs"][0]["id"] == str(tx.outputs[0].box_id)
    assert old["inputs"][0]["id"] == waiting["inputs"][0]["boxId"]
    assert (await client.explorer(f"/v0/transactions/unconfirmed/{'00' * 32}")).status == 404


@pytest.mark.asyncio
async def test_submit__when__input_is_spent_or_unknown__then__400_with_its_id(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    tx = pay(chain, A, box, B.tree, ERG)
    rival = pay(chain, A, box, B.tree, 2 * ERG)
    child = pay(chain, B, rival.outputs[0], B.tree, ERG)
    chain.submit(tx)
    chain.mine()
    for bad, text in ((rival, f"{box.box_id} is already spent"), (child, f"{rival.outputs[0].box_id} not found")):
        answer = await client.explorer("/v1/mempool/transactions/submit", json.loads(bad.json()))
        assert answer.json == {"status": 400, "reason": f"Bad request: Transaction is invalid. Input 0:{text}"}


@pytest.mark.asyncio
async def test_network_state__when__blocks_come__then__tip_height_and_parameters(client: Client) -> None:
    client.chain.mine()
    state = (await client.explorer("/v1/networkState")).json
    assert types_of(state) == {
        **{"lastBlockId": "str", "height": "int", "maxBoxGix": "int", "maxTxGix": "int", "params": "dict"}
    }
    assert (state["height"], state["lastBlockId"]) == (21, client.chain.tip.block_id)
    assert state == (await client.explorer("/v1/info")).json
    assert state["params"] == (await client.explorer("/v1/epochs/params")).json
    assert "subblocksPerBlock" not in state["params"]


@pytest.mark.asyncio
async def test_headers__when__taken_from_the_explorer_alone__then__a_context_can_be_made(client: Client) -> None:
    headers = (await client.explorer("/v1/blocks/headers?limit=10")).json
    newest = headers["items"][0]
    keys = "id parentId version timestamp height nBits votes stateRoot adProofsRoot transactionsRoot extensionHash powSolutions"
    assert set(newest) == set(keys.split())
    distances = [header["powSolutions"]["d"] for header in headers["items"]]
    assert all(isinstance(d, str) for d in distances) and max(map(int, distances)).bit_length() == 256
    params = (await client.explorer("/v1/epochs/params")).json
    state_context(headers["items"], params)


@pytest.mark.asyncio
async def test_blocks__when__listed_and_opened__then__linked_both_ways(client: Client) -> None:
    tx = guarded(client, rate=7)
    chain = client.chain
    chain.mine(2)
    listed = (await client.explorer("/v1/blocks?limit=2&offset=1")).json
    assert [block["height"] for block in listed["items"]] == [chain.height - 1, chain.height - 2]
    info = listed["items"][0]
    assert info["transactionsCount"] == 2 and set(info["miner"]) == {"address", "name"}
    oldest = (await client.explorer("/v1/blocks?sortDirection=asc&limit=1")).json["items"]
    assert [block["height"] for block in oldest] == [1]
    block = (await client.explorer(f"/v1/blocks/{info['id']}")).json
    assert set(block) == {"block", "references"}
    assert set(block["block"]) == {"header", "blockTransactions", "extension", "adProofs"}
    assert block["references"] == {"previousId": listed["items"][1]["id"], "nextId": chain.tip.block_id}
    assert block["block"]["blockTransactions"][0]["id"] == str(tx.id)
    assert (await client.explorer(f"/v0/blocks/at/{info['height']}")).json == [info["id"]]
    tip = (await client.explorer(f"/v1/blocks/{chain.tip.block_id}")).json
    assert tip["references"]["nextId"] is None


@pytest.mark.asyncio
async def test_block__when__orphaned__then__its_transactions_are_shown_with_orphaned_outputs(client: Client) -> None:
    tx = guarded(client, rate=7)
    (block,) = client.chain.mine()
    client.chain.reorg(1)
    shown = (await client.explorer(f"/v1/blocks/{block.block_id}")).json["block"]["blockTransactions"]
    assert shown[0]["id"] == str(tx.id)
    assert {box["mainChain"] for box in shown[0]["outputs"]} == {False}
    assert (await client.explorer(f"/v0/blocks/at/{block.height}")).json[1] == block.block_id


@pytest.mark.asyncio
async def test_path__when__tree_has_4_kilobytes__then__it_is_still_a_path(client: Client) -> None:
    tree = b"\x10\x01\x0e" + bytes([4060 & 0x7F | 0x80, 4060 >> 7]) + bytes(4060) + bytes.fromhex("d19373007300")
    for path in ("", "unspent/"):
        answer = await client.explorer(f"/v1/boxes/{path}byErgoTree/{tree.hex()}")
        assert (answer.status, answer.json) == (200, {"items": [], "total": 0})
    assert (await client.explorer("/v1/boxes/unspent/byErgoTree/zz")).status == 400


@pytest.mark.asyncio
async def test_path__when__unknown__then__404_in_the_explorer_s_form(client: Client) -> None:
    answer = await client.explorer("/v1/nothing")
    assert answer.status == answer.json["status"] == 404


@pytest.mark.asyncio
async def test_frozen_cache__when__on__then__answers_stand_still_until_the_next_block() -> None:
    async with connected(frozen_cache=True) as client:
        chain = client.chain
        box = funded(chain, A)
        path = f"/v1/mempool/transactions/byAddress/{B.address}"
        assert (await client.explorer(path)).json["total"] == 0
        tx = pay(chain, A, box, B.tree, ERG)
        body = json.loads(tx.json())
        assert (await client.explorer("/v1/mempool/transactions/submit", body)).json == {"id": str(tx.id)}
        assert (await client.explorer(path)).json["total"] == 0
        assert (await client.explorer(f"{path}?_=1")).json["total"] == 1
        chain.pool.remove(str(tx.id))
        assert (await client.explorer("/v1/mempool/transactions/submit", body)).json == {"id": str(tx.id)}
        assert len(chain.pool) == 0  # the repeated answer came without a submit
        chain.mine()
        await client.explorer("/v1/mempool/transactions/submit", body)
        assert (await client.explorer(path)).json["total"] == 1
