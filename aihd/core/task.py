"""One task as the daemon knows it, and the table that says what state it is in.

A state is never stored on its own: it follows from two things, where the task stands on the chain (which a reorg can move back) and how
far our own work has come (which nothing moves back but ourselves). So a reorg needs no special case: the next look at the chain gives
another `Where`, the table another state, and `decide` another command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Final

from aihd.errors import InvariantError
from aihd.protocol import guards
from aihd.protocol.constants import USELESS


class Where(StrEnum):
    """Where a task stands on the chain, or in the mempool."""

    OPEN = "open"  # the escrow is unspent
    CLAIMED = "claimed"  # ours
    RELEASED = "released"  # the receipt is published; the rating is open and our half of it is empty
    COMMITTED = "committed"  # our commitment is in the rating
    REVEALED = "revealed"  # our mark is in the rating
    RATED = "rated"  # the rating is final, or its client stayed silent, and may be settled
    SETTLED = "settled"  # folded into our bond
    FAILED = "failed"  # we admitted failure, the client was refunded; the rating may be settled
    FAILURE_SETTLED = "failure_settled"  # folded into our bond
    TIMED_OUT = "timed_out"  # we missed the deadline and were slashed
    LOST = "lost"  # the escrow went to another node, or back to its client

    @property
    def is_end(self) -> bool:
        """Nothing of the task is left to do on the chain."""
        return self in ENDS

    @property
    def is_undelivered(self) -> bool:
        """The task brought no receipt, and never will."""
        return self in (Where.FAILED, Where.FAILURE_SETTLED, Where.TIMED_OUT, Where.LOST)


ENDS: Final = frozenset({Where.SETTLED, Where.FAILURE_SETTLED, Where.TIMED_OUT, Where.LOST})


class Stage(StrEnum):
    """How far our own work on a task has come."""

    WANTED = "wanted"  # accepted by policy
    INPUT = "input"  # the input is here and matches the commitment
    RUNNING = "running"  # nodo runs the service
    DONE = "done"  # the output is hashed and stored
    BROKEN = "broken"  # it cannot be delivered: fail honestly


class State(StrEnum):
    """What an operator sees."""

    CLAIMING = "claiming"
    AWAITING_INPUT = "awaiting input"
    READY = "ready"
    RUNNING = "running"
    EXECUTED = "executed"
    FAILING = "failing"
    RELEASED = "released, to rate"
    COMMITTED = "released, committed"
    REVEALED = "released, revealed"
    RATED = "released, to settle"
    SETTLED = "released, settling"
    REFUNDED = "refunded, to settle"
    ADMITTED = "refunded, settling"
    SLASHED = "slashed"
    BEATEN = "beaten"
    PAID = "PAID"
    BURNED = "BURNED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED OUT"
    LOST = "LOST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything durable about a task. Heights are blocks; hashes, ids and keys are raw bytes.

    `payment` is nanoERG, or units of the token `asset`; `worth` is nanoERG in any case.
    """

    id: bytes
    service_hash: bytes
    input_commitment: bytes
    worth: int
    payment: int
    asset: bytes | None = None
    holdback_bps: int = 0
    client: bytes
    claim_deadline: int
    exec_window: int
    locator: str
    where: Where = Where.OPEN
    stage: Stage = Stage.WANTED
    since: int | None = None  # height of the block that brought it to `where`; None while that is in the mempool
    final: bool = False  # `where` is an end, and deep enough
    claim_height: int | None = None
    claim_block: bytes | None = None
    claim_tx: bytes | None = None  # id of the transaction that claimed it, and set its reserve aside
    exec_deadline: int | None = None
    release_height: int | None = None  # of the block that holds its receipt
    commit_deadline: int | None = None
    reveal_deadline: int | None = None
    may_reveal: bool = False
    instance: str | None = None  # token of the nodo instance that runs it
    output_hash: bytes | None = None
    receipt_cid: bytes | None = None
    params_hash: bytes | None = None
    mark: int | None = None  # what we give the client
    salt: bytes | None = None  # made and stored before the commitment
    client_mark: int = 0  # what the client gave us
    bridged: bool = False
    acknowledged: bool = False  # an operator has seen that it was slashed
    note: str = ""

    @property
    def state(self) -> State:
        if not self.final or not self.where.is_end:
            return STATES[self.where, self.stage]
        return State.BURNED if self.amounts.burned else _CLOSED[self.where]

    @property
    def amounts(self) -> Amounts:
        """What of the payment is ours, waits for the client's mark, or was burned by it, where the task stands now."""
        if self.where not in RELEASED:
            return Amounts()
        held = self.held_share
        whole = self.payment if self.asset is not None else self.payment - guards.treasury_fee(self.worth)
        if self.where is not Where.SETTLED:
            return Amounts(paid=whole - held, held=held)
        burned = held if self.client_mark == USELESS else 0
        return Amounts(paid=whole - burned, burned=burned)

    @property
    def held_share(self) -> int:
        """The part of the payment that a release leaves to the client's mark."""
        return guards.held_share(self.worth, self.payment, self.holdback_bps, in_token=self.asset is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """A released payment after the treasury's share, in nanoERG or in units of its token: each unit is in one of the three."""

    paid: int = 0
    held: int = 0
    burned: int = 0


RELEASED: Final = frozenset({Where.RELEASED, Where.COMMITTED, Where.REVEALED, Where.RATED, Where.SETTLED})


_BY_WHERE: Final[Mapping[Where, State]] = {
    Where.OPEN: State.CLAIMING,
    Where.RELEASED: State.RELEASED,
    Where.COMMITTED: State.COMMITTED,
    Where.REVEALED: State.REVEALED,
    Where.RATED: State.RATED,
    Where.SETTLED: State.SETTLED,
    Where.FAILED: State.REFUNDED,
    Where.FAILURE_SETTLED: State.ADMITTED,
    Where.TIMED_OUT: State.SLASHED,
    Where.LOST: State.BEATEN,
}
_BY_STAGE: Final[Mapping[Stage, State]] = {
    Stage.WANTED: State.AWAITING_INPUT,
    Stage.INPUT: State.READY,
    Stage.RUNNING: State.RUNNING,
    Stage.DONE: State.EXECUTED,
    Stage.BROKEN: State.FAILING,
}
# Our own work decides only while the task is claimed; everywhere else the chain does.
STATES: Final[Mapping[tuple[Where, Stage], State]] = {
    (where, stage): _BY_STAGE[stage] if where is Where.CLAIMED else _BY_WHERE[where]
    for where, stage in product(Where, Stage)
}
_CLOSED: Final[Mapping[Where, State]] = {
    Where.SETTLED: State.PAID,
    Where.FAILURE_SETTLED: State.FAILED,
    Where.TIMED_OUT: State.TIMED_OUT,
    Where.LOST: State.LOST,
}
if set(_CLOSED) != ENDS:
    raise InvariantError(f"ends without a state: {ENDS ^ set(_CLOSED)}")
FINAL: Final = frozenset({*_CLOSED.values(), State.BURNED})
# States that keep us busy. A task that is released and waits for its rating does not: the bond has a slot for it, and that is all.
AT_WORK: Final = frozenset(
    {State.CLAIMING, State.AWAITING_INPUT, State.READY, State.RUNNING, State.EXECUTED, State.FAILING}
)
OWED: Final = frozenset({State.AWAITING_INPUT, State.READY, State.RUNNING, State.EXECUTED})

# The receipt is published, the rating still goes on.
RELEASED_OPEN: Final = frozenset({State.RELEASED, State.COMMITTED, State.REVEALED, State.RATED, State.SETTLED})


class Command(StrEnum):
    """What is to be done about a task next."""

    CLAIM = "claim"
    GIVE_UP = "give up"
    FETCH_INPUT = "fetch input"
    EXECUTE = "execute"
    BREAK = "break"
    RELEASE = "release"
    FAIL = "fail"
    TIME_OUT = "time out"
    COMMIT = "commit"
    REVEAL = "reveal"
    SETTLE = "settle"
    BRIDGE = "bridge"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Margins, in blocks."""

    final_depth: int = 10
    claim_margin: int = 3
    release_margin: int = 6


def _unset(task: Task, field: str) -> InvariantError:
    return InvariantError(f"task {task.id.hex()} is {task.state} without {field}")


def _exec_deadline(task: Task, limits: Limits) -> int:
    if task.exec_deadline is None:
        raise _unset(task, "exec_deadline")
    return task.exec_deadline


def _input_deadline(task: Task, limits: Limits) -> int:
    if task.claim_height is None:
        raise _unset(task, "claim_height")
    return task.claim_height + task.exec_window // 2


def _work_deadline(task: Task, limits: Limits) -> int:
    return _exec_deadline(task, limits) - limits.release_margin


def _commit_deadline(task: Task, limits: Limits) -> int:
    if task.commit_deadline is None:
        raise _unset(task, "commit_deadline")
    return task.commit_deadline


def _reveal_deadline(task: Task, limits: Limits) -> int:
    if task.reveal_deadline is None:
        raise _unset(task, "reveal_deadline")
    return task.reveal_deadline


def _buried(task: Task, limits: Limits) -> int:
    """When an end should be final; while it is unconfirmed there is no height to count from, and the block after any is due."""
    return (task.since or 0) + limits.final_depth


# The height up to which a state may last before an operator has to know. Settling has no deadline of its own on the chain: it is due
# as soon as the rating is final.
DEADLINES: Final[Mapping[State, Callable[[Task, Limits], int]]] = {
    State.CLAIMING: lambda task, limits: task.claim_deadline + limits.final_depth,
    State.AWAITING_INPUT: _input_deadline,
    State.READY: _work_deadline,
    State.RUNNING: _work_deadline,
    State.EXECUTED: _exec_deadline,
    State.FAILING: _exec_deadline,
    State.RELEASED: _commit_deadline,
    State.COMMITTED: _reveal_deadline,
    State.REVEALED: _reveal_deadline,
    State.RATED: lambda task, limits: _reveal_deadline(task, limits) + limits.final_depth,
    State.SETTLED: _buried,
    # Anybody may settle a failure once its rating is over, but only we gain by it: our money is in the rating.
    State.REFUNDED: lambda task, limits: _reveal_deadline(task, limits) + limits.final_depth,
    State.ADMITTED: _buried,
    State.SLASHED: _buried,
    State.BEATEN: _buried,
}
if set(DEADLINES) != set(State) - FINAL:
    raise InvariantError(f"states without a deadline: {set(State) - FINAL - set(DEADLINES)}")


def may_be_served(task: Task, height: int, limits: Limits) -> bool:
    """Returns true once an output may be handed out, `height` being that of the next block.

    Its release is final; or it is in a block, and whatever reorg takes it out again, it can be sent again before anybody may time it out.
    """
    if task.where not in RELEASED or task.release_height is None or task.exec_deadline is None:
        return False
    final = height - task.release_height > limits.final_depth
    return final or task.exec_deadline >= height - 1 + limits.final_depth


def decide(task: Task, height: int, limits: Limits) -> Command | None:
    """The one thing to do about a task now; None = wait. `height` is that of the next block."""
    rule = _RULES.get(task.state)
    return rule(task, height, limits) if rule else None


def _late(task: Task, height: int, limits: Limits) -> bool:
    return height > DEADLINES[task.state](task, limits)


def _claiming(task: Task, height: int, limits: Limits) -> Command | None:
    if height <= task.claim_deadline - limits.claim_margin:
        return Command.CLAIM
    # In between a claim of ours may still be mined, or come back by a reorg.
    return Command.GIVE_UP if _late(task, height, limits) else None


def _awaiting_input(task: Task, height: int, limits: Limits) -> Command | None:
    if _late(task, height, limits):
        return Command.BREAK
    return Command.FETCH_INPUT if task.locator else None


def _ready(task: Task, height: int, limits: Limits) -> Command:
    return Command.BREAK if _late(task, height, limits) else Command.EXECUTE


def _running(task: Task, height: int, limits: Limits) -> Command | None:
    return Command.BREAK if _late(task, height, limits) else None


def _in_time(command: Command, task: Task, height: int, limits: Limits) -> Command | None:
    return None if _late(task, height, limits) else command


def _ending(command: Command, task: Task, height: int, limits: Limits) -> Command | None:
    """Send the end while it may be mined. Where no reorg brings that time back, return the client's money: it frees our bond."""
    if not _late(task, height, limits):
        return command
    return Command.TIME_OUT if height > _exec_deadline(task, limits) + limits.final_depth else None


def _committed(task: Task, height: int, limits: Limits) -> Command | None:
    if _late(task, height, limits) or not (task.may_reveal or height > _commit_deadline(task, limits)):
        return None
    return Command.REVEAL


def _ended(task: Task, height: int, limits: Limits) -> Command | None:
    # `height` is that of the next block, so the tip is one less: a reorg of `final_depth` blocks must not reach the end any more.
    if task.since is None or height - task.since <= limits.final_depth:
        return None
    return Command.CLOSE if task.bridged or task.where is not Where.SETTLED else Command.BRIDGE


_RULES: Final[Mapping[State, Callable[[Task, int, Limits], Command | None]]] = {
    State.CLAIMING: _claiming,
    State.AWAITING_INPUT: _awaiting_input,
    State.READY: _ready,
    State.RUNNING: _running,
    State.EXECUTED: partial(_ending, Command.RELEASE),
    State.FAILING: partial(_ending, Command.FAIL),
    State.RELEASED: partial(_in_time, Command.COMMIT),
    State.COMMITTED: _committed,
    State.RATED: lambda task, height, limits: Command.SETTLE,
    State.SETTLED: _ended,
    State.REFUNDED: lambda task, height, limits: Command.SETTLE,
    State.ADMITTED: _ended,
    State.SLASHED: _ended,
    State.BEATEN: _ended,
}
