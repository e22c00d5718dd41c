"""The embedded node against what a real node of version 6.0.4 answered, request by request and error by error.

`recorded/` holds the real answers. Ids and amounts are others here, so shapes are compared (keys and types, all the way down) and texts
with ids and numbers taken out. What differs on purpose stands in `DIFFERENT`, with the reason; an entry that no longer differs fails, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from devnet_wallet import ERG, Client, connected, key
from ergo_lib_python.chain import Constant, NetworkPrefix

from aihd.devnet.account import Account

Json = Any
FOLDER: Final = Path(__file__).parent / "recorded"
ANSWERS: Final[list[dict[str, Json]]] = json.loads((FOLDER / "node_answers.json").read_text())["answers"]
ERRORS: Final[dict[str, dict[str, Json]]] = json.loads((FOLDER / "node_errors.json").read_text())
A, B = key(1), key(2)

# Place in an answer -> why the devnet's differs there.
DIFFERENT: Final = {
    "GET /transactions/getFee ": "the real node had statistics of the transactions that it had seen",
    "GET /blocks/chainSlice?fromHeight=0&toHeight=5 .version": "a real chain begins with blocks of version 1",
    "GET /blocks/chainSlice?fromHeight=0&toHeight=5 .powSolutions.w": "only blocks of version 1 have one of their own",
}
# Keys whose values are the same on every private chain, whatever stands in its blocks.
FIXED: Final = frozenset(
    [
        *(
            "appVersion",
            "network",
            "stateType",
            "difficulty",
            "eip27Supported",
            "eip37Supported",
            "isExplorer",
            "isMining",
        ),
        *("votes", "unparsedBytes", "nBits", "version", "blockVersion", "subblocksPerBlock", "minValuePerByte", "w"),
        *("storageFeeFactor", "tokenAccessCost", "dataInputCost", "minerReward", "totalCoinsIssued", "reemitted"),
        *("totalRemainCoins", "isValid", "decimals", "error", "reason", "detail"),
    ]
)
# The text of an error, ids and numbers taken out -> the devnet's, and why.
LEFT_OUT: Final = {
    "future creation height": (r"ErgoTree\(.*\),tokens", "the inner form of a tree is a matter of the node's classes"),
}


# ---------------------------------------------------------------- shapes


def shape_of(value: Json) -> Json:
    """Keys and types; a list is what its items have in common."""
    match value:
        case dict():
            return {name: shape_of(item) for name, item in value.items() if not _is_hex(name)}
        case list():
            items = [shape_of(item) for item in value if not (isinstance(item, str) and "in all" in item)]
            return [_merged(items)] if items else []
        case bool() | None:
            return type(value).__name__
        case int() | float():
            return "number"
        case "":
            return "NoneType"
        case str() if re.fullmatch(r"(?:[0-9a-f]{2})+", value):
            return "hex" if len(value) != 64 else "id"
        case _:
            return "text"


def _is_hex(name: str) -> bool:
    """Registers and context variables are named by what a box happens to hold."""
    return bool(re.fullmatch(r"R[4-9]|[0-9]+", name))


def _merged(shapes: list[Json]) -> Json:
    objects = [each for each in shapes if isinstance(each, dict)]
    if not objects:
        return shapes[0]
    names = dict.fromkeys(name for each in objects for name in each)
    return {name: _widest([each.get(name, "absent") for each in objects]) for name in names}


def _widest(shapes: list[Json]) -> Json:
    full = [each for each in shapes if each not in ([], "NoneType")]
    return full[0] if full else shapes[0]


def differences(real: Json, ours: Json, where: str) -> Iterator[str]:
    """The places in which two shapes differ; where one side holds nothing to compare, they do not."""
    if isinstance(real, dict) and isinstance(ours, dict):
        for name in {**real, **ours}:
            yield from differences(real.get(name, "absent"), ours.get(name, "absent"), f"{where}.{name}")
    elif isinstance(real, list) and isinstance(ours, list):
        if real and ours:
            yield from differences(real[0], ours[0], where)
    elif real != ours and not ({"NoneType"} & {str(real), str(ours)} and "absent" not in (real, ours)):
        yield where


def unequal(real: Json, ours: Json, where: str) -> Iterator[tuple[str, tuple[Json, Json]]]:
    """The places of values that are the same on every chain, and are not."""
    if isinstance(real, dict) and isinstance(ours, dict):
        for name in real.keys() & ours.keys():
            yield from unequal(real[name], ours[name], f"{where}.{name}")
    elif isinstance(real, list) and isinstance(ours, list):
        for one, other in zip(real, ours, strict=False):
            yield from unequal(one, other, where) if isinstance(one, dict) else ()
    elif real != ours and (where.rsplit(".", 1)[-1] in FIXED or (where == "" and isinstance(real, int))):
        yield where, (real, ours)


# ---------------------------------------------------------------- the same requests


@dataclass(frozen=True, slots=True)
class Stage:
    """A devnet with something for each request, and what stands for the ids of the recording."""

    client: Client
    words: dict[str, str]

    def translated(self, text: str) -> str:
        for real, ours in self.words.items():
            text = text.replace(real, ours)
        return text


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with connected(network=NetworkPrefix.Testnet, node_network="devnet", block_version=3) as client:
        yield Stage(client, _words(client))


def _words(client: Client) -> dict[str, str]:
    """Ids of the recording -> ids of blocks, boxes and tokens of the same kind."""
    chain = client.chain
    alice = Account(chain, "alice")
    chain.faucet(alice.address, 100 * ERG)
    chain.mine()
    token = alice.mint(2, "Beans", "worth a coffee")
    chain.mine()
    minted = chain.ledger.boxes[chain.ledger.tokens[token].box_id].view
    registers = [Constant.from_i32(3), Constant(b"five")]
    alice.transact([alice.output(alice.tree, tokens=[(token, 1)], registers=registers)], spend=[minted.box])
    (block,) = chain.mine()
    spender = next(view for view in block.transactions if token in [t for made in view.outputs for t, _ in made.tokens])
    unspent = spender.outputs[0]
    tree = next(each["request"] for each in ANSWERS if each["path"].startswith("/blockchain/box/unspent/byErgoTree"))
    address = next(each["request"] for each in ANSWERS if each["path"] == "/blockchain/balance")
    return {
        "37437d7f537ed0359b421cf1f23db2bef539ef203bacc10cb36e511f52b42bd7": block.block_id,
        "a0219ba402e83a07d2c5d9dca188ae03ba36566f9f54bc57a42376e0aeb8384b": spender.tx_id,
        "f327bb0ee1a076b3ebe1c71165f9f7c70cb4bf92fa3ecf58e750846de3c1345e": minted.box_id,
        "779ad81f01e8bed420f4b92665db2d6d7a79bd71d95051615bda37aeb888c1e0": token,
        "c614e9a73fcd5b52eeedba430a5c081d3423ed58257a60aba1e3f9d908e0556f": unspent.box_id,
        tree: alice.tree.hex(),
        address: alice.address,
        "fromHeight=2986&toHeight=2981": f"fromHeight={chain.height}&toHeight={chain.height - 5}",
        "fromHeight=2983&toHeight=2985": f"fromHeight={chain.height - 3}&toHeight={chain.height - 1}",
        "/blocks/at/2983": f"/blocks/at/{chain.height - 3}",
    }


async def _ask(stage: Stage, recorded: dict[str, Json]) -> tuple[int, str, Json]:
    url, method = stage.client.devnet.node_url + stage.translated(recorded["path"]), recorded["method"]
    body = None if recorded["request"] is None else stage.translated(json.dumps(recorded["request"]))
    if recorded["request"] == "not json":
        body = "not json"
    headers = {"Content-Type": "application/json"} if body else {}
    async with stage.client.session.request(method, url, data=body, headers=headers) as answer:
        return answer.status, answer.content_type, json.loads(await answer.read())


def _name(recorded: dict[str, Json]) -> str:
    path = re.sub(r"[0-9a-f]{64}", lambda found: ":token" if found[0].startswith("779ad8") else ":id", recorded["path"])
    return f"{recorded['method']} {path.split('?')[0] if 'getFee' in path else path[:80]}"


@pytest.mark.asyncio
async def test_node__asked_as_a_real_one_was__answers_in_the_same_form(stage: Stage) -> None:
    found: dict[str, tuple[Json, Json]] = {}
    for recorded in ANSWERS:
        name, (status, kind, body) = _name(recorded), await _ask(stage, recorded)
        real = recorded["body"]
        if (status, kind) != (recorded["status"], recorded["contentType"]):
            found[f"{name} status"] = (recorded["status"], (status, body))
        elif status >= 400:
            if body != real:
                found[f"{name} error"] = (real, body)
        else:
            for where in differences(shape_of(real), shape_of(body), ""):
                found[f"{name} {where}"] = (shape_of(real), shape_of(body))
            for where, both in unequal(real, body, ""):
                found[f"{name} {where}"] = both
    unexpected = {place: both for place, both in found.items() if place not in DIFFERENT}
    assert not unexpected, "\n".join(f"{place}: {both}"[:260] for place, both in unexpected.items())
    assert [place for place in DIFFERENT if place not in found] == []
