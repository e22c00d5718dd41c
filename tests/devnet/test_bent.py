"""The stand-in for sources at fault: each of its faults shows, and honest answers pass unchanged."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from bent import ALL, BEHIND, DEEP, HUGE, KINDS, LARGE, Bent, bent

from aihd.devnet import Devnet

JSON = {"Content-Type": "application/json"}
QUICK, PATIENT = 1.0, 30.0  # seconds


@pytest_asyncio.fixture
async def devnet() -> AsyncIterator[Devnet]:
    async with Devnet() as running:
        alice = running.account("alice")
        running.chain.faucet(alice.address, 10**10)
        running.chain.mine()
        alice.mint(5, "Beans")
        running.chain.mine()
        yield running


async def _ask(source: Bent, path: str, body: str | None = None, seconds: float = PATIENT) -> tuple[int, bytes]:
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
        session.request(method, source.url + path, data=body, headers=JSON, max_redirects=3) as answer,
    ):
        return answer.status, await answer.read()


async def _json(source: Bent, path: str, body: str | None = None) -> Any:
    status, answer = await _ask(source, path, body)
    assert status == 200, answer
    return json.loads(answer)


async def _listed(source: Bent, devnet: Devnet) -> list[Any]:
    tree = json.dumps(devnet.account("alice").tree.hex())
    listed: list[Any] = await _json(source, "/blockchain/box/unspent/byErgoTree?limit=50", tree)
    return listed


@pytest.mark.asyncio
async def test_bent__without_faults__passes_answers_on(devnet: Devnet) -> None:
    async with bent(devnet, "node") as source, aiohttp.ClientSession() as session:
        for path in ("/info", "/blocks/lastHeaders/3", "/nothing/here"):
            async with session.get(devnet.node_url + path) as answer:
                straight = await answer.read()
            _, through = await _ask(source, path)
            if path != "/info":  # its clock runs on
                assert through == straight
        assert [box["boxId"] for box in await _listed(source, devnet)]


def test_bent__with_a_fault_that_is_none__names_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'lame' is none of silent, closes"):
        Bent().switch("lame")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "fault", [name for name in KINDS["silent"] if name not in ("server-error", "html", "too-many", "forbidden")]
)
async def test_bent__silent__gives_no_answer(devnet: Devnet, fault: str) -> None:
    async with bent(devnet, "node", fault) as source:
        with pytest.raises((TimeoutError, aiohttp.ClientError)):
            await _ask(source, "/info", seconds=QUICK)
        source.switch()
        await _json(source, "/info")


@pytest.mark.asyncio
async def test_bent__answers_of_a_proxy__have_their_status(devnet: Devnet) -> None:
    async with bent(devnet, "node") as source:
        for fault, status in (("server-error", 500), ("html", 502), ("too-many", 429), ("forbidden", 403)):
            source.switch(fault)
            assert (await _ask(source, "/info"))[0] == status


@pytest.mark.asyncio
async def test_bent__stale_and_behind__have_an_older_chain(devnet: Devnet) -> None:
    async with bent(devnet, "node", "stale") as source:
        height = (await _json(source, "/info"))["fullHeight"]
        devnet.chain.mine(5)
        assert (await _json(source, "/info"))["fullHeight"] == height
        source.switch("behind")
        assert (await _json(source, "/info"))["fullHeight"] == devnet.chain.height - BEHIND
        devnet.chain.reorg(4)
        assert (await _json(source, "/info"))["bestFullHeaderId"] == devnet.chain.blocks[-BEHIND - 1].block_id


@pytest.mark.asyncio
async def test_bent__frozen_answers__repeat_the_first(devnet: Devnet) -> None:
    async with bent(devnet, "node", "frozen-answers") as source:
        first = await _ask(source, "/info")
        devnet.chain.mine()
        assert await _ask(source, "/info") == first


@pytest.mark.asyncio
async def test_bent__lies__are_told(devnet: Devnet) -> None:
    async with bent(devnet, "node") as source:
        honest, info = await _listed(source, devnet), await _json(source, "/info")
        source.switch("forges-boxes")
        assert [box["value"] for box in await _listed(source, devnet)] == [box["value"] + 1 for box in honest]
        source.switch("hides-boxes")
        assert await _listed(source, devnet) == []
        assert (await _ask(source, f"/utxo/byId/{honest[0]['boxId']}"))[0] == 404
        source.switch("drops-registers")
        assert sum(len(box["additionalRegisters"]) for box in await _listed(source, devnet)) == 2
        source.switch("invents-height")
        assert (await _json(source, "/info"))["fullHeight"] == info["fullHeight"] + 1000
        source.switch("invents-tip")
        assert (await _json(source, "/info"))["bestFullHeaderId"] == "ab" * 32
        assert (await _json(source, "/blocks/lastHeaders/3"))[-1]["id"] == "ab" * 32
        source.switch("inflates-score")
        assert (await _json(source, "/info"))["fullBlocksScore"] == 10**30


@pytest.mark.asyncio
async def test_bent__shows_spent__keeps_what_it_has_shown(devnet: Devnet) -> None:
    async with bent(devnet, "node", "shows-spent") as source:
        before = {box["boxId"] for box in await _listed(source, devnet)}
        alice = devnet.account("alice")
        alice.send(alice.address, 10**9)
        devnet.chain.mine()
        assert before < {box["boxId"] for box in await _listed(source, devnet)}


@pytest.mark.asyncio
async def test_bent__submits__are_swallowed_or_refused(devnet: Devnet) -> None:
    async with bent(devnet, "node", "swallows") as source:
        alice = devnet.account("alice")
        sent = alice.send(alice.address, 10**9)
        devnet.chain.drop(str(sent.id))
        assert await _json(source, "/transactions", sent.json()) == str(sent.id)
        assert not len(devnet.chain.pool)
        source.switch("refuses")
        status, answer = await _ask(source, "/transactions", sent.json())
        assert status == 400 and b"Missing inputs" in answer
        source.switch()
        assert await _json(source, "/transactions", sent.json()) == str(sent.id)


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", [*KINDS["malformed"], "huge-numbers"])
async def test_bent__malformed__is_no_answer_of_a_node(devnet: Devnet, fault: str) -> None:
    async with bent(devnet, "node", fault) as source:
        _, answer = await _ask(source, "/info")
        assert len(answer) >= DEEP or fault != "deep"
        with pytest.raises((ValueError, KeyError, TypeError, RecursionError)):
            assert type(json.loads(answer)["fullHeight"]) is int or _raise()


def _raise() -> bool:
    raise TypeError


@pytest.mark.asyncio
async def test_bent__endless_and_huge__do_not_end_soon(devnet: Devnet) -> None:
    async with bent(devnet, "node", "endless-body") as source:
        with pytest.raises(TimeoutError):
            await _ask(source, "/info", seconds=QUICK)
        source.switch("redirects")
        with pytest.raises(aiohttp.TooManyRedirects):
            await _ask(source, "/info")
        source.switch("endless-pages")
        assert len(await _listed(source, devnet)) == 50
        source.switch("huge-page")
        assert len(await _listed(source, devnet)) > LARGE
        source.switch("huge")
        async with aiohttp.ClientSession() as session, session.get(source.url + "/info") as answer:
            assert sum([len(part) async for part in answer.content.iter_chunked(1 << 16)]) > HUGE
        source.switch("bomb")
        async with aiohttp.ClientSession(auto_decompress=False) as session, session.get(source.url + "/info") as answer:
            assert len(await answer.read()) < HUGE / 100


@pytest.mark.asyncio
async def test_bent__only_and_change__limit_it(devnet: Devnet) -> None:
    async with bent(devnet, "node", "html", only=lambda request: request.path != "/info") as source:
        await _json(source, "/info")
        assert (await _ask(source, "/blocks"))[0] == 502
    async with bent(devnet, "node", change=lambda request, _body, told: {**told, "mine": request.path}) as source:
        assert (await _json(source, "/info"))["mine"] == "/info"


@pytest.mark.asyncio
async def test_bent__explorer__answers_every_fault_somehow(devnet: Devnet) -> None:
    tree = devnet.account("alice").tree.hex()
    async with bent(devnet, "explorer") as source:
        honest = await _json(source, f"/api/v1/boxes/unspent/byErgoTree/{tree}")
        assert len(honest["items"]) == 2
        quick = set(ALL) - {"silent", "closes", "trickles", "redirects", "endless-body", "huge", "bomb"}
        for fault in quick:
            source.switch(fault)
            await _ask(source, f"/api/v1/boxes/unspent/byErgoTree/{tree}?limit=3")
