"""The composition root: puts the daemon together from its settings, part by part, and takes it apart in reverse order.

Start: lock, open the journal, check that chain, wallet and market are the ones it belongs to, look at the chain once with effects off,
recover what a crash left, then act.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, get_args

import aiohttp
import structlog
from ergo_lib_python.chain import Address
from prometheus_client import CollectorRegistry

from aihd.chain.contracts import load_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.follower import Follower
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.submitter import Submitter
from aihd.client.ranking import funders
from aihd.config import Settings, required
from aihd.config_values import SECONDS_PER_BLOCK
from aihd.core.policy import never
from aihd.core.signing import Spending
from aihd.core.task import Stage
from aihd.errors import ConfigError, TemporaryError, one_line
from aihd.execution.adapters import Adapter, HttpAdapter
from aihd.execution.content import ContentStore
from aihd.execution.desk import Desk, Keys
from aihd.execution.exchange_process import Terms
from aihd.execution.files import private_folder
from aihd.execution.inputs import InputStore
from aihd.execution.locator import Fetcher
from aihd.execution.pin import Pinner
from aihd.execution.serial import SerialAdapter, runtime_folders
from aihd.execution.template import AdapterName
from aihd.execution.tunnel import TunnelAdapter
from aihd.nodo.failures import TooSlow, Unreachable
from aihd.nodo.gate import Gate
from aihd.nodo.gateway import GatewayClient, StillThere
from aihd.nodo.ratings import Outbox
from aihd.nodo.registry import Registry
from aihd.ops.failpoints import reach
from aihd.ops.listener import listen
from aihd.ops.lock import process_lock
from aihd.ops.metrics import StatusCollector
from aihd.ops.notify import Notifier, watchdog_interval
from aihd.ops.room import Room
from aihd.ops.web import ops_app, serve
from aihd.services.bridge import PACE, Bridge
from aihd.services.compare import Compare
from aihd.services.drain import UNLIMITED, Drain
from aihd.services.engine import Engine, Service, guarded
from aihd.services.exchange import Exchange
from aihd.services.execute import Execute, Runtime
from aihd.services.indexer import Indexer
from aihd.services.opinion import OpinionRules, Opinions, nodo_opinions
from aihd.services.patience import Patience
from aihd.services.pin import Pin
from aihd.services.price import Price
from aihd.services.rate import Rate
from aihd.services.reclaim import Reclaim
from aihd.services.reconcile import Reconcile
from aihd.services.rehearse import Rehearse
from aihd.services.report import Report
from aihd.services.retain import Retain
from aihd.services.room import Space
from aihd.services.settle import Settle
from aihd.services.stock import Goods, Stock, goods_of
from aihd.services.watch import Claim, Watch
from aihd.store.backup import back_up
from aihd.store.journal import GATEWAY_CLIENT, Journal

log = structlog.get_logger()

MAX_FEES: Final = 10  # a fee may be raised to this multiple of wallet.fee
CONNECT_FOR: Final = 30.0  # seconds that a started instance may take to listen


async def run(
    settings: Settings, env: Mapping[str, str], *, reload: Callable[[], Settings], accept_fork: bool = False
) -> None:
    """Run the daemon until it is told to stop: the first TERM or INT drains, the second cancels what runs.

    `reload` reads the configuration again, on HUP. `accept_fork`: the chain that the node shows is the right one, even if it left
    the one known here long ago.
    ConfigError, TemporaryError or DependencyError when it cannot start.
    """
    told = _Signals()
    notifier = Notifier(env)
    async with AsyncExitStack() as stack:
        patience = Patience(notifier, told.first)
        engine = await _engine(settings, stack, accept_fork, patience)
        runtime = await _runtime(settings, engine, stack, patience)
        reconcile = Reconcile(engine, settings.chain.poll)
        report = Report(engine, reconcile)
        exchange = await _exchange(settings, engine)
        await _open_page(settings, report, stack)
        space = Space(engine, Room(settings.data_dir, settings.ops.min_free))
        await space.look()
        # Before the group: an error of the start is told as it is, not wrapped in one of many.
        await patience.until("the chain", reconcile.look)
        if made_at := engine.journal.restored_from():
            log.warning("runs on a restored backup; the chain has been looked at in full", backup=made_at)
            engine.journal.clear_restored()
        async with asyncio.TaskGroup() as group:
            execute = Execute(engine, runtime, group)
            await execute.recover()
            stock = _stock(settings, engine, runtime)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, stock.reload, reload)
            services = [reconcile, stock, *_loops(settings, engine, runtime, execute)]
            settle = next(service for service in services if isinstance(service, Settle))
            loops = [group.create_task(service.run(), name=service.name) for service in services]
            loops += [group.create_task(one.run(), name=one.name) for one in (exchange, space)]
            loops.append(group.create_task(report.keep(notifier, watchdog_interval(env)), name="report"))
            names = sorted(offered.name for offered in engine.services.values())
            log.info("ready", height=engine.tip.height, services=names, wallet=engine.signer.public_key.hex())
            notifier.ready(f"height {engine.tip.height}")
            await told.once()
            notifier.stopping("draining")
            engine.stopping.set()
            drain = Drain(engine, settle, notifier, settings.ops.stop_within)
            log.info("draining", running=execute.running, owed=len(drain.obliged()))
            await _first(told.twice(), drain.done())
            await drain.last_try()
            left = drain.parting()
            for loop in loops:
                loop.cancel()
            await execute.cancel()
            engine.journal.forget(UNLIMITED)
    log.info("stopped", left=left)
    if left:
        raise TemporaryError(left)


async def rehearse(settings: Settings) -> None:
    """Say what `run` would do about every open escrow, until TERM or INT; nothing is signed, sent or kept.

    Works beside a running daemon, on a copy of its journal. Errors as `run`.
    """
    told = _Signals()
    async with AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aihd-dry-run-")))
        if settings.database.exists():
            back_up(settings.database, scratch / settings.database.name)
        settings = settings.model_copy(update={"ops": settings.ops.model_copy(update={"data_dir": scratch})})
        patience = Patience(Notifier({}), told.first)
        engine = await _engine(settings, stack, accept_fork=False, patience=patience)
        prices = _price(settings, engine, await _runtime(settings, engine, stack, patience))
        engine.view.screen = None  # it tells of every escrow, also of those that can never be taken
        rehearsal = Rehearse(engine)
        log.info("a dry run", wallet=engine.signer.public_key.hex())
        while not told.any:
            for service in (*prices, rehearsal):
                if not await guarded(engine, service.name, service.step()):
                    log.warning("not now", what=service.name, reason=engine.health[service.name])
            await _first(told.once(), asyncio.sleep(settings.chain.poll))


def _loops(settings: Settings, engine: Engine, runtime: Runtime, execute: Execute) -> list[Service]:
    """Everything that acts, in the order in which a task meets it. The one that looks comes before them all."""
    loops: list[Service] = [
        Compare(engine),
        *_price(settings, engine, runtime),
        Watch(engine),
        Claim(engine, execute.ready),
        execute,
        Settle(engine, _payout(settings)),
        _rate(settings, engine),
        _bridge(settings, engine),
        Retain(engine),
        Reclaim(engine),
        *_opinions(settings, engine),
        *_indexer(settings, engine),
    ]
    if settings.exchange.ipfs_api is not None:
        loops.append(Pin(engine, Pinner(runtime.session, settings.exchange.ipfs_api)))
    return loops


async def _engine(settings: Settings, stack: AsyncExitStack, accept_fork: bool, patience: Patience) -> Engine:
    """Lock, journal, key, market and chain, each checked against the others."""
    stack.enter_context(process_lock(settings.lock_file))
    journal = stack.enter_context(Journal(settings.database))
    deployment, record = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    if deployment.network != settings.chain.network:
        raise ConfigError(
            f"chain.network = {settings.chain.network!r}, but the deployment is on {deployment.network!r}"
        )
    secret = required(settings.wallet.mnemonic_file, "wallet.mnemonic_file")
    signer = Signer.from_file(secret, settings.wallet.password_file)
    session = await stack.enter_async_context(aiohttp.ClientSession())
    node, explorer = Node(session, settings.chain.node_urls), Explorer(session, settings.chain.explorer_urls)
    view = Follower(
        node, explorer, deployment, signer.tree, journal, lambda: (task.id for task in journal.open_tasks())
    )
    view.prefix = settings.chain.prefix
    if accept_fork:
        view.accept_fork()
    await patience.until("a node", lambda: view.check(record.genesis_id))
    await patience.until("a node", view.audit)
    journal.bind(genesis=record.genesis_id, wallet=signer.public_key.hex(), market=deployment.id)
    goods = _goods(settings, deployment.expiry)
    wallet, rules, depth = settings.wallet, settings.policy, settings.chain.final_depth
    spending = Spending(
        MAX_FEES * wallet.fee, wallet.max_spend_per_tx, wallet.max_spend_per_hour, wallet.max_spend_per_day
    )
    permit = signer.permit(deployment, spending, _payout(settings))
    engine = Engine(
        view,
        signer,
        Submitter(view, signer, journal, fee=wallet.fee, final_depth=depth, permit=permit),
        journal,
        ContentStore(settings.content_dir),
        InputStore(settings.data_dir / "inputs", rules.max_input),
        settings.data_dir / "receipts",
        goods.offered,
        goods.rules,
        settings.margins,
        record.genesis_id,
        counts_cost=rules.count_nodo_cost,
        fetcher=Fetcher(devnet=settings.chain.network == "devnet"),
    )
    # What the rules of the moment can never take is counted and not kept: it could be as much as strangers like.
    view.screen = lambda task, height: never(task, signer.public_key, height, engine.policy)
    return engine


def _goods(settings: Settings, expiry: int) -> Goods:
    """What the configuration offers of nodo's registry; ConfigError for a service that is not there."""
    goods = goods_of(settings, _registry(settings).services(), get_args(AdapterName), expiry=expiry)
    if goods.missing:
        raise ConfigError(f"services: {'; '.join(goods.missing)}")
    return goods


