"""From named outputs to a balanced transaction: fee, coin selection and change.

A `Plan` is the whole of a transaction before it is signed. It is what the journal records, what the signer checks what it is asked
to sign against, and what `unsigned()` turns into bytes.

Promise: what goes in comes out again, nanoERG and each token by its amount, but for what the plan says is burned. Change is split over
boxes that the chain takes, and a plan that no node would take for its size is refused here, with what would fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from ergo_lib_python.chain import Constant, ContextExtension, ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.ergo_tree import ErgoTree
from ergo_lib_python.transaction import DataInput, UnsignedInput, UnsignedTransaction

from aihd.protocol.boxes import RegisterMap, tokens_of
from aihd.protocol.coins import (
    BOX_BYTES,
    INPUT_BYTES,
    INPUT_COST,
    OUTPUT_COST,
    TOKEN_BYTES,
    TOKEN_COST,
    Demand,
    Tokens,
    batches,
    select,
    total_of,
)
from aihd.protocol.coins import InsufficientFundsError as InsufficientFundsError
from aihd.protocol.rules import MAX_TX_SIZE
from aihd.protocol.trees import FEE_TREE

MIN_VALUE_PER_BYTE: Final = 360  # nanoERG that a box must hold for each of its bytes, unless miners vote otherwise
MAX_COST: Final = 4_900_000  # of a transaction, policy of the main net's nodes
SMALLEST_MAX_COST: Final = 800_000  # and on the network whose nodes take least
# What else a transaction takes at most: context variables, data inputs and the fee; the interpreter's start and the guards.
_OTHER_BYTES: Final = 1_024
_OTHER_COST: Final = 40_000


class TxKind(StrEnum):
    """Every transaction of the protocol, `send` for a plain payment, `opinion` for the node's own reputation proof."""

    DEPLOY = "deploy"
    OPEN_BOND = "bond"
    MANAGE = "manage"
    WITHDRAW = "withdraw"
    POST = "post"
    CLAIM = "claim"
    RELEASE = "release"
    FAIL = "fail"
    TIMEOUT = "timeout"
    REFUND = "refund"
    CANCEL = "cancel"
    COMMIT = "commit"
    REVEAL = "reveal"
    SETTLE = "settle"
    RECLAIM = "reclaim"
    SEND = "send"
    OPINION = "opinion"


