"""The chain as it lives: headers before blocks, a reorg in the making, a miner's own solutions, barred ids, indexes that stand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from devnet_histories import check_ledger
from devnet_wallet import ERG, FEE, Client, connected, funded, key, out, pay, sign
from ergo_lib_python.chain import Constant, ContextExtension, ErgoBox, NetworkPrefix
from ergo_lib_python.transaction import Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import Wallet

from aihd.devnet import Chain, RejectedError
from aihd.devnet.account import Account
from aihd.devnet.blocks import blake2b, header_bytes
from aihd.devnet.decode import in_order
from aihd.errors import UsageError
from aihd.protocol.panics import contained
from aihd.protocol.trees import FEE_TREE

A, B = key(1), key(2)


async def _tips(client: Client) -> tuple[int, int, int]:
    """Heights of the full chain and of the headers, and of the last of `lastHeaders`, which must hang together."""
    info = (await client.node("/info")).json
    headers = (await client.node("/blocks/lastHeaders/30")).json
    for parent, child in pairwise(headers):
        assert child["parentId"] == parent["id"] and child["height"] == parent["height"] + 1
    assert headers[-1]["id"] == info["bestHeaderId"]
    return info["fullHeight"], info["headersHeight"], headers[-1]["height"]


@pytest.mark.asyncio
@pytest.mark.parametrize("ahead", [1, 2, 12])
async def test_headers__run_ahead__blocks_come_later_and_hold_what_was_mined(ahead: int) -> None:
    async with connected() as client:
        chain = client.chain
        box = funded(chain, A)
        assert (await client.node("/devnet/node", {"headersAhead": ahead})).json["headersHeight"] == 21
        sent = pay(chain, A, box, B.tree, ERG)
        await client.send(sent)
        (holder,) = chain.mine()
        assert await _tips(client) == (21, 22, 22)
        assert (await client.node(f"/blocks/at/{22}")).json == [holder.block_id]
        assert [h["height"] for h in (await client.node("/blocks/chainSlice?fromHeight=20&toHeight=30")).json] == [
            21,
            22,
        ]
        for path in (f"/blocks/{holder.block_id}", f"/blocks/{holder.block_id}/header"):
            assert (await client.node(path)).status == 404
        assert (await client.node(f"/utxo/byId/{box.box_id}")).status == 200
        assert (await client.node("/transactions/unconfirmed/transactionIds")).json == [str(sent.id)]
        chain.mine(ahead)
        assert await _tips(client) == (22, 22 + ahead, 22 + ahead)
        assert (await client.node(f"/blocks/{holder.block_id}")).json["header"]["id"] == holder.block_id
        assert (await client.node(f"/utxo/byId/{box.box_id}")).status == 404 and not len(chain.pool)
        assert chain.ledger.orphans == {}
        await client.node("/devnet/node", {"headersAhead": 0})
        assert await _tips(client) == (22 + ahead, 22 + ahead, 22 + ahead)
        check_ledger(chain)


@pytest.mark.asyncio
async def test_reorg__in_the_making__headers_end_elsewhere_than_the_full_chain_until_it_settles() -> None:
    async with connected() as client:
        chain = client.chain
        sent = pay(chain, A, funded(chain, A), B.tree, ERG)
        chain.submit(sent)
        chain.mine(3)
        old = chain.tip
        orphaned = (await client.node("/devnet/reorg", {"depth": 2, "making": True})).json["orphaned"]
        assert orphaned[-1] == old.block_id
        info = (await client.node("/info")).json
        assert (info["bestFullHeaderId"], info["fullHeight"], info["headersHeight"]) == (old.block_id, 24, 25)
        last = (await client.node("/blocks/lastHeaders/10")).json
        assert old.block_id not in [header["id"] for header in last] and last[-1]["height"] == 25
        assert (await client.node("/blocks/at/24")).json == [last[-2]["id"], old.block_id]
        assert (await client.node(f"/blocks/{last[-1]['id']}")).status == 404
        assert (await client.node("/devnet/settle", {})).json["height"] == 25
        assert (await client.node("/info")).json["bestFullHeaderId"] == last[-1]["id"]
        assert not chain.is_main(old) and str(sent.id) in chain.ledger.transactions
        check_ledger(chain)


def test_reorg__in_the_making__is_settled_by_the_next_block_and_returns_what_it_orphaned() -> None:
    chain = Chain()
    tx_id = chain.submit(pay(chain, A, funded(chain, A), B.tree, ERG))
    chain.mine()
    chain.reorg(1, making=True)
    assert tx_id in chain.ledger.transactions
    chain.mine()
    assert chain.height == 24 and tx_id in chain.ledger.transactions
    check_ledger(chain)


@pytest.mark.parametrize("wrong", [-1, 101])
def test_run_ahead__out_of_range__is_refused(wrong: int) -> None:
    with pytest.raises(UsageError, match=rf"headersAhead {wrong}: headers run 0 to 100 blocks ahead"):
        Chain().run_ahead(wrong)


@pytest.mark.asyncio
async def test_self_mined__headers_show_256_bits__and_transactions_are_judged_as_ever() -> None:
    async with connected(self_mined=0.5) as client:
        chain = client.chain
        chain.mine(60)
        distances = [header["powSolutions"]["d"] for header in (await client.node("/blocks/lastHeaders/80")).json]
        own = [distance for distance in distances if distance]
        assert 15 < len(own) < 65 and all(distance.bit_length() == 256 for distance in own)
        header = next(block.header for block in chain.blocks if block.header["powSolutions"]["d"])
        assert blake2b(header_bytes(header)).hex() == header["id"]
        shown = (await client.explorer("/v1/blocks/headers?limit=500")).json["items"]
        assert {type(each["powSolutions"]["d"]) for each in shown} == {str}
        await client.send(pay(chain, A, funded(chain, A), B.tree, ERG))
        assert (await client.node("/devnet/node", {"selfMined": 0})).json["selfMined"] == 0
        chain.mine()
        assert chain.tip.header["powSolutions"]["d"] == 0 and len(chain.tip.transactions) == 2


@pytest.mark.asyncio
async def test_peers__higher_than_we__are_told() -> None:
    async with connected() as client:
        assert (await client.node("/info")).json["maxPeerHeight"] == 20
        await client.node("/devnet/node", {"peerHeight": 900})
        info = (await client.node("/info")).json
        assert (info["maxPeerHeight"], info["headersHeight"]) == (900, 20)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"headersAhead": "2"}, "\"headersAhead\", a whole number above -2; it has '2'"),
        ({"headersAhead": 101}, "headersAhead 101: headers run 0 to 100"),
        ({"selfMined": 2}, "\"selfMined\", a number of 0 to 1; it has '2'"),
        ({"selfMined": True}, "it has 'True'"),
        ({"peerHeight": None}, '"peerHeight", a whole number'),
    ],
)
async def test_control__asked_wrongly_about_the_node__names_the_field(body: object, text: str) -> None:
    async with connected() as client:
        answer = await client.node("/devnet/node", body)
        assert answer.status == 400 and text in answer.json["detail"]


@pytest.mark.asyncio
async def test_plain_node__without_the_index__knows_no_route_of_it() -> None:
    async with connected(extra_index=False) as client:
        box = funded(client.chain, A)
        assert (await client.node("/info")).json["isExplorer"] is False
        detail = "The requested resource/endpoint could not be found."
        refusal = {"error": 400, "reason": "bad.request", "detail": detail}
        tree = A.tree.hex()
        for path, body in (
            ("/blockchain/indexedHeight", None),
            (f"/blockchain/box/byId/{box.box_id}", None),
            ("/blockchain/box/unspent/byErgoTree", tree),
        ):
            answer = await client.node(path, body)
            assert (answer.status, answer.json) == (400, refusal)
        assert (await client.node(f"/utxo/byId/{box.box_id}")).status == 200


@pytest.mark.asyncio
async def test_private_network__has_addresses_of_prefix_16_and_the_name_of_a_devnet() -> None:
    async with connected(network=NetworkPrefix.Testnet, node_network="devnet", block_version=3) as client:
        address = Account(client.chain, "alice").address
        info = (await client.node("/info")).json
        assert (info["network"], info["parameters"]["blockVersion"], info["parameters"]["subblocksPerBlock"]) == (
            "devnet",
            3,
            None,
        )
        assert (await client.node(f"/utils/address/{address}")).json == {"address": address, "isValid": True}
        foreign = (await client.node(f"/utils/address/{A.address}")).json
        assert foreign["error"] == "requirement failed: Trying to decode mainnet address in testnet"
        answer = await client.node(f"/blockchain/box/byAddress/{A.address}")
        assert (answer.status, answer.json["detail"]) == (400, "Wrong address format")
        await client.send(pay(client.chain, A, funded_by_tree(client), B.tree, ERG))
        client.chain.mine()
        assert client.chain.tip.header["version"] == 3 and len(client.chain.tip.transactions) == 2


def funded_by_tree(client: Client) -> ErgoBox:
    client.chain.faucet(A.tree.hex(), 10 * ERG)
    (block,) = client.chain.mine()
    return block.transactions[0].outputs[0].box


@pytest.mark.parametrize(("memory", "after", "taken"), [(5, 3, False), (5, 4, True), (0, 1, True)])
def test_invalid_id__sent_again__is_barred_for_a_while(memory: int, after: int, taken: bool) -> None:
    chain = Chain(memory=memory)
    box = funded(chain, A)
    loser, winner = pay(chain, A, box, B.tree, ERG), pay(chain, A, box, B.tree, 2 * ERG)
    chain.submit(loser)
    chain.mine(transactions=[winner])  # the loser is found invalid
    chain.reorg(1, lose=True)  # and is valid again
    chain.mine(after)
    if taken:
        assert chain.submit(loser) == str(loser.id)
    else:
        with pytest.raises(RejectedError, match="it is invalidated earlier or the pool is full"):
            chain.submit(loser)


@pytest.mark.asyncio
async def test_stuck_index__stays_where_it_was__until_the_fault_is_off() -> None:
    async with connected() as client:
        client.devnet.faults.switch("stuck", True, "node")
        box = funded(client.chain, A)
        client.chain.mine(4)
        heights = (await client.node("/blockchain/indexedHeight")).json
        assert heights == {"indexedHeight": 20, "fullHeight": 25}
        assert (await client.node(f"/blockchain/box/byId/{box.box_id}")).status == 404
        assert (await client.explorer(f"/v1/boxes/{box.box_id}")).status == 200
        client.chain.reorg(3)
        client.devnet.faults.switch("stuck", False)
        assert (await client.node("/blockchain/indexedHeight")).json["indexedHeight"] == 26


# ---------------------------------------------------------------- what the reference reads otherwise


def _with_variables(chain: Chain, box: ErgoBox, numbers: list[int]) -> Transaction:
    variables = ContextExtension({number: Constant.from_i32(number) for number in numbers})
    outputs = [out(box.value - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    draft = UnsignedTransaction([UnsignedInput(box.box_id, variables)], [], outputs)
    return Wallet([A.secret]).sign_transaction(draft, [box], [], chain.context)


@pytest.mark.parametrize(
    ("numbers", "taken"),
    [([0, 1, 2, 3], True), ([0, 1, 2, 3, 4], True), ([0, 1, 2, 3, 5], False), (list(range(6)), False)],
)
def test_context_variables__five_and_more__count_in_the_order_of_the_reference(numbers: list[int], taken: bool) -> None:
    chain = Chain()
    tx = _with_variables(chain, funded(chain, A), numbers)
    if taken:
        assert chain.submit(tx) == str(tx.id)
    else:
        with pytest.raises(RejectedError, match=r"Scripts of all transaction inputs should pass verification"):
            chain.submit(tx)


def test_in_order__of_ten_numbers__is_that_of_a_hash_map() -> None:
    variables = tuple((number, b"") for number in range(10))
    assert [number for number, _ in in_order(variables)] == [0, 5, 1, 6, 9, 2, 7, 3, 8, 4]
    assert in_order(variables[3::-1]) == variables[3::-1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("decimals", "shown"),
    [
        (Constant.from_i32(4), 4),
        (Constant(b"4"), 4),
        (Constant(b"+4"), 4),
        (Constant.from_i64(4), 0),
        (Constant(b"x"), 0),
    ],
)
async def test_token__with_decimals_of_any_kind__is_read_as_a_node_reads_it(decimals: Constant, shown: int) -> None:
    async with connected() as client:
        box = funded(client.chain, A)
        registers = [Constant(b"N"), Constant(b"d"), decimals]
        outputs = [
            out(ERG, A.tree, client.chain.height, tokens=[(str(box.box_id), 5)], registers=registers),
            out(box.value - ERG - FEE, A.tree, client.chain.height),
            out(FEE, FEE_TREE, client.chain.height),
        ]
        await client.send(sign(client.chain, [A], [box], outputs))
        client.chain.mine()
        assert (await client.node(f"/blockchain/token/byId/{box.box_id}")).json["decimals"] == shown


@pytest.mark.asyncio
async def test_index__asked_for_pages__has_the_orders_of_a_real_one() -> None:
    async with connected() as client:
        boxes = [str(funded(client.chain, A).box_id) for _ in range(5)]
        for query in ("", "&sortDirection=asc", "&sortDirection=desc"):
            for path in (f"byAddress/{A.address}", "byErgoTree"):
                body = A.tree.hex() if path == "byErgoTree" else None
                items = (await client.node(f"/blockchain/box/{path}?offset=1&limit=2{query}", body)).json["items"]
                assert [each["boxId"] for each in items] == boxes[
                    2:4
                ]  # the second page from the newest on, oldest first
        path = "/blockchain/box/unspent/byErgoTree"
        ascending = (await client.node(f"{path}?limit=2&sortDirection=asc", A.tree.hex())).json
        assert [each["boxId"] for each in ascending] == boxes[:2]
        below = (await client.node(f"{path}?offset=-1&limit=3", A.tree.hex())).json
        assert [each["boxId"] for each in below] == boxes[:2:-1]
        client.chain.submit(pay(client.chain, A, client.chain.ledger.boxes[boxes[4]].view.box, B.tree, ERG))
        rest = (await client.node(f"{path}?limit=2&excludeMempoolSpent=true", A.tree.hex())).json
        assert [each["boxId"] for each in rest] == [boxes[3], boxes[2]]
        assert (await client.node(path, "00")).status == 500
        assert (await client.node(path, "1904ffffffff")).json == []  # nobody can read it, but it says how long it is
        assert (
            len((await client.node(path, A.tree.hex() + "ff")).json) == 5
        )  # what follows the end of a tree is dropped


@pytest.mark.asyncio
async def test_node__asked_in_odd_ways__has_the_words_of_its_server() -> None:
    async with connected() as client:
        url = client.devnet.node_url
        for method, path, body, kind, status, detail in (
            ("DELETE", "/info", "", "", 500, "Unhandled rejection: MethodRejection(HttpMethod(OPTIONS))"),
            ("POST", "/transactions", "{}", "text/plain", 500, "Unhandled rejection: Unsupported"),
            ("POST", "/transactions", "", "application/json", 400, "Request entity expected but not supplied"),
            ("GET", "/blocks/xyz", "", "", 400, "Wrong modifierId format"),
            ("GET", "/utxo/byId/xyz", "", "", 500, "invalid length 3 of Hex data"),
            ("GET", "/utxo/byId/xyzz", "", "", 500, "invalid characters encountered in Hex data"),
            ("GET", "/blocks/lastHeaders/16385", "", "", 400, "No more than 16384 headers can be requested"),
            ("GET", "/blocks/chainSlice?fromHeight=1&toHeight=16386", "", "", 400, "No more than 16384 headers"),
            ("GET", "/blockchain/box/range?limit=1000", "", "", 500, "None.get"),
            ("GET", "/blockchain/box/byTokenId/00?limit=x", "", "", 400, "Wrong modifierId format"),
            (
                "GET",
                "/blockchain/box/range?limit=x",
                "",
                "",
                500,
                "Unhandled rejection: MalformedQueryParamRejection(limit",
            ),
            ("POST", "/wallet/transaction/sign", "{}", "application/json", 403, "The supplied authentication is not"),
            ("GET", "/nipopow/proof/9/99", "", "", 400, "requirement failed: Can not prove chain of size < 108"),
            (
                "GET",
                "/transactions/unconfirmed/outputs/byBoxId/zz",
                "",
                "",
                400,
                "boxId zz is invalid, it should be 64",
            ),
        ):
            headers = {"Content-Type": kind} if kind else {}
            async with client.session.request(method, url + path, data=body or None, headers=headers) as answer:
                told = json.loads(await answer.read())
                assert (answer.status, told["error"]) == (status, status), path
                assert told["detail"].startswith(detail), (path, told)


@pytest.mark.asyncio
async def test_node__asked_for_utilities__answers() -> None:
    async with connected() as client:
        assert (
            len((await client.node("/utils/seed")).json) == 64 and len((await client.node("/utils/seed/5")).json) == 10
        )
        raw = (await client.node(f"/utils/addressToRaw/{A.address}")).json["raw"]
        assert raw == A.public.hex()
        assert (await client.node(f"/utils/rawToAddress/{raw}")).json == {"address": A.address}
        assert (await client.node(f"/utils/rawToAddress/{'ff' * 33}")).status == 400
        script = (await client.node(f"/script/addressToBytes/{A.address}")).json["bytes"]
        assert script == "0e24" + A.tree.hex()
        late = (await client.node("/emission/at/2000000")).json
        assert (
            late["minerReward"] == 6 * ERG and late["totalCoinsIssued"] + late["totalRemainCoins"] == 97_739_925 * ERG
        )
        block = client.chain.tip
        proof = (await client.node(f"/nipopow/popowHeaderById/{block.block_id}")).json
        assert proof["interlinks"] == [client.chain.blocks[0].block_id]
        proved = (await client.node("/nipopow/proof/3/4")).json
        assert [each["height"] for each in proved["suffixTail"]] == [18, 19, 20]
        listed = (await client.node("/blockchain/block/byHeaderIds", [block.block_id, "00" * 32])).json
        assert [each["header"]["id"] for each in listed] == [block.block_id]


# ---------------------------------------------------------------- boxes that the reference reads, and ergo-lib does not


UNREADABLE = {
    "a box worth nothing": bytes.fromhex("6300" + A.tree.hex() + "140000" + "11" * 32 + "00"),
    "an unsigned big integer": bytes.fromhex("0901ff"),
    "an option": bytes.fromhex("280402"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", UNREADABLE)
async def test_plant__a_box_that_ergo_lib_cannot_read__is_in_a_block_and_on_every_page(kind: str) -> None:
    async with connected() as client:
        chain = client.chain
        box_id = chain.plant(A.tree, 10_000_000, [UNREADABLE[kind]])
        waiting = (await client.node("/transactions/unconfirmed")).json
        assert waiting[0]["outputs"][0]["boxId"] == box_id
        (block,) = chain.mine()
        with pytest.raises(BaseException):  # noqa: B017 - it panics, or has one of several errors
            contained(lambda: chain.ledger.boxes[box_id].view.box)
        shown = (await client.node(f"/blocks/{block.block_id}")).json["blockTransactions"]["transactions"][0][
            "outputs"
        ][0]
        assert shown["additionalRegisters"] == {"R4": UNREADABLE[kind].hex()}
        assert (await client.node(f"/utxo/byId/{box_id}")).json == shown
        for path in (f"/blockchain/box/byAddress/{A.address}", f"/blockchain/transaction/byAddress/{A.address}"):
            assert (await client.node(path)).json["total"] == 1
        listed = (await client.explorer(f"/v1/boxes/unspent/byErgoTree/{A.tree.hex()}")).json["items"]
        assert listed[0]["additionalRegisters"]["R4"]["renderedValue"] is None
        assert (await client.explorer(f"/v1/transactions/{shown['transactionId']}")).status == 200
        chain.reorg(1)
        chain.mine()
        assert chain.ledger.utxo_view(box_id) is not None


def test_plant__by_another_s_signature__is_refused() -> None:
    chain = Chain()
    chain.plant(A.tree, 10_000_000, [UNREADABLE["an option"]])
    (entry,) = chain.pool
    chain.pool.clear()
    raw = bytearray(entry.view.raw)
    raw[40] ^= 1  # in the proof
    with pytest.raises(RejectedError, match=r"should pass verification\. [0-9a-f]{64}: #0 => Success\(\(false,403\)\)"):
        chain.submit(replace(entry.view, raw=bytes(raw)))
