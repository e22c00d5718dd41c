"""What a transaction needs around it: parties with keys, headers at any height, raw transactions, proofs made by hand.

A `Draft` is a transaction as an attacker writes it: any inputs, outputs, registers, tokens, variables, data inputs, in any order. It
knows no rule but that of sums: what its inputs hold beyond its outputs goes to the `change` tree, and tokens it does not place burn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Self, TypeVar

from ergo_lib_python.chain import (
    Address,
    Constant,
    ContextExtension,
    ErgoBox,
    ErgoBoxCandidate,
    ErgoStateContext,
    Token,
    TokenId,
)
from ergo_lib_python.ergo_tree import ErgoTree
from ergo_lib_python.transaction import DataInput, Transaction, TxId, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import DerivationPath, ExtSecretKey, Wallet, to_seed

from aihd.protocol import codec
from aihd.protocol.boxes import Content
from aihd.protocol.context import state_context
from aihd.protocol.funding import Plan
from aihd.protocol.trees import GENERATOR, p2pk_tree

PARAMETERS: Final[dict[str, Any]] = {
    "blockVersion": 3,
    "maxBlockCost": 8_001_091,
    "maxBlockSize": 1_271_009,
    "inputCost": 2407,
    "dataInputCost": 100,
    "outputCost": 298,
    "tokenAccessCost": 100,
    "minValuePerByte": 360,
    "storageFeeFactor": 1_250_000,
    "height": 1000,
}
Tokens = tuple[tuple[bytes, int], ...]
C = TypeVar("C", bound=Content)


@dataclass(frozen=True, slots=True, eq=False)
class Party:
    """Somebody with one key."""

    name: str
    pk: bytes
    address: Address
    wallet: Wallet

    @classmethod
    def of(cls, name: str) -> Self:
        key = ExtSecretKey.derive_master(to_seed(f"party {name}", "")).derive(DerivationPath(0, [0]))
        public = key.public_key()
        return cls(name, public.pub_key_bytes, public.address(), Wallet([key.secret_key()]))

    @property
    def tree(self) -> bytes:
        return p2pk_tree(self.pk)

    def proof(self, message: bytes) -> bytes:
        """A signature in the form of a P2PK proof: made without asking whether any script holds."""
        return bytes(self.wallet.sign_message_using_p2pk(self.address, message))


NODE, RIVAL, CLIENT, STRANGER, TREASURER, DEPLOYER = map(
    Party.of, ("node", "rival", "client", "stranger", "treasurer", "deployer")
)


def header_id(height: int) -> str:
    return hashlib.sha256(b"header %d" % height).hexdigest()


def header(height: int) -> dict[str, Any]:
    """A header in node JSON; no work stands behind it."""
    return {
        "id": header_id(height),
        "parentId": header_id(height - 1),
        "version": 3,
        "height": height,
        "timestamp": 1_700_000_000_000 + 120_000 * height,
        "nBits": 117_501_863,
        "votes": "000000",
        "stateRoot": "00" * 33,
        "adProofsRoot": "00" * 32,
        "transactionsRoot": "00" * 32,
        "extensionHash": "00" * 32,
        "powSolutions": {"pk": GENERATOR.hex(), "w": GENERATOR.hex(), "n": "00" * 8, "d": 0},
    }


def headers(tip: int) -> list[dict[str, Any]]:
    """The last ten headers, newest first."""
    return [header(height) for height in range(tip, tip - 10, -1)]


@cache
def context(tip: int) -> ErgoStateContext:
    return state_context(headers(tip), PARAMETERS)


@dataclass(frozen=True, slots=True)
class Out:
    """An output; `height` is the creation height it declares, by default that of the draft."""

    value: int
    tree: bytes
    tokens: Tokens = ()
    registers: tuple[Constant, ...] = ()
    height: int | None = None

    def candidate(self, height: int) -> ErgoBoxCandidate:
        return ErgoBoxCandidate(
            value=self.value,
            script=_parsed(self.tree),
            creation_height=height if self.height is None else self.height,
            tokens=[Token(TokenId(token), amount) for token, amount in self.tokens] or None,
            registers=dict(zip(codec.REGISTER_IDS, self.registers, strict=False)) or None,
        )


@cache
def _parsed(tree: bytes) -> ErgoTree:
    return ErgoTree.from_bytes(tree)


def box_of(out: Out, origin: bytes, height: int) -> ErgoBox:
    """An output as a box on the chain, made at `height` by a transaction whose id is hashed from `origin`."""
    return ErgoBox.from_box_candidate(out.candidate(height), TxId(hashlib.sha256(origin).hexdigest()), 0)


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction to be mined after block `tip`; `signers` are those whose keys its maker holds."""

    inputs: tuple[ErgoBox, ...]
    outputs: tuple[Out, ...]
    tip: int
    signers: tuple[Party, ...]
    height: int
    change: bytes
    data_inputs: tuple[ErgoBox, ...] = ()
    variables: Mapping[int, Mapping[int, Constant]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, tip: int, signers: tuple[Party, ...], coins: tuple[ErgoBox, ...]) -> Draft:
        """A plan as a draft: its named outputs and fee, and every coin as an input whether the plan needs it or not."""
        kept = plan.outputs[: plan.named + bool(plan.fee)]
        spent = {str(box.box_id) for box in plan.inputs}
        extra = tuple(coin for coin in coins if str(coin.box_id) not in spent)
        return cls(
            (*plan.inputs, *extra),
            tuple(Out(o.value, o.tree, o.tokens, _dense(o.registers)) for o in kept),
            tip,
            signers,
            plan.creation_height,
            signers[0].tree,
            variables={0: plan.variables} if plan.variables else {},
        )

    def by(self, *signers: Party) -> Draft:
        return replace(self, signers=signers)

    def at(self, tip: int) -> Draft:
        return replace(self, tip=tip)

    def out(self, index: int, **changes: Any) -> Draft:
        """Change fields of an output."""
        return self._swap(index, replace(self.outputs[index], **changes))

    def value(self, index: int, more: int) -> Draft:
        """Add to (or take from) the value of an output; change balances it."""
        return self.out(index, value=self.outputs[index].value + more)

    def register(self, index: int, number: int, constant: Constant) -> Draft:
        registers = self.outputs[index].registers
        return self.out(index, registers=(*registers[: number - 4], constant, *registers[number - 3 :]))

    def edit(self, index: int, kind: type[Content], **changes: Any) -> Draft:
        """Change fields of the content of an output."""
        content: Any = kind.read(box_of(self.outputs[index], b"edit", self.height))
        return self.out(index, registers=replace(content, **changes).constants())

    def add(self, *outs: Out) -> Draft:
        return replace(self, outputs=(*self.outputs, *outs))

    def insert(self, index: int, out: Out) -> Draft:
        return replace(self, outputs=(*self.outputs[:index], out, *self.outputs[index:]))

    def without(self, index: int) -> Draft:
        return replace(self, outputs=self.outputs[:index] + self.outputs[index + 1 :])

    def flip(self, a: int, b: int) -> Draft:
        """Exchange two outputs."""
        return self._swap(a, self.outputs[b])._swap(b, self.outputs[a])

    def spend(self, index: int, box: ErgoBox) -> Draft:
        """Insert an input; variables move along with the inputs they belong to."""
        moved = {i + (i >= index): found for i, found in self.variables.items()}
        return replace(self, inputs=(*self.inputs[:index], box, *self.inputs[index:]), variables=moved)

    def instead(self, index: int, box: ErgoBox) -> Draft:
        """Exchange an input for another box."""
        return replace(self, inputs=(*self.inputs[:index], box, *self.inputs[index + 1 :]))

    def read(self, *boxes: ErgoBox) -> Draft:
        return replace(self, data_inputs=boxes)

    def with_variables(self, index: int, variables: Mapping[int, Constant]) -> Draft:
        return replace(self, variables={**self.variables, index: variables})

    def _swap(self, index: int, out: Out) -> Draft:
        return replace(self, outputs=(*self.outputs[:index], out, *self.outputs[index + 1 :]))

    def unsigned(self) -> UnsignedTransaction:
        left = sum(box.value for box in self.inputs) - sum(out.value for out in self.outputs)
        outs = (*self.outputs, Out(left, self.change)) if left else self.outputs
        inputs = [
            UnsignedInput(box.box_id, ContextExtension(dict(self.variables.get(index, {}))))
            for index, box in enumerate(self.inputs)
        ]
        data = [DataInput(box.box_id) for box in self.data_inputs]
        return UnsignedTransaction(inputs, data, [out.candidate(self.height) for out in outs])


def message_of(unsigned: UnsignedTransaction) -> bytes:
    """What proofs are made for: the transaction's bytes with empty proofs."""
    return bytes(Transaction.from_unsigned_tx(unsigned, [b""] * len(unsigned.inputs)))


def _dense(registers: Mapping[Any, Constant]) -> tuple[Constant, ...]:
    return tuple(registers[register] for register in codec.REGISTER_IDS if register in registers)
