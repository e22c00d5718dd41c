"""The explorer as the daemon sees it: all pages, each box once, rebuilt from its bytes; and our own unconfirmed transactions over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.transaction import Transaction, UnsignedInput, UnsignedTransaction
from offchain import ERG, FEE, signer

from aihd.chain.explorer import PAGE, Explorer
from aihd.chain.http import SourceError
from aihd.chain.overlay import Overlay
from aihd.devnet import Devnet
from aihd.devnet.chain import Chain
from aihd.ops.web import serve
from aihd.protocol.box import box_of
from aihd.protocol.trees import FEE_TREE, address_of, parse_tree

ME, YOU = signer("node"), signer("client")


def split(chain: Chain, count: int) -> tuple[bytes, Transaction]:
    """Mint a token into `count` boxes by one transaction, in the next block; the token's id."""
    tx_id = chain.faucet(address_of(ME.tree), 10 * ERG)
    chain.mine()
    source = chain.ledger.transactions[tx_id].view.outputs[0].box
    token, height, value = bytes(source.box_id), chain.height, 2_000_000
    outputs = [
        ErgoBoxCandidate(
            value=value,
            script=parse_tree(ME.tree),
            creation_height=height,
            tokens=[Token(TokenId(token), number + 1)],
        )
        for number in range(count)
    ]
    fee = ErgoBoxCandidate(value=FEE, script=parse_tree(FEE_TREE), creation_height=height)
    rest = ErgoBoxCandidate(
        value=source.value - FEE - count * value, script=parse_tree(YOU.tree), creation_height=height
    )
    unsigned = UnsignedTransaction([UnsignedInput(source.box_id)], [], [*outputs, fee, rest])
    tx = ME._wallet.sign_transaction(unsigned, [source], [], chain.context)
    chain.submit(tx)
    chain.mine()
    return token, tx


@pytest.mark.asyncio
async def test_by_token__when__there_are_several_pages__then__every_box_once() -> None:
    count = 2 * PAGE + 7
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        token, tx = split(devnet.chain, count)
        explorer = Explorer(session, (devnet.explorer_url,))
        found = await explorer.by_token(token)
        assert {s.box.id for s in found} == {str(box.box_id) for box in tx.outputs[:count]}
        assert len(found) == count
        assert {(s.height, s.block, s.spent_by) for s in found} == {
            (devnet.chain.height, bytes.fromhex(devnet.chain.tip.block_id), None)
        }
        assert len(await explorer.unspent_by_tree(ME.tree)) == count
        assert len(await explorer.unspent_by_tree(YOU.tree)) == 1


@pytest.mark.asyncio
async def test_by_token__when__boxes_were_only_on_a_lost_branch__then__not_shown() -> None:
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        token, tx = split(devnet.chain, 3)
        explorer = Explorer(session, (devnet.explorer_url,))
        box_id = str(tx.outputs[0].box_id)
        assert await explorer.box(box_id) is not None
        devnet.chain.reorg(1)
        assert await explorer.by_token(token) == []
        assert await explorer.box(box_id) is None
        devnet.chain.mine()
        assert len(await explorer.by_token(token)) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("frozen", [False, True])
async def test_reads__when__the_explorer_caches_its_answers__then__they_are_fresh(frozen: bool) -> None:
    async with Devnet(frozen_cache=frozen) as devnet, aiohttp.ClientSession() as session:
        explorer = Explorer(session, (devnet.explorer_url,))
        address = address_of(ME.tree)
        assert await explorer.unspent_by_tree(ME.tree) == []
        before = await explorer.height()
        devnet.chain.faucet(address, ERG)
        devnet.chain.mine()
        assert await explorer.height() == before + 1
        assert [found.box.value for found in await explorer.unspent_by_tree(ME.tree)] == [ERG]


@pytest.mark.asyncio
async def test_transaction__when__unknown__then__none() -> None:
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        explorer = Explorer(session, (devnet.explorer_url,))
        assert await explorer.transaction("11" * 32) is None
        assert await explorer.box("11" * 32) is None
        tx_id = devnet.chain.faucet(address_of(ME.tree), ERG)
        devnet.chain.mine()
        tx = await explorer.transaction(tx_id)
        assert tx is not None
        assert tx["inclusionHeight"] == devnet.chain.height


