"""The state table: complete, with a deadline for everything that is not over, and one command for each side of it."""

from __future__ import annotations

from typing import Any

import made
import pytest

from aihd.core.task import (
    DEADLINES,
    ENDS,
    FINAL,
    OWED,
    STATES,
    Command,
    Limits,
    Stage,
    State,
    Task,
    Where,
    decide,
)

LIMITS = Limits(final_depth=10, claim_margin=3, release_margin=6)
CLAIM_DEADLINE, EXEC_DEADLINE, COMMIT_DEADLINE, REVEAL_DEADLINE, CLAIMED_AT, SINCE = 100, 160, 220, 280, 100, 300


def task(where: Where, stage: Stage = Stage.WANTED, **changes: Any) -> Task:
    """A task with every height set."""
    values: dict[str, Any] = {
        "where": where,
        "stage": stage,
        "since": SINCE,
        "claim_height": CLAIMED_AT,
        "exec_deadline": EXEC_DEADLINE,
        "commit_deadline": COMMIT_DEADLINE,
        "reveal_deadline": REVEAL_DEADLINE,
        **changes,
    }
    return made.task(claim_deadline=CLAIM_DEADLINE, exec_window=60, **values)


def test_deadlines__when__a_state_is_not_final__then__it_has_exactly_one() -> None:
    assert set(DEADLINES) == set(State) - FINAL
    assert {State.PAID, State.BURNED, State.FAILED, State.TIMED_OUT, State.LOST} == FINAL
    assert set(STATES.values()) | FINAL == set(State)


def test_state__when__our_work_goes_on__then__the_chain_decides_everywhere_but_in_claimed() -> None:
    for where in set(Where) - {Where.CLAIMED}:
        assert len({STATES[where, stage] for stage in Stage}) == 1
    assert len({STATES[Where.CLAIMED, stage] for stage in Stage}) == len(Stage)
    assert {STATES[Where.CLAIMED, stage] for stage in set(Stage) - {Stage.BROKEN}} == OWED


@pytest.mark.parametrize(
    ("found", "deadline", "until", "after"),
    [
        (task(Where.OPEN), CLAIM_DEADLINE - 3, Command.CLAIM, None),
        (task(Where.OPEN), CLAIM_DEADLINE + 10, None, Command.GIVE_UP),
        (task(Where.CLAIMED), CLAIMED_AT + 30, None, Command.BREAK),
        (task(Where.CLAIMED, locator="data:"), CLAIMED_AT + 30, Command.FETCH_INPUT, Command.BREAK),
        (task(Where.CLAIMED, Stage.INPUT), EXEC_DEADLINE - 6, Command.EXECUTE, Command.BREAK),
        (task(Where.CLAIMED, Stage.RUNNING), EXEC_DEADLINE - 6, None, Command.BREAK),
        (task(Where.CLAIMED, Stage.DONE), EXEC_DEADLINE, Command.RELEASE, None),
        (task(Where.CLAIMED, Stage.BROKEN), EXEC_DEADLINE, Command.FAIL, None),
        (task(Where.RELEASED, Stage.DONE), COMMIT_DEADLINE, Command.COMMIT, None),
        (task(Where.COMMITTED, Stage.DONE, may_reveal=True), REVEAL_DEADLINE, Command.REVEAL, None),
        (task(Where.COMMITTED, Stage.DONE), COMMIT_DEADLINE, None, Command.REVEAL),
        (task(Where.COMMITTED, Stage.DONE), REVEAL_DEADLINE, Command.REVEAL, None),
        (task(Where.REVEALED, Stage.DONE), REVEAL_DEADLINE, None, None),
        (task(Where.RATED, Stage.DONE), REVEAL_DEADLINE + 10, Command.SETTLE, Command.SETTLE),
        (task(Where.SETTLED, Stage.DONE), SINCE + 10, None, Command.BRIDGE),
        (task(Where.SETTLED, Stage.DONE, bridged=True), SINCE + 10, None, Command.CLOSE),
        (task(Where.SETTLED, Stage.DONE, since=None), 10**6, None, None),
        (task(Where.FAILED, Stage.BROKEN), REVEAL_DEADLINE + 10, Command.SETTLE, Command.SETTLE),
        (task(Where.FAILURE_SETTLED, Stage.BROKEN), SINCE + 10, None, Command.CLOSE),
        (task(Where.TIMED_OUT), SINCE + 10, None, Command.CLOSE),
        (task(Where.LOST), SINCE + 10, None, Command.CLOSE),
    ],
    ids=lambda value: value.state.replace(" ", "-") if isinstance(value, Task) else None,
)
def test_decide__when__the_height_passes_the_deadline__then__the_command_changes_right_there(
    found: Task, deadline: int, until: Command | None, after: Command | None
) -> None:
    assert [decide(found, height, LIMITS) for height in (deadline - 1, deadline, deadline + 1)] == [until, until, after]


@pytest.mark.parametrize("where", sorted(ENDS))
def test_decide__when__an_end_is_final__then__nothing_is_left_to_do(where: Where) -> None:
    assert decide(task(where, final=True), 10**6, LIMITS) is None


def test_decide__when__a_reorg_takes_the_claim_away__then__it_is_claimed_again() -> None:
    running = task(Where.CLAIMED, Stage.RUNNING)
    assert running.state is State.RUNNING
    assert decide(task(Where.OPEN, Stage.RUNNING), 90, LIMITS) is Command.CLAIM
