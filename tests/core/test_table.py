"""The whole table, spelled out a second time: what each fact does to each state, and what is to be done at each height.

A fact moves a task, is ignored, or is illegal. What the chain shows always moves it, a reorg's older standings included; what our work
reports moves it only while the task is claimed; a standing without the heights that belong to it is illegal and named.
"""

from __future__ import annotations

import types
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import made
import pytest

from aihd.core import task as table
from aihd.core.task import DEADLINES, ENDS, FINAL, Command, Limits, Stage, State, Task, Where, decide
from aihd.errors import InvariantError

LIMITS: Final = Limits(final_depth=10, claim_margin=3, release_margin=6)
TASK: Final = made.task(
    exec_window=61,
    since=300,
    claim_height=100,
    exec_deadline=160,
    commit_deadline=220,
    reveal_deadline=280,
)

GRID: Final[dict[Where, tuple[State, ...]]] = {  # one column for each stage: wanted, input, running, done, broken
    Where.OPEN: (State.CLAIMING,) * 5,
    Where.CLAIMED: (State.AWAITING_INPUT, State.READY, State.RUNNING, State.EXECUTED, State.FAILING),
    Where.RELEASED: (State.RELEASED,) * 5,
    Where.COMMITTED: (State.COMMITTED,) * 5,
    Where.REVEALED: (State.REVEALED,) * 5,
    Where.RATED: (State.RATED,) * 5,
    Where.SETTLED: (State.SETTLED,) * 5,
    Where.FAILED: (State.REFUNDED,) * 5,
    Where.FAILURE_SETTLED: (State.ADMITTED,) * 5,
    Where.TIMED_OUT: (State.SLASHED,) * 5,
    Where.LOST: (State.BEATEN,) * 5,
}
CLOSED: Final = {
    Where.SETTLED: State.PAID,
    Where.FAILURE_SETTLED: State.FAILED,
    Where.TIMED_OUT: State.TIMED_OUT,
    Where.LOST: State.LOST,
}

# The height up to which a state may last.
UNTIL: Final[dict[State, int]] = {
    State.CLAIMING: 110,
    State.AWAITING_INPUT: 130,  # half of a window of 61 blocks, rounded down
    State.READY: 154,
    State.RUNNING: 154,
    State.EXECUTED: 160,
    State.FAILING: 160,
    State.RELEASED: 220,
    State.COMMITTED: 280,
    State.REVEALED: 280,
    State.RATED: 290,
    State.SETTLED: 310,
    State.REFUNDED: 290,
    State.ADMITTED: 310,
    State.SLASHED: 310,
    State.BEATEN: 310,
}
# What is to be done up to which height (of the next block); after the last one, what follows.
FOREVER: Final = 10**9
TO_DO: Final[dict[State, tuple[tuple[int, Command | None], ...]]] = {
    State.CLAIMING: ((97, Command.CLAIM), (110, None), (FOREVER, Command.GIVE_UP)),
    State.AWAITING_INPUT: ((130, None), (FOREVER, Command.BREAK)),
    State.READY: ((154, Command.EXECUTE), (FOREVER, Command.BREAK)),
    State.RUNNING: ((154, None), (FOREVER, Command.BREAK)),
    State.EXECUTED: ((160, Command.RELEASE), (170, None), (FOREVER, Command.TIME_OUT)),
    State.FAILING: ((160, Command.FAIL), (170, None), (FOREVER, Command.TIME_OUT)),
    State.RELEASED: ((220, Command.COMMIT), (FOREVER, None)),
    State.COMMITTED: ((220, None), (280, Command.REVEAL), (FOREVER, None)),
    State.REVEALED: ((FOREVER, None),),
    State.RATED: ((FOREVER, Command.SETTLE),),
    State.REFUNDED: ((FOREVER, Command.SETTLE),),
    State.SETTLED: ((310, None), (FOREVER, Command.BRIDGE)),
    **dict.fromkeys((State.ADMITTED, State.SLASHED, State.BEATEN), ((310, None), (FOREVER, Command.CLOSE))),
    **dict.fromkeys((*CLOSED.values(), State.BURNED), ((FOREVER, None),)),
}
BOUNDS: Final = {TASK.claim_deadline, *UNTIL.values(), *(until for spans in TO_DO.values() for until, _ in spans)}
HEIGHTS: Final = sorted({bound + step for bound in BOUNDS - {FOREVER} for step in (-1, 0, 1)})
# Without these a state cannot be judged; an end that is in the mempool only has no `since`, and waits.
NEEDS: Final[dict[State, set[str]]] = {
    State.AWAITING_INPUT: {"claim_height"},
    **{state: {"exec_deadline"} for state in (State.READY, State.RUNNING, State.EXECUTED, State.FAILING)},
    State.RELEASED: {"commit_deadline"},
    State.COMMITTED: {"commit_deadline", "reveal_deadline"},
}
TOLD_BY_THE_CHAIN: Final = ("claim_height", "exec_deadline", "commit_deadline", "reveal_deadline")


