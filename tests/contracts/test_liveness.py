"""No state freezes money: from each of them somebody who is honest can bring it home, even when the other side is gone."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from aihd.protocol.boxes import Bond
from aihd.protocol.constants import MAX_MINER_FEE, RECEIPT_VALUE

from .chain import CLIENT as CLIENT_PARTY
from .judge import Judge
from .states import ANYBODY, CLIENT, NODE, Graph, State
from .world import World

pytestmark = [pytest.mark.jvm, pytest.mark.slow]


@pytest.fixture(scope="module")
def graph(world: World) -> Graph:
    return Graph.explore(world)


def test_states__when_every_honest_move_is_tried__then_both_interpreters_accept_it(graph: Graph, judge: Judge) -> None:
    moves = [(state, move) for key, state in graph.states.items() for move in graph.moves[key] if move.draft]
    verdicts = [(state.tip, move.name, judge(move.draft)) for state, move in moves if move.draft]

    assert [(tip, name, v) for tip, name, v in verdicts if not v.accepted or v.rules] == []
    assert {name for _, name, _ in verdicts} == {
        "claim", "refund", "cancel", "release", "fail", "timeout", "settle", "withdraw", "reclaim",
        "commit by the client", "commit by the node", "reveal by the client", "reveal by the node",
    }  # fmt: skip


@pytest.mark.parametrize("present", [(), (CLIENT,), (NODE,)], ids=["both gone", "node gone", "client gone"])
def test_states__when_a_side_is_gone_for_ever__then_the_money_still_comes_home(
    graph: Graph, present: tuple[str, ...]
) -> None:
    stuck = [state for state in graph.states.values() if not _reaches_home(graph, state, {ANYBODY, *present})]

    assert stuck == []


def test_states__when_the_task_is_home__then_the_node_gets_bond_and_receipt_value_back(graph: Graph) -> None:
    home = [state for state in graph.states.values() if state.home]
    ends = [_end(graph, state) for state in home]

    assert len(home) > 50
    assert [end for end in ends if end.bond is not None or end.proof is not None] == []


def test_client__when_no_receipt_was_published__then_gets_back_all_but_the_largest_fee(graph: Graph) -> None:
    paid = {}
    for key, state in graph.states.items():
        for move in graph.moves[key]:
            if move.name in ("refund", "cancel", "fail", "timeout") and move.draft and state.held:
                got = sum(out.value for out in move.draft.outputs if out.tree == CLIENT_PARTY.tree)
                paid[move.name] = got - state.held.value

    assert paid["fail"] == -RECEIPT_VALUE
    assert min(paid["refund"], paid["cancel"]) >= -MAX_MINER_FEE
    assert paid["timeout"] > 0  # the slice of the bond is more than the fee


def test_bond__when_home__then_its_counters_say_what_happened(graph: Graph) -> None:
    bonds = [state.bond.content for state in graph.states.values() if state.home and state.bond]

    assert {(bond.committed, bond.active, bond.open_ids) for bond in bonds} == {(0, 0, ())}
    assert {_history(bond) for bond in bonds} == {"nothing", "completed", "failed", "timed out"}


def _history(bond: Bond) -> str:
    """What the task added to the counters that a bond of the world starts with."""
    added = (bond.completed - 3, bond.failed - 2, bond.timed_out - 1)
    return {(0, 0, 0): "nothing", (1, 0, 0): "completed", (0, 1, 0): "failed", (0, 0, 1): "timed out"}[added]


def _reaches_home(graph: Graph, state: State, parties: Collection[str]) -> bool:
    """Whether these parties, and time, can bring the state home whatever was done before."""
    seen, waiting = set[str](), [state]
    while waiting:
        state = waiting.pop()
        if state.home:
            return True
        if state.key not in seen:
            seen.add(state.key)
            waiting += [move.after for move in graph.moves[state.key] if move.by in parties]
    return False


def _end(graph: Graph, state: State) -> State:
    """Where a node that takes what is its own ends up."""
    while graph.moves[state.key]:
        moves = sorted(graph.moves[state.key], key=lambda move: move.draft is None)
        state = moves[0].after
    return state
