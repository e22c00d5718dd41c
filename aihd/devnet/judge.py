"""What the next block would say about a transaction: rules, scripts and proofs, and if wanted the JVM's second opinion.

Scripts are evaluated once for each tip: a mempool, a check and the block after it see the same context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ergo_lib_python.chain import ErgoBox, ErgoStateContext

from aihd.chain.appkit import Appkit, ScriptError, Verdict
from aihd.devnet.blocks import Block
from aihd.devnet.sigma import verify_transaction
from aihd.devnet.views import TxView
from aihd.protocol import rules
from aihd.protocol.context import HEADERS, next_header, state_context

Lookup = Callable[[str], ErgoBox | None]

MAX_TX_COST = 4_900_000  # block cost units, policy of the main net
BLOCK_HEADERS = 9  # what scripts see when a block is validated, one fewer than ergo-lib asks for
_INIT_COST = 10_000

_SCRIPTS = "Scripts of all transaction inputs should pass verification."


@dataclass(frozen=True, slots=True)
class Ruling:
    """`refusal`: why not, in the node's words, or None. `cost`: block cost units; without the JVM, a lower bound."""

    refusal: str | None
    cost: int


class Judge:
    """Judges transactions on top of a tip. `appkit`: the JVM, which must then accept what ergo-lib has accepted."""

    def __init__(self, parameters: Mapping[str, Any], appkit: Appkit | None = None) -> None:
        self.appkit = appkit
        self.disagreements = 0  # transactions that ergo-lib took and the JVM refused
        self._parameters = parameters
        self._tip: str | None = None
        self._context: ErgoStateContext | None = None
        self._rulings: dict[bytes, Ruling] = {}

    def context(self, blocks: Sequence[Block]) -> ErgoStateContext:
        """What scripts see on top of these blocks."""
        tip = blocks[-1].block_id
        if self._context is None or self._tip != tip:
            self._tip, self._rulings = tip, {}
            self._context = state_context([block.header for block in reversed(blocks[-HEADERS:])], self._parameters)
        return self._context

    def rule(
        self, blocks: Sequence[Block], view: TxView, unspent: Lookup, readable: Lookup, *, policy: bool = True
    ) -> Ruling:
        """The ruling for the block after `blocks`. `policy`: with what a mempool asks beyond the chain's rules."""
        boxes = [box for box in map(unspent, view.inputs) if box]
        data_boxes = [box for box in map(readable, view.data_inputs) if box]
        found = rules.violations(
            view.tx, boxes, height=len(blocks) + 1, parameters=self._parameters, data_inputs=data_boxes
        )
        for violation in found:
            if policy or violation.code not in rules.POLICY:
                return Ruling(violation.text, 0)
        context = self.context(blocks)
        ruling = self._rulings.get(view.raw)
        if ruling is None:
            ruling = self._rulings[view.raw] = self._evaluate(blocks, view, boxes, data_boxes, context)
        if policy and ruling.cost > MAX_TX_COST:
            return Ruling(f"Transaction {view.tx_id} cost exceeds limit: {ruling.cost} > {MAX_TX_COST}", ruling.cost)
        return ruling

    def _evaluate(
        self,
        blocks: Sequence[Block],
        view: TxView,
        boxes: list[ErgoBox],
        data_boxes: list[ErgoBox],
        context: ErgoStateContext,
    ) -> Ruling:
        for result in verify_transaction(view.tx, boxes, data_boxes, context):
            if not result.ok:
                return Ruling(f"{_SCRIPTS} {view.tx_id}: #{result.index} => {result.text}", 0)
        if self.appkit is None:
            return Ruling(None, self._least_cost(view, boxes))
        try:
            verdict = second_opinion(self.appkit, view, boxes, data_boxes, blocks, self._parameters)
        except ScriptError as error:
            self.disagreements += 1
            return Ruling(f"{_SCRIPTS} {view.tx_id}: Failure(the JVM: {error})", 0)
        for index, judged in enumerate(verdict.inputs):
            if not judged.ok:
                self.disagreements += 1
                return Ruling(f"{_SCRIPTS} {view.tx_id}: #{index} => Failure(the JVM: {judged.error})", verdict.cost)
        return Ruling(None, verdict.cost)

    def _least_cost(self, view: TxView, boxes: Sequence[ErgoBox]) -> int:
        """What a node charges before any script runs."""
        held = [[token_id for token_id, _ in box.tokens] for box in view.outputs]
        held += [[bytes(token.token_id).hex() for token in box.tokens or ()] for box in boxes]
        accesses = sum(map(len, held)) + len({token_id for ids in held for token_id in ids})
        counts = {
            "inputCost": len(boxes),
            "dataInputCost": len(view.data_inputs),
            "outputCost": len(view.outputs),
            "tokenAccessCost": accesses,
        }
        return _INIT_COST + sum(int(self._parameters[name]) * count for name, count in counts.items())


def second_opinion(
    appkit: Appkit,
    view: TxView,
    boxes: Sequence[ErgoBox],
    data_boxes: Sequence[ErgoBox],
    blocks: Sequence[Block],
    parameters: Mapping[str, Any],
) -> Verdict:
    """The JVM's verdict in the block after `blocks`, with as many headers as a block's validation has.

    ScriptError where it cannot read the transaction.
    """
    newest_first = [block.header for block in reversed(blocks[-BLOCK_HEADERS:])]
    return appkit.verify(view.tx, boxes, data_boxes, newest_first, next_header(newest_first[0]), dict(parameters))
