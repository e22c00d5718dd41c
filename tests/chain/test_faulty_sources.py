"""Sources at fault in every way, alone and in pairs: all is known whenever one honest node is there, and who is at fault is named."""

from __future__ import annotations

import asyncio
import itertools
import resource
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import aiohttp.web
import made
import pytest
from bent import ALL, Api, Bent, bent
from offchain import ERG, digest, signer
from onchain import World, market

from aihd.chain.explorer import Explorer
from aihd.chain.finder import Finder
from aihd.chain.follower import Follower
from aihd.chain.http import JsonSource, SourceError
from aihd.chain.node import Node
from aihd.chain.sources import SetUp
from aihd.chain.submitter import Intent
from aihd.client.party import Party
from aihd.errors import AihdError
from aihd.protocol import plans
from aihd.protocol.funding import Funds, Output, Plan
from aihd.store.journal import Journal

CLIENT: Final = signer("client")
# A fault that only shows where a transaction is sent, or that nobody can tell from an honest source that lacks nothing.
ONLY_SUBMITS: Final = ("swallows", "refuses")
HARMLESS: Final = ("inflates-score", "frozen-answers", "shows-spent", "stale", *ONLY_SUBMITS)
# What others than the lister say of boxes that are known is not read, and an explorer may be some blocks late.
OF_OTHERS: Final = (*HARMLESS, "behind", "forges-boxes", "drops-registers")
FAST: Final = (
    "silent",
    "hides-boxes",
    "forges-boxes",
    "behind",
    "wrong-types",
    "endless-pages",
    "bomb",
    "invents-height",
)


@dataclass(slots=True)
class Bench:
    """A market with one open task, and a source before each of two nodes and an explorer."""

    world: World
    client: Party
    task: bytes
    sources: dict[str, Bent]
    stack: AsyncExitStack
    made: int = 0

    async def follower(self, nodes: Sequence[str], explorers: Sequence[str]) -> Follower:
        self.made += 1
        session = await self.stack.enter_async_context(aiohttp.ClientSession())
        journal = self.stack.enter_context(Journal(self.world.folder / f"faulty-{self.made}.sqlite"))
        urls = [tuple(self.sources[name].url for name in names) for names in (nodes, explorers)]
        node, explorer = Node(session, urls[0]), Explorer(session, urls[1])
        return Follower(node, explorer, self.world.deployment, CLIENT.tree, journal, lambda: (self.task,))

    def honest(self) -> None:
        for source in self.sources.values():
            source.switch()