@dataclass(frozen=True, slots=True)
class Output:
    """An output that a plan names: `value` nanoERG under `tree`."""

    value: int
    tree: bytes
    tokens: tuple[tuple[bytes, int], ...] = ()
    registers: RegisterMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Funds:
    """What may be spent: wallet boxes (in the order in which they should be used up), the tree that takes the change, the fee.

    `first` are those of the boxes that have to be spent. `per_byte` is the nanoERG that the chain asks for each byte of a box, `max_cost`
    what nodes take in one transaction.
    """

    boxes: tuple[ErgoBox, ...]
    change: bytes
    fee: int
    per_byte: int = MIN_VALUE_PER_BYTE
    max_cost: int = SMALLEST_MAX_COST
    first: tuple[ErgoBox, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A transaction before its proofs. `outputs` are all of them: named ones first, then the miner's fee, then change.

    `burned` are the tokens of its inputs that no output holds, all of them from boxes that are not the wallet's.
    """

    kind: TxKind
    inputs: tuple[ErgoBox, ...]
    outputs: tuple[Output, ...]
    named: int
    fee: int
    creation_height: int
    signer: bytes | None
    variables: Mapping[int, Constant] = field(default_factory=dict)
    data_inputs: tuple[ErgoBox, ...] = ()
    burned: Tokens = field(default_factory=dict)

    def unsigned(self) -> UnsignedTransaction:
        """The transaction without proofs; `variables` are the context variables of its first input."""
        inputs = [
            UnsignedInput(box.box_id, ContextExtension(dict(self.variables)) if index == 0 else None)
            for index, box in enumerate(self.inputs)
        ]
        data_inputs = [DataInput(box.box_id) for box in self.data_inputs]
        return UnsignedTransaction(inputs, data_inputs, [self._candidate(output) for output in self.outputs])

    @property
    def tx_id(self) -> str:
        return str(self.unsigned().id)

    def _candidate(self, output: Output) -> ErgoBoxCandidate:
        return ErgoBoxCandidate(
            value=output.value,
            script=ErgoTree.from_bytes(output.tree),
            creation_height=self.creation_height,
            tokens=[Token(TokenId(token), amount) for token, amount in output.tokens] or None,
            registers=dict(output.registers) or None,
        )


def balance(
    kind: TxKind,
    inputs: Sequence[ErgoBox],
    named: Sequence[Output],
    funds: Funds,
    height: int,
    *,
    signer: bytes | None,
    variables: Mapping[int, Constant] | None = None,
    burned: Tokens | Iterable[bytes] = (),
) -> Plan:
    """Add wallet boxes, fee and change to `inputs` and `named` outputs until nothing is left over.

    `height` is the HEIGHT that scripts will see at the earliest. What the inputs hold beyond the named outputs, the fee and what is
    `burned` goes to `funds.change`. `burned` are amounts by token id, or ids: then all that `inputs` hold of them and no named output
    carries on. Tokens of wallet boxes are never burned, and no wallet box is taken where the inputs do.
    InsufficientFundsError names what is missing, or how much one transaction can move.
    """
    burning = _burning(burned, inputs, named)
    demand = demand_of(inputs, named, funds, burning)
    # A token has the id of the box that a transaction spends first.
    minter = () if inputs else tuple(box for box in funds.boxes if demand.tokens.get(bytes(box.box_id), 0) > 0)[:1]
    if minter:
        demand = demand_of((), named, funds, burning, minted=bytes(minter[0].box_id))
    chosen = select(demand, funds.boxes, (*minter, *funds.first))
    every = (*inputs, *chosen.boxes)
    fee = funds.fee + chosen.crumbs
    change = (Output(part.value, funds.change, part.tokens) for part in chosen.change)
    return Plan(
        kind,
        every,
        (*named, *([Output(fee, FEE_TREE)] if fee else []), *change),
        len(named),
        fee,
        # One block behind HEIGHT, so that a node that has not seen the newest block takes it too; never under an input (EIP-39).
        max(height - 1, *(box.creation_height for box in every)),
        signer,
        variables or {},
        burned=burning,
    )


def to_put_together(funds: Funds, leave: int) -> list[list[ErgoBox]]:
    """The boxes of a wallet that one transaction each turns into fewer; the `leave` largest stay as they are."""
    return batches(funds.boxes, demand_of((), (), funds, {}), leave)


def put_together(boxes: Sequence[ErgoBox], funds: Funds, height: int) -> Plan:
    """Turn boxes of the wallet into as few as hold what is in them; InsufficientFundsError when they do not fit one transaction."""
    return balance(TxKind.SEND, boxes, (), replace(funds, boxes=(), first=()), height, signer=None)


def _burning(burned: Tokens | Iterable[bytes], inputs: Iterable[ErgoBox], named: Iterable[Output]) -> dict[bytes, int]:
    if isinstance(burned, Mapping):
        return {token: amount for token, amount in burned.items() if amount}
    held, carried = total_of(map(tokens_of, inputs)), total_of(output.tokens for output in named)
    return {token: held[token] - carried[token] for token in burned if held[token] > carried[token]}


def demand_of(
    inputs: Sequence[ErgoBox], named: Sequence[Output], funds: Funds, burning: Tokens, minted: bytes = b""
) -> Demand:
    """What is missing beside `inputs` and a token that is made, and the room that they and `named` outputs leave in a transaction."""
    tokens = total_of(output.tokens for output in named) + Counter(burning)
    tokens.subtract(total_of(map(tokens_of, inputs)))
    minted = bytes(inputs[0].box_id) if inputs else minted
    if tokens[minted] > 0:
        del tokens[minted]
    entries = sum(len(box.tokens) for box in inputs) + sum(len(output.tokens) for output in named)
    return Demand(
        value=sum(output.value for output in named) + funds.fee - sum(box.value for box in inputs),
        tokens=tokens,
        spent=frozenset(str(box.box_id) for box in inputs),
        tree=funds.change,
        per_byte=funds.per_byte,
        room_bytes=MAX_TX_SIZE - _OTHER_BYTES - INPUT_BYTES * len(inputs) - sum(map(_size, named)),
        room_cost=funds.max_cost
        - _OTHER_COST
        - INPUT_COST * len(inputs)
        - OUTPUT_COST * len(named)
        - TOKEN_COST * entries,
    )


def _size(output: Output) -> int:
    """Bytes of an output in a transaction, at most."""
    registers = sum(len(bytes(constant)) for constant in output.registers.values())
    return BOX_BYTES + len(output.tree) + TOKEN_BYTES * len(output.tokens) + registers
