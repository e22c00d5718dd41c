"""What the next block would say about a transaction: rules, scripts and proofs, and if wanted the JVM's second opinion.

Scripts are evaluated once for each tip: a mempool, a check and the block after it see the same context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ergo_lib_python.chain import ErgoBox, ErgoStateContext

from aihd.chain.appkit import Appkit, ScriptError, Verdict
from aihd.devnet.blocks import Block, JsonObject
from aihd.devnet.refusals import SCRIPTS, Scene, least_cost, refusal
from aihd.devnet.sigma import DLOG, InputResult, Proposition, proves, verify_transaction
from aihd.devnet.views import BoxView, TxView
from aihd.devnet.wire import plain_inputs
from aihd.errors import one_line
from aihd.protocol.context import HEADERS, next_header, state_context
from aihd.protocol.panics import contained

Lookup = Callable[[str], BoxView | None]

P2PK_COST = 403  # what a node's interpreter asks for one signature; of other scripts the JVM alone knows
BLOCK_HEADERS = 9  # what scripts see when a block is validated, one fewer than ergo-lib asks for


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
            headers = [_plain(block.header) for block in reversed(blocks[-HEADERS:])]
            self._context = state_context(headers, self._parameters)
        return self._context

    def rule(self, blocks: Sequence[Block], view: TxView, unspent: Lookup, readable: Lookup) -> Ruling:
        """The ruling for the block after `blocks`; a mempool's policy is no matter of it."""
        boxes, data_boxes = (
            [unspent(box_id) for box_id in view.inputs],
            [readable(box_id) for box_id in view.data_inputs],
        )
        text = refusal(view, Scene(boxes, data_boxes, len(blocks) + 1, self._parameters))
        if text is not None:
            return Ruling(text, 0)
        context = self.context(blocks)
        ruling = self._rulings.get(view.raw)
        if ruling is None:
            held, read = [box for box in boxes if box], [box for box in data_boxes if box]
            ruling = self._rulings[view.raw] = self._evaluate(blocks, view, held, read, context)
        return ruling

    def _evaluate(
        self,
        blocks: Sequence[Block],
        view: TxView,
        views: list[BoxView],
        data_views: list[BoxView],
        context: ErgoStateContext,
    ) -> Ruling:
        boxes: list[ErgoBox] = []
        try:
            boxes, data_boxes = [each.box for each in views], [each.box for each in data_views]
            results = verify_transaction(contained(lambda: view.tx), boxes, data_boxes, context)
        except Exception as error:  # noqa: BLE001 - ergo-lib has many errors for what it cannot read
            if not all(map(_is_p2pk, views)) or plain_inputs(view.raw) is None:
                return Ruling(f"this devnet cannot read transaction {view.tx_id}: {one_line(error, 120)}", 0)
            results = _signatures(view, views)  # what it makes is no matter of the scripts that it spends
        for result in results:
            if not result.ok:
                text = result.text.replace(",0))", f",{P2PK_COST}))") if _is_p2pk(views[result.index]) else result.text
                return Ruling(f"{SCRIPTS} {view.tx_id}: #{result.index} => {text}", 0)
        if self.appkit is None or not boxes:
            return Ruling(None, least_cost(view, views, self._parameters))
        return self._second_opinion(self.appkit, view, (boxes, data_boxes), blocks)

    def _second_opinion(
        self, appkit: Appkit, view: TxView, boxes: tuple[list[ErgoBox], list[ErgoBox]], blocks: Sequence[Block]
    ) -> Ruling:
        try:
            verdict = second_opinion(appkit, view, *boxes, blocks, self._parameters)
        except ScriptError as error:
            self.disagreements += 1
            return Ruling(f"{SCRIPTS} {view.tx_id}: Failure(the JVM: {error})", 0)
        for index, judged in enumerate(verdict.inputs):
            if not judged.ok:
                self.disagreements += 1
                return Ruling(f"{SCRIPTS} {view.tx_id}: #{index} => Failure(the JVM: {judged.error})", verdict.cost)
        return Ruling(None, verdict.cost)


def _signatures(view: TxView, boxes: Sequence[BoxView]) -> tuple[InputResult, ...]:
    """Verdicts on inputs that ask for one signature each, without ergo-lib's reading of the transaction."""
    inputs, message = plain_inputs(view.raw) or ([], b"")
    points = [bytes.fromhex(box.tree)[3:] for box in boxes]
    proven = [
        proves(Proposition(DLOG, (point,)), message, spent.proof) for point, spent in zip(points, inputs, strict=True)
    ]
    return tuple(InputResult(index, ok, f"Success(({str(ok).lower()},0))") for index, ok in enumerate(proven))


def _is_p2pk(box: BoxView) -> bool:
    return box.tree.startswith("0008cd") and len(box.tree) == 72


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
    newest_first = [_plain(block.header) for block in reversed(blocks[-BLOCK_HEADERS:])]
    return appkit.verify(view.tx, boxes, data_boxes, newest_first, next_header(newest_first[0]), dict(parameters))


def _plain(header: JsonObject) -> JsonObject:
    """A header without the distance of its solution, which ergo-lib cannot hold and no version 2 of Autolykos has."""
    return {**header, "powSolutions": {**header["powSolutions"], "d": 0}}
