"""A follower shows the same as one that has just begun, whatever the chain did; and it names the source that misleads it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import made
import pytest
import pytest_asyncio
from aiohttp import web
from offchain import ERG, digest, signer
from onchain import World, faulty, market

from aihd.chain.explorer import Explorer
from aihd.chain.follower import COMPARE_EVERY, HISTORY, DeepForkError, Follower
from aihd.chain.http import SourceError
from aihd.chain.node import Node
from aihd.chain.submitter import Intent
from aihd.client.party import Party
from aihd.protocol import plans
from aihd.protocol.boxes import TaskEscrow
from aihd.protocol.deployment import Guard
from aihd.store.journal import Journal

CLIENT = signer("client")
SERVICE = digest("service")


class Place:
    """A market with a client who posts and cancels, and followers of his wallet."""

    def __init__(self, world: World, client: Party, stack: AsyncExitStack) -> None:
        self.world, self.client, self.stack = world, client, stack
        self.posted: list[bytes] = []
        self._followers = 0

    async def follower(
        self, *, nodes: tuple[str, ...] = (), explorers: tuple[str, ...] | None = None, file: str | None = None
    ) -> Follower:
        self._followers += 1
        devnet = self.world.devnet
        session = await self.stack.enter_async_context(aiohttp.ClientSession())
        journal = self.stack.enter_context(Journal(self.world.folder / (file or f"follower-{self._followers}.sqlite")))
        return Follower(
            Node(session, nodes or (devnet.node_url,)),
            Explorer(session, (devnet.explorer_url,) if explorers is None else explorers),
            self.world.deployment,
            CLIENT.tree,
            journal,
            lambda: self.posted,
        )

    async def client_bonded(self) -> None:
        await self.world.mined(self.client.open_bond(ERG, "http://127.0.0.1:1"))

    async def post(self, number: int) -> None:
        terms = made.escrow(
            service_hash=SERVICE,
            input_commitment=digest("input", number),
            payment=ERG // 10,
            claim_deadline=self.world.chain.height + 30,
            exec_window=40,
            client=CLIENT.public_key,
        )
        record = await self.client.submitter.transact(
            Intent(f"post {number}"), lambda s: plans.post(s.market, terms, s.funds)
        )
        assert record is not None
        self.world.chain.mine()
        await self.client.submitter.follow(await self.client.view.sync())
        self.posted.append(bytes(self.world.chain.ledger.transactions[record.id].view.outputs[0].box.box_id))

    async def cancel(self, task_id: bytes) -> None:
        box = await self.client.view.node.box(task_id.hex())
        if box is not None:
            task = self.world.deployment.read(TaskEscrow, box)
            await self.client.submitter.transact(
                Intent("cancel", task_id), lambda s: plans.cancel(s.market, task, s.funds)
            )


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(market(tmp_path))
        yield Place(world, await world.party("client"), stack)


async def shown(view: Follower, tasks: list[bytes]) -> dict[str, object]:
    """All that a follower shows, to be compared with what another one does."""
    escrows = {task.id for task in await view.escrows()}
    lives = {task_id: await view.escrow(task_id) for task_id in tasks}
    return {
        "escrows": escrows,
        "bonds": {bond.id for bond in await view.bonds()},
        "wallet": {box.id for box in await view.wallet(CLIENT.tree)},
        "tasks": {
            task_id: (seen.height, seen.block, seen.spent_by) if seen else None for task_id, seen in lives.items()
        },
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(3))
async def test_sync__when__the_chain_does_anything__then__the_same_as_one_who_begins_now(
    place: Place, seed: int
) -> None:
    chance, chain = random.Random(seed), place.world.chain
    chain.mine(12)
    old = await place.follower()
    for step in range(25):
        match chance.randrange(5):
            case 0 | 1:
                await place.post(step)
            case 2 if place.posted:
                await place.cancel(chance.choice(place.posted))
            case 3:
                chain.reorg(chance.randint(1, 6), lose=chance.random() < 0.3)
                await place.client.submitter.follow(await place.client.view.sync())
            case _:
                chain.mine(chance.randint(1, 3))
        if chance.random() < 0.6:
            tip = await old.sync()
            assert tip.info.header_id == chain.tip.block_id
            new = await place.follower()
            await new.sync()
            # A box that a reorg took off the chain for good is known to neither.
            assert await shown(old, place.posted) == await shown(new, place.posted)


@pytest.mark.asyncio
async def test_sync__when__nothing_is_new__then__one_request_and_none_to_the_explorer(place: Place) -> None:
    async with (
        faulty(place.world.devnet.node_url) as node,
        faulty(place.world.devnet.explorer_url) as explorer,
    ):
        view = await place.follower(nodes=(node.url,), explorers=(explorer.url,))
        await view.sync()
        node.seen.clear()
        explorer.seen.clear()
        await view.sync()
        assert node.seen == [("GET", "/info")]
        place.world.chain.mine()
        await view.sync()
        assert [path for _, path in node.seen[1:]] == [
            "/info",
            "/blocks/lastHeaders/10",
            f"/blocks/{place.world.chain.tip.block_id}",
        ]
        assert explorer.seen == []


@pytest.mark.asyncio
async def test_sync__when__a_block_cannot_be_read__then__what_was_shown_stays_and_the_next_look_goes_on(
    place: Place,
) -> None:
    broken = False

    def fault(request: web.Request) -> str | None:
        return "500" if broken and request.path.startswith("/blocks/") and len(request.path) > 60 else None

    async with faulty(place.world.devnet.node_url, fault) as node:
        view = await place.follower(nodes=(node.url,))
        await place.post(1)
        await view.sync()
        before = await shown(view, place.posted)
        await place.post(2)
        place.world.chain.reorg(1)
        broken = True
        with pytest.raises(SourceError, match="answered 500"):
            await view.sync()
        assert await shown(view, place.posted[:1]) == before
        broken = False
        await view.sync()
        new = await place.follower()
        await new.sync()
        assert await shown(view, place.posted) == await shown(new, place.posted)


@pytest.mark.asyncio
async def test_sync__when__all_nodes_go_back__then__waited_for_and_nobody_is_called_a_liar(
    place: Place,
) -> None:
    chain = place.world.chain
    chain.mine(5)
    saved = chain.save()
    chain.mine(5)
    async with faulty(place.world.devnet.node_url) as second:
        view = await place.follower(nodes=(place.world.devnet.node_url, second.url))
        await view.sync()
        newest = chain.save()
        chain.restore(saved)
        with pytest.raises(SourceError, match=f"went back from height {newest.blocks[-1].height} to"):
            await view.sync()
        assert [server.lies for server in view.node.servers] == [0, 0]
        chain.restore(newest)
        assert (await view.sync()).height == newest.blocks[-1].height


@pytest.mark.asyncio
async def test_sync__when__the_explorer_lists_what_is_spent__then__demoted_and_the_next_one_is_asked(
    place: Place,
) -> None:
    world = place.world
    await place.post(1)
    path = f"/api/v1/boxes/unspent/byErgoTree/{CLIENT.tree.hex()}"
    async with faulty(world.devnet.explorer_url) as liar:
        before = await listed(world.devnet.explorer_url + path)
        await place.post(2)  # spends what was listed
        after = await listed(world.devnet.explorer_url + path)
        liar.lies[path] = {"items": before + after, "total": len(before + after)}
        view = await place.follower(explorers=(liar.url, world.devnet.explorer_url))
        await view.sync()
        await view.compare()
        assert [server.lies for server in view.explorer.servers] == [1, 0]
        assert "which the node does not have" in view.explorer.servers[0].reason
        new = await place.follower()
        await new.sync()
        assert await shown(view, place.posted) == await shown(new, place.posted)


async def listed(url: str) -> list[dict[str, object]]:
    """The boxes of an explorer's list in its own JSON."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        items: list[dict[str, object]] = (await answer.json())["items"]
        return items


