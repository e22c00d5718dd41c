"""A market on a devnet whose blocks come by hand: parties with journals, a node that works step by step, servers that fail on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import made
from aiohttp import web
from door import Shop, open_door
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE, signer

from aihd.chain.contracts import write_deployment
from aihd.chain.follower import Follower
from aihd.chain.signer import Signer
from aihd.chain.submitter import Submitter
from aihd.client.client import Order
from aihd.client.party import MAX_FEE, NO_LIMIT, Party, party, plan_deployment
from aihd.core import policy
from aihd.core.signing import Spending
from aihd.core.task import Limits, Stage, Task
from aihd.devnet import Devnet
from aihd.devnet.chain import Chain
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.execution.content import ContentStore
from aihd.execution.desk import Keys
from aihd.execution.inputs import InputStore
from aihd.nodo.gateway import GatewayClient
from aihd.ops.web import serve
from aihd.protocol import guards, plans
from aihd.protocol.deployment import Deployment
from aihd.protocol.trees import address_of
from aihd.services.bridge import Bridge
from aihd.services.engine import Engine, Offered, Service
from aihd.services.execute import Execute, Runtime
from aihd.services.rate import Rate
from aihd.services.reconcile import Reconcile
from aihd.services.settle import Settle
from aihd.services.watch import Claim, Watch

T = TypeVar("T")
POLL: Final = 0.02
PURSE: Final = 100 * ERG
STAKE: Final = 5 * ERG
DEPTH: Final = 4
SLOT: Final = 8080
LIMITS: Final = Limits(final_depth=DEPTH, claim_margin=3, release_margin=5)


async def mined(chain: Chain, work: Coroutine[Any, Any, T], patience: float = 20.0) -> T:
    """Await `work`, with a block whenever something waits for one."""
    task = asyncio.ensure_future(work)
    try:
        async with asyncio.timeout(patience):
            while not task.done():
                if len(chain.pool):
                    chain.mine()
                await asyncio.wait({task}, timeout=POLL)
    finally:
        task.cancel()
        await asyncio.wait({task})
    return task.result()


async def until(reached: Callable[[], bool], patience: float = 20.0) -> None:
    """Wait until it is true."""
    async with asyncio.timeout(patience):
        while not reached():
            await asyncio.sleep(POLL)


@dataclass(frozen=True, slots=True)
class World:
    """A founded market. Parties are those of `offchain.signer`, so keys are the same in every run."""

    devnet: Devnet
    folder: Path
    stack: AsyncExitStack
    deployment: Deployment
    deployment_file: Path
    genesis_id: str
    treasury: bytes

    @property
    def chain(self) -> Chain:
        return self.devnet.chain

    async def party(
        self,
        name: str,
        *,
        purse: int = PURSE,
        node_urls: tuple[str, ...] = (),
        explorer_urls: tuple[str, ...] = (),
        founding: bool = False,
    ) -> Party:
        """A wallet with money; other node URLs than the devnet's own where given."""
        key = signer(name)
        if purse:
            self.fund(key, purse)
        return await self.stack.enter_async_context(
            party(
                node_urls=node_urls or (self.devnet.node_url,),
                explorer_urls=explorer_urls or (self.devnet.explorer_url,),
                deployment=self.deployment,
                genesis_id=self.genesis_id,
                signer=key,
                database=self.folder / f"{name}.sqlite",
                fee=FEE,
                poll=POLL,
                final_depth=DEPTH,
                founding=founding,
            )
        )

    def fund(self, key: Signer, purse: int = PURSE) -> None:
        self.chain.faucet(address_of(key.tree), purse)
        self.chain.mine()

    async def mined(self, work: Coroutine[Any, Any, T]) -> T:
        return await mined(self.chain, work)

    def balance(self, tree: bytes) -> int:
        """nanoERG on the chain under a tree."""
        return sum(box.value for box in self.boxes(tree))

    def boxes(self, tree: bytes) -> list[ErgoBox]:
        ledger = self.chain.ledger
        return [box for key in ledger.boxes if (box := ledger.utxo(key)) and bytes(box.ergo_tree) == tree]


