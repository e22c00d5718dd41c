"""Where a task stands, read from boxes that real transactions made: every guard is evaluated on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from offchain import ERG, Story, coin, digest

from aihd.core.life import Sighting, read_life
from aihd.core.rating import MARGIN
from aihd.core.task import Where
from aihd.protocol.box import box_of
from aihd.protocol.boxes import On, Rating
from aihd.protocol.plans import Side

BOTH = (Side.NODE, Side.CLIENT)


@pytest.fixture
def story() -> Story:
    return Story()


def test_where__when__a_task_goes_all_the_way__then__each_step_is_told_and_a_reorg_tells_the_older_ones(
    story: Story,
) -> None:
    task = story.post()
    stations: list[tuple[int, Where | None, Where | None]] = [(story.tip, None, None)]

    def now(node: Where, client: Where) -> None:
        stations.append((story.tip, node, client))

    claimed = story.claim(task)
    now(Where.CLAIMED, Where.CLAIMED)
    _, rating = story.release(claimed)
    now(Where.RELEASED, Where.RELEASED)
    rating = story.commit(rating, Side.NODE)
    now(Where.COMMITTED, Where.RELEASED)
    rating = story.commit(rating, Side.CLIENT)
    now(Where.COMMITTED, Where.COMMITTED)
    rating = story.reveal(rating, Side.CLIENT, 5)
    now(Where.COMMITTED, Where.REVEALED)
    rating = story.reveal(rating, Side.NODE, 5)
    now(Where.RATED, Where.RATED)
    story.settle(rating)
    now(Where.SETTLED, Where.SETTLED)
    assert story.bond.content.score == 2 * 8
    assert story.bond.content.open_ids == ()

    for tip, node, client in reversed(stations):  # a reorg down to that height shows exactly what was shown then
        life = story.life(task.raw_id, tip)
        assert (life.where(tip + 1), life.where(tip + 1, Side.CLIENT)) == (node, client), tip


def test_where__when__the_node_admits_failure__then__failed_until_its_rating_is_settled(story: Story) -> None:
    task = story.post()
    failure, rating = story.fail(story.claim(task))
    life = story.life(task.raw_id)
    assert [life.where(story.height, side) for side in BOTH] == [Where.FAILED] * 2
    assert (life.failure, life.rating, life.receipt) == (failure, rating, None)
    assert life.since == story.tip
    before = story.bond.content
    assert before.open_ids == (task.raw_id,)
    story.tip += 3
    story.settle(rating, by=story.node)
    after = story.bond.content
    assert (after.open_ids, after.active, after.committed, after.failed) == ((), 0, 0, before.failed + 1)
    assert (after.score, after.completed) == (before.score, before.completed)
    life = story.life(task.raw_id)
    assert [life.where(story.height, side) for side in BOTH] == [Where.FAILURE_SETTLED] * 2


def test_where__when__the_deadline_was_missed__then__timed_out_and_the_bond_is_slashed(story: Story) -> None:
    task = story.post(ERG)
    before = story.bond.content.amount
    story.timeout(story.claim(task))
    life = story.life(task.raw_id)
    assert [life.where(story.height, side) for side in BOTH] == [Where.TIMED_OUT] * 2
    assert before - story.bond.content.amount == ERG // 10
    assert life.claimed_spent_by is not None


def test_where__when__the_client_stays_silent__then__rated_soon_after_his_time_to_commit_is_over(story: Story) -> None:
    task = story.post()
    _, rating = story.release(story.claim(task))
    over = rating.content.commit_deadline + MARGIN[Side.NODE]
    life = story.life(task.raw_id)
    assert [life.where(height) for height in (over, over + 1)] == [Where.RELEASED, Where.RATED]


def test_where__when__our_commitment_is_unopened__then__rated_only_after_the_reveal_deadline(story: Story) -> None:
    task = story.post()
    _, rating = story.release(story.claim(task))
    story.commit(rating, Side.NODE)
    deadline = rating.content.reveal_deadline
    life = story.life(task.raw_id)
    assert [life.where(height) for height in (deadline, deadline + 1)] == [Where.COMMITTED, Where.RATED]


def test_read_life__when__the_claim_is_mined__then__height_and_block_are_those_of_its_header(story: Story) -> None:
    task = story.post()
    claimed = story.claim(task)
    life = story.life(task.raw_id)
    assert life.claimed == claimed
    assert (life.claim_height, life.claim_block) == (story.tip, digest("main", story.tip))
    assert life.since == story.tip


def test_read_life__when__the_newest_box_is_in_the_mempool__then__it_decides_and_has_no_height(story: Story) -> None:
    task = story.post()
    _, rating = story.release(story.claim(task))
    confirmed = story.sightings(task.raw_id)
    after = story.commit(rating, Side.NODE)
    waiting = [s if s.box.id != rating.id else replace(s, spent_by=after.transaction_id) for s in confirmed]
    life = read_life(story.deployment, [*waiting, Sighting(box_of(after.box), None, None, None)])
    assert life.where(story.height) is Where.COMMITTED
    assert life.since is None
    assert life.rating_spent_by is None
    assert life.rating == after


def test_read_life__when__every_state_of_a_rating_is_spent_in_one_block__then__the_furthest_counts(
    story: Story,
) -> None:
    task = story.post()
    _, rating = story.release(story.claim(task))
    states: list[On[Rating]] = [rating]
    for side in BOTH:
        states.append(story.commit(states[-1], side, 4))
    for side in BOTH:
        states.append(story.reveal(states[-1], side, 4))
    story.settle(states[-1])
    together = [replace(s, height=5000) for s in story.sightings(task.raw_id)]
    for order in (together, together[::-1]):
        life = read_life(story.deployment, order)
        assert life.rating == states[-1]
        assert life.where(5001) is Where.SETTLED


def test_read_life__when__boxes_are_not_ours_or_malformed__then__they_prove_nothing(story: Story) -> None:
    task = story.post()
    story.claim(task)
    honest = story.sightings(task.raw_id)
    strangers = [
        coin(story.stranger.tree, ERG, "a stranger's box"),
        *(coin(tree, ERG, f"no registers {guard}") for guard, tree in story.deployment.trees.items()),
    ]
    forged = [Sighting(box_of(box), story.tip, digest("main", story.tip), None) for box in strangers]
    assert read_life(story.deployment, [*forged, *honest, *forged]) == read_life(story.deployment, honest)
    assert read_life(story.deployment, forged).where(story.height) is None


def test_read_life__when__another_market_made_the_boxes__then__nothing_is_seen(story: Story) -> None:
    task = story.post()
    story.claim(task)
    elsewhere = Story(treasury="another").deployment
    assert read_life(elsewhere, story.sightings(task.raw_id)).where(story.height) is None


def test_read_life__when__it_is_released__then__receipt_and_rating_are_those_of_the_release(story: Story) -> None:
    task = story.post()
    claimed = story.claim(task)
    receipt, rating = story.release(claimed)
    life = story.life(task.raw_id)
    assert (life.receipt, life.rating, life.failure) == (receipt, rating, None)
    assert life.receipt_height == story.tip
    assert life.claimed_spent_by == receipt.transaction_id
    assert (life.rating_spent_by, life.since) == (None, story.tip)


def test_read_life__when__a_source_shows_an_old_state_of_a_rating_as_unspent__then__that_one_is_to_be_worked_on(
    story: Story,
) -> None:
    # Better to do a step again, which a node refuses, than to take for done what may not be.
    task = story.post()
    _, rating = story.release(story.claim(task))
    after = story.commit(rating, Side.NODE)
    story.commit(after, Side.CLIENT)
    stale = [replace(s, spent_by=None) if s.box.id == rating.id else s for s in story.sightings(task.raw_id)]
    gone = [replace(s, spent_by="a" * 64) if s.box.id != rating.id else s for s in stale]
    for order in (gone, gone[::-1]):
        assert read_life(story.deployment, order).rating == rating