@asynccontextmanager
async def scripted(pages: Sequence[list[Any]]) -> AsyncIterator[tuple[str, list[int]]]:
    """An explorer that gives these pages whatever it is asked, the last one again and again."""
    offsets: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        offsets.append(int(request.query["offset"]))
        items = pages[min(len(offsets), len(pages)) - 1]
        return web.json_response({"items": items, "total": len({item["boxId"] for page in pages for item in page})})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", offsets


async def shown(devnet: Devnet, session: aiohttp.ClientSession, token: bytes) -> list[dict[str, Any]]:
    """The boxes of a token in the explorer's own JSON."""
    found: list[dict[str, Any]] = []
    while True:
        url = f"{devnet.explorer_url}/api/v1/boxes/byTokenId/{token.hex()}?offset={len(found)}&limit={PAGE}"
        async with session.get(url) as response:
            items = (await response.json())["items"]
        found += items
        if len(items) < PAGE:
            return found


@pytest.mark.asyncio
async def test_by_token__when__pages_overlap_and_lie__then__each_box_once_and_a_forged_one_is_an_error() -> None:
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        token, _ = split(devnet.chain, PAGE + 20)
        items = await shown(devnet, session, token)
        pages = [items[:PAGE], items[10 : PAGE + 10], items[PAGE:]]
        async with scripted(pages) as (url, offsets):
            found = await Explorer(session, (url,)).by_token(token)
            assert len(found) == PAGE + 20
            assert offsets == [0, PAGE, 2 * PAGE]
        async with scripted([[{**items[0], "value": items[0]["value"] + 1}]]) as (url, _):
            with pytest.raises(SourceError, match=f"{url} shows a box that is not what it says"):
                await Explorer(session, (url,)).by_token(token)
        async with scripted([items[:PAGE]]) as (url, offsets):
            with pytest.raises(SourceError, match="has pages without end"):
                await Explorer(session, (url,)).by_token(token)
            assert offsets == [0, PAGE]


@pytest.mark.asyncio
async def test_by_token__when__a_list_is_cut_short__then__an_error_and_not_half_of_it() -> None:
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        token, _ = split(devnet.chain, 20)
        explorer = Explorer(session, (devnet.explorer_url,))
        devnet.faults.switch("half-pages", True, "explorer")
        with pytest.raises(SourceError, match="shows 10 of the 20 boxes that it counts"):
            await explorer.by_token(token)
        with pytest.raises(SourceError, match="shows 10 of the 20 boxes that it counts"):
            await explorer.unspent_by_tree(ME.tree)
        devnet.faults.switch("half-pages", False, "explorer")
        assert len(await explorer.by_token(token)) == 20


# ---------------------------------------------------------------- overlay


def chain_of(chain: Chain, box: ErgoBox, length: int) -> list[Transaction]:
    """Payments that each spend the change of the one before."""
    made = []
    for _ in range(length):
        height = chain.height
        outputs = [
            ErgoBoxCandidate(value=ERG, script=parse_tree(YOU.tree), creation_height=height),
            ErgoBoxCandidate(value=FEE, script=parse_tree(FEE_TREE), creation_height=height),
            ErgoBoxCandidate(value=box.value - ERG - FEE, script=parse_tree(ME.tree), creation_height=height),
        ]
        unsigned = UnsignedTransaction([UnsignedInput(box.box_id)], [], outputs)
        made.append(ME._wallet.sign_transaction(unsigned, [box], [], chain.context))
        box = made[-1].outputs[2]
    return made


def test_overlay__when__transactions_are_chained__then__only_the_last_change_is_left() -> None:
    chain = Chain()
    tx_id = chain.faucet(address_of(ME.tree), 10 * ERG)
    chain.mine()
    spent = chain.ledger.transactions[tx_id].view.outputs[0].box
    first, second = chain_of(chain, spent, 2)
    box = box_of(spent)
    made = [[box_of(output) for output in tx.outputs] for tx in (first, second)]
    assert Overlay([]).apply([box], ME.tree) == [box]
    assert Overlay([first]).apply([box], ME.tree) == [made[0][2]]
    assert Overlay([first, second]).apply([box], ME.tree) == [made[1][2]]
    # The explorer has seen the first in a block already: nothing is counted twice.
    assert Overlay([first, second]).apply([made[0][2]], ME.tree) == [made[1][2]]
    assert Overlay([first, second]).apply([], YOU.tree) == [made[0][0], made[1][0]]