@asynccontextmanager
async def market(folder: Path) -> AsyncIterator[World]:
    """A devnet with a market on it."""
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(Devnet())
        deployer, treasury = signer("deployer"), signer("treasury").tree
        devnet.chain.faucet(address_of(deployer.tree), PURSE)
        devnet.chain.mine()
        urls = (devnet.explorer_url,)
        deployment = await plan_deployment(
            urls, deployer, address_of(deployer.tree), network="devnet", treasury=treasury, node_urls=(devnet.node_url,)
        )
        genesis_id = devnet.chain.blocks[0].block_id
        file = folder / "deployment.json"
        write_deployment(file, deployment, genesis_id)
        world = World(devnet, folder, stack, deployment, file, genesis_id, treasury)
        founder = await world.party("deployer", purse=0, founding=True)
        await world.mined(founder.do("deploy", plans.deploy))
        yield world


# ---------------------------------------------------------------- servers that fail on demand

Fault = Callable[[web.Request], str | None]


@dataclass(slots=True)
class Faulty:
    """Forwards to a server, but for what `fault` names: "500", "html", "close", "hang", or "lost" (it arrives, its answer does not).

    What is asked for at one of the paths of `lies` is answered from there.
    """

    url: str
    fault: Fault
    seen: list[tuple[str, str]]
    lies: dict[str, object]


@asynccontextmanager
async def faulty(target: str, fault: Fault = lambda _: None) -> AsyncIterator[Faulty]:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        proxy = Faulty("", fault, [], {})

        async def forward(request: web.Request) -> web.StreamResponse:
            proxy.seen.append((request.method, request.path))
            if request.path in proxy.lies:
                return web.json_response(proxy.lies[request.path])
            wrong = proxy.fault(request)
            if wrong == "500":
                return web.json_response({"error": 500, "reason": "internal", "detail": "broken"}, status=500)
            if wrong == "html":
                return web.Response(text="<html>bad gateway</html>", status=502)
            if wrong == "hang":
                await asyncio.sleep(60)
            if wrong == "close":
                return _closed(request)
            async with session.request(
                request.method, target + request.path_qs, data=await request.read(), headers=_plain(request.headers)
            ) as answer:
                body = await answer.read()
                if wrong == "lost":
                    return _closed(request)
                return web.Response(body=body, status=answer.status, content_type=answer.content_type)

        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", forward)
        port = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        proxy.url = f"http://127.0.0.1:{port}"
        yield proxy


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() == "content-type"}


