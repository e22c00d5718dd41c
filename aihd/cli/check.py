"""`aihd check`: everything that a start needs, looked at one by one; what is wrong is told with what would mend it. It changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Final, get_args
from urllib.parse import urlsplit

import aiohttp
import typer

from aihd.chain.contracts import load_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.sources import SetUp, Sources
from aihd.chain.view import ChainView
from aihd.cli.common import ConfigOption, settings_of
from aihd.config import Settings, required
from aihd.errors import AihdError, Exit, one_line
from aihd.execution.template import AdapterName, resources_of
from aihd.nodo.diagnose import Finding, diagnose
from aihd.nodo.registry import Registry
from aihd.nodo.resources import Resources
from aihd.ops.lock import is_locked
from aihd.protocol.deployment import Deployment
from aihd.protocol.units import format_erg
from aihd.screen import console_of, styled
from aihd.store.journal import GATEWAY_CLIENT, Journal

PATIENCE: Final = 5.0  # seconds for an answer of a socket
ROOM: Final = 1 << 30  # bytes free that a data folder should have
DEFAULT_KEY: Final = "hello"  # the API key that the Ergo node ships with


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what it is, what was found, and, where that is wrong, what would mend it."""

    what: str
    found: str
    mend: str = ""

    @property
    def ok(self) -> bool:
        return not self.mend


def check(
    config: ConfigOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="hold the whole journal against its tasks too")] = False,
) -> int:
    """Look whether everything that the daemon needs is there and right. Exit 0 when it is, 1 when something is not."""
    settings = settings_of(config)
    console, wrong = console_of(), 0
    checks = [Check("configuration", "is sound"), *_on_disk(settings, deep), *asyncio.run(_outside(settings))]
    for done in checks:
        wrong += not done.ok
        console.print(styled(("ok    ", "green") if done.ok else ("wrong ", "red")), end="")
        console.print(f"{done.what}: {done.found}", highlight=False, markup=False, soft_wrap=True)
        if not done.ok:
            console.print(f"      mend: {done.mend}", highlight=False, markup=False, soft_wrap=True)
    return int(Exit.UNHEALTHY if wrong else Exit.OK)


# --- on this machine


def _on_disk(settings: Settings, deep: bool) -> Iterator[Check]:
    yield _data_dir(settings)
    yield _database(settings)
    if deep and settings.database.exists():
        yield _guarded("journal", "restore a backup, or ask for help with this text", lambda: _folded(settings))
    yield _guarded("wallet", "see wallet.mnemonic_file and wallet.password_file", lambda: _wallet(settings))
    yield _guarded("deployment", "take the market's deployment file from its deployer", lambda: _deployment(settings))
    yield _guarded("services", "see [[services]] and nodo.storage", lambda: _services(settings))


def _guarded(what: str, mend: str, look: Callable[[], str]) -> Check:
    """What `look` found; its error is what is wrong."""
    try:
        return Check(what, look())
    except AihdError as error:
        return Check(what, one_line(error), mend)


def _data_dir(settings: Settings) -> Check:
    folder = settings.data_dir
    if not folder.exists():
        return Check("data folder", f"{folder} is not there yet; the first start makes it")
    mode, free = stat.S_IMODE(folder.stat().st_mode), shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check("data folder", f"{folder} cannot be written", f"run as the user of the daemon, or chown {folder}")
    if mode & stat.S_IRWXO:
        return Check("data folder", f"{folder} has mode {mode:04o}, open to others", f"chmod 700 {folder}")
    if free < ROOM:
        return Check("data folder", f"{folder} has {free >> 20} MiB free", "make room: at least 1 GiB")
    return Check("data folder", f"{folder}, {free >> 30} GiB free")


