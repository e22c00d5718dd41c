from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Client, connected, funded, key, out, pay, sign, types_of, unsigned
from ergo_lib_python.chain import Constant, ContextExtension, ErgoBox, ErgoBoxCandidate
from ergo_lib_python.transaction import Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import Wallet

from aihd.protocol.context import state_context
from aihd.protocol.trees import FEE_TREE, node_template_hash

A, B = key(1), key(2)
NOT_FOUND = {"error": 404, "reason": "not-found", "detail": None}


def change(client: Client, box: ErgoBox, spent: int) -> list[ErgoBoxCandidate]:
    """The fee and what is left of a box."""
    height = client.chain.height
    return [out(FEE, FEE_TREE, height), out(box.value - spent - FEE, A.tree, height)]


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    async with connected() as client:
        yield client


@pytest.mark.asyncio
async def test_submit__when__signed_from_the_api_alone__then__mined_and_found_by_id(client: Client) -> None:
    answer = await client.node("/devnet/faucet", {"address": A.address, "nanoErg": 5 * ERG})
    assert (await client.node("/devnet/mine", {"blocks": 1})).json["height"] == 21
    boxes = (await client.node("/blockchain/box/unspent/byAddress", A.address)).json
    assert [box["transactionId"] for box in boxes] == [answer.json["transactionId"]]
    box = ErgoBox.from_json(boxes[0])
    outputs = [out(5 * ERG - FEE, B.tree, 21), out(FEE, FEE_TREE, 21)]
    tx = await client.sign([A], [box], outputs)
    assert (await client.node("/transactions/check", json.loads(tx.json()))).json == str(tx.id)
    assert (await client.send(tx)).json == str(tx.id)
    await client.node("/devnet/mine", {"blocks": 3})
    found = (await client.node(f"/blockchain/transaction/byId/{tx.id}")).json
    assert (found["inclusionHeight"], found["numConfirmations"]) == (22, 2)
    assert found["inputs"][0]["spendingProof"]["proofBytes"] == bytes(tx.inputs[0].spending_proof.proof).hex()


@pytest.mark.asyncio
async def test_submit__when__body_has_no_ids__then__they_are_computed(client: Client) -> None:
    tx = pay(client.chain, A, funded(client.chain, A), B.tree, ERG)
    body = json.loads(tx.json())
    bare = {
        "inputs": body["inputs"],
        "dataInputs": [],
        "outputs": [
            {k: v for k, v in o.items() if k not in ("boxId", "transactionId", "index")} for o in body["outputs"]
        ],
    }
    assert (await client.node("/transactions", bare)).json == str(tx.id)