def _registry(settings: Settings) -> Registry:
    nodo = settings.nodo.installation
    return Registry(nodo.registry, nodo.metadata)


def _stock(settings: Settings, engine: Engine, runtime: Runtime) -> Stock:
    return Stock(engine, settings, _registry(settings), runtime.adapters)


def _price(settings: Settings, engine: Engine, runtime: Runtime) -> list[Service]:
    nodo = settings.nodo.installation
    database, debt = nodo.database if settings.nodo.folder else None, nodo.allows_debt
    price = Price(engine, runtime.gateway, runtime.client_id, nodo.rate, database=database, allows_debt=debt)
    return [price]


def _bridge(settings: Settings, engine: Engine) -> Bridge:
    nodo = settings.nodo
    return Bridge(
        engine,
        nodo.installation.database,
        nodo.peer_ids,
        outbox=Outbox(settings.outbox_file),
        inside=nodo.bridge == "plug-in",
        pace=PACE[settings.chain.network],
    )


def _rate(settings: Settings, engine: Engine) -> Rate:
    return Rate(engine, settle_others=settings.reputation.settle_others)


def _indexer(settings: Settings, engine: Engine) -> list[Service]:
    ours = settings.reputation
    return [Indexer(engine, settings.scores_file, funders(ours.public_funders))] if ours.index else []


