"""The life of one task as a graph: every state that honest transactions reach, and who may leave it by which of them.

There is a graph for each kind of payment, and for a market that ends while the task is under way: at any point of its life.

A state is the boxes that are alive and the height. Time is cut at the deadlines: waiting leads to the next height at which something
becomes possible or ends, so the graph is finite and no state is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from aihd.protocol.boxes import Bond, ClaimedTask, FailureReceipt, On, Rating, Receipt, TaskEscrow
from aihd.protocol.constants import COOLDOWN, RECEIPT_RETENTION, SETTLE_GRACE, USELESS
from aihd.protocol.plans import Side

from .chain import NODE as NODE_PARTY
from .chain import Draft
from .world import IN_TOKEN, TIP, World

ANYBODY, CLIENT, NODE = "anybody", "client", "node"
Held = On[TaskEscrow] | On[ClaimedTask] | On[Rating] | None
Proof = On[Receipt] | On[FailureReceipt] | None


@dataclass(frozen=True, slots=True)
class State:
    """`held`: the box with the task's money or its rating; `proof`: the receipt; `bond`: None once withdrawn."""

    tip: int
    bond: On[Bond] | None
    held: Held
    proof: Proof

    @property
    def key(self) -> str:
        """States with the same contents at the same height are one, whatever the ids of their boxes."""
        contents = [
            on and (type(on.content).__name__, _frozen(on.content)) for on in (self.bond, self.held, self.proof)
        ]
        return f"{self.tip} {contents}"

    @property
    def home(self) -> bool:
        """Nobody's money is bound by the task any more: the bond is free of it, only the proof waits for its retention."""
        return self.held is None and (self.bond is None or not self.bond.content.open_ids)

    @property
    def phase(self) -> str:
        return type(self.held.content).__name__ if self.held else "home"


def _frozen(content: Any) -> str:
    """The content but for hashes that depend on box ids."""
    blank = {
        name: bool(value)
        for name, value in _fields(content).items()
        if name.endswith(("_commitment", "_ids", "task_id"))
    }
    return f"{type(content).__name__}{ {**_fields(content), **blank} }"


def _fields(content: Any) -> dict[str, Any]:
    return {name: getattr(content, name) for name in content.__slots__}


@dataclass(frozen=True, slots=True)
class Move:
    """`draft` is None when time passes."""

    name: str
    by: str
    draft: Draft | None
    after: State


@dataclass(frozen=True, slots=True)
class Kind:
    """`terms` of the task, the `mark` that its client gives, and whether the market ends soon."""

    terms: Mapping[str, Any]
    mark: int
    ends: bool = False


SOON: Final = TIP + 10
KINDS: Final[Mapping[str, Kind]] = {
    "all at once": Kind({}, 4),
    "half held": Kind({"holdback_bps": 5000}, 4),
    "all held and burned": Kind({"holdback_bps": 10_000}, USELESS, ends=True),
    "a token": Kind(IN_TOKEN, 4, ends=True),
    "a token, all held": Kind({**IN_TOKEN, "holdback_bps": 10_000}, 4),
    "a token, half held and burned": Kind({**IN_TOKEN, "holdback_bps": 5000}, USELESS, ends=True),
}


@dataclass(slots=True)
class Graph:
    world: World
    mark: int
    states: dict[str, State] = field(default_factory=dict)
    moves: dict[str, list[Move]] = field(default_factory=dict)

    @classmethod
    def explore(cls, world: World, kind: Kind) -> Graph:
        graph = cls(world, kind.mark)
        start = State(TIP, world.bond(), world.task(**kind.terms), None)
        waiting = [start]
        while waiting:
            state = waiting.pop()
            if state.key in graph.states:
                continue
            graph.states[state.key] = state
            graph.moves[state.key] = list(moves(world, state, kind.mark))
            waiting += [move.after for move in graph.moves[state.key]]
        return graph


def moves(w: World, state: State, mark: int) -> Iterator[Move]:
    """Everything that an honest party may do in a state, and waiting; `mark` is what the client gives."""
    match state.held:
        case On(content=TaskEscrow()):
            yield from _task(w, state)
        case On(content=ClaimedTask()):
            yield from _claimed(w, state)
        case On(content=Rating()):
            yield from _rating(w, state, mark)
        case _:
            yield from _home(w, state)
    # A transaction mined after tip EXPIRY - 1 is the last of the market.
    ends = (w.deployment.expiry - 1, w.deployment.expiry) if w.deployment.expiry == SOON else ()
    later = [tip for tip in (*_turns(state), *ends) if tip > state.tip]
    if later:
        yield Move("wait", ANYBODY, None, replace(state, tip=min(later)))