@asynccontextmanager
async def bench(folder: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(market(folder))
        client = await world.party("client")
        terms = made.escrow(
            input_commitment=digest("input"), claim_deadline=world.chain.height + 500, client=CLIENT.public_key
        )
        record = await client.submitter.transact(Intent("post"), lambda s: plans.post(s.market, terms, s.funds))
        assert record is not None
        world.chain.mine(12)
        task = bytes(world.chain.ledger.transactions[record.id].view.outputs[0].box.box_id)
        sources: dict[str, Bent] = {}
        apis: dict[str, Api] = {"first": "node", "second": "node", "explorer": "explorer"}
        for name, api in apis.items():
            sources[name] = await stack.enter_async_context(bent(world.devnet, api))
        yield Bench(world, client, task, sources, stack)


async def synced(view: Follower, tries: int = 4) -> str:
    """What went wrong with following the chain; empty when it is followed, and was held against all other sources."""
    trouble = ""
    for _ in range(tries):
        try:
            await view.sync()
        except AihdError as error:
            trouble = str(error)
            continue
        with suppress(SourceError):
            await view.compare()
        return ""
    return trouble


async def knows(view: Follower, bench: Bench) -> bool:
    """Whether a view has the open task, every coin of the wallet, and the newest block."""
    tip = await view.sync()
    escrows = {task.raw_id for task in await view.escrows()}
    wallet = sum(box.value for box in await view.wallet(CLIENT.tree))
    balance = bench.world.balance(CLIENT.tree)
    return (tip.height, escrows, wallet) == (bench.world.chain.height, {bench.task}, balance)


def named(view: Follower, url: str) -> bool:
    """Whether a server is said to be at fault."""
    servers = (*view.node.servers, *view.explorer.servers)
    server = next(server for server in servers if server.url == url)
    return bool(server.lies or server.failures or server.reason or server.unfit)


async def row(bench: Bench, faults: dict[str, str]) -> tuple[bool, bool]:
    """(everything is known, each source at fault is named) with these faults on; a new block comes meanwhile."""
    bench.honest()
    for name, fault in faults.items():
        bench.sources[name].switch(fault)
    view = await bench.follower(("first", "second"), ("explorer",))
    trouble = await synced(view)
    if trouble:
        return False, False
    bench.world.chain.mine()
    told = not await synced(view) and await knows(view, bench)
    blamed = all(
        named(view, bench.sources[name].url) or fault in (HARMLESS if name == "first" else OF_OTHERS)
        for name, fault in faults.items()
    )
    return told, blamed


def alone(faults: Sequence[str]) -> list[dict[str, str]]:
    return [{name: fault} for name in ("first", "second", "explorer") for fault in faults]


def pairs(faults: Sequence[str]) -> list[dict[str, str]]:
    """A node at fault together with the explorer."""
    return [{"first": one, "explorer": other} for one, other in itertools.product(faults, faults)]


@pytest.mark.asyncio
async def test_follower__when__sources_are_at_fault_alone__then__all_is_known_and_they_are_named(
    tmp_path: Path,
) -> None:
    await _table(tmp_path, alone(FAST))


@pytest.mark.asyncio
@pytest.mark.slow
async def test_follower__when__sources_are_at_fault_in_every_pair__then__all_is_known_and_they_are_named(
    tmp_path: Path,
) -> None:
    await _table(tmp_path, alone(ALL) + pairs(FAST))


async def _table(folder: Path, rows: list[dict[str, str]]) -> None:
    wrong: list[str] = []
    async with bench(folder) as place:
        for faults in rows:
            told, blamed = await row(place, faults)
            text = ", ".join(f"{name} {fault}" for name, fault in faults.items())
            print(f"{text:60} {'known' if told else 'NOT KNOWN':10} {'named' if blamed else 'NOT NAMED'}")
            if not (told and blamed):
                wrong.append(f"{text}: known {told}, named {blamed}")
    assert wrong == []


# ---------------------------------------------------------------- one source, one question


QUESTIONS: Final = ("look", "listing", "found", "placed", "unspent", "block")


async def _asked(view: Follower, question: str, task: bytes, block: str) -> None:
    finder: Finder = view.node if view.node.servers and question != "of explorer" else view.explorer
    match question:
        case "look":
            await view.node.look()
        case "listing":
            await finder.listing((CLIENT.tree,))
        case "found":
            await finder.found(task.hex())
        case "placed":
            await finder.placed("11" * 32)
        case "unspent":
            await view.node.unspent(task.hex())
        case "block":
            await view.node.block(block, (CLIENT.tree,))


@pytest.mark.asyncio
async def test_questions__when__answers_are_of_any_kind__then__only_the_edge_s_own_error_soon_and_without_growth(
    tmp_path: Path,
) -> None:
    kinds = [fault for fault in ALL if fault not in ("silent", "trickles", "behind", "stale", *ONLY_SUBMITS)]
    async with bench(tmp_path) as place:
        block = place.world.chain.tip.block_id
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for fault in kinds:
            place.sources["first"].switch(fault)
            view = await place.follower(("first",), ())
            for question in QUESTIONS:
                start = time.monotonic()
                try:
                    async with asyncio.timeout(15):
                        await _asked(view, question, place.task, block)
                except SourceError as error:
                    assert str(error).isprintable() and len(str(error)) < 700, fault
                assert time.monotonic() - start < 12, (fault, question)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 200, f"{grown:.0f} MB more at the most"  # the source itself makes its answers in this process


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["huge", "bomb", "endless-body", "deep", "redirects", "huge-numbers", "no-json"])
async def test_explorer__when__its_answers_cannot_be_used__then__its_own_error(tmp_path: Path, fault: str) -> None:
    async with bench(tmp_path) as place:
        place.sources["explorer"].switch(fault)
        view = await place.follower(("first",), ("explorer",))
        for ask in (view.explorer.state(), view.explorer.listing((CLIENT.tree,)), view.explorer.found("11" * 32)):
            with pytest.raises(SourceError):
                await ask
        assert isinstance(view.explorer, JsonSource) and named(view, place.sources["explorer"].url)


# ---------------------------------------------------------------- set-ups


@pytest.mark.asyncio
@pytest.mark.parametrize("explorers", [1, 2])
async def test_plain_node__when__explorers_find__then__the_same_is_known_and_a_payment_goes_through(
    tmp_path: Path, explorers: int
) -> None:
    async with bench(tmp_path) as place:
        plain = place.sources["first"]
        plain.change = _plain
        place.sources["again"] = await place.stack.enter_async_context(bent(place.world.devnet, "explorer"))
        view = await place.follower(("first",), ("explorer", "again")[:explorers])
        assert await knows(view, place)
        assert view.sources.set_up is (SetUp.EXPLORER, SetUp.EXPLORERS)[explorers - 1]
        assert "history is not read" in view.sources.blind
        who = await place.world.party("payer", node_urls=(plain.url,), explorer_urls=(place.sources["explorer"].url,))
        record = await place.world.mined(who.do("pay", _pay))
        assert await who.view.mined_at(record.id) == place.world.chain.height


@pytest.mark.asyncio
async def test_indexed_node__when__there_is_no_explorer__then__every_question_has_its_answer(tmp_path: Path) -> None:
    async with bench(tmp_path) as place:
        view = await place.follower(("first",), ())
        assert await knows(view, place)
        await view.compare()
        assert view.sources.set_up is SetUp.INDEX
        assert "name an explorer or a second node" in view.sources.blind
        assert (await view.escrow(place.task)) is not None
        life, escrow = await place.client.view.standing(place.task)
        assert life.claimed is None and escrow is not None and escrow.box.raw_id == place.task


def _plain(request: aiohttp.web.Request, _body: bytes, told: object) -> object:
    """A node's default: no extra index."""
    if request.path == "/info" and isinstance(told, dict):
        return {**told, "isExplorer": False}
    if request.path.startswith("/blockchain/"):
        detail = "The requested resource/endpoint could not be found."
        return aiohttp.web.json_response({"error": 400, "reason": "bad.request", "detail": detail}, status=400)
    return None


def _pay(on: plans.Market, funds: Funds) -> Plan:
    return plans.send(on, (Output(ERG, signer("bob").tree),), funds)
