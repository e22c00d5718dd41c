"""A wallet at work on a market: what a client, a bond's owner and a deployer have in common, put together once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from aihd.chain.contracts import make_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.sources import Sources
from aihd.chain.submitter import Intent, Submitter
from aihd.chain.view import ChainView, Situation
from aihd.client.client import Client
from aihd.core.sending import Origin
from aihd.core.signing import Spending
from aihd.errors import ConfigError, TemporaryError, UsageError
from aihd.ops.lock import Turns
from aihd.protocol import plans
from aihd.protocol.constants import MARKET_LIFE
from aihd.protocol.deployment import Deployment
from aihd.protocol.funding import Funds, Plan
from aihd.protocol.plans import Market
from aihd.store.journal import Journal, TxRecord

# A person who types a command has decided what to spend; the limits are for the daemon, which decides by itself.
NO_LIMIT = 2**63
MAX_FEE = 20_000_000


@dataclass(frozen=True, slots=True)
class Party:
    """A wallet with its journal on a market. `poll` is seconds between looks at the chain."""

    view: ChainView
    signer: Signer
    submitter: Submitter
    journal: Journal
    session: aiohttp.ClientSession
    genesis_id: str
    poll: float
    private_nodes: bool = False  # whether a node's endpoint may be an address that is not public

    @property
    def client(self) -> Client:
        return Client(
            self.view,
            self.signer,
            self.submitter,
            self.journal,
            genesis_id=self.genesis_id,
            poll=self.poll,
            private=self.private_nodes,
        )

    async def do(self, verb: str, plan: Callable[[Market, Funds], Plan]) -> TxRecord:
        """One transaction that does not concern a task, brought into a block."""
        return await self.transact(Intent(verb), lambda situation: plan(situation.market, situation.funds))

    async def transact(self, intent: Intent, build: Callable[[Situation], Plan | None]) -> TxRecord:
        record = await self.submitter.transact(intent, build)
        if record is None:
            raise TemporaryError(f"{intent.verb}: an earlier one is still under way")
        await self.submitter.confirmed(record, self.poll, (intent, build))
        return record

    async def open_bond(self, amount: int, endpoint: str) -> TxRecord:
        """Stake `amount` nanoERG; UsageError when this wallet has a bond already."""
        mine = [bond for bond in await self.view.bonds() if bond.content.node == self.signer.public_key]
        if mine:
            raise UsageError(f"this wallet has a bond already: {mine[0].id}")
        minter = await self.view.minter()
        key = self.signer.public_key
        return await self.do(
            f"bond:{minter.id}",
            lambda market, funds: plans.open_bond(market, minter, funds, node=key, amount=amount, endpoint=endpoint),
        )


@asynccontextmanager
async def party(
    *,
    node_urls: tuple[str, ...],
    explorer_urls: tuple[str, ...],
    deployment: Deployment,
    genesis_id: str,
    signer: Signer,
    database: Path,
    fee: int,
    poll: float,
    final_depth: int,
    founding: bool = False,
    private_nodes: bool = False,
    turns: Turns | None = None,
) -> AsyncIterator[Party]:
    """A party with its journal open; ConfigError when the journal belongs to another wallet or market.

    `turns` are those of the processes on this wallet; None for one that has it for itself.

    Unless it is `founding` the market just now, the market's bond tokens are audited.
    """
    async with aiohttp.ClientSession() as session:
        view = ChainView(Node(session, node_urls), Explorer(session, explorer_urls), deployment)
        await view.check(genesis_id)
        if not founding:
            await view.audit()
        with Journal(database) as journal:
            journal.bind(genesis=genesis_id, wallet=signer.public_key.hex())
            if not founding:  # there may never be such a market
                journal.bind(market=deployment.id)
            permit = signer.permit(deployment, Spending(MAX_FEE, NO_LIMIT, NO_LIMIT, NO_LIMIT))
            submitter = Submitter(
                view,
                signer,
                journal,
                fee=fee,
                final_depth=final_depth,
                permit=permit,
                origin=Origin.OPERATOR,
                turns=turns,
            )
            yield Party(view, signer, submitter, journal, session, genesis_id, poll, private_nodes)


async def plan_deployment(
    explorer_urls: tuple[str, ...],
    signer: Signer,
    address: str,
    *,
    network: str,
    treasury: bytes,
    node_urls: tuple[str, ...] = (),
) -> Deployment:
    """The market that this wallet would found now: its bond token has the id of the box that the mint will spend first.

    It ends MARKET_LIFE blocks after the height of now.
    """
    async with aiohttp.ClientSession() as session:
        sources = Sources(Node(session, node_urls), Explorer(session, explorer_urls), (signer.tree,))
        listing = await sources.first(lambda finder: finder.listing((signer.tree,)))
    plain = [found.box for found in listing.found if not found.box.tokens]
    if not plain:
        raise ConfigError(f"wallet {address} holds no box to mint the bond token from; send some ERG to it")
    first = max(plain, key=lambda box: box.value)
    # The minter is made a block or more later, never earlier: its creation height is what readers hold the end against.
    return make_deployment(
        network=network, bond_token=first.raw_id, treasury=treasury, expiry=listing.height + MARKET_LIFE
    )