@pytest.mark.asyncio
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", ["wallet", "escrows", "bonds"])
async def test_sync__when__an_explorer_hides_boxes__then__named_and_nothing_is_missed(
    place: Place, kind: str, alone: bool
) -> None:
    world = place.world
    await place.client_bonded()
    await place.post(1)
    trees = world.deployment.trees
    tree = {"wallet": CLIENT.tree, "escrows": trees[Guard.TASK], "bonds": trees[Guard.BOND]}[kind]
    new = await place.follower()
    await new.sync()
    async with faulty(world.devnet.explorer_url) as liar:
        liar.lies[f"/api/v1/boxes/unspent/byErgoTree/{tree.hex()}"] = {"items": [], "total": 0}
        explorers = (liar.url,) if alone else (liar.url, world.devnet.explorer_url)
        view = await place.follower(explorers=explorers)
        await view.sync()
        await view.compare()
        assert [server.lies for server in view.explorer.servers] == [1, 0][: len(explorers)]
        assert "it hides box" in view.explorer.servers[0].reason
        assert await shown(view, place.posted) == await shown(new, place.posted)
        world.chain.reorg(2)
        await view.sync()
        await new.sync()
        assert await shown(view, place.posted) == await shown(new, place.posted)


@pytest.mark.asyncio
async def test_sync__when__the_node_s_index_lacks_boxes__then__an_explorer_finds_them_and_the_node_confirms(
    place: Place,
) -> None:
    await place.client_bonded()
    await place.post(1)
    new = await place.follower()
    await new.sync()
    async with faulty(place.world.devnet.node_url) as poor:
        poor.lies["/blockchain/box/unspent/byErgoTree"] = []
        view = await place.follower(nodes=(poor.url,))
        await view.sync()
        await view.compare()
        assert await shown(view, place.posted) == await shown(new, place.posted)
        assert [server.lies for server in view.explorer.servers] == [0]
        place.world.chain.reorg(1)
        await view.sync()
        await view.compare()
        await new.sync()
        assert await shown(view, place.posted) == await shown(new, place.posted)


