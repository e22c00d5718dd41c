"""Two nodos, as far as aihd's payment process meets them: processes of their own, on a chain with a market on it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onchain import POLL, NodeRig, World, market, node_rig

from aihd.chain.mnemonic import new_mnemonic, write_mnemonic
from aihd.chain.signer import Signer
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import EmbeddedGateway
from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.nodo.payment.settings import VARIABLE
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import address_of
from aihd.services.engine import Offered

HARNESS = Path(__file__).with_name("payment_harness.py")
LEDGER = "message Ledger { repeated string tags = 1; string prose = 2; bytes formal = 3; }"
CONTRACTS = {
    "VFEB": "message ScriptTemplate { repeated string tags = 1; string prose = 2; bytes formal = 3; } "
    "ScriptTemplate template = 1; bytes script = 2; string token_id = 3; Ledger ledger = 4;",
    "VJUL": "Ledger ledger = 1; map<string, bytes> xattrs = 2;",
    "VNEW": "Ledger ledger = 1; repeated BytesKeyValue xattrs = 2;",
}
DATABASE = """
import sqlite3
from pathlib import Path

DATABASE_FILE = str(Path(__file__).parents[2] / "database.sqlite")


class SQLConnection:
    contracts = []

    def add_contract(self, contract):
        self.contracts.append(contract)

    def _execute(self, query, params=()):
        with sqlite3.connect(DATABASE_FILE) as connection:
            return connection.execute(query, params)
"""
ENDED = "the process has ended"
LONGEST_CALL = 10.0  # seconds: nodo's threads have more to do


def nodo_folder(folder: Path, version: str, python: str) -> Path:
    """What of nodo's own modules the payment process touches: its protobuf classes, and where contracts are advertised."""
    for part in ("protos", "src/database"):
        (folder / part).mkdir(parents=True)
    (folder / "src" / "database" / "sql_connection.py").write_text(DATABASE)
    (folder / "protos" / "celaut.proto").write_text(
        'syntax = "proto3"; package celaut;\n'
        "message BytesKeyValue { string key = 1; optional bytes value = 2; }\n"
        f"message Contract {{ {LEDGER} {CONTRACTS[version]} }}\n"
        "message Payment { string deposit_token = 1; Contract contract = 2; }\n"
    )
    out = str(folder / "protos")
    command = [python, "-m", "grpc_tools.protoc", f"-I{out}", f"--python_out={out}", f"{out}/celaut.proto"]
    subprocess.run(command, check=True)
    create_database(folder, NodoVersion[version])
    return folder


@dataclass
class Nodo:
    """The other process; `call` may be used many times at once."""

    process: Process
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    waiting: dict[int, asyncio.Future[Any]] = field(default_factory=dict)
    ended: bool = False

    async def read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            answer = json.loads(line)
            waiting = self.waiting.pop(answer["id"])
            assert answer["took"] < LONGEST_CALL, "no call keeps a thread of nodo's"
            if waiting.done():
                continue  # nobody waits any more
            if "error" in answer:
                waiting.set_exception(RuntimeError(answer["error"]))
            else:
                waiting.set_result(answer["value"])
        self.ended = True
        for left in self.waiting.values():
            if not left.done():
                left.set_exception(RuntimeError(ENDED))
        self.waiting.clear()

    def call(self, name: str, *args: object) -> asyncio.Future[Any]:
        assert self.process.stdin is not None
        number = next(self.numbers)
        self.waiting[number] = asyncio.get_running_loop().create_future()
        if self.ended:
            self.waiting[number].set_exception(RuntimeError(ENDED))
            return self.waiting.pop(number)
        self.process.stdin.write(json.dumps({"id": number, "call": name, "args": args}).encode() + b"\n")
        return self.waiting[number]

    def pay(self, *args: object) -> asyncio.Task[Any]:
        """As `call` of "pay", asked again while the payment is not delivered."""
        return asyncio.create_task(self._pay(args))

    async def _pay(self, args: tuple[object, ...]) -> Any:
        while True:
            try:
                return await self.call("pay", *args)
            except RuntimeError as error:
                if not str(error).startswith(("PendingError", "TemporaryError: the wallet that pays is busy")):
                    raise