def _turns(state: State) -> Iterator[int]:
    """Tips at which what is possible changes: the HEIGHT of scripts is the tip's plus one."""
    match state.held:
        case On(content=TaskEscrow(claim_deadline=deadline)):
            yield from (deadline - 1, deadline)
        case On(content=ClaimedTask(exec_deadline=deadline)):
            yield from (deadline - 1, deadline)
        case On(content=Rating(commit_deadline=commit, reveal_deadline=reveal)):
            yield from (commit - 1, commit, reveal - 1, reveal, reveal + SETTLE_GRACE)
    if state.held is None:
        if state.bond:
            yield state.bond.content.last_activity + COOLDOWN
        if state.proof:
            yield state.proof.box.creation_height + RECEIPT_RETENTION


def _task(w: World, s: State) -> Iterator[Move]:
    task: Any = s.held
    height = s.tip + 1
    if height <= min(task.content.claim_deadline, w.deployment.expiry):
        draft = w.claim(task, s.bond, s.tip)
        yield Move("claim", NODE, draft, replace(s, bond=_out(w, draft, 0, Bond), held=_out(w, draft, 1, ClaimedTask)))
    if height > task.content.claim_deadline:
        yield Move("refund", ANYBODY, w.refund(task, s.tip), replace(s, held=None))
    yield Move("cancel", CLIENT, w.cancel(task, s.tip), replace(s, held=None))


def _claimed(w: World, s: State) -> Iterator[Move]:
    claimed: Any = s.held
    if s.tip + 1 <= claimed.content.exec_deadline:
        for name, draft, proof in (
            ("release", w.release(claimed, s.tip, solo=True), Receipt),
            ("fail", w.fail(claimed, s.tip), FailureReceipt),
        ):
            ended = replace(s, held=_out(w, draft, 1, Rating), proof=_out(w, draft, 0, proof))
            yield Move(name, NODE, draft, ended)
    else:
        draft = w.timeout(claimed, s.bond, s.tip, solo=True)
        yield Move("timeout", ANYBODY, draft, State(s.tip, _out(w, draft, 0, Bond), None, None))


def _rating(w: World, s: State, mark: int) -> Iterator[Move]:
    rating: Any = s.held
    r, height = rating.content, s.tip + 1
    for side, party, given in ((Side.CLIENT, CLIENT, mark), (Side.NODE, NODE, 4)):
        commitment, known = getattr(r, f"{side}_commitment"), getattr(r, f"{side}_mark")
        both = r.client_commitment and r.node_commitment
        if not commitment and height <= r.commit_deadline:
            draft = w.commit(side, rating, s.tip, mark=given)
            yield Move(f"commit by the {side}", party, draft, replace(s, held=_out(w, draft, 0, Rating)))
        if commitment and not known and height <= r.reveal_deadline and (both or height > r.commit_deadline):
            draft = w.reveal(side, rating, s.tip, mark=given)
            yield Move(f"reveal by the {side}", party, draft, replace(s, held=_out(w, draft, 0, Rating)))
    yield from _settlements(w, s, rating)


def _settlements(w: World, s: State, rating: On[Rating]) -> Iterator[Move]:
    r, height = rating.content, s.tip + 1
    final = (r.client_mark and r.node_mark) or height > r.reveal_deadline
    silent = height > r.commit_deadline and not r.client_commitment
    if final or silent:
        draft = w.settle(rating, s.bond, s.tip, by=NODE_PARTY, solo=True)
        yield Move("settle by the node", NODE, draft, replace(s, bond=_out(w, draft, 0, Bond), held=None))
    if height > r.reveal_deadline + SETTLE_GRACE:
        draft = w.settle(rating, s.bond, s.tip)
        yield Move("settle by anybody", ANYBODY, draft, replace(s, bond=_out(w, draft, 0, Bond), held=None))


def _home(w: World, s: State) -> Iterator[Move]:
    if s.bond and s.tip + 1 > s.bond.content.last_activity + COOLDOWN:
        yield Move("withdraw", NODE, w.withdraw(s.bond, s.tip), replace(s, bond=None))
    if s.proof and s.tip + 1 > s.proof.box.creation_height + RECEIPT_RETENTION:
        yield Move("reclaim", NODE, w.reclaim(s.proof, s.tip), replace(s, proof=None))


def _out(w: World, draft: Draft, index: int, kind: Any) -> Any:
    return w.deployment.read(kind, draft.unsigned().outputs[index])