def _closed(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def is_submit(request: web.Request) -> bool:
    return request.method == "POST" and request.path == "/transactions"


# ---------------------------------------------------------------- a node, step by step


@dataclass(slots=True)
class NodeRig:
    """A daemon's engine and services in this process. `turn` lets each of them work once on the newest tip."""

    world: World
    party: Party
    engine: Engine
    reconcile: Reconcile
    execute: Execute
    services: tuple[Service, ...]

    async def turn(self) -> None:
        await self.reconcile.look()
        for service in self.services:
            await service.step()

    async def look(self) -> None:
        await self.reconcile.look()

    def task(self, task_id: bytes) -> Task:
        return self.engine.journal.task(task_id)

    async def work(self, reached: Callable[[], bool], patience: float = 30.0) -> None:
        """Turns and blocks until it is true; a block comes only when something waits for one."""
        async with asyncio.timeout(patience):
            while True:
                await self.turn()
                await self.execute.drained()
                if reached():
                    return
                if len(self.world.chain.pool):
                    self.world.chain.mine()
                else:
                    await asyncio.sleep(POLL)


@asynccontextmanager
async def node_rig(
    world: World,
    gateway: EmbeddedGateway,
    offered: Mapping[bytes, Offered],
    name: str = "node",
    *,
    limits: Limits | None = None,
    stake: int = STAKE,
) -> AsyncIterator[NodeRig]:
    """A bonded node that offers services, its door open."""
    async with AsyncExitStack() as stack:
        founder = await world.party(name)
        who = followed(founder)
        folder = world.folder / f"{name}-data"
        folder.mkdir()
        rules = limits or LIMITS
        terms = {key: policy.Terms({None: ERG // 100}, 2) for key in offered}
        margins = {"claim_margin": rules.claim_margin, "release_margin": rules.release_margin}
        engine = Engine(
            who.view,
            who.signer,
            who.submitter,
            who.journal,
            ContentStore(folder / "content"),
            InputStore(folder / "inputs", 1_000_000),
            folder / "receipts",
            dict(offered),
            made.limits(services=terms, **margins),
            rules,
            world.genesis_id,
        )
        port = await stack.enter_async_context(_door(engine))
        await world.mined(founder.open_bond(stake, f"http://127.0.0.1:{port}"))
        world.chain.mine(guards.BIRTH_LEAD + 1)
        runtime = await _runtime(gateway, stack)
        group = await stack.enter_async_context(_group())
        execute, reconcile = Execute(engine, runtime, group), Reconcile(engine, POLL)
        await reconcile.look()
        services = (Watch(engine), Claim(engine, execute.ready), execute, Settle(engine, None), Rate(engine))
        bridge = Bridge(engine, gateway.database)
        yield NodeRig(world, who, engine, reconcile, execute, (*services, bridge))
        await execute.cancel()


def followed(who: Party) -> Party:
    """The party with a daemon's view: it follows the chain block by block."""
    view, journal = who.view, who.journal
    follower = Follower(
        view.node,
        view.explorer,
        view.deployment,
        who.signer.tree,
        journal,
        lambda: [task.id for task in journal.open_tasks()],
    )
    permit = who.signer.permit(view.deployment, Spending(MAX_FEE, NO_LIMIT, NO_LIMIT, NO_LIMIT))
    submitter = Submitter(follower, who.signer, journal, fee=FEE, final_depth=DEPTH, permit=permit)
    return replace(who, view=follower, submitter=submitter)


@asynccontextmanager
async def _group() -> AsyncIterator[asyncio.TaskGroup]:
    async with asyncio.TaskGroup() as group:
        yield group


def _door(engine: Engine) -> Any:
    def stored(task_id: bytes) -> None:
        engine.journal.update(task_id, "input stored", stage=Stage.INPUT)

    keys = Keys(engine.signer.public_key, engine.signer.agree, bytes.fromhex(engine.genesis_id))
    return open_door(Shop.at(engine.receipts.parent, engine.journal, engine.inputs, keys, stored))


async def _runtime(gateway: EmbeddedGateway, stack: AsyncExitStack) -> Runtime:
    client = await stack.enter_async_context(GatewayClient(gateway.address))
    session = await stack.enter_async_context(aiohttp.ClientSession())
    client_id = await client.generate_client()
    gateway.credit(client_id, PLENTY)
    return Runtime(
        client,
        session,
        client_id,
        gateway.database,
        start_timeout=20.0,
        connect_for=10.0,
        max_output=1_000_000,
        seconds_per_block=1.0,
    )


def order(service: bytes, **changes: Any) -> Order:
    """One run for 1 ERG, first come first served, nothing held back; worth its payment."""
    windows = {"claim_window": 30, "exec_window": 40}
    return Order(**made.worth({"service_hash": service, "payment": ERG, "holdback_bps": 0, **windows, **changes}))


async def sent(world: World, work: Awaitable[Any]) -> Transaction:
    """The one transaction that `work` brings into the mempool."""
    before = {entry.view.tx_id for entry in world.chain.pool}
    await work
    (new,) = [entry.view.tx for entry in world.chain.pool if entry.view.tx_id not in before]
    return new
