"""A daemon's poll with 10,000 escrows open: the first one, that lists them, against one that finds ten new ones in a block."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import structlog
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.chain.contracts import make_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.follower import Follower
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.submitter import Submitter
from aihd.core import policy
from aihd.core.signing import Spending, Spent
from aihd.core.task import Limits
from aihd.devnet import Devnet
from aihd.devnet.blocks import Making, make_block
from aihd.devnet.chain import GENESIS_TIME
from aihd.devnet.views import view_transaction
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.protocol import plans
from aihd.protocol.boxes import Minter, TaskEscrow
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Funds, Plan
from aihd.protocol.plans import Market
from aihd.protocol.trees import address_of
from aihd.services.engine import Engine
from aihd.services.reconcile import Reconcile
from aihd.services.watch import Watch
from aihd.store.journal import Journal
from benchmarks.result import Result

OPEN: Final = 10_000
NEW: Final = 10
PER_BLOCK: Final = 500
ERG: Final = 10**9
FEE: Final = 1_100_000
FREE: Final = Spending(2 * ERG, 2**62, 2**62, 2**62)


class Place:
    """A devnet, a node with a bond and a client who posts by the dozen."""

    def __init__(self, devnet: Devnet) -> None:
        self.chain = devnet.chain
        self.node, self.client = Signer("a node"), Signer("a client")
        first = self._coin(self.node, 100 * ERG)
        self.deployment = make_deployment(
            network="devnet", bond_token=bytes(first.box_id), treasury=self.client.tree, expiry=10**6
        )
        minter, *rest = self._send(self.node, lambda market: plans.deploy(market, self._funds(self.node, first)))
        place = self.deployment.read(Minter, minter)
        self._send(
            self.node,
            lambda market: plans.open_bond(
                market,
                place,
                self._funds(self.node, rest[-1]),
                node=self.node.public_key,
                amount=5 * ERG,
                endpoint="http://127.0.0.1",
            ),
        )

    def fill(self, count: int) -> None:
        """Blocks full of escrows; not signed, for what is restored is not validated again."""
        coins = [self._coin(self.client, 2 * PER_BLOCK * ERG // 50) for _ in range(0, count, PER_BLOCK)]
        saved, market = self.chain.save(), Market(self.deployment, self.chain.height)
        blocks = list(saved.blocks)
        for number, coin in enumerate(coins):
            plan = self._posts(coin, number * PER_BLOCK, PER_BLOCK, market)
            tx = view_transaction(Transaction.from_unsigned_tx(plan.unsigned(), [b""] * len(plan.inputs)))
            blocks.append(make_block(blocks[-1], [tx], Making(timestamp=GENESIS_TIME + len(blocks), salt=b"")))
        self.chain.restore(replace(saved, blocks=tuple(blocks)))

    def post(self, number: int) -> None:
        """A few escrows in a block, by a transaction that counts."""
        coin = self._coin(self.client, (NEW + 1) * ERG // 50)
        self._send(self.client, partial(self._posts, coin, number, NEW))

    def _posts(self, coin: ErgoBox, start: int, size: int, market: Market) -> Plan:
        escrows = tuple(market.output(Guard.TASK, ERG // 50, self._terms(start + n), ()) for n in range(size))
        return plans.send(market, escrows, self._funds(self.client, coin))

    def _funds(self, owner: Signer, *boxes: ErgoBox) -> Funds:
        return Funds(boxes, owner.tree, FEE)

    def _terms(self, number: int) -> TaskEscrow:
        return TaskEscrow(
            service_hash=bytes(32),
            input_commitment=number.to_bytes(32, "big"),
            worth=ERG // 100,
            payment=ERG // 100,
            min_reputation=0,
            claim_deadline=self.chain.height + 5_000,
            exec_window=40,
            selection_window=0,
            selection_difficulty=1,
            client=self.client.public_key,
        )

    def _coin(self, owner: Signer, value: int) -> ErgoBox:
        tx_id = self.chain.faucet(address_of(owner.tree), value)
        self.chain.mine()
        return self.chain.ledger.transactions[tx_id].view.outputs[0].box

    def _send(self, owner: Signer, build: Callable[[Market], Plan]) -> list[ErgoBox]:
        plan = build(Market(self.deployment, self.chain.height + 1))
        permit = owner.permit(self.deployment, FREE)
        headers = [block.header for block in reversed(self.chain.blocks[-10:])]
        tx = owner.sign(plan, headers, self.chain.parameters, permit=permit, spent=Spent(0, 0))
        self.chain.submit(tx)
        self.chain.mine()
        return list(tx.outputs)


async def poll(folder: Path) -> tuple[Result, Result]:
    """Seconds of a poll with ten new escrows, and of one with nothing new, each against the first poll."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # not ten thousand lines
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(Devnet())
        place = Place(devnet)
        place.fill(OPEN)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        journal = stack.enter_context(Journal(folder / "poll.sqlite"))
        engine = _engine(place, devnet, session, journal, folder)
        reconcile, watch = Reconcile(engine, 1.0), Watch(engine)

        async def look() -> float:
            start = time.perf_counter()
            await reconcile.look()
            await watch.step()
            return time.perf_counter() - start

        first = await look()
        declined = journal.declines()
        assert sum(count for count, _ in declined.values()) == OPEN, declined
        news = []
        for number in range(5):
            place.post(OPEN + number * NEW)
            news.append(await look())
        assert sum(count for count, _ in journal.declines().values()) == OPEN + 5 * NEW
        return (
            Result(f"a poll with {NEW} new escrows", min(news), first, f"the first poll, of {OPEN} escrows"),
            Result("a poll with nothing new", min([await look() for _ in range(5)]), first, "the first poll"),
        )


def _engine(place: Place, devnet: Devnet, session: aiohttp.ClientSession, journal: Journal, folder: Path) -> Engine:
    node, explorer = Node(session, (devnet.node_url,)), Explorer(session, (devnet.explorer_url,))
    view = Follower(node, explorer, place.deployment, place.node.tree, journal, lambda: ())
    permit = place.node.permit(place.deployment, FREE)
    return Engine(
        view,
        place.node,
        Submitter(view, place.node, journal, fee=FEE, final_depth=10, permit=permit),
        journal,
        ContentStore(folder / "content"),
        InputStore(folder / "inputs", 1),
        folder / "receipts",
        {},
        policy.Limits(min_profit=0, max_open=4, claim_margin=3, release_margin=6, tx_fee=FEE, services={}),
        Limits(),
        place.chain.blocks[0].block_id,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for result in asyncio.run(poll(Path(name))):
            print(*result.row())
