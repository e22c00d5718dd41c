"""No state freezes money: from each of them somebody who is honest can bring it home, even when the other side is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import templates
from aihd.protocol.boxes import Bond, ClaimedTask, On, Rating
from aihd.protocol.constants import BURN, MAX_MINER_FEE, MIN_BOX, USELESS

from .chain import CLIENT as CLIENT_PARTY
from .chain import NODE as NODE_PARTY
from .chain import Draft, Out
from .judge import Judge
from .states import ANYBODY, CLIENT, KINDS, NODE, SOON, Graph, Move, State
from .world import ASSET, EXPIRY, World

pytestmark = [pytest.mark.jvm, pytest.mark.slow]


@pytest.fixture(scope="module", params=KINDS)
def graph(request: pytest.FixtureRequest) -> Graph:
    kind = KINDS[request.param]
    return Graph.explore(World.of(templates(), SOON if kind.ends else EXPIRY), kind)


@pytest.fixture
def judge(graph: Graph, appkit: Appkit) -> Judge:
    return Judge(graph.world.deployment, appkit)


def test_states__when_every_honest_move_is_tried__then_both_interpreters_accept_it(graph: Graph, judge: Judge) -> None:
    moves = [(state, move) for key, state in graph.states.items() for move in graph.moves[key] if move.draft]
    verdicts = [(state.tip, move.name, judge(move.draft)) for state, move in moves if move.draft]

    assert [(tip, name, v) for tip, name, v in verdicts if not v.accepted or v.rules] == []
    assert {name for _, name, _ in verdicts} == {
        "claim", "refund", "cancel", "release", "fail", "timeout", "settle by the node", "settle by anybody", "withdraw",
        "reclaim", "commit by the client", "commit by the node", "reveal by the client", "reveal by the node",
    }  # fmt: skip


def test_states__when_the_market_ends__then_it_does_so_at_every_point_of_a_task(graph: Graph) -> None:
    after = {state.phase for state in graph.states.values() if state.tip >= graph.world.deployment.expiry}

    assert after in (set(), {"TaskEscrow", "ClaimedTask", "Rating", "home"})
    assert bool(after) is (graph.world.deployment.expiry == SOON)


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
    for state, move, draft in _drafted(graph):
        if move.name in ("refund", "cancel", "fail", "timeout") and state.held:
            payouts = [out for out in draft.outputs if out.tree == CLIENT_PARTY.tree]
            paid[move.name] = sum(out.value for out in payouts) - state.held.value
            assert _units(payouts) == _asset(state.held)

    assert paid["fail"] == -MIN_BOX
    assert min(paid["refund"], paid["cancel"]) >= -MAX_MINER_FEE
    assert paid["timeout"] > 0  # the slice of the bond is more than the fee


def test_payment__when_released__then_the_node_has_it_or_it_is_burned_for_the_worst_mark(graph: Graph) -> None:
    told = set()
    for state, move, draft in _drafted(graph):
        match state.held:
            case On(content=ClaimedTask()) if move.name == "release":
                kept = [out for out in draft.outputs if out.tree in (NODE_PARTY.tree, draft.outputs[1].tree)]
                assert _units(kept) == _asset(state.held)
            case On(content=Rating(held=held, client_mark=mark)) if move.name.startswith("settle") and held:
                tree = BURN if mark == USELESS else NODE_PARTY.tree
                assert (draft.outputs[1].tree, _units(draft.outputs[1:2])) == (tree, _asset(state.held))
                told.add(tree)

    burns = graph.mark == USELESS
    assert told in ((set(), {NODE_PARTY.tree}) if not burns else ({BURN, NODE_PARTY.tree},))


def _drafted(graph: Graph) -> Iterator[tuple[State, Move, Draft]]:
    return ((graph.states[k], move, move.draft) for k, found in graph.moves.items() for move in found if move.draft)


def _asset(held: On[Any]) -> Counter[bytes]:
    """The units of a payment that a box holds beside its task token."""
    return Counter({token: amount for token, amount in held.tokens if token == ASSET})


def _units(outs: Iterable[Out]) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for out in outs:
        found.update(dict(out.tokens))
    return Counter({token: amount for token, amount in found.items() if token == ASSET})


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