@asynccontextmanager
async def nodo(
    folder: Path,
    settings: Path,
    version: str = "VNEW",
    python: str = sys.executable,
    watched: Mapping[str, str] | None = None,
) -> AsyncIterator[Nodo]:
    part = folder / f"nodo-{version}"
    if not part.exists():  # else one that was killed comes back
        nodo_folder(part, version, python)
    process = await asyncio.create_subprocess_exec(
        python,
        str(HARNESS),
        str(part),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, VARIABLE: str(settings), **(watched or {})},
    )
    running = Nodo(process)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if running.waiting and process.returncode is None:
            process.kill()  # a test that failed while it was busy
        await process.wait()
        await reading


@dataclass
class Place:
    """A market with a daemon, a wallet that pays, and the settings of both sides in one file."""

    world: World
    gateway: EmbeddedGateway
    offered: dict[bytes, Offered]
    node: NodeRig
    payer: Signer
    folder: Path
    stack: AsyncExitStack

    @property
    def script(self) -> str:
        """The daemon's, as nodo knows a payee by."""
        return self.node.party.signer.tree.hex()

    @property
    def payee(self) -> str:
        """Its address."""
        return address_of(self.node.party.signer.tree)

    def settings(self, **changes: object) -> Path:
        values: dict[str, object] = {
            "config": str(self.folder / "payer.toml"),
            "payee": self.payee,
            "service": next(iter(self.offered)).hex(),
            "input": str(self.folder / "input"),
            "wait": "2 s",
            "patience": "0.2 s",
            **changes,
        }
        path = self.folder / "payment.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
        return path

    async def nodo(self, version: str = "VNEW", python: str = sys.executable, **changes: object) -> Nodo:
        return await self.stack.enter_async_context(nodo(self.folder, self.settings(**changes), version, python))

    def escrows(self) -> list[str]:
        tree = self.world.deployment.trees[Guard.TASK]
        return [str(box.box_id) for box in self.world.boxes(tree)]

    async def posted(self, *payments: asyncio.Future[Any]) -> list[str]:
        """Ids of the escrows of payments that are under way, once they are on the chain."""
        async with asyncio.timeout(30):
            while len(self.escrows()) < len(payments):
                for payment in payments:
                    if payment.done():
                        payment.result()
                if len(self.world.chain.pool):
                    self.world.chain.mine()
                await asyncio.sleep(POLL)
        return self.escrows()

    async def until(self, done: Callable[[], bool], *rigs: NodeRig) -> None:
        """Let daemons work and blocks come until it is true."""
        async with asyncio.timeout(40):
            while not done():
                for rig in rigs or (self.node,):
                    await rig.turn()
                    await rig.execute.drained()
                self.world.chain.mine()
                await asyncio.sleep(POLL)

    async def paid(self, payment: asyncio.Future[Any], *rigs: NodeRig) -> dict[str, str]:
        await self.until(payment.done, *rigs)
        told: dict[str, str] = payment.result()
        return told


@asynccontextmanager
async def payment_place(tmp_path: Path) -> AsyncIterator[Place]:
    """A place to pay at, in a folder."""
    async with (
        market(tmp_path) as world,
        EmbeddedGateway(tmp_path / "nodo") as gateway,
        AsyncExitStack() as stack,
    ):
        offered = {gateway.install(SERVICES / "text_digest"): Offered("text-digest", SLOT, "/run")}
        node = await stack.enter_async_context(node_rig(world, gateway, offered))
        words = new_mnemonic()
        write_mnemonic(tmp_path / "words", words, None)
        (tmp_path / "input").write_text("one two\n")
        (tmp_path / "payer.toml").write_text(
            f'[chain]\nnetwork = "devnet"\nnode_urls = ["{world.devnet.node_url}"]\n'
            f'explorer_urls = ["{world.devnet.explorer_url}"]\ndeployment = "{world.deployment_file}"\n'
            f'poll = "0.1 s"\nfinal_depth = 4\n[wallet]\nmnemonic_file = "{tmp_path / "words"}"\n'
            f'max_spend_per_tx = "2 ERG"\nmax_spend_per_hour = "5 ERG"\n[ops]\ndata_dir = "{tmp_path / "payer"}"\n'
        )
        payer = Signer(words)
        world.fund(payer)
        yield Place(world, gateway, offered, node, payer, tmp_path, stack)
