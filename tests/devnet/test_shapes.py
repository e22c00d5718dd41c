"""Every endpoint against the names and types of the Explorer's and the node's openapi, key by key.

`shapes/openapi.json` holds the types as clients generated from the openapi files declare them; `RECORDED` says where answers captured
from real servers have more or other than that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Client, connected, funded, key, out, pay, sign
from ergo_lib_python.chain import Constant

from aihd.protocol.trees import FEE_TREE, explorer_template_hash, node_template_hash

Types = dict[str, Any]

OPENAPI: Final[dict[str, Types]] = json.loads((Path(__file__).parent / "shapes" / "openapi.json").read_text())
REGISTER: Final = {"serializedValue": "string", "sigmaType": "string | null", "renderedValue": "string | null"}
RECORDED: Final[dict[str, dict[str, dict[str, str]]]] = {
    "explorer v1": {},
    "explorer v0": {},
    "node": {
        "IndexedErgoBoxAllOf": {
            "spentTransactionId": "string | null",
            "spendingProof": "SpendingProof | null",
            "spendingHeight?": "number",
        },
        "ErgoTransactionOutput": {"spendingProof?": "SpendingProof"},
        "ErgoTransactionInput": dict.fromkeys(
            (
                *("value?", "ergoTree?", "creationHeight?", "assets?", "additionalRegisters?", "transactionId?"),
                *("index?", "extension?"),
            ),
            "any",
        ),
        "BlockTransactions": {"blockVersion": "number"},
        "BlockHeader": {"unparsedBytes": "string"},
        "FullBlock": {"adProofs": "BlockADProofs | null"},
        "Parameters": {"subblocksPerBlock": "number | null"},
        "NodeInfo": {
            **dict.fromkeys(("network",), "string"),
            **dict.fromkeys(("isExplorer", "eip37Supported"), "boolean"),
            "restApiUrl?": "string",
            **dict.fromkeys(("lastSeenMessageTime", "lastMemPoolUpdateTime"), "number"),
        },
    },
}
PRIMITIVES: Final[dict[str, tuple[type, ...]]] = {
    **{"string": (str,), "number": (int, float), "bigint": (int,), "boolean": (bool,), "null": (type(None),)},
    "any": (object,),
}

A, B = key(1), key(2)


def problems(value: Any, spec: str, api: str, path: str) -> Iterator[str]:
    """How a JSON value differs from a type."""
    types = OPENAPI[api]
    if spec.endswith("[]"):
        if not isinstance(value, list):
            yield f"{path}: {type(value).__name__} and not a list"
            return
        for index, item in enumerate(value[:3]):
            yield from problems(item, spec[:-2], api, f"{path}[{index}]")
    elif " | " in spec:
        tried = [list(problems(value, option, api, path)) for option in spec.split(" | ")]
        yield from [] if [] in tried else tried[0]
    elif spec in PRIMITIVES or spec.startswith("("):
        expected = PRIMITIVES.get(spec, (str,))
        if not isinstance(value, expected) or (
            isinstance(value, bool) and bool not in expected and object not in expected
        ):
            yield f"{path}: {type(value).__name__} and not {spec}"
    elif spec.endswith("AdditionalRegisters"):
        for name, register in value.items():
            yield from fields(register, REGISTER, api, f"{path}.{name}")
    elif isinstance(types[spec], str) and " & " not in types[spec]:
        yield from problems(value, types[spec], api, path)
    else:
        yield from fields(value, declared(spec, api), api, path)


def declared(spec: str, api: str) -> dict[str, str]:
    """The fields of a type, with what was recorded beyond them."""
    known = OPENAPI[api][spec]
    whole: dict[str, str] = {}
    for part in known.split(" & ") if isinstance(known, str) else ():
        whole |= declared(part, api)
    added = RECORDED[api].get(spec, {})
    return {**whole, **({} if isinstance(known, str) else known), **added}


def fields(value: Any, expected: dict[str, str], api: str, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {type(value).__name__} and not an object"
        return
    if "*" in expected:
        return
    optional = {name.rstrip("?"): name.endswith("?") for name in expected}
    specs = {name.rstrip("?"): spec for name, spec in expected.items()}
    yield from (f"{path}.{name}: not in the openapi" for name in value.keys() - specs.keys())
    for name, spec in specs.items():
        if value.get(name) is None and optional[name]:
            continue
        if name not in value:
            yield f"{path}.{name}: missing"
        else:
            yield from problems(value[name], spec, api, f"{path}.{name}")


async def rich(client: Client) -> dict[str, str]:
    """A chain that has something for every route: a token, a contract, spent, orphaned and waiting boxes, a data input."""
    chain = client.chain
    fund = funded(chain, A, 100 * ERG)
    token = str(fund.box_id)
    names = [Constant(b"Receipt"), Constant(b"what was done"), Constant(b"2")]
    outputs = [
        out(10 * ERG, A.tree, chain.height, tokens=[(token, 42)], registers=names),
        out(10 * ERG, DEADLINE_TREE, chain.height, registers=[A.sigma_prop, Constant.from_i32(500)]),
        out(ERG, A.tree, chain.height, registers=[Constant.from_i64(2 * ERG)]),
        out(79 * ERG - FEE, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    mint = sign(chain, [A], [fund], outputs)
    chain.submit(mint)
    chain.mine()
    guarded, rate = mint.outputs[1], mint.outputs[2]
    again = [
        out(10 * ERG - FEE, DEADLINE_TREE, chain.height, registers=[A.sigma_prop, Constant.from_i32(500)]),
        out(FEE, FEE_TREE, chain.height),
    ]
    spent = sign(chain, [A], [guarded], again, data=[rate])
    chain.submit(spent)
    chain.mine()
    chain.faucet(B.address, ERG)
    (orphan,) = chain.mine()
    chain.reorg(1, lose=True)
    waiting = pay(chain, A, mint.outputs[3], B.tree, ERG)
    chain.submit(waiting)
    return {
        "token": token,
        "address": A.address,
        "to": B.address,
        "tree": A.tree.hex(),
        "box": str(guarded.box_id),
        "unspent": str(rate.box_id),
        "tx": str(spent.id),
        "block": chain.ledger.transactions[str(spent.id)].block_id,
        "orphan": orphan.block_id,
        "waiting": str(waiting.id),
        "waits": str(mint.outputs[3].box_id),
        "made": str(waiting.outputs[0].box_id),
        "template": explorer_template_hash(DEADLINE_TREE),
        "token_template": explorer_template_hash(A.tree),
        "node_template": node_template_hash(DEADLINE_TREE),
        "nothing": "00" * 32,
    }


EXPLORER: Final = {
    "v1/boxes/{box}": "OutputInfo",
    "v1/boxes/byErgoTree/{tree}": "ItemsOutputInfo",
    "v1/boxes/unspent/byErgoTree/{tree}": "ItemsOutputInfo",
    "v1/boxes/byAddress/{address}": "ItemsOutputInfo",
    "v1/boxes/unspent/byAddress/{address}": "ItemsOutputInfo",
    "v1/boxes/unspent/unconfirmed/byAddress/{to}": "MOutputInfo[]",
    "v1/boxes/unspent/all/byAddress/{address}": "MOutputInfo[]",
    "v1/boxes/byErgoTreeTemplateHash/{template}": "ItemsOutputInfo",
    "v1/boxes/unspent/byErgoTreeTemplateHash/{template}": "ItemsOutputInfo",
    "v1/boxes/byTokenId/{token}": "ItemsOutputInfo",
    "v1/boxes/unspent/byTokenId/{token}": "ItemsOutputInfo",
    'v1/boxes/unspent/search {{"ergoTreeTemplateHash":"{template}"}}': "ItemsOutputInfo",
    'v1/boxes/search {{"ergoTreeTemplateHash":"{template}"}}': "ItemsOutputInfo",
    'v1/boxes/unspent/search/union {{"ergoTreeTemplateHash":"{token_template}","assets":["{token}"]}}': "ItemsOutputInfo",
    "v1/transactions/{tx}": "TransactionInfo",
    "v1/transactions/byInputsScriptTemplateHash/{template}": "ItemsTransactionInfo",
    "v1/addresses/{address}/transactions?concise=true": "ItemsTransactionInfo",
    "v1/addresses/{address}/balance/confirmed": "Balance",
    "v1/addresses/{address}/balance/total": "TotalBalance",
    "v1/mempool/transactions/byAddress/{to}": "ItemsUTransactionInfo",
    "v1/networkState": "NetworkState",
    "v1/info": "NetworkState",
    "v1/networkStats": "NetworkStats",
    "v1/epochs/params": "EpochInfo",
    "v1/blocks": "ItemsBlockInfo",
    "v1/blocks/headers": "ItemsBlockHeader",
    "v1/blocks/{block}": "BlockSummary",
    "v1/blocks/{orphan}": "BlockSummary",
    "v1/tokens": "ItemsTokenInfo",
    "v1/assets": "ItemsTokenInfo",
    "v1/tokens/{token}": "TokenInfo",
    "v1/tokens/bySymbol/receipt": "TokenInfo[]",
    "v1/tokens/search?query=rec": "ItemsTokenInfo",
    "v1/assets/search/byTokenId?query={token}": "ItemsAssetInfo",
    'v1/ergotree/convert {{"hashed":"{tree}"}}': "ErgoTreeHuman",
    "v1/boxes/{nothing}": "NotFound",
    "v1/blocks?limit=501": "BadRequest",
    "v1/boxes/unspent/byErgoTreeTemplateHash/{template}/stream": "UnknownErr",
    "v0/blocks/at/22": "string[]",
    "v0/transactions/unconfirmed": "ItemsUTransactionInfo",
    "v0/transactions/unconfirmed/{waiting}": "UTransactionSummary",
    "v0/transactions/unconfirmed/byAddress/{to}": "ItemsUTransactionInfo",
}
STREAMS: Final = {
    "v1/boxes/unspent/stream?minHeight=0&maxHeight=100": "OutputInfo",
    "v1/boxes/unspent/byLastEpochs/stream?lastEpochs=1": "OutputInfo",
    "v1/boxes/unspent/byGlobalIndex/stream?minGix=0&limit=500": "OutputInfo",
    "v1/boxes/byGlobalIndex/stream?minGix=2&limit=2": "OutputInfo",
    "v1/boxes/byErgoTreeTemplateHash/{template}/stream?minHeight=0&maxHeight=100": "OutputInfo",
    "v1/mempool/boxes/unspent": "MOutputInfo",
    "v1/transactions/byGlobalIndex/stream?minGix=0&limit=3": "TransactionInfo",
    "v1/blocks/byGlobalIndex/stream?minGix=0&limit=3": "BlockInfo",
    "v1/blocks/stream/summary?limit=5": "BlockSummaryV1",
}
NODE: Final = {
    "info": "NodeInfo",
    "blocks": "string[]",
    "blocks/at/22": "string[]",
    "blocks/lastHeaders/3": "BlockHeader[]",
    "blocks/chainSlice?fromHeight=3&toHeight=5": "BlockHeader[]",
    "blocks/{block}": "FullBlock",
    "blocks/{orphan}": "FullBlock",
    'blocks/headerIds ["{block}"]': "FullBlock[]",
    "blocks/{block}/header": "BlockHeader",
    "blocks/{block}/transactions": "BlockTransactions",
    "blocks/{block}/proofFor/{tx}": "MerkleProof",
    "utxo/byId/{unspent}": "ErgoTransactionOutput",
    "utxo/byIdBinary/{unspent}": "SerializedBox",
    "utxo/withPool/byId/{made}": "ErgoTransactionOutput",
    "utxo/withPool/byIdBinary/{made}": "SerializedBox",
    'utxo/withPool/byIds ["{made}"]': "ErgoTransactionOutput[]",
    "utxo/genesis": "ErgoTransactionOutput[]",
    "transactions/unconfirmed": "ErgoTransaction[]",
    "transactions/unconfirmed/transactionIds": "string[]",
    'transactions/unconfirmed/byTransactionIds ["{waiting}"]': "string[]",
    "transactions/unconfirmed/byTransactionId/{waiting}": "ErgoTransaction",
    'transactions/unconfirmed/byErgoTree "{tree}"': "ErgoTransaction[]",
    "transactions/unconfirmed/inputs/byBoxId/{waits}": "ErgoTransactionOutput",
    "transactions/unconfirmed/outputs/byBoxId/{made}": "ErgoTransactionOutput",
    'transactions/unconfirmed/outputs/byErgoTree "{tree}"': "ErgoTransactionOutput[]",
    "transactions/unconfirmed/outputs/byTokenId/{token}": "ErgoTransactionOutput[]",
    'transactions/unconfirmed/outputs/byRegisters {{"R4":"0402"}}': "ErgoTransactionOutput[]",
    "transactions/getFee?waitTime=1&txSize=100": "number",
    "transactions/waitTime?fee=1000000&txSize=100": "number",
    "transactions/poolHistogram": "FeeHistogramBin[]",
    "blockchain/indexedHeight": "GetIndexedHeight200",
    "blockchain/box/byId/{box}": "IndexedErgoBox",
    "blockchain/box/byIndex/3": "IndexedErgoBox",
    "blockchain/box/range": "string[]",
    'blockchain/box/byAddress "{address}"': "GetBoxesByAddress200",
    "blockchain/box/byAddress/{address}": "GetBoxesByAddress200",
    'blockchain/box/byErgoTree "{tree}"': "GetBoxesByAddress200",
    "blockchain/box/byTemplateHash/{node_template}": "GetBoxesByAddress200",
    "blockchain/box/byTokenId/{token}": "GetBoxesByTokenId200",
    'blockchain/box/unspent/byAddress "{address}"': "IndexedErgoBox[]",
    "blockchain/box/unspent/byAddress/{address}?includeUnconfirmed=true": "IndexedErgoBox[]",
    'blockchain/box/unspent/byErgoTree "{tree}"': "IndexedErgoBox[]",
    "blockchain/box/unspent/byTemplateHash/{node_template}": "IndexedErgoBox[]",
    "blockchain/box/unspent/byTokenId/{token}": "IndexedErgoBox[]",
    "blockchain/transaction/byId/{tx}": "IndexedErgoTransaction",
    "blockchain/transaction/byIndex/0": "IndexedErgoTransaction",
    "blockchain/transaction/range": "string[]",
    'blockchain/transaction/byAddress "{address}"': "GetTxsByAddress200",
    "blockchain/transaction/byAddress/{address}": "GetTxsByAddress200",
    "blockchain/token/byId/{token}": "IndexedToken",
    'blockchain/tokens ["{token}"]': "IndexedToken[]",
    'blockchain/balance "{address}"': "GetAddressBalanceTotal200",
    "blockchain/balanceForAddress/{address}": "GetAddressBalanceTotal200",
    "peers/all": "Peer[]",
    "peers/connected": "Peer[]",
    "peers/status": "PeersStatus",
    "script/addressToTree/{address}": "ErgoTreeObject",
    "script/addressToBytes/{address}": "ScriptBytes",
    "utils/address/{address}": "AddressValidity",
    "utils/address/nonsense": "AddressValidity",
    "utxo/byId/{nothing}": "ApiError",
    "no/such/path": "ApiError",
    'script/p2sAddress {{"source":"sigmaProp(true)","treeVersion":0}}': "ApiError",
    "wallet/status": "ApiError",
}


async def ask(client: Client, base: str, line: str, facts: dict[str, str]) -> str:
    """The body of the answer to `path`, or to `path body` by POST."""
    path, _, body = line.format(**facts).partition(" ")
    headers = {"Content-Type": "application/json"} if body else {}
    method = "POST" if body else "GET"
    async with client.session.request(method, f"{base}/{path}", data=body or None, headers=headers) as response:
        return await response.text()


MAY_BE_EMPTY: Final = (
    "peers",
    "transactions/unconfirmed/outputs/byTokenId",
    "transactions/unconfirmed/outputs/byRegisters",
)


async def found_problems(client: Client, base: str, routes: dict[str, str], api: str) -> list[str]:
    facts = await rich(client)
    found: list[str] = []
    for line, spec in routes.items():
        api_of = f"{api} {line[:2]}" if api == "explorer" else api
        answer = json.loads(await ask(client, base, line, facts))
        found += [f"{line}: {text}" for text in problems(answer, spec, api_of, spec)]
        rows = answer.get("items") if isinstance(answer, dict) else answer
        if rows == [] and not line.startswith(MAY_BE_EMPTY):
            found.append(f"{line}: nothing to compare")
    return found


@pytest.mark.asyncio
async def test_explorer__when__every_route_is_asked__then__the_keys_and_types_of_its_openapi() -> None:
    async with connected() as client:
        assert await found_problems(client, f"{client.devnet.explorer_url}/api", EXPLORER, "explorer") == []


@pytest.mark.asyncio
async def test_explorer__when__streams_are_read__then__bare_objects_one_after_the_other() -> None:
    async with connected() as client:
        facts = await rich(client)
        for line, spec in STREAMS.items():
            text, position, count = await ask(client, f"{client.devnet.explorer_url}/api", line, facts), 0, 0
            while position < len(text):
                shape, position = json.JSONDecoder().raw_decode(text, position)
                count += 1
                assert list(problems(shape, spec, "explorer v1", line)) == []
            assert count > 0, line


@pytest.mark.asyncio
async def test_node__when__every_route_is_asked__then__the_keys_and_types_of_its_openapi() -> None:
    async with connected() as client:
        assert await found_problems(client, client.devnet.node_url, NODE, "node") == []


@pytest.mark.asyncio
async def test_wallet__when__a_secret_and_the_key_are_brought__then__signs_what_the_mempool_takes() -> None:
    async with connected(api_key="open") as client:
        box = funded(client.chain, A)
        draft = json.loads(pay(client.chain, A, box, B.tree, ERG).json())
        unsigned = {**draft, "inputs": [{"boxId": str(box.box_id), "extension": {}}]}
        body = {"tx": unsigned, "secrets": {"dlog": [bytes(A.secret).hex()]}}
        url = f"{client.devnet.node_url}/wallet/transaction/sign"
        for api_key, status in (("wrong", 403), ("open", 200)):
            async with client.session.post(url, json=body, headers={"api_key": api_key}) as response:
                assert response.status == status
                answer = await response.json()
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{client.devnet.node_url}/transactions", json=answer) as response,
        ):
            assert await response.json() == draft["id"]
        async with client.session.post(url, json={**body, "secrets": {}}, headers={"api_key": "open"}) as response:
            assert response.status == 400 and "secrets.dlog" in (await response.json())["detail"]
