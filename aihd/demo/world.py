"""The demo's world: a chain, a gateway, a market, and daemons as processes of their own that see both only through their sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import aiohttp

from aihd.chain.contracts import write_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.node import Node
from aihd.chain.signer import Signer
from aihd.chain.sources import Sources
from aihd.client.party import Party, party, plan_deployment
from aihd.core.assets import Asset, Assets
from aihd.demo.story import ERG, Coin
from aihd.devnet import Devnet
from aihd.devnet.gateway import PLENTY, EmbeddedGateway
from aihd.errors import DependencyError
from aihd.protocol import plans
from aihd.protocol.deployment import Deployment
from aihd.protocol.trees import address_of
from aihd.protocol.units import NANO_PER_ERG, format_erg

NETWORK: Final = "devnet"
FEE: Final = 1_100_000
Sourcing = Literal["node", "explorer", "both"]
POLL: Final = 0.25
FINAL_DEPTH: Final = 10
PURSE: Final = 100 * NANO_PER_ERG
STAKE: Final = 5 * NANO_PER_ERG
SERVICES: Final = Path(__file__).parent.parent / "devnet" / "services"
SLOT: Final = 8080
TOKEN_WORTH: Final = NANO_PER_ERG // 2  # nanoERG that a whole unit of the demo's token is taken for, at most


class Daemon:
    """`aihd run` as a process of its own, which can be stopped and started again. Its log is added to at each start."""

    def __init__(self, name: str, config: Path, ops_port: int) -> None:
        self.name = name
        self.config = config
        self.log = config.parent / "log"
        self.ops_url = f"http://127.0.0.1:{ops_port}"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The newest process; DependencyError when there was none yet."""
        if self._process is None:
            raise DependencyError(f"{self.name} was not started")
        return self._process

    async def start(self, env: Mapping[str, str] | None = None) -> None:
        """Start it, with `env` added to our environment."""
        with self.log.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aihd", "run", "--config", str(self.config)),
                stdout=file,
                stderr=file,
                env={**os.environ, **(env or {})},
            )

    async def ready(self, patience: float = 45.0) -> None:
        """Wait until it is at work; DependencyError with the end of its log when it is not."""
        try:
            async with asyncio.timeout(patience), aiohttp.ClientSession() as session:
                while self.process.returncode is None:
                    if await _answers(session, f"{self.ops_url}/readyz"):
                        return
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise DependencyError(f"{self.name} is not ready after {patience:g} s: {last_lines(self.log)}") from None
        raise DependencyError(f"{self.name} ended with code {self.process.returncode}: {last_lines(self.log)}")

    async def stop(self) -> None:
        """Tell it to stop by TERM, and kill it if it does not."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 15)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


@dataclass(frozen=True, slots=True)
class World:
    """Everything the demo runs on. `wallets` maps a name to the address whose balance is shown."""

    devnet: Devnet
    gateway: EmbeddedGateway
    services: dict[str, bytes]
    deployment: Deployment
    client: Party
    nodes: tuple[Party, ...]
    daemons: tuple[Daemon, ...]
    wallets: dict[str, str]
    coin: Coin = ERG

    @property
    def assets(self) -> Assets:
        """The name of the token that is paid in, as a configuration has it."""
        token, name, decimals = self.coin
        return {} if token is None else {token: Asset(name=name, decimals=decimals, max_worth=TOKEN_WORTH)}


@asynccontextmanager
async def world(
    folder: Path,
    *,
    block_time: float,
    max_input: int,
    names: tuple[str, ...] = ("node-a", "node-b"),
    start: bool = True,
    asset: str | None = None,
    sources: Sourcing = "both",
) -> AsyncIterator[World]:
    """Set everything up in `folder`, with a bonded daemon for each name, and take everything down again.

    With `asset` the client is given a token of that name, which the daemons take. `sources`: who lists boxes for everybody, the node's
    index, an explorer beside a plain node, or both.

    Without `start` the daemons are configured and bonded, but not started.
    """
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(Devnet(block_time=block_time, extra_index=sources != "explorer"))
        gateway = await stack.enter_async_context(EmbeddedGateway(folder / "nodo", credit=PLENTY))
        services = {name: gateway.install(SERVICES / name.replace("-", "_")) for name in ("text-digest", "word-count")}
        explorers = () if sources == "node" else (devnet.explorer_url,)
        makers = _Makers(folder, devnet, stack, explorers)
        treasury = Signer(new_mnemonic())
        deployment, genesis_id = await makers.found_market(treasury.tree)
        client = await makers.party("client", deployment, genesis_id)
        coin = ERG if asset is None else await makers.issue(asset, client)
        nodes = [await makers.party(name, deployment, genesis_id) for name in names]
        daemons = []
        for node, name in zip(nodes, names, strict=True):
            exchange, ops = free_port(), free_port()
            await node.open_bond(STAKE, f"http://127.0.0.1:{exchange}")
            config = _write_config(
                folder / name,
                devnet,
                gateway,
                makers.deployment_file,
                exchange,
                ops,
                max_input,
                coin=coin,
                explorers=explorers,
            )
            daemons.append(Daemon(name, config, ops))
            stack.push_async_callback(daemons[-1].stop)
        if start:
            for daemon in daemons:
                await daemon.start()
            for daemon in daemons:
                await daemon.ready()
        await _old_enough(client)
        wallets = {"client": _address(client)}
        wallets.update((name, _address(node)) for name, node in zip(names, nodes, strict=True))
        wallets["treasury"] = address_of(treasury.tree)
        yield World(devnet, gateway, services, deployment, client, tuple(nodes), tuple(daemons), wallets, coin)


async def _old_enough(who: Party) -> None:
    """Wait until every bond takes part in lotteries."""
    born = max(bond.content.born for bond in await who.view.bonds())
    while (await who.view.node.info()).height <= born:
        await asyncio.sleep(POLL)


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _address(who: Party) -> str:
    return address_of(who.signer.tree)


class _Makers:
    """Makes wallets, the market and parties on one devnet."""

    def __init__(self, folder: Path, devnet: Devnet, stack: AsyncExitStack, explorers: tuple[str, ...]) -> None:
        self._explorers = explorers
        self._folder = folder
        self._devnet = devnet
        self._stack = stack
        self.deployment_file = folder / "deployment.json"

    async def found_market(self, treasury: bytes) -> tuple[Deployment, str]:
        """Mint the bond tokens into a minter and write the deployment file."""
        signer = self._wallet("deployer")
        address = address_of(signer.tree)
        await self._funded(signer)
        deployment = await plan_deployment(
            self._explorers, signer, address, network=NETWORK, treasury=treasury, node_urls=(self._devnet.node_url,)
        )
        async with aiohttp.ClientSession() as session:
            genesis_id = (await Node(session, (self._devnet.node_url,)).info()).genesis_id
        write_deployment(self.deployment_file, deployment, genesis_id)
        deployer = await self._party("deployer", signer, deployment, genesis_id, founding=True)
        await deployer.do("deploy", plans.deploy)
        return deployment, genesis_id

    async def issue(self, name: str, owner: Party) -> Coin:
        """A token with two decimals, 1,000.00 of it in the wallet of `owner`."""
        address = _address(owner)
        token = bytes.fromhex(self._devnet.chain.issue(name, 100_000, 2, to=address))
        while all(held != token for box in await owner.view.unspent(owner.signer.tree) for held, _ in box.tokens):
            await asyncio.sleep(POLL)
        return Coin(token, name, 2)

    async def party(self, name: str, deployment: Deployment, genesis_id: str) -> Party:
        signer = self._wallet(name)
        await self._funded(signer)
        return await self._party(name, signer, deployment, genesis_id)

    def _wallet(self, name: str) -> Signer:
        path = self._folder / name / "mnemonic"
        path.parent.mkdir(parents=True)
        write_mnemonic(path, new_mnemonic(), None)
        return Signer.from_file(path)

    async def _funded(self, signer: Signer) -> None:
        address = address_of(signer.tree)
        self._devnet.chain.faucet(address, PURSE)
        async with aiohttp.ClientSession() as session:
            sources = Sources(Node(session, (self._devnet.node_url,)), Explorer(session, self._explorers), ())
            while not (await sources.first(lambda finder: finder.listing((signer.tree,)))).found:
                await asyncio.sleep(POLL)

    async def _party(
        self, name: str, signer: Signer, deployment: Deployment, genesis_id: str, *, founding: bool = False
    ) -> Party:
        return await self._stack.enter_async_context(
            party(
                node_urls=(self._devnet.node_url,),
                explorer_urls=self._explorers,
                deployment=deployment,
                genesis_id=genesis_id,
                signer=signer,
                database=self._folder / name / "party.sqlite",
                fee=FEE,
                poll=POLL,
                final_depth=FINAL_DEPTH,
                founding=founding,
            )
        )


def _write_config(
    folder: Path,
    devnet: Devnet,
    gateway: EmbeddedGateway,
    deployment: Path,
    exchange: int,
    ops: int,
    max_input: int,
    *,
    coin: Coin,
    explorers: tuple[str, ...],
) -> Path:
    """The configuration of one daemon, as an operator would write it."""
    config = folder / "aihd.toml"
    config.write_text(f'''
[chain]
network = "{NETWORK}"
node_urls = ["{devnet.node_url}"]
explorer_urls = {json.dumps(explorers)}
poll = "{int(POLL * 1000)} ms"
final_depth = {FINAL_DEPTH}
deployment = "{deployment}"

[wallet]
mnemonic_file = "{folder / "mnemonic"}"

[nodo]
gateway = "{gateway.address}"
storage = "{gateway.storage}"

[reputation]
public_funders = ["{address_of(bytes.fromhex(devnet.chain.genesis[0].tree))}"]

[policy]
max_input = "{max_input} B"
min_payment = ["0.01 ERG"{f', "0.10 {coin.name}"' if coin.token else ""}]

[[services]]
name = "text-digest"
slot = {SLOT}
expected_duration = "10 s"

[[services]]
name = "word-count"
slot = {SLOT}
expected_duration = "20 s"

[bond]
endpoint = "http://127.0.0.1:{exchange}"

[exchange]
listen = "127.0.0.1:{exchange}"

[ops]
listen = "127.0.0.1:{ops}"
data_dir = "{folder / "data"}"
log_format = "json"
{_asset(coin)}''')
    return config


def _asset(coin: Coin) -> str:
    if coin.token is None:
        return ""
    worth = f"{format_erg(TOKEN_WORTH)}"
    return f'[[assets]]\nname = "{coin.name}"\nid = "{coin.token.hex()}"\ndecimals = {coin.decimals}\nmax_worth = "{worth}"\n'


def last_lines(log: Path, count: int = 5) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-count:])