def _database(settings: Settings) -> Check:
    if not settings.database.exists():
        return Check("database", "aihd has not run here yet")
    try:
        with Journal(settings.database, read_only=True) as journal:
            restored, count = journal.restored_from(), len(journal.open_tasks())
    except AihdError as error:
        return Check("database", one_line(error), "restore a backup, or use another ops.data_dir")
    running = "aihd is running" if is_locked(settings.lock_file) else "aihd is not running"
    origin = f", put back from the backup of {restored}" if restored else ""
    return Check("database", f"whole, {count} tasks open, {running}{origin}")


def _folded(settings: Settings) -> str:
    with Journal(settings.database, read_only=True) as journal:
        found = journal.audit()
    if found:
        raise AihdError(f"{len(found)} differences, the first: {found[0]}")
    return "its events make the tasks that the table has"


def _wallet(settings: Settings) -> str:
    path = required(settings.wallet.mnemonic_file, "wallet.mnemonic_file")
    return f"{path} holds key {Signer.from_file(path, settings.wallet.password_file).public_key.hex()}"


def _deployment(settings: Settings) -> str:
    deployment, _ = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    if deployment.network != settings.chain.network:
        raise AihdError(f"it is on {deployment.network}, chain.network is {settings.chain.network}")
    return f"market {deployment.id[:16]}… on {deployment.network}"


def _services(settings: Settings) -> str:
    if not settings.offered:
        raise AihdError("none is offered, so every task is declined")
    from aihd.services.stock import goods_of

    nodo = settings.nodo.installation
    local = Registry(nodo.registry, nodo.metadata).services()
    missing = goods_of(settings, local, get_args(AdapterName), expiry=0).missing  # which depends on no date
    if missing:
        raise AihdError("; ".join(missing))
    return f"{len(settings.offered)} offered, all in nodo's registry"


# --- outside


async def _outside(settings: Settings) -> list[Check]:
    """Chain sources, bond and nodo."""
    try:
        deployment, record = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    except AihdError:
        deployment, record = None, None  # told already
    genesis_id = record.genesis_id if record else None
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=4 * PATIENCE)) as session:
        nodes = [_node(session, url, genesis_id) for url in settings.chain.node_urls]
        explorers = [_explorer(session, url) for url in settings.chain.explorer_urls]
        sources = [found for several in await asyncio.gather(*nodes, *explorers) for found in several]
        sources.append(await _set_up(session, settings))
        if deployment is not None and sources[-1].ok:
            sources.append(await _bond(session, settings, deployment))
    return [*sources, *await _nodo(settings)]


async def _node(session: aiohttp.ClientSession, url: str, genesis_id: str | None) -> list[Check]:
    return [await _follows(session, url, genesis_id), *[found async for found in _exposed(session, url)]]


async def _follows(session: aiohttp.ClientSession, url: str, genesis_id: str | None) -> Check:
    what = f"node {url}"
    try:
        info = await Node(session, (url,)).info()
    except AihdError as error:
        return Check(what, one_line(error), "start it, or name another in chain.node_urls")
    if genesis_id not in (None, info.genesis_id):
        found = f"it follows the chain of genesis {info.genesis_id[:16]}…, the market is on {str(genesis_id)[:16]}…"
        return Check(what, found, "name a node of the market's chain in chain.node_urls")
    return Check(what, f"height {info.height}, {'with' if info.indexed else 'without'} the extra index")


async def _set_up(session: aiohttp.ClientSession, settings: Settings) -> Check:
    """Whether the sources together are enough, and what they cannot see."""
    chain = settings.chain
    sources = Sources(Node(session, chain.node_urls), Explorer(session, chain.explorer_urls), ())
    try:
        await sources.node.look()
    except AihdError as error:
        return Check("sources", one_line(error), "mend the lines above first")
    told = f"{sources.set_up}; {sources.blind}" if sources.blind else str(sources.set_up)
    if sources.set_up is SetUp.NOTHING:
        return Check("sources", told, "set ergo.node.extraIndex = true, or name an explorer in chain.explorer_urls")
    return Check("sources", told)


async def _explorer(session: aiohttp.ClientSession, url: str) -> list[Check]:
    try:
        return [Check(f"explorer {url}", f"height {await Explorer(session, (url,)).height()}")]
    except AihdError as error:
        return [Check(f"explorer {url}", one_line(error), "name another in chain.explorer_urls")]