def _opinions(settings: Settings, engine: Engine) -> list[Service]:
    """The service that states our opinions, if the operator wants it."""
    ours = settings.opinion
    if not ours.enabled:
        return []
    node, service = bytes.fromhex(ours.node_type), bytes.fromhex(ours.service_type) if ours.service_type else None
    database = settings.nodo.installation.database
    rules = OpinionRules(ours.threshold, ours.max_spend, node)
    return [Opinions(engine, lambda: nodo_opinions(database, node, service), rules)]


def _payout(settings: Settings) -> bytes | None:
    address = settings.wallet.payout_address
    return bytes(Address(address).ergo_tree()) if address else None


async def _runtime(settings: Settings, engine: Engine, stack: AsyncExitStack, patience: Patience) -> Runtime:
    """The gateway, with the client id that it gave us once and for all."""
    nodo, given = settings.nodo.installation, settings.nodo
    address = required(nodo.gateway, "nodo.gateway")
    gateway = await stack.enter_async_context(
        GatewayClient(
            address,
            security=given.security,
            peer_id=given.peer_id,
            hash_algorithm=nodo.hash_algorithm,
            gate=Gate.below(nodo.gate),
        )
    )
    kept = engine.journal.meta().get(GATEWAY_CLIENT)
    client_id = await patience.until("nodo", lambda: _client_id(gateway, kept))
    if client_id != kept:
        engine.journal.remember(GATEWAY_CLIENT, client_id)
    # Of its own: a service's instance must see no cookie or header of another conversation.
    session = await stack.enter_async_context(aiohttp.ClientSession())
    return Runtime(
        gateway,
        session,
        client_id,
        settings.nodo.installation.database,
        settings.nodo.start_timeout,
        CONNECT_FOR,
        settings.policy.max_output,
        SECONDS_PER_BLOCK[settings.chain.network],
        _adapters(settings, gateway, session),
        still_there=_still_there(settings),
    )