@pytest.mark.asyncio
async def test_sync__when__no_explorer_answers__then__nobody_waits_for_it_and_it_is_asked_again_later(
    place: Place,
) -> None:
    await place.post(1)
    faults = place.world.devnet.faults
    new = await place.follower()
    await new.sync()
    faults.switch("html-errors", True, "explorer")
    view = await place.follower()
    await view.sync()
    assert await shown(view, place.posted) == await shown(new, place.posted)
    with pytest.raises(SourceError):
        await view.compare()
    assert view.explorer.servers[0].failures
    await view.compare()  # it rests, and is not asked
    faults.switch("html-errors", False, "explorer")
    async with asyncio.timeout(20):
        while view.explorer.servers[0].failures:
            await view.compare()
            await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_sync__when__an_explorer_begins_to_hide_boxes_later__then__it_is_noticed_within_an_hour(
    place: Place,
) -> None:
    world = place.world
    await place.post(1)
    async with faulty(world.devnet.explorer_url) as liar:
        view = await place.follower(explorers=(liar.url,))
        await view.sync()
        await view.compare()
        liar.lies[f"/api/v1/boxes/unspent/byErgoTree/{CLIENT.tree.hex()}"] = {"items": [], "total": 0}
        world.chain.mine(COMPARE_EVERY - 1)
        await view.sync()
        await view.compare()
        assert view.explorer.servers[0].lies == 0
        world.chain.mine()
        await view.sync()
        await view.compare()
        assert view.explorer.servers[0].lies == 1


@pytest.mark.asyncio
async def test_sync__when__the_node_s_index_is_behind__then__the_rest_comes_from_the_blocks(place: Place) -> None:
    await place.post(1)
    place.world.devnet.faults.switch("lag", True, "node")
    place.world.fund(CLIENT, ERG)
    view = await place.follower(explorers=())
    tip = await view.sync()
    assert await view.node.indexed_height(view.node.servers[0]) < tip.height
    assert ERG in [box.value for box in await view.wallet(CLIENT.tree)]
    assert {task.raw_id for task in await view.escrows()} == set(place.posted)


@pytest.mark.asyncio
async def test_sync__when__begun_again_on_the_same_chain__then__the_headers_are_those_of_before(place: Place) -> None:
    place.world.chain.mine(30)
    first = await place.follower(file="same.sqlite")
    await first.sync()
    place.world.chain.mine(3)
    second = await place.follower(file="same.sqlite")
    await second.sync()
    with Journal(place.world.folder / "same.sqlite", read_only=True) as journal:
        kept = journal.headers()
    blocks = place.world.chain.blocks[-len(kept) :]
    assert [height for height, _, _ in kept] == [block.height for block in reversed(blocks)]
    assert [header_id.hex() for _, header_id, _ in kept] == [block.block_id for block in reversed(blocks)]
    assert len(kept) == min(HISTORY, place.world.chain.height)


@pytest.mark.asyncio
async def test_sync__when__the_fork_is_older_than_the_headers_kept__then__refused_until_told_to_accept(
    place: Place,
) -> None:
    chain = place.world.chain
    view = await place.follower(file="fork.sqlite")
    await view.sync()
    with Journal(place.world.folder / "fork.sqlite") as journal:
        kept = journal.headers()
        newest = kept[0][0]
        # Only the newest five are remembered, and all of them go.
        journal.replace_headers(0, [(height, header_id, parent) for height, header_id, parent in kept[:5]])
    chain.reorg(7)
    again = await place.follower(file="fork.sqlite")
    with pytest.raises(DeepForkError, match="left ours more than 5 blocks ago: nothing is done on it"):
        await again.sync()
    with pytest.raises(SourceError, match="has not been read yet"):
        await again.escrows()
    again.accept_fork()
    assert (await again.sync()).height == newest + 1


@pytest.mark.asyncio
async def test_sync__when__the_explorer_is_behind__then__the_rest_comes_from_the_blocks(place: Place) -> None:
    await place.post(1)
    place.world.devnet.faults.switch("lag", True, "explorer")
    await place.post(2)
    view = await place.follower()
    await view.sync()
    assert await view.explorer.height() < place.world.chain.height
    assert {task.raw_id for task in await view.escrows()} == set(place.posted)
    assert [sighting.height for task in place.posted if (sighting := await view.escrow(task))] == [
        place.world.chain.height - 1,
        place.world.chain.height,
    ]
