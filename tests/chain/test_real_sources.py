"""Nodes and explorers as they answer in the world: headers ahead of blocks, reorgs in the making, indexes that lost something."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from bent import bent
from ergo_lib_python.chain import Constant
from offchain import ERG, coin
from test_follower import CLIENT, Place, place, shown

from aihd.chain.follower import Follower
from aihd.chain.http import SourceError
from aihd.chain.view import Tip
from aihd.core.policy import Decline
from aihd.protocol.box import REGISTERS
from aihd.protocol.deployment import Guard

__all__ = ["place"]


async def looked(view: Follower, tries: int = 3) -> Tip:
    """What a daemon does: it looks again."""
    for _ in range(tries - 1):
        with suppress(SourceError):
            return await view.sync()
    return await view.sync()


async def spent_boxes(place: Place) -> list[dict[str, Any]]:
    """The client's spent boxes in the index's JSON."""
    url = place.world.devnet.node_url + "/blockchain/box/byErgoTree?limit=100"
    async with aiohttp.ClientSession() as session, session.post(url, json=CLIENT.tree.hex()) as answer:
        return [box for box in (await answer.json())["items"] if box["spentTransactionId"]]


@pytest.mark.asyncio
@pytest.mark.parametrize("ahead", [1, 2, 5, 9, 12])
async def test_sync__when__headers_run_ahead_of_the_blocks__then__followed_without_a_pause(
    place: Place, ahead: int
) -> None:
    chain = place.world.chain
    chain.mine(15)
    chain.run_ahead(ahead)
    chain.mine(ahead)
    view = await place.follower(explorers=())
    for _ in range(3):
        start = time.monotonic()
        tip = await view.sync()
        assert time.monotonic() - start < 1
        assert (tip.height, tip.info.header_id) == (chain.height, chain.tip.block_id)
        assert tip.info.headers_height == tip.height + ahead
        chain.mine()
    assert (view.node.servers[0].lies, view.node.servers[0].failures) == (0, 0)


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [1, 2, 4])
async def test_sync__when__a_reorg_is_in_the_making__then__waited_for_and_nobody_lied(place: Place, depth: int) -> None:
    chain = place.world.chain
    chain.mine(20)
    back = False

    def on_its_way(request: web.Request, _body: bytes, told: Any) -> Any:
        """A node that has left its tip and has not come to the new one yet."""
        if not back:
            return None
        block = chain.blocks[-1 - depth]
        if request.path == "/info":
            return {**told, "fullHeight": block.height, "bestFullHeaderId": block.block_id}
        if request.path.startswith("/blocks/lastHeaders"):
            return [block.header for block in chain.blocks[-11 - depth : -depth]]
        return None

    async with bent(place.world.devnet, "node", change=on_its_way) as node:
        view = await place.follower(nodes=(node.url,))
        await view.sync()
        before = await view.wallet(CLIENT.tree)
        back = True
        with pytest.raises(SourceError, match="went back from height"):
            await view.sync()
        assert await view.wallet(CLIENT.tree) == before
        back = False
        chain.reorg(depth)
        assert (await view.sync()).info.header_id == chain.tip.block_id
        assert view.node.servers[0].lies == 0


@pytest.mark.asyncio
async def test_sync__when__pages_have_no_end__then__an_error_soon_that_names_the_node(place: Place) -> None:
    await place.post(1)
    some = await spent_boxes(place)

    def again(request: web.Request, _body: bytes, _told: Any) -> Any:
        return (some * 1000)[: int(request.query["limit"])] if request.path.endswith("unspent/byErgoTree") else None

    async with bent(place.world.devnet, "node", change=again) as node:
        view = await place.follower(nodes=(node.url,), explorers=())
        async with asyncio.timeout(20):
            with pytest.raises(SourceError, match=node.url):
                await view.sync()
        assert len([path for _, path in node.seen if "unspent/byErgoTree" in path]) < 20
        healed = await place.follower(nodes=(node.url, place.world.devnet.node_url), explorers=())
        assert (await looked(healed)).height == place.world.chain.height


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["stuck", "shape", "null", "refused", "spent", "lost", "twice"])
async def test_sync__when__the_index_of_the_first_node_is_of_no_use__then__the_second_s_is_used(
    place: Place, kind: str
) -> None:
    await place.post(1)
    height, spent = place.world.chain.height, await spent_boxes(place)

    def poor(request: web.Request, _body: bytes, told: Any) -> Any:
        if request.path == "/blockchain/indexedHeight" and kind in ("stuck", "shape", "null"):
            return {"stuck": {"indexedHeight": height - 3, "fullHeight": height}, "shape": {}, "null": [None]}[kind]
        if request.path.startswith("/blockchain/") and kind == "refused":
            return web.json_response({"error": 403, "reason": "forbidden"}, status=403)
        if not request.path.endswith("unspent/byErgoTree"):
            return None
        gone = [{**box, "spentTransactionId": None} for box in spent]
        return {"spent": [*told, *gone], "lost": told[:-1], "twice": told * 2}.get(kind)

    async with bent(place.world.devnet, "node", change=poor) as node:
        view = await place.follower(nodes=(node.url, place.world.devnet.node_url), explorers=())
        await looked(view)
        with suppress(SourceError):
            await view.compare()
        new = await place.follower()
        await new.sync()
        assert await shown(view, place.posted) == await shown(new, place.posted)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["token list", "box unknown", "box unspent", "another spender"])
async def test_life__when__the_index_has_lost_a_step_or_made_one_up__then__nothing_is_concluded_from_it(
    place: Place, kind: str
) -> None:
    await place.post(1)
    (task,) = place.posted
    await place.cancel(task)
    place.world.chain.mine()
    truth = await place.client.view.sources.life(task)
    assert truth[0].spent_by is not None

    def forgetful(request: web.Request, _body: bytes, told: Any) -> Any:
        if request.path.startswith("/blockchain/box/byTokenId"):
            return {"items": [], "total": 0}
        if request.path != f"/blockchain/box/byId/{task.hex()}":
            return None
        if kind == "box unknown":
            return web.json_response({"error": 404, "reason": "not-found", "detail": None}, status=404)
        if kind == "box unspent":
            return {**told, "spentTransactionId": None}
        return {**told, "spentTransactionId": "ab" * 32} if kind == "another spender" else None

    async with bent(place.world.devnet, "node", change=forgetful) as node:
        poor = await place.follower(nodes=(node.url,), explorers=())
        await poor.sync()
        life, escrow = await poor.standing(task)
        assert life.claimed is None
        assert poor.is_unproved(task) is (kind in ("box unspent", "another spender"))
        assert (escrow is not None) is (kind == "token list")
        helped = await place.follower(nodes=(node.url, place.world.devnet.node_url))
        await helped.sync()
        _, escrow = await helped.standing(task)
        assert escrow is not None and escrow.spent_by == truth[0].spent_by


def odd_register() -> Constant:
    """A register that holds a box: the chain takes it, and no explorer shows it."""
    return Constant.from_bytes(b"\x63" + bytes(coin(CLIENT.tree, ERG, "inner")))


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["escrow", "coin"])
async def test_explorer__when__it_leaves_out_a_register__then__the_box_is_set_aside_and_nobody_lied(
    place: Place, kind: str
) -> None:
    world = place.world
    stranger = world.devnet.account("stranger")
    world.chain.faucet(stranger.address, 10 * ERG)
    world.chain.mine()
    await place.post(1)
    script = world.deployment.trees[Guard.TASK] if kind == "escrow" else CLIENT.tree
    stranger.transact([stranger.output(script, ERG // 10, registers=[Constant(b"A"), odd_register()])])
    world.chain.mine()

    def without(_request: web.Request, _body: bytes, told: Any) -> Any:
        for box in told.get("items", []) if isinstance(told, dict) else []:
            registers = box.get("additionalRegisters", {})
            box["additionalRegisters"] = {k: v for k, v in registers.items() if v["sigmaType"] != "SBox"}
        return told

    async with bent(world.devnet, "explorer", change=without) as explorer:
        viewer = await world.party("viewer", explorer_urls=(explorer.url,))
        assert {task.raw_id for task in await viewer.view.escrows()} == set(place.posted)
        view = await place.follower(explorers=(explorer.url,))
        await view.sync()
        await view.compare()
        assert {task.raw_id for task in await view.escrows()} == set(place.posted)
        assert sum(view.set_aside.values()) == 1
        assert view.explorer.servers[0].lies == 0


@pytest.mark.asyncio
async def test_block__when__an_output_of_ours_is_odd__then__the_block_is_applied_and_the_box_counted(
    place: Place,
) -> None:
    world = place.world
    stranger = world.devnet.account("stranger")
    world.chain.faucet(stranger.address, 10 * ERG)
    world.chain.mine()
    view = await place.follower(explorers=())
    await view.sync()
    before = {box.id for box in await view.wallet(CLIENT.tree)}
    stranger.transact([stranger.output(CLIENT.tree, ERG // 10, registers=[odd_register()])])
    world.chain.mine()
    assert (await view.sync()).height == world.chain.height
    assert {box.id for box in await view.wallet(CLIENT.tree)} == before
    assert dict(view.set_aside) == {f"wallet: {REGISTERS}": 1}
    new = await place.follower(explorers=())
    await new.sync()
    assert new.set_aside == view.set_aside
    world.chain.reorg(1, lose=True)
    await view.sync()
    assert sum(view.set_aside.values()) == 0


@pytest.mark.asyncio
async def test_standstill__when__the_newest_block_is_old_or_headers_are_far_ahead__then__said_why(place: Place) -> None:
    view = await place.follower()
    assert view.standstill(time.time(), 120) == ""
    tip = await view.sync()
    at = tip.heads[0].timestamp / 1000
    assert view.standstill(at + 14 * 120, 120) == ""
    assert "stands still at height" in view.standstill(at + 16 * 120, 120)
    place.world.chain.run_ahead(12)
    place.world.chain.mine(12)
    tip = await view.sync()
    assert tip.info.headers_height == tip.height + 12
    told = view.standstill(tip.heads[0].timestamp / 1000, 120)
    assert f"has blocks up to height {tip.height}, and headers up to {tip.info.headers_height}" in told


@pytest.mark.asyncio
async def test_screen__when__escrows_can_never_be_taken__then__not_kept_and_listed_when_the_rules_change(
    place: Place,
) -> None:
    await place.post(1)
    posted = list(place.posted)
    place.posted.clear()  # what the follower was told to watch over it would keep
    view = await place.follower()
    view.screen = lambda task, height: Decline("service", "not offered here")
    await view.sync()
    await place.post(2)
    posted += place.posted
    place.posted.clear()
    await view.sync()
    assert await view.escrows() == []
    assert view.turned_down.keys() == set(posted)
    view.screen = None
    view.relist()
    await view.sync()
    assert {task.raw_id for task in await view.escrows()} == set(posted)
