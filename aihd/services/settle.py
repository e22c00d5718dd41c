"""Ends a claimed task on the chain: with a receipt that releases the payment, or with an honest failure that returns it.

Both spend the claimed box and the reserve that its claim set aside, and nothing that anybody else could spend or undo; so they go out at
once and beside each other, and nobody can push them out. Where neither came in time it is timed out, which costs a slice of the bond and
returns the money, as anybody could do it: nobody may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog
from ergo_lib_python.chain import ErgoBox

from aihd.chain.submitter import Funding, Intent
from aihd.chain.view import Situation
from aihd.core.task import Command, Task
from aihd.errors import InvariantError, one_line
from aihd.execution.failures import failure_of
from aihd.protocol import hashes, plans
from aihd.protocol.boxes import ClaimedTask, FailureReceipt, On
from aihd.protocol.funding import InsufficientFundsError, Plan, TxKind
from aihd.services.engine import Engine, Service

log = structlog.get_logger()


class Settle(Service):
    """Release what was executed, admit what was not, give back what is late."""

    name = "settle"
    commands = frozenset({Command.RELEASE, Command.FAIL, Command.TIME_OUT})

    def __init__(self, engine: Engine, payout: bytes | None) -> None:
        """`payout` is the tree that earnings go to; None keeps them in the wallet."""
        super().__init__(engine)
        self._payout = payout

    async def handle(self, task: Task, command: Command) -> None:
        engine = self.engine
        intent = end_intent(task.id)
        if command is Command.TIME_OUT:
            engine.submitter.outdate(intent, but=TxKind.TIMEOUT)
        if engine.submitter.busy(intent):
            return
        claimed = (await engine.view.life(task.id)).claimed
        if claimed is None or await engine.view.node.box(claimed.id) is None:
            return  # the node does not see it yet, or no more: the next look decides
        end = {Command.RELEASE: self._release, Command.FAIL: self._fail, Command.TIME_OUT: self._time_out}[command]

        def build(situation: Situation) -> Plan | None:
            return end(task, claimed, situation)

        if command is not Command.TIME_OUT:
            try:
                await engine.submitter.transact(replace(intent, funding=Funding.FINAL), build)
                return
            except InsufficientFundsError as error:
                # Better late and on what others can undo than never: a raised fee, or a reserve that was spent.
                log.warning("final boxes are too few", task=task.id.hex(), error=one_line(error))
        await engine.submitter.transact(intent, build)

    def _release(self, task: Task, claimed: On[ClaimedTask], situation: Situation) -> Plan:
        if task.output_hash is None or task.params_hash is None or task.receipt_cid is None:
            raise InvariantError(f"task {task.id.hex()} is executed without an output")
        signature = self._signature(hashes.receipt_message, task, task.output_hash)
        receipt = plans.receipt_for(claimed, task.output_hash, task.params_hash, signature, task.receipt_cid)
        reserve = _reserve(claimed, situation)
        return plans.release(situation.market, claimed, receipt, situation.funds, reserve=reserve, payout=self._payout)

    def _fail(self, task: Task, claimed: On[ClaimedTask], situation: Situation) -> Plan:
        evidence = hashes.blake2b256(task.note.encode())
        signature = self._signature(hashes.failure_message, task, evidence)
        height = situation.market.height
        kind = failure_of(task.note)
        failure = FailureReceipt(task.id, claimed.content.node, kind, evidence, height, signature)
        return plans.fail(situation.market, claimed, failure, situation.funds, reserve=_reserve(claimed, situation))

    def _time_out(self, task: Task, claimed: On[ClaimedTask], situation: Situation) -> Plan | None:
        if situation.bond is None:
            return None
        return plans.timeout(situation.market, claimed, situation.bond, situation.funds)

    def _signature(self, message: Callable[[bytes, bytes, bytes], bytes], task: Task, content: bytes) -> bytes:
        return self.engine.signer.sign_message(message(bytes.fromhex(self.engine.genesis_id), task.id, content))


def _reserve(claimed: On[ClaimedTask], situation: Situation) -> ErgoBox | None:
    """What the claim set aside for this end; None where it was spent, as after a restore of another wallet's work."""
    claim = claimed.transaction_id
    return next((box for box in situation.reserved if plans.is_reserve_of(box, claim)), None)


def end_intent(task_id: bytes) -> Intent:
    """Release, failure and time-out spend the same box, so they are one intent: never two of them."""
    return Intent("end", task_id)
