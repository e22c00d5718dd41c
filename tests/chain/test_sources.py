"""Several servers of one kind: the best is asked first, one that fails rests, one that lies is named and asked last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from offchain import ERG, signer
from onchain import faulty

from aihd.chain.explorer import Explorer
from aihd.chain.http import FIRST_REST, LONGEST_REST, LieError, Server, SourceError
from aihd.chain.node import Node
from aihd.devnet import Devnet
from aihd.protocol.trees import address_of

ME = signer("node")


@dataclass(frozen=True, slots=True)
class Place:
    """Two devnets of the same beginning, the second one five blocks longer."""

    short: Devnet
    long: Devnet
    session: aiohttp.ClientSession


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with Devnet() as short, Devnet() as long, aiohttp.ClientSession() as session:
        long.chain.mine(5)
        yield Place(short, long, session)


@pytest.mark.asyncio
async def test_info__when__nodes_differ__then__the_one_with_most_work_is_followed(place: Place) -> None:
    node = Node(place.session, (place.short.node_url, place.long.node_url))
    info = await node.info()
    assert (info.height, info.header_id) == (place.long.chain.height, place.long.chain.tip.block_id)
    assert node.url == place.long.node_url
    assert [header["height"] for header in await node.last_headers(2)] == [info.height, info.height - 1]
    place.short.chain.mine(7)
    assert (await node.info()).header_id == place.short.chain.tip.block_id
    assert node.url == place.short.node_url


@pytest.mark.asyncio
async def test_state__when__explorers_differ__then__the_one_that_came_farthest_is_asked(place: Place) -> None:
    place.long.chain.faucet(address_of(ME.tree), ERG)
    place.long.chain.mine()
    explorer = Explorer(place.session, (place.short.explorer_url, place.long.explorer_url))
    state = await explorer.state()
    assert (state.height, state.block) == (place.long.chain.height, place.long.chain.tip.block_id)
    assert [found.box.value for found in await explorer.unspent_by_tree(ME.tree)] == [ERG]


@pytest.mark.asyncio
async def test_read__when__a_server_shows_a_forged_box__then__counted_as_a_liar_and_the_other_answers(
    place: Place,
) -> None:
    place.short.chain.faucet(address_of(ME.tree), ERG)
    place.short.chain.mine()
    async with aiohttp.ClientSession() as session, faulty(place.short.explorer_url) as liar:
        (honest,) = await Explorer(session, (place.short.explorer_url,)).unspent_by_tree(ME.tree)
        path = f"/api/v1/boxes/{honest.box.id}"
        async with place.session.get(place.short.explorer_url + path) as answer:
            forged = await answer.json()
        liar.lies[path] = {**forged, "value": 2 * forged["value"]}
        explorer = Explorer(place.session, (liar.url, place.short.explorer_url))
        assert await explorer.box(honest.box.id) == honest
        first, second = explorer.servers
        assert (first.lies, first.rests, second.lies, second.rests) == (1, True, 0, False)
        assert "is not what it says" in first.reason
        alone = Explorer(place.session, (liar.url,))
        with pytest.raises(LieError, match="is not what it says"):
            await alone.box(honest.box.id)
        assert alone.servers[0].lies == 3, "with nobody else to ask it is asked again, and each lie counts"


@pytest.mark.asyncio
async def test_survey__when__all_rest__then__all_are_asked_again(place: Place) -> None:
    broken = True
    async with (
        faulty(place.short.node_url, lambda _: "close" if broken else None) as one,
        faulty(place.short.node_url, lambda _: "close" if broken else None) as two,
    ):
        node = Node(place.session, (one.url, two.url))
        with pytest.raises(SourceError, match="gave no answer"):
            await node.info()
        assert all(server.rests for server in node.servers)
        broken = False
        assert (await node.info()).height == place.short.chain.height


def test_server__when__it_fails_again_and_again__then__it_rests_longer_up_to_a_limit() -> None:
    server = Server("http://one")
    rests = []
    for _ in range(12):
        server.whole.until = 0.0
        server.failed("no answer")
        rests.append(server.rests_until)
    lengths = [later - rests[0] for later in rests]
    assert lengths == sorted(lengths)
    assert FIRST_REST < lengths[-1] + 2 * FIRST_REST <= LONGEST_REST + 1
    server.worked()
    server.whole.until = 0.0
    server.failed("no answer")
    assert server.rests_until - rests[0] < LONGEST_REST / 2, "a good answer makes up for the failures before"