async def _exposed(session: aiohttp.ClientSession, url: str) -> AsyncIterator[Check]:
    """A node of this machine whose API is open: with the key that everybody knows, or to everybody. Others' nodes are left alone."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if not _is_ours(host):
        return
    try:
        async with session.get(f"{url.rstrip('/')}/wallet/status", headers={"api_key": DEFAULT_KEY}) as answer:
            if answer.status == 200:
                mend = "set scorex.restApi.apiKeyHash of the node to the hash of a key of your own"
                yield Check(f"node {url}", f"its API key is {DEFAULT_KEY!r}, as shipped", mend)
    except (aiohttp.ClientError, TimeoutError):
        return  # that it gives no answer is told already
    outward = _address_outward()
    if outward and await _listens(outward, port):
        mend = "set scorex.restApi.bindAddress to 127.0.0.1, or close the port to others"
        yield Check(f"node {url}", f"its API listens on {outward}:{port} too, where others reach it", mend)


def _is_ours(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address_outward() -> str | None:
    """The address of this machine on its way out; None without one. Nothing is sent: a datagram socket only picks its route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if ip_address(address).is_loopback else address


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        return False
    return True


async def _bond(session: aiohttp.ClientSession, settings: Settings, deployment: Deployment) -> Check:
    try:
        path = required(settings.wallet.mnemonic_file, "wallet.mnemonic_file")
        key = Signer.from_file(path, settings.wallet.password_file).public_key
        chain = settings.chain
        view = ChainView(Node(session, chain.node_urls), Explorer(session, chain.explorer_urls), deployment)
        mine = [bond.content for bond in await view.bonds() if bond.content.node == key]
    except AihdError as error:
        return Check("bond", one_line(error), "mend the lines above first")
    if not mine:
        return Check("bond", "this wallet has none, so no task can be claimed", "aihd bond open --amount '10 ERG'")
    bond = mine[0]
    if settings.bond.endpoint and bond.endpoint != settings.bond.endpoint:
        return Check(
            "bond", f"it tells clients {bond.endpoint}, bond.endpoint is {settings.bond.endpoint}", "aihd bond endpoint"
        )
    return Check("bond", f"{format_erg(bond.amount)}, {format_erg(bond.committed)} committed, score {bond.score}")


async def _nodo(settings: Settings) -> list[Check]:
    """What is known of nodo; the one place for findings about it."""
    nodo = settings.nodo
    kept = None
    if settings.database.exists():
        with Journal(settings.database, read_only=True) as journal:
            kept = journal.meta().get(GATEWAY_CLIENT)
    try:
        found = await diagnose(
            nodo.installation,
            security=nodo.security,
            peer_id=nodo.peer_id,
            client_id=kept,
            services=_offered_hashes(settings),
            priced=settings.policy.count_nodo_cost,
        )
    except AihdError as error:
        return [Check("nodo", one_line(error), "see nodo.folder, or set nodo.gateway and nodo.storage")]
    return [_of_nodo(finding) for finding in found]


def _offered_hashes(settings: Settings) -> dict[bytes, Resources]:
    """What we offer of nodo's registry; what is missing there has its own finding."""
    from aihd.services.stock import goods_of

    nodo = settings.nodo.installation
    try:
        local = Registry(nodo.registry, nodo.metadata).services()
    except AihdError:
        return {}
    offered = goods_of(settings, local, get_args(AdapterName), expiry=0).offered  # whatever their terms
    return {key: resources_of(service.template) for key, service in offered.items()}


def _of_nodo(finding: Finding) -> Check:
    """What is wrong and what mends it stand in one sentence, a semicolon between them."""
    wrong, _, mend = finding.sentence.partition("; ")
    if finding.ok:
        return Check(f"nodo {finding.what}", finding.sentence)
    return Check(f"nodo {finding.what}", wrong, mend or "see nodo.folder and nodo.database")
