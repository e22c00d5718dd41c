"""From named outputs to a balanced transaction: fee, coin selection and change.

A `Plan` is the whole of a transaction before it is signed. It is what the journal records, what the signer checks what it is asked
to sign against, and what `unsigned()` turns into bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ergo_lib_python.chain import Constant, ContextExtension, ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.ergo_tree import ErgoTree
from ergo_lib_python.transaction import DataInput, UnsignedInput, UnsignedTransaction

from aihd.errors import AihdError, Exit
from aihd.protocol.boxes import RegisterMap, tokens_of
from aihd.protocol.constants import MIN_BOX
from aihd.protocol.trees import FEE_TREE
from aihd.protocol.units import NanoErg, format_erg


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


class InsufficientFundsError(AihdError):
    """The wallet cannot pay for a transaction; nothing was built."""

    exit_code = Exit.TEMPORARY


@dataclass(frozen=True, slots=True)
class Output:
    """An output that a plan names: `value` nanoERG under `tree`."""

    value: int
    tree: bytes
    tokens: tuple[tuple[bytes, int], ...] = ()
    registers: RegisterMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Funds:
    """What may be spent: wallet boxes (in the order in which they should be used up), the tree that takes the change, the fee."""

    boxes: tuple[ErgoBox, ...]
    change: bytes
    fee: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A transaction before its proofs. `outputs` are all of them: named ones first, then the miner's fee, then change."""

    kind: TxKind
    inputs: tuple[ErgoBox, ...]
    outputs: tuple[Output, ...]
    named: int
    fee: int
    creation_height: int
    signer: bytes | None
    variables: Mapping[int, Constant] = field(default_factory=dict)
    data_inputs: tuple[ErgoBox, ...] = ()

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
    burned: Iterable[bytes] = (),
) -> Plan:
    """Add wallet boxes, fee and change to `inputs` and `named` outputs until nothing is left over.

    `height` is the HEIGHT that scripts will see at the earliest. What the inputs hold beyond the named outputs and the fee goes to
    `funds.change`; tokens too, but for `burned` ones. InsufficientFundsError names what is missing.
    """
    needed = sum(output.value for output in named) + funds.fee
    chosen = _choose(inputs, needed, funds.boxes)
    every = (*inputs, *chosen)
    left = sum(box.value for box in every) - needed
    fee_output = [Output(funds.fee, FEE_TREE)] if funds.fee else []
    change = _change(every, named, left, funds.change, set(burned))
    return Plan(
        kind,
        every,
        (*named, *fee_output, *change),
        len(named),
        funds.fee,
        # One block behind HEIGHT, so that a node that has not seen the newest block takes it too; never under an input (EIP-39).
        max(height - 1, *(box.creation_height for box in every)),
        signer,
        variables or {},
    )


def _choose(inputs: Sequence[ErgoBox], needed: int, wallet: Iterable[ErgoBox]) -> list[ErgoBox]:
    """As many wallet boxes as it takes to leave either nothing or a change box that may exist."""
    have = sum(box.value for box in inputs)
    taken = {str(box.box_id) for box in inputs}
    chosen: list[ErgoBox] = []
    for box in wallet:
        if have == needed or have >= needed + MIN_BOX:
            break
        if str(box.box_id) not in taken:
            chosen.append(box)
            have += box.value
    if have != needed and have < needed + MIN_BOX:
        missing = format_erg(NanoErg(needed + MIN_BOX - have))
        raise InsufficientFundsError(
            f"the wallet is short of {missing}: {format_erg(NanoErg(needed))} are needed, and change"
        )
    return chosen


def _change(
    inputs: Iterable[ErgoBox], named: Iterable[Output], left: int, tree: bytes, burned: set[bytes]
) -> list[Output]:
    tokens: Counter[bytes] = Counter()
    for box in inputs:
        tokens.update(dict(tokens_of(box)))
    for output in named:
        tokens.subtract(dict(output.tokens))
    kept = tuple((token, amount) for token, amount in tokens.items() if amount > 0 and token not in burned)
    if not left and kept:
        raise InsufficientFundsError(
            f"no nanoERG are left to carry {len(kept)} tokens of the inputs back to the wallet"
        )
    return [Output(left, tree, kept)] if left else []