def standing(where: Where, stage: Stage, *, final: bool = False) -> Task:
    return replace(TASK, where=where, stage=stage, final=final)


def to_do(state: State, height: int) -> Command | None:
    return next(command for until, command in TO_DO[state] if height <= until)


CELLS: Final = list(product(Where, Stage))


@pytest.mark.parametrize(("where", "stage"), CELLS)
def test_state__when__the_chain_shows_any_standing__then__it_moves_there_and_the_same_one_is_ignored(
    where: Where, stage: Stage
) -> None:
    before = standing(where, stage)
    assert before.state is GRID[where][list(Stage).index(stage)]
    for seen in Where:
        after = replace(before, where=seen)
        assert after.state is GRID[seen][list(Stage).index(stage)]
        assert (after.state is before.state) == (seen is where)  # no two standings look the same


@pytest.mark.parametrize(("where", "stage"), CELLS)
def test_state__when__our_work_reports__then__it_moves_a_claimed_task_and_is_ignored_for_any_other(
    where: Where, stage: Stage
) -> None:
    before = standing(where, stage)
    for done in Stage:
        after = replace(before, stage=done)
        assert after.state is GRID[where][list(Stage).index(done)]
        assert (after.state is before.state) == (done is stage or where is not Where.CLAIMED)


@pytest.mark.parametrize(("where", "stage"), CELLS)
def test_state__when__it_is_called_final__then__an_end_is_closed_and_anything_else_stays_open(
    where: Where, stage: Stage
) -> None:
    closed = standing(where, stage, final=True)
    assert closed.state is CLOSED.get(where, standing(where, stage).state)
    assert (closed.state in FINAL) == (where in ENDS)


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize(("where", "stage"), CELLS)
def test_decide__when__any_cell_is_asked_around_every_deadline__then__as_spelled_out(
    where: Where, stage: Stage, final: bool
) -> None:
    found = standing(where, stage, final=final)
    for height in HEIGHTS:
        assert decide(found, height, LIMITS) is to_do(found.state, height), height


@pytest.mark.parametrize(("where", "stage"), CELLS)
def test_decide__when__a_height_of_the_standing_is_missing__then__illegal_and_named_and_else_ignored(
    where: Where, stage: Stage
) -> None:
    found = standing(where, stage)
    for field in TOLD_BY_THE_CHAIN:
        missing: dict[str, Any] = {field: None}
        lacking = replace(found, **missing)
        if field in NEEDS.get(found.state, ()):
            with pytest.raises(InvariantError) as error:
                decide(lacking, 200, LIMITS)
            assert str(error.value) == f"task {'01' * 32} is {found.state} without {field}"
        else:
            assert [decide(lacking, height, LIMITS) for height in HEIGHTS] == [
                decide(found, height, LIMITS) for height in HEIGHTS
            ]


@pytest.mark.parametrize("where", sorted(ENDS))
def test_decide__when__an_end_is_in_the_mempool_only__then__it_waits_and_is_never_late(where: Where) -> None:
    found = replace(standing(where, Stage.DONE), since=None)
    assert [decide(found, height, LIMITS) for height in HEIGHTS] == [None] * len(HEIGHTS)
    assert DEADLINES[found.state](found, LIMITS) == LIMITS.final_depth


def test_deadlines__when__asked_of_every_open_state__then__as_spelled_out() -> None:
    cells = {task.state: task for where, stage in CELLS if (task := standing(where, stage))}
    told = {state: DEADLINES[state](task, LIMITS) for state, task in cells.items()}
    assert told == UNTIL
    assert {type(height) for height in told.values()} == {int}


@pytest.mark.parametrize("state", [state for state in State if state not in FINAL])
def test_table__when__a_state_loses_its_deadline__then__the_module_refuses_to_load_and_names_it(state: State) -> None:
    path = Path(str(table.__file__))
    head, rules = path.read_text(encoding="utf-8").split("\nDEADLINES: ", 1)
    entry = next(line for line in rules.splitlines() if line.startswith(f"    State.{state.name}:"))
    # A blank line stands for the entry, so that every other line keeps its number.
    source = f"{head}\nDEADLINES: {rules.replace(entry, '', 1)}"
    module = types.ModuleType(table.__name__)  # the name under which dataclasses look for it
    with pytest.raises(InvariantError) as error:
        exec(compile(source, str(path), "exec"), module.__dict__)
    assert str(error.value).startswith("states without a deadline: ")
    assert state.name in str(error.value)


def test_limits__when__none_are_given__then__ten_blocks_are_final_and_the_margins_leave_time() -> None:
    assert Limits() == Limits(final_depth=10, claim_margin=3, release_margin=6)
