"""The embedded node against what a real node of version 6.0.4 answered, request by request and error by error.

`recorded/` holds the real answers. Ids and amounts are others here, so shapes are compared (keys and types, all the way down) and texts
with ids and numbers taken out. What differs on purpose stands in `DIFFERENT`, with the reason; an entry that no longer differs fails, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from devnet_wallet import ERG, FEE, Client, connected, funded, key, out, sign
from ergo_lib_python.chain import Constant, ErgoBox, ErgoBoxCandidate, NetworkPrefix
from ergo_lib_python.transaction import Transaction

from aihd.chain.node import Answer, classify
from aihd.devnet.account import Account
from aihd.protocol.trees import FEE_TREE

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


# ---------------------------------------------------------------- the same mistakes


@dataclass(slots=True)
class Mistakes:
    """Everything that was done wrong to the real node, done to the devnet, in the same order."""

    client: Client
    found: dict[str, tuple[int, Json]]

    async def send(self, name: str, body: Json, path: str = "/transactions") -> None:
        answer = await self.client.node(path, body)
        self.found[name] = (answer.status, answer.json)

    async def ask(self, name: str, path: str) -> None:
        answer = await self.client.node(path)
        self.found[name] = (answer.status, answer.json)

    def paid(self, box: ErgoBox, value: int, fee: int = FEE, outputs: Sequence[ErgoBoxCandidate] = ()) -> Json:
        """A payment of A to itself as JSON; `outputs` in place of the usual ones."""
        height = self.client.chain.height
        if not outputs:
            parts = [(box.value - value - fee, A.tree), (value, A.tree), *([(fee, FEE_TREE)] if fee else [])]
            outputs = [out(amount, tree, height) for amount, tree in parts]
        return json.loads(sign(self.client.chain, [A], [box], outputs).json())

    def bent(self, body: Json, change: Callable[[Json], None]) -> Json:
        copy = json.loads(json.dumps(body))
        change(copy)
        return copy


async def _invalid(done: Mistakes) -> None:
    """What no pool takes."""
    chain = done.client.chain
    box = funded(chain, A, 20 * ERG)
    usual = done.paid(box, 5_000_000)
    await done.send("fee too low", done.paid(box, 5_000_000, 100_000))
    await done.send("no fee", done.paid(box, 5_000_000, 0))
    for name, amount in (("creates ERG", 1_100_000), ("loses ERG", -3_900_000)):
        await done.send(name, done.bent(usual, partial(_add, amount)))
    await done.send("dust", done.bent(usual, lambda tx: tx["outputs"][1].update(value=1000)))
    minted = [{"tokenId": "11" * 32, "amount": 5}]
    await done.send("makes a token", done.bent(usual, lambda tx: tx["outputs"][0].update(assets=minted)))
    late = {"creationHeight": 10_000_000}
    await done.send("future creation height", done.bent(usual, lambda tx: tx["outputs"][0].update(late)))
    for name, proof in (("bad proof", "00" * 56), ("empty proof", "")):
        await done.send(name, done.bent(usual, partial(_prove, proof)))
    await done.send("unknown input", done.bent(usual, lambda tx: _first(tx).update(boxId="22" * 32)))
    await done.send("unknown data input", done.bent(usual, lambda tx: tx["dataInputs"].append({"boxId": "33" * 32})))
    await done.send("no outputs key", done.bent(usual, lambda tx: tx.pop("outputs")))
    await done.send("tree no hex", done.bent(usual, lambda tx: tx["outputs"][0].update(ergoTree="zz")))
    negative = [usual["outputs"][0] | {"value": -1}, usual["outputs"][2]]
    await done.send("negative value", done.bent(usual, lambda tx: tx.update(outputs=negative)))
    await done.send("same input twice", done.bent(usual, lambda tx: tx["inputs"].append(_first(tx))))
    await done.send("wrong id (check)", usual | {"id": "44" * 32}, "/transactions/check")


def _first(tx: Json) -> Json:
    return tx["inputs"][0]


def _add(amount: int, tx: Json) -> None:
    tx["outputs"][0]["value"] += amount


def _prove(proof: str, tx: Json) -> None:
    _first(tx)["spendingProof"]["proofBytes"] = proof


async def _pooled(done: Mistakes) -> None:
    """What becomes of good ones that wait, of their rivals, and of what was built on the losers."""
    chain = done.client.chain
    box = funded(chain, A, 20 * ERG)
    good, heights = done.paid(box, 5_000_000), chain.height
    made = Transaction.from_json(good).outputs[0]
    await done.send("check good", good, "/transactions/check")
    await done.send("good", good)
    await done.send("same again", good)
    await done.send("double, same fee", done.paid(box, 6_000_000))
    for name, path in (
        ("pool tx", f"/transactions/unconfirmed/byTransactionId/{good['id']}"),
        ("pool spent input", f"/transactions/unconfirmed/inputs/byBoxId/{box.box_id}"),
        ("pool output", f"/transactions/unconfirmed/outputs/byBoxId/{made.box_id}"),
        ("utxo of pool output", f"/utxo/byId/{made.box_id}"),
        ("index of pool output", f"/blockchain/box/byId/{made.box_id}"),
        ("utxo of pool-spent", f"/utxo/byId/{box.box_id}"),
        ("itx of pool tx", f"/blockchain/transaction/byId/{good['id']}"),
    ):
        await done.ask(name, path)
    whole = [out(made.value - FEE, A.tree, heights), out(FEE, FEE_TREE, heights)]
    child = done.paid(made, 0, outputs=whole)
    await done.send("child of pool tx", child)
    await done.ask("pool spent pool box", f"/transactions/unconfirmed/inputs/byBoxId/{made.box_id}")
    higher = done.paid(box, 5_000_000, 5 * FEE)  # the loser weighs with its child
    await done.send("double, higher fee", higher)
    await done.ask("loser still in pool?", f"/transactions/unconfirmed/byTransactionId/{good['id']}")
    await done.ask("loser's child in pool?", f"/transactions/unconfirmed/byTransactionId/{child['id']}")
    await done.send("loser sent again", good)
    await done.send("loser's child sent again", child)
    chain.mine()
    await done.send("mined sent again", higher)
    await done.send("loser sent after", good)
    await done.ask("pool ids after", "/transactions/unconfirmed/transactionIds")
    change = Transaction.from_json(higher).outputs[0]
    rest = change.value - 5_000_000 - FEE
    minted = [
        out(rest, A.tree, chain.height, tokens=[(str(change.box_id), 5)]),
        out(5_000_000, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    await done.send("mint", done.paid(change, 0, outputs=minted))


NOT_DONE: Final = {
    "unspent tree, pool": "the recorder kept a summary of its own, not the answer",
    "known": "the recorder's own notes",
}
CLASSES: Final = {
    **dict.fromkeys(("fee too low", "no fee"), Answer.FEE),
    **dict.fromkeys(("creates ERG", "loses ERG", "dust", "makes a token", "bad proof", "empty proof"), Answer.REFUSED),
    **dict.fromkeys(("no outputs key", "tree no hex", "negative value", "same input twice"), Answer.REFUSED),
    "future creation height": Answer.EARLY,
    **dict.fromkeys(
        ("unknown input", "unknown data input", "mined sent again", "loser sent after"), Answer.MISSING_INPUT
    ),
    "loser's child sent again": Answer.MISSING_INPUT,
    "same again": Answer.KNOWN,
    **dict.fromkeys(("double, same fee", "loser sent again"), Answer.DOUBLE_SPEND),
}


def _plain(name: str, body: Json) -> Json:
    """An answer without ids and numbers, or the form of what is no refusal."""
    if not isinstance(body, dict) or body.get("detail") is None:
        return shape_of(body)
    text = re.sub(r"[0-9a-f]{60,64}", "<id>", body["detail"])
    text = re.sub(r"-?[0-9]+(?:, -?[0-9]+){9,}", "<bytes>", text)
    text = re.sub(r"(?<![.E-])-?\b[0-9]{4,}\b|(?<=<= )[0-9]+", "<number>", text)
    pattern, _ = LEFT_OUT.get(name, ("", ""))
    return {**body, "detail": re.sub(pattern, "<left out>", text) if pattern else text}


@pytest.mark.asyncio
async def test_node__given_the_same_mistakes_as_a_real_one__refuses_them_in_the_same_words() -> None:
    async with connected() as client:
        done = Mistakes(client, {})
        await _invalid(done)
        await _pooled(done)
    assert done.found.keys() | NOT_DONE.keys() == ERRORS.keys()
    different = {}
    for name, (status, body) in done.found.items():
        real, ours = _plain(name, ERRORS[name]["body"]), _plain(name, body)
        if status != ERRORS[name]["status"] or list(differences(real, ours, name)):
            different[name] = (real, ours)
    assert not different, "\n".join(f"{name}:\n  {real}\n  {ours}" for name, (real, ours) in different.items())


@pytest.mark.asyncio
async def test_classify__hears_a_real_node_and_the_devnet__gives_the_same_class_for_both() -> None:
    async with connected() as client:
        done = Mistakes(client, {})
        await _invalid(done)
        await _pooled(done)
    for name, answer in CLASSES.items():
        texts = (ERRORS[name]["body"]["detail"], done.found[name][1]["detail"])
        assert [classify(text) for text in texts] == [answer, answer], name
    unnamed = [name for name, each in ERRORS.items() if each.get("status") == 400 and name not in CLASSES]
    assert unnamed == []


@pytest.mark.parametrize("name", LEFT_OUT)
def test_left_out__of_a_real_text__still_stands_there(name: str) -> None:
    pattern, reason = LEFT_OUT[name]
    assert reason and re.search(pattern, ERRORS[name]["body"]["detail"])
