"""Deadlines to the block, and how long a transaction stays valid after it was built."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aihd.protocol import selection
from aihd.protocol.boxes import On, Rating, TaskEscrow
from aihd.protocol.constants import (
    COOLDOWN,
    MARKET_LIFE,
    MAX_EXEC,
    RECEIPT_RETENTION,
    SETTLE_GRACE,
    SLACK,
    WINDOW_MAX,
)
from aihd.protocol.plans import Side

from .chain import CLIENT, NODE, STRANGER, Draft, Out, header_id
from .judge import Judge
from .world import ERG, EXPIRY, MADE, TASK, TIP, World

pytestmark = [pytest.mark.jvm, pytest.mark.slow]

STORAGE_PERIOD = 1_051_200  # blocks, after which a miner may take rent from a box
At = Callable[[World, int], Draft]
OVER = TIP + 50 + SETTLE_GRACE
UP_TO, AFTER = (True, True, False), (False, False, True)

# What may be mined at HEIGHT d - 1, d and d + 1. Each draft is built as if it were right for that height.
DEADLINES: dict[str, tuple[int, tuple[bool, bool, bool], At]] = {
    "claim": (TIP + 20, UP_TO, lambda w, tip: w.claim(None, tip=tip)),
    "refund": (TIP + 20, AFTER, lambda w, tip: w.refund(tip=tip)),
    "claim after the lottery": (MADE + 60, AFTER, lambda w, tip: w.claim(_hopeless(w), tip=tip)),
    "release": (TIP + 40, UP_TO, lambda w, tip: w.release(tip=tip)),
    "fail": (TIP + 40, UP_TO, lambda w, tip: w.fail(tip=tip)),
    "timeout": (TIP + 40, AFTER, lambda w, tip: w.timeout(tip=tip)),
    "commit": (TIP + 20, UP_TO, lambda w, tip: w.commit(Side.CLIENT, tip=tip)),
    "reveal alone": (TIP + 20, AFTER, lambda w, tip: w.reveal(Side.NODE, w.committed(w.rating(), client=0), tip=tip)),
    "reveal": (TIP + 50, UP_TO, lambda w, tip: w.reveal(Side.CLIENT, tip=tip)),
    "settle by anybody": (OVER, AFTER, lambda w, tip: w.settle(tip=tip).by(STRANGER, CLIENT)),
    "settle by anybody of two marks": (OVER, AFTER, lambda w, tip: w.settle(_both(w), tip=tip).by(STRANGER, CLIENT)),
    "settle by anybody of a failure": (
        TIP + 16 + SETTLE_GRACE,
        AFTER,
        lambda w, tip: w.settle(w.failed(), tip=tip).by(STRANGER, CLIENT),
    ),
    "settle by the node of silence": (TIP + 20, AFTER, lambda w, tip: w.settle(tip=tip, by=NODE)),
    "settle by the node of a broken word": (
        TIP + 50,
        AFTER,
        lambda w, tip: w.settle(w.rated(4, 5, (0, 5)), tip=tip, by=NODE),
    ),
    "open bond": (EXPIRY, UP_TO, lambda w, tip: w.open_bond(tip)),
    "claim at the end of the market": (
        EXPIRY,
        UP_TO,
        lambda w, tip: w.claim(w.task(claim_deadline=10**7, height=EXPIRY - 50), None, tip),
    ),
    "withdraw": (TIP + COOLDOWN, AFTER, lambda w, tip: w.withdraw(w.bond(last_activity=TIP), tip)),
    "reclaim": (MADE + RECEIPT_RETENTION, AFTER, lambda w, tip: w.reclaim(tip=tip)),
    "reclaim of a failure": (MADE + RECEIPT_RETENTION, AFTER, lambda w, tip: w.reclaim(w.failure(), tip=tip)),
}

# Blocks after which a transaction built at TIP is no longer valid, far from any deadline; None = it has no other limit.
LASTING: dict[str, tuple[int | None, Callable[[World], Draft]]] = {
    "open bond": (5, lambda w: w.open_bond()),
    "manage": (None, lambda w: w.manage(endpoint="http://elsewhere.example")),
    "raise": (5, lambda w: w.manage(add=1)),
    "withdraw": (None, lambda w: w.withdraw()),
    "claim": (15, lambda w: w.claim(w.task(claim_deadline=10**6))),
    "claim with the shortest window of a policy": (9, lambda w: w.claim(w.task(claim_deadline=10**6, exec_window=20))),
    "release": (29, lambda w: w.release(w.claimed(exec_deadline=10**6))),
    "fail": (15, lambda w: w.fail(w.claimed(exec_deadline=10**6))),
    "timeout": (None, lambda w: w.timeout()),
    "refund": (None, lambda w: w.refund()),
    "cancel": (None, lambda w: w.cancel()),
    "commit": (None, lambda w: w.commit(Side.NODE, w.rating(commit_deadline=10**6))),
    "reveal": (None, lambda w: w.reveal(Side.NODE, w.committed(w.rating(reveal_deadline=10**6)))),
    "settle": (None, lambda w: w.settle()),
    "settle by the node": (None, lambda w: w.settle(by=NODE)),
    "reclaim": (None, lambda w: w.reclaim()),
}


@pytest.mark.parametrize("name", DEADLINES)
def test_deadline__when_a_block_before_at_and_after__then_only_the_right_side_is_open(
    world: World, judge: Judge, name: str
) -> None:
    deadline, expected, draft_at = DEADLINES[name]
    verdicts = [judge(draft_at(world, height - 1)) for height in (deadline - 1, deadline, deadline + 1)]

    assert [v.rust for v in verdicts] == [v.jvm for v in verdicts] == list(expected)


@pytest.mark.parametrize("name", LASTING)
def test_transaction__when_mined_late__then_stays_valid_for_at_least_five_blocks(
    world: World, judge: Judge, name: str
) -> None:
    limit, draft_of = LASTING[name]
    draft = draft_of(world)
    ages = (0, 5, limit, limit + 1) if limit else (0, 5, 100, 1000)
    verdicts = [judge(draft.at(draft.tip + age)) for age in ages]

    assert [v.rust for v in verdicts] == [v.jvm for v in verdicts] == [True, True, True, limit is None]


@pytest.mark.parametrize("age", [0, 4, 9])
def test_claim__when_won_by_a_header_of_some_age__then_it_lasts_until_the_header_is_the_tenth(
    world: World, judge: Judge, age: int
) -> None:
    draft = world.claim(_won_by(world, TIP - age))
    verdicts = [judge(draft.at(TIP + later)) for later in (0, 9 - age, 10 - age)]

    assert [v.rust for v in verdicts] == [v.jvm for v in verdicts] == [True, True, False]


def test_market__when_it_ends__then_all_that_needs_a_bond_is_over_before_storage_rent_can_take_one() -> None:
    rated = max(SLACK, 2 * WINDOW_MAX) + SETTLE_GRACE
    assert MARKET_LIFE + MAX_EXEC + rated < STORAGE_PERIOD - 29_000


@pytest.mark.parametrize("tree", [STRANGER.tree, NODE.tree])
def test_rent__when_a_bond_token_is_loose__then_claimed_and_rating_rely_on_the_end_of_the_market(
    world: World, judge: Judge, tree: bytes
) -> None:
    """Why EXPIRY is there: these two know a bond by its token alone, so a loose one gives no slash, and no mark to anybody."""
    bond = world.bond(amount=0, open_ids=(TASK,))
    own = world.place(Out(bond.value, tree, bond.tokens, bond.content.constants()))
    for honest in (world.timeout(), world.settle(world.rating(held=ERG // 2))):
        verdict = judge(honest.instead(1, own).out(0, tree=STRANGER.tree, tokens=()).by(STRANGER, NODE))
        assert verdict.rust and verdict.jvm


def _both(w: World) -> On[Rating]:
    return w.rated(5, 4, (5, 4))


def _hopeless(w: World) -> On[TaskEscrow]:
    return w.task(claim_deadline=10**6, selection_window=60, selection_difficulty=2**62)


def _won_by(w: World, height: int) -> On[TaskEscrow]:
    """A task that only this one of the headers from TIP - 9 to TIP + 10 gives to the node."""
    bond = w.bond(score=0)
    assert bond.content.born < TIP - 9
    for window in range(500, 5000):
        task = w.task(claim_deadline=10**6, selection_window=window, selection_difficulty=80)
        tickets = {
            h: selection.ticket(bytes.fromhex(header_id(h)), task.raw_id, NODE.pk) for h in range(TIP - 9, TIP + 11)
        }
        if [h for h, ticket in tickets.items() if ticket * 80 < 8 * 2**63] == [height]:
            return task
    raise AssertionError("no task found")