async def _client_id(gateway: GatewayClient, kept: str | None) -> str:
    """Our client id at nodo. With one that nodo gave before, a nodo that is away keeps nobody from what is owed on the chain."""
    try:
        return await gateway.client_id(kept)
    except (Unreachable, TooSlow) as error:
        if kept is None:
            raise
        log.warning("nodo is away; its old client id is used", reason=one_line(error))
        return kept


def _adapters(settings: Settings, gateway: GatewayClient, session: aiohttp.ClientSession) -> dict[str, Adapter]:
    """What templates may name. ConfigError when a service asks for containers and no engine is configured, or no SDK is there."""
    adapters: dict[str, Adapter] = {
        "http": HttpAdapter(session),
        "tunnel": TunnelAdapter(gateway.service_tunnel),
        "serial": SerialAdapter(runtime_folders(settings.nodo.installation.storage)),
    }
    if any(service.adapter == "container" for service in settings.offered):
        engine = required(settings.nodo.docker, "nodo.docker")
        try:
            from aihd.execution.container import ContainerAdapter
        except ImportError:
            raise ConfigError("services: adapter 'container' needs the extra aihd[docker]") from None
        adapters["container"] = ContainerAdapter(engine)
    return adapters


def _still_there(settings: Settings) -> StillThere | None:
    """What asks nodo's Docker engine for an instance's container, if one is configured and its SDK is here."""
    if settings.nodo.docker is None:
        return None
    try:
        from aihd.execution.engine import asking
    except ImportError:
        raise ConfigError("nodo.docker needs the extra aihd[docker]") from None
    return asking(settings.nodo.docker)


async def _exchange(settings: Settings, engine: Engine) -> Exchange:
    """The client's door, a process of its own; that its address is free is known before it starts."""
    at, desk, terms = settings.exchange.listen, _desk(settings, engine), _terms(settings, engine)
    if settings.exchange.separate:
        return Exchange(engine, desk, terms, [], settings.exchange_socket)
    return Exchange(engine, desk, terms, await listen(at.host, at.port, "exchange.listen"))


def _desk(settings: Settings, engine: Engine) -> Desk:
    """What answers the exchange."""

    def stored(task_id: bytes) -> None:
        reach("input stored")
        engine.journal.update(task_id, "input stored", stage=Stage.INPUT)
        engine.pulse.beat()

    keys = Keys(engine.signer.public_key, engine.signer.agree, bytes.fromhex(engine.genesis_id))
    inbox = private_folder(settings.inbox_dir)
    return Desk(engine.journal, engine.inputs, inbox, keys, stored, may_serve=engine.may_be_served)


def _terms(settings: Settings, engine: Engine) -> Terms:
    ours = settings.exchange
    return Terms(
        host=ours.listen.host,
        port=ours.listen.port,
        inbox=str(settings.inbox_dir),
        content=str(settings.content_dir),
        receipts=str(engine.receipts),
        genesis_id=engine.genesis_id,
        max_input=settings.policy.max_input,
        quota=ours.uploads,
        memory=ours.memory,
        connections=ours.connections,
        per_address=ours.share,
        log_level=settings.ops.log_level,
        log_format=settings.ops.log_format,
    )


async def _open_page(settings: Settings, report: Report, stack: AsyncExitStack) -> None:
    """The operator's page."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(report.document))
    page = ops_app(
        healthy=report.healthy,
        ready=report.ready,
        status=report.document,
        registry=registry,
        hosts=settings.ops.hosts,
    )
    at = settings.ops.listen
    await stack.enter_async_context(serve(page, at.host, at.port))


class _Signals:
    """Counts TERM and INT."""

    def __init__(self) -> None:
        self.first, self._second = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._told)

    def _told(self) -> None:
        (self._second if self.first.is_set() else self.first).set()

    @property
    def any(self) -> bool:
        return self.first.is_set()

    async def once(self) -> None:
        await self.first.wait()

    async def twice(self) -> None:
        await self._second.wait()


async def _first(*waits: Coroutine[Any, Any, None]) -> None:
    """Wait until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