@pytest.mark.asyncio
async def test_submit__when__refused__then__400_with_the_node_s_detail(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    cheap = pay(chain, A, box, B.tree, ERG, fee=999_999)
    tx = pay(chain, A, box, B.tree, ERG)
    answer = await client.send(cheap)
    detail = "Min fee not met: 0.001 ergs required, 9.99999E-4 ergs given"
    assert (answer.status, answer.json) == (400, {"error": 400, "reason": "bad.request", "detail": detail})
    await client.send(tx)
    assert "it is already in the mempool" in (await client.send(tx)).json["detail"]
    rival = pay(chain, A, box, B.tree, 2 * ERG)
    assert "Double spending attempt" in (await client.send(rival)).json["detail"]
    assert (await client.node("/transactions/check", json.loads(rival.json()))).json == str(rival.id)
    chain.mine()
    assert (await client.send(rival)).json["detail"].endswith("Missing inputs: 0")


@pytest.mark.parametrize("body", [{}, [], "text", {"inputs": 5}])
@pytest.mark.asyncio
async def test_submit__when__body_is_no_transaction__then__400(client: Client, body: Any) -> None:
    answer = await client.node("/transactions", body)
    assert answer.status == 400
    assert answer.json["detail"].startswith("The request content was malformed:\n")


@pytest.mark.asyncio
async def test_submit__when__script_throws__then__short_failure_text(client: Client) -> None:
    chain = client.chain
    chain.faucet(DEADLINE_TREE.hex(), ERG)  # without the registers that its script reads
    (block,) = chain.mine()
    box = block.transactions[0].outputs[0].box
    outputs = [out(ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    ids = {"boxId": str(box.box_id), "spendingProof": {"proofBytes": "", "extension": {}}}
    other = json.loads(sign(chain, [A], [funded(chain, A, ERG)], outputs).json())
    answer = await client.node("/transactions", {**other, "inputs": [ids]})
    assert "#0 => Failure(" in answer.json["detail"] and len(answer.json["detail"]) < 500


@pytest.mark.asyncio
async def test_submit__when__output_tree_cannot_be_parsed__then__the_box_lives_but_is_not_spendable(
    client: Client,
) -> None:
    chain = client.chain
    box = funded(chain, A)
    template = unsigned([box], [out(ERG, A.tree, chain.height), *change(client, box, ERG)])
    body = json.loads(template.json())
    body["outputs"][0]["ergoTree"] = "190300ffff"  # version 1 with its size, and nothing that makes sense inside
    tx = Wallet([A.secret]).sign_transaction(UnsignedTransaction.from_json(body), [box], [], chain.context)
    await client.send(tx)
    chain.mine()
    odd = (await client.explorer("/v1/boxes/unspent/byErgoTree/190300ffff")).json["items"]
    assert [entry["boxId"] for entry in odd] == [str(tx.outputs[0].box_id)]
    outputs = [out(ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    theft = Transaction.from_unsigned_tx(unsigned([tx.outputs[0]], outputs), [b""])
    assert "#0 => Failure(" in (await client.send(theft)).json["detail"]


@pytest.mark.asyncio
async def test_submit__when__script_reads_a_context_variable__then__it_travels_with_the_input(client: Client) -> None:
    chain = client.chain
    # sigmaProp(getVar[Int](0).get == 7 && ...), repeated for length: ergo-lib panics on shorter boxes
    comparison = "93e4e300047300"
    tree = bytes.fromhex(f"1001040ed1ed{comparison}ed{comparison}{comparison}")
    chain.faucet(tree.hex(), ERG)
    (block,) = chain.mine()
    box = block.transactions[0].outputs[0].box
    outputs = [out(ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    for value, status in ((8, 400), (7, 200)):
        extension = ContextExtension({0: Constant.from_i32(value)})
        tx = UnsignedTransaction([UnsignedInput(box.box_id, extension)], [], outputs)
        assert (await client.send(Transaction.from_unsigned_tx(tx, [b""]))).status == status
    chain.mine()
    assert (await client.node(f"/utxo/byId/{box.box_id}")).status == 404


@pytest.mark.asyncio
async def test_info__when__asked__then__the_types_of_a_real_node(client: Client) -> None:
    info = (await client.node("/info")).json
    texts = (
        "name appVersion network bestHeaderId bestFullHeaderId previousFullHeaderId stateRoot stateType stateVersion"
    )
    numbers = (
        "headersHeight fullHeight maxPeerHeight difficulty headersScore fullBlocksScore unconfirmedCount peersCount"
    )
    expected = {
        **dict.fromkeys([*texts.split(), "genesisBlockId"], "str"),
        **dict.fromkeys(numbers.split(), "int"),
        **dict.fromkeys(("launchTime", "lastSeenMessageTime", "lastMemPoolUpdateTime", "currentTime"), "int"),
        **dict.fromkeys(("isMining", "isExplorer", "eip27Supported", "eip37Supported"), "bool"),
        "parameters": "dict",
    }
    assert types_of(info) == expected
    assert info["parameters"]["minValuePerByte"] == 360
    assert info["network"] == "devnet" and info["fullHeight"] == 20
    assert info["bestFullHeaderId"] == client.chain.tip.block_id


@pytest.mark.asyncio
async def test_headers__when__listed__then__ascending_and_readable_by_ergo_lib(client: Client) -> None:
    headers = (await client.node("/blocks/lastHeaders/10")).json
    assert [header["height"] for header in headers] == list(range(11, 21))
    keys = (
        "extensionId difficulty votes timestamp size unparsedBytes stateRoot height nBits version id adProofsRoot "
        "transactionsRoot extensionHash powSolutions adProofsId transactionsId parentId"
    )
    assert set(headers[0]) == set(keys.split())
    assert headers[0]["difficulty"] == "1"
    # A node shows blocks of its own so: ergo-lib reads such a number from a string only.
    distances = [header["powSolutions"]["d"] for header in headers]
    assert all(isinstance(d, int) for d in distances) and max(distances).bit_length() == 256
    assert state_context(headers[::-1], client.chain.parameters)
    assert (await client.node("/blocks/lastHeaders/0")).json == []
    assert (await client.node("/blocks/lastHeaders/x")).status == 400


@pytest.mark.asyncio
async def test_chain_slice__when__asked_for_a_range__then__above_from_up_to_the_tip(client: Client) -> None:
    async def heights(query: str) -> list[int]:
        return [header["height"] for header in (await client.node(f"/blocks/chainSlice?{query}")).json]

    assert await heights("fromHeight=5&toHeight=8") == [6, 7, 8]
    assert await heights("fromHeight=18&toHeight=99") == [19, 20]
    assert await heights("fromHeight=20&toHeight=25") == [20]


@pytest.mark.asyncio
async def test_blocks__when__forked__then__main_first_and_both_readable(client: Client) -> None:
    chain = client.chain
    tx_id = chain.faucet(A.address, ERG)
    (orphan,) = chain.mine()
    answer = await client.node("/devnet/reorg", {"depth": 1})
    assert answer.json == {"height": 22, "orphaned": [orphan.block_id]}
    assert (await client.node("/blocks/at/21")).json == [chain.blocks[20].block_id, orphan.block_id]
    assert (await client.node("/blocks/at/99")).json == []
    block = (await client.node(f"/blocks/{orphan.block_id}")).json
    assert set(block) == {"header", "blockTransactions", "extension", "adProofs", "size"}
    section = (await client.node(f"/blocks/{orphan.block_id}/transactions")).json
    assert section == block["blockTransactions"]
    assert set(section) == {"headerId", "transactions", "blockVersion", "size"}
    assert section["transactions"][0]["id"] == tx_id
    assert (await client.node(f"/blocks/{orphan.block_id}/header")).json == block["header"] == orphan.header
    assert (await client.node("/blocks/" + "00" * 32)).json == NOT_FOUND
    assert (await client.node(f"/transactions/unconfirmed/byTransactionId/{tx_id}")).json["id"] == tx_id


@pytest.mark.asyncio
async def test_utxo__when__box_is_spent_in_the_mempool__then__still_listed_by_both_routes(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    tx = pay(chain, A, box, B.tree, ERG)
    await client.send(tx)
    made = str(tx.outputs[0].box_id)
    spent = (await client.node(f"/utxo/byId/{box.box_id}")).json
    assert types_of(spent) == {
        **dict.fromkeys(("boxId", "ergoTree", "transactionId"), "str"),
        **dict.fromkeys(("value", "creationHeight", "index"), "int"),
        "assets": "list",
        "additionalRegisters": "dict",
    }
    assert (await client.node(f"/utxo/withPool/byId/{box.box_id}")).json == spent
    assert (await client.node(f"/utxo/withPool/byId/{made}")).json["value"] == ERG
    assert (await client.node(f"/utxo/byId/{made}")).json == NOT_FOUND
    both = (await client.node("/utxo/withPool/byIds", [str(box.box_id), "00" * 32, made])).json
    assert [entry["boxId"] for entry in both] == [str(box.box_id), made]
    chain.mine()
    assert (await client.node(f"/utxo/byId/{box.box_id}")).status == 404
    assert (await client.node(f"/utxo/byId/{made}")).json["value"] == ERG


@pytest.mark.asyncio
async def test_mempool__when__a_transaction_waits__then__found_by_every_route(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    outputs = [
        out(ERG, B.tree, chain.height, tokens=[(str(box.box_id), 9)]),
        out(box.value - ERG - FEE, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [box], outputs)
    await client.send(tx)
    pool = "/transactions/unconfirmed"
    (waiting,) = (await client.node(pool)).json
    assert waiting["id"] == str(tx.id) and waiting["size"] == len(bytes(tx))
    assert waiting["inputs"][0]["value"] == box.value
    assert (await client.node(f"{pool}?offset=1")).json == []
    assert (await client.node(f"{pool}/byErgoTree", B.tree.hex())).json == [waiting]
    assert (await client.node(f"{pool}/byErgoTree", DEADLINE_TREE.hex())).json == []
    assert (await client.node(f"{pool}/inputs/byBoxId/{box.box_id}")).json["boxId"] == str(box.box_id)
    assert (await client.node(f"{pool}/inputs/byBoxId/{tx.outputs[0].box_id}")).json == NOT_FOUND
    (holder,) = (await client.node(f"{pool}/outputs/byTokenId/{box.box_id}")).json
    assert holder["assets"] == [{"tokenId": str(box.box_id), "amount": 9}]
    for tx_id, status in ((str(tx.id), 200), ("00" * 32, 404)):
        async with client.session.head(f"{client.devnet.node_url}{pool}/{tx_id}") as response:
            assert response.status == status
    assert (await client.node("/transactions/getFee?waitTime=1&txSize=500")).json == 1_000_000


@pytest.mark.asyncio
async def test_index__when__boxes_are_confirmed_waiting_and_spent__then__each_flag_does_its_part(
    client: Client,
) -> None:
    chain = client.chain
    old, new = funded(chain, A, 3 * ERG), funded(chain, A, 4 * ERG)
    tx = pay(chain, A, old, A.tree, ERG)
    await client.send(tx)
    path = "/blockchain/box/unspent/byErgoTree"

    async def ids(query: str = "") -> list[str]:
        return [box["boxId"] for box in (await client.node(path + query, A.tree.hex())).json]

    made = [str(tx.outputs[0].box_id), str(tx.outputs[2].box_id)]
    assert await ids() == [str(new.box_id), str(old.box_id)]
    assert await ids("?sortDirection=asc") == [str(old.box_id), str(new.box_id)]
    assert await ids("?excludeMempoolSpent=true") == [str(new.box_id)]
    assert await ids("?includeUnconfirmed=true&offset=1&limit=1") == [*made, str(old.box_id)]
    assert await ids("?limit=1&offset=1") == [str(old.box_id)]
    assert (await client.node(f"{path}?limit=16385", A.tree.hex())).status == 400
    assert (await client.node("/blockchain/indexedHeight")).json == {"indexedHeight": 22, "fullHeight": 22}


@pytest.mark.asyncio
async def test_index__when__more_boxes_than_a_page__then__five_by_default(client: Client) -> None:
    for _ in range(7):
        client.chain.faucet(A.address, ERG)
    client.chain.mine()
    assert len((await client.node("/blockchain/box/unspent/byAddress", A.address)).json) == 5
    assert (await client.node("/blockchain/box/unspent/byAddress", "9notAnAddress")).status == 400


@pytest.mark.asyncio
async def test_index__when__token_was_minted__then__described_and_its_boxes_listed(client: Client) -> None:
    chain = client.chain
    box = funded(chain, A)
    token = str(box.box_id)
    texts = [Constant(b"Receipt"), Constant(b"what was done"), Constant(b"2")]
    outputs = [
        out(ERG, DEADLINE_TREE, chain.height, tokens=[(token, 30)], registers=texts),
        out(box.value - ERG - FEE, A.tree, chain.height, tokens=[(token, 12)]),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [box], outputs)
    await client.send(tx)
    chain.mine()
    assert (await client.node(f"/blockchain/token/byId/{token}")).json == {
        **{"id": token, "boxId": str(tx.outputs[0].box_id), "emissionAmount": 42},
        **{"name": "Receipt", "description": "what was done", "decimals": 2},
    }
    holders = (await client.node(f"/blockchain/box/byTokenId/{token}")).json
    assert holders["total"] == len(holders["items"]) == 2
    assert len((await client.node(f"/blockchain/box/unspent/byTokenId/{token}")).json) == 2
    by_template = await client.node(f"/blockchain/box/unspent/byTemplateHash/{node_template_hash(DEADLINE_TREE)}")
    (guarded,) = by_template.json
    extra = {"globalIndex", "inclusionHeight", "address", "spentTransactionId", "spendingProof"}
    assert extra <= set(guarded) and guarded["spentTransactionId"] is None
    burned = sign(chain, [A], [tx.outputs[1]], [out(tx.outputs[1].value - FEE, A.tree, 22), out(FEE, FEE_TREE, 22)])
    await client.send(burned)
    chain.mine()
    spent = (await client.node(f"/blockchain/box/byId/{tx.outputs[1].box_id}")).json
    assert spent["spentTransactionId"] == str(burned.id)
    assert set(spent["spendingProof"]) == {"proofBytes", "extension"}
    assert (await client.node(f"/blockchain/box/byTokenId/{token}")).json["total"] == 2
    assert len((await client.node(f"/blockchain/box/unspent/byTokenId/{token}")).json) == 1


@pytest.mark.asyncio
async def test_path__when__unknown__then__400_as_a_node_says_it(client: Client) -> None:
    answer = await client.node("/nothing/here")
    assert (answer.status, answer.json["reason"]) == (400, "bad.request")
    assert answer.json["detail"] == "The requested resource/endpoint could not be found."
