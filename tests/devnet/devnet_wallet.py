"""Keys, transactions and a HTTP client for the tests of the devnet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from ergo_lib_python.chain import Constant, ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.chain import NonMandatoryRegisterId as Register
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import DataInput, Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet import Devnet
from aihd.devnet.chain import Chain
from aihd.protocol.context import state_context
from aihd.protocol.trees import FEE_TREE, address_of, p2pk_tree, parse_tree

ERG = 10**9
FEE = 1_100_000

# sigmaProp(HEIGHT < R5 && OUTPUTS(0).value >= dataInputs(0).R4 && OUTPUTS(0) keeps script and R5) && R4, compiled by
# the reference compiler
DEADLINE_TREE = bytes.fromhex(
    "100204000400d802d601e4c6a70504d602b2a5730000ea02d1ed8fa37201eded92c17202e4c6b2db6501fe730100040593c27202c2a793"
    "e4c6720205047201e4c6a70408"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is the same in every run."""

    secret: SecretKey
    public: bytes

    @property
    def tree(self) -> bytes:
        return p2pk_tree(self.public)

    @property
    def address(self) -> str:
        return address_of(self.tree)

    @property
    def sigma_prop(self) -> Constant:
        return Constant.from_bytes(b"\x08\xcd" + self.public)


def key(number: int) -> Key:
    """The key of this number."""
    secret = SecretKey.from_bytes(hashlib.sha256(f"test key {number}".encode()).digest())
    public = secret.public_image()
    assert isinstance(public, ProveDlog)
    return Key(secret, bytes(public.h))


def out(
    value: int,
    tree: bytes,
    height: int,
    *,
    tokens: Sequence[tuple[str, int]] = (),
    registers: Sequence[Constant] = (),
) -> ErgoBoxCandidate:
    """An output; registers from R4 on."""
    names = (Register.R4, Register.R5, Register.R6, Register.R7, Register.R8, Register.R9)
    return ErgoBoxCandidate(
        value=value,
        script=parse_tree(tree),
        creation_height=height,
        tokens=[Token(TokenId(token_id), amount) for token_id, amount in tokens] or None,
        registers=dict(zip(names, registers, strict=False)) or None,
    )


def unsigned(
    boxes: Sequence[ErgoBox], outputs: Sequence[ErgoBoxCandidate], data: Sequence[ErgoBox] = ()
) -> UnsignedTransaction:
    """A transaction over whole boxes."""
    return UnsignedTransaction(
        [UnsignedInput(box.box_id) for box in boxes], [DataInput(box.box_id) for box in data], list(outputs)
    )


def sign(
    chain: Chain,
    keys: Sequence[Key],
    boxes: Sequence[ErgoBox],
    outputs: Sequence[ErgoBoxCandidate],
    data: Sequence[ErgoBox] = (),
) -> Transaction:
    """A signed transaction in the chain's present context."""
    wallet = Wallet([key.secret for key in keys])
    return wallet.sign_transaction(unsigned(boxes, outputs, data), list(boxes), list(data), chain.context)


def pay(chain: Chain, owner: Key, box: ErgoBox, to: bytes, value: int, fee: int = FEE) -> Transaction:
    """Pays from one box; the change goes back."""
    height = max(chain.height, box.creation_height)
    outputs = [out(value, to, height), out(fee, FEE_TREE, height)]
    if box.value > value + fee:
        outputs.append(out(box.value - value - fee, owner.tree, height))
    return sign(chain, [owner], [box], outputs)


def funded(chain: Chain, owner: Key, value: int = 10 * ERG) -> ErgoBox:
    """A confirmed box of this value under the owner's key."""
    tx_id = chain.faucet(owner.address, value)
    chain.mine()
    return chain.ledger.transactions[tx_id].view.outputs[0].box


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON of a response."""

    status: int
    json: Any


@dataclass(frozen=True, slots=True)
class Client:
    """Talks to both servers of a devnet."""

    devnet: Devnet
    session: aiohttp.ClientSession

    @property
    def chain(self) -> Chain:
        return self.devnet.chain

    async def explorer(self, path: str, body: Any = None) -> Answer:
        """GET, or POST where there is a body, below the Explorer's /api."""
        return await self._ask(f"{self.devnet.explorer_url}/api{path}", body)

    async def node(self, path: str, body: Any = None) -> Answer:
        """GET, or POST where there is a body."""
        return await self._ask(self.devnet.node_url + path, body)

    async def send(self, tx: Transaction) -> Answer:
        """Submits to the node."""
        return await self.node("/transactions", json.loads(tx.json()))

    async def sign(
        self, keys: Sequence[Key], boxes: Sequence[ErgoBox], outputs: Sequence[ErgoBoxCandidate]
    ) -> Transaction:
        """Signs as a wallet does that knows the chain through the node's API only."""
        headers = (await self.node("/blocks/lastHeaders/10")).json
        info = (await self.node("/info")).json
        context = state_context(headers[::-1], info["parameters"])
        wallet = Wallet([key.secret for key in keys])
        return wallet.sign_transaction(unsigned(boxes, outputs), list(boxes), [], context)

    async def _ask(self, url: str, body: Any) -> Answer:
        method = "GET" if body is None else "POST"
        async with self.session.request(method, url, json=body) as response:
            return Answer(response.status, json.loads(await response.read()))


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Client]:
    """A running devnet and a client of it."""
    async with Devnet(**options) as devnet, aiohttp.ClientSession() as session:
        yield Client(devnet, session)


def types_of(shape: Mapping[str, Any]) -> dict[str, str]:
    """Key -> name of the JSON type, to compare shapes."""
    return {name: type(value).__name__ for name, value in shape.items()}
