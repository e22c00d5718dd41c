"""A founded market with a bonded daemon, made once; every sequence starts from the same blocks and empty folders."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import stamina
from offchain import mnemonic_of

from aihd.chain.contracts import make_deployment, write_deployment
from aihd.chain.mnemonic import write_mnemonic
from aihd.chain.signer import Signer
from aihd.demo.world import SERVICES, SLOT, free_port
from aihd.devnet.chain import Chain, Saved
from aihd.protocol import guards, plans
from aihd.protocol.constants import MARKET_LIFE
from aihd.protocol.trees import address_of

from .front import Front, front
from .gateway import Gateway, gateway
from .people import Ground, Person
from .rig import Daemon

ERG: Final = 10**9
STAKE: Final = 20 * ERG
PURSES: Final = 4  # boxes that each wallet starts with
PURSE: Final = 25 * ERG
FINAL_DEPTH: Final = 10
CLAIM_MARGIN: Final = 3
RELEASE_MARGIN: Final = 5


@dataclass(frozen=True, slots=True)
class Place:
    """One daemon's seat: its key, its folder, the address of its door."""

    name: str
    signer: Signer
    mnemonic: Path
    door: int


@dataclass(slots=True)
class World:
    """The market, and who is on it. `start` is what `again` returns to."""

    folder: Path
    front: Front
    gateway: Gateway
    service: bytes
    ground: Ground
    client: Person
    rival: Person
    treasury: Signer
    places: tuple[Place, ...]
    deployment_file: Path
    start: Saved
    clock: Clock
    numbers: itertools.count[int]

    @property
    def chain(self) -> Chain:
        return self.ground.chain

    def again(self) -> list[Daemon]:
        """Back to the start: the same chain, all well, daemons without a memory (not started)."""
        self.front.calm()
        self.front.trap = None
        self.clock.now = 0
        self.chain.restore(self.start)
        self.gateway.forget()
        self.ground.forget()
        self.client.jobs.clear()
        return [self._daemon(place) for place in self.places]

    def _daemon(self, place: Place) -> Daemon:
        folder = self.folder / f"{place.name}-{next(self.numbers)}"
        folder.mkdir()
        return Daemon(self._settings(place), folder, self.front, self.gateway)

    def _settings(self, place: Place) -> dict[str, Any]:
        return {
            "chain.network": "devnet",
            "chain.node_urls": [self.front.node_url],
            "chain.explorer_urls": [self.front.explorer_url],
            "chain.poll": "1 s",
            "chain.final_depth": FINAL_DEPTH,
            "chain.deployment": str(self.deployment_file),
            "wallet.mnemonic_file": str(place.mnemonic),
            "wallet.max_spend_per_tx": "10 ERG",
            "wallet.max_spend_per_hour": "100 ERG",
            "wallet.max_spend_per_day": "100 ERG",
            "nodo.gateway": self.gateway.address,
            "nodo.storage": str(self.gateway.storage),
            "nodo.start_timeout": "500 ms",
            "reputation.index": False,  # it only reads, and has tests of its own
            "policy.max_open_tasks": 40,
            "policy.claim_margin_blocks": CLAIM_MARGIN,
            "policy.release_margin_blocks": RELEASE_MARGIN,
            "services": [{"name": "text-digest", "slot": SLOT, "expected_duration": "2 s"}],
            "bond.endpoint": f"http://127.0.0.1:{place.door}",
            "exchange.listen": f"127.0.0.1:{place.door}",
            "ops.listen": "127.0.0.1:0",
        }


@dataclass(slots=True)
class Clock:
    """What the miners' clocks show, in ms."""

    now: int = 0


@asynccontextmanager
async def world(folder: Path, names: Sequence[str] = ("node",)) -> AsyncIterator[World]:
    """Found the market in `folder`, with a seat and a bond for each name."""
    was_active = stamina.is_active()
    stamina.set_active(False)  # a retry would only wait: nothing changes between two requests here
    try:
        async with AsyncExitStack() as stack:
            clock = Clock()
            chain = Chain(clock=lambda: clock.now)
            made = await stack.enter_async_context(front(chain))
            nodo = await stack.enter_async_context(gateway(folder / "nodo"))
            yield _founded(folder, names, chain, clock, made, nodo)
    finally:
        stamina.set_active(was_active)


def _founded(folder: Path, names: Sequence[str], chain: Chain, clock: Clock, made: Front, nodo: Gateway) -> World:
    deployer, treasury, client, rival = (
        Signer(f"the key of {name}") for name in ("deployer", "treasury", "client", "rival")
    )
    _fund(chain, deployer, 1)
    first = Ground(
        chain, make_deployment(network="devnet", bond_token=b"\0" * 32, treasury=treasury.tree, expiry=MARKET_LIFE)
    )
    token = bytes(first.spendable(deployer.tree)[0].box_id)
    ground = Ground(
        chain, make_deployment(network="devnet", bond_token=token, treasury=treasury.tree, expiry=MARKET_LIFE)
    )
    founder = Person(ground, deployer)
    tx = founder.do(plans.deploy(ground.market, founder.funds))
    chain.mine()
    made.old_transaction = str(tx.id)
    file = folder / "deployment.json"
    write_deployment(file, ground.deployment, chain.blocks[0].block_id)
    places = tuple(_place(folder, name) for name in names)
    seats = [(place.signer, f"http://127.0.0.1:{place.door}") for place in places]
    for signer, endpoint in (*seats, (rival, "http://127.0.0.1:1")):
        _fund(chain, signer)
        Person(ground, signer).open_bond(STAKE, endpoint)
        chain.mine()
    _fund(chain, client)
    chain.mine(guards.BIRTH_LEAD + 10)
    people = (Person(ground, client), Person(ground, rival))
    service = nodo.install(SERVICES / "text_digest")
    return World(
        *(folder, made, nodo, service, ground, *people, treasury, places, file, chain.save(), clock),
        numbers=itertools.count(),
    )


def _fund(chain: Chain, signer: Signer, purses: int = PURSES) -> None:
    for _ in range(purses):
        chain.faucet(address_of(signer.tree), PURSE)
    chain.mine()


def _place(folder: Path, name: str) -> Place:
    path = folder / f"{name}.mnemonic"
    words = mnemonic_of(name)
    write_mnemonic(path, words, None)
    return Place(name, Signer(words), path, free_port())
