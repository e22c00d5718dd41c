"""What a client can do with his money once it is locked: burn it for an output that never comes, and have others bring it back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TypeVar

import pytest
from offchain import ERG, FEE, OUTPUT
from onchain import POLL
from test_client import CLIENT, Place, place

from aihd.client.party import Party
from aihd.core.rating import COMPLAIN_BEFORE
from aihd.core.task import Where
from aihd.errors import DependencyError, TemporaryError, UsageError
from aihd.execution import seal
from aihd.protocol import plans
from aihd.protocol.boxes import FailureReceipt, On, Rating
from aihd.protocol.constants import BURN, USELESS
from aihd.protocol.guards import slash

__all__ = ["place"]  # the fixture

T = TypeVar("T")
CONTENT = b"the output"
HASH = hashlib.sha3_256(CONTENT).digest()


PACE = 0.3  # seconds between two blocks: a client that reads several sources needs a part of it to see them agree


async def over_blocks(place: Place, work: Awaitable[T], most: int = 200) -> T:
    """Await `work` while one block comes after another."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(most):
            done, _ = await asyncio.wait({task}, timeout=PACE)
            if done:
                return task.result()
            place.world.chain.mine()
    finally:
        task.cancel()
    raise AssertionError(f"not done after {most} blocks")


async def served(place: Place, task_id: bytes, plain: bytes = CONTENT) -> None:
    """The node's door gives the output, sealed for the client."""

    async def pieces() -> AsyncIterator[bytes]:
        yield plain

    sealed = seal.seal(place.party.signer.public_key, seal.output_context(task_id, HASH), pieces())
    place.door[f"outputs/{HASH.hex()}"] = (200, b"".join([part async for part in sealed]))


async def rating_of(place: Place, task_id: bytes) -> On[Rating]:
    rating = (await place.party.view.life(task_id)).rating
    assert rating is not None
    return rating


async def settled(place: Place, task_id: bytes) -> None:
    """By the node, which gave no mark of its own, once the client's cannot change any more."""
    rating, bond, chain = await rating_of(place, task_id), await place.bond(), place.world.chain
    chain.mine(max(0, rating.content.reveal_deadline - chain.height))
    await place.world.mined(place.node.do("settle", lambda m, f: plans.settle(m, rating, bond, f)))


@pytest.fixture
def target(place: Place) -> Path:
    return place.world.folder / "output"


# ---------------------------------------------------------------- an output that does not come


@pytest.mark.asyncio
@pytest.mark.parametrize("gives", [None, b"something else"])
async def test_take_or_complain__when__the_node_never_gives_it__then__mark_1_in_time_and_the_held_share_is_burned(
    place: Place, target: Path, gives: bytes | None
) -> None:
    task_id = await place.post(holdback_bps=10_000)
    await place.release(task_id, b"{}", HASH, b"sig")
    if gives is not None:
        await served(place, task_id, gives)
    rating = (await rating_of(place, task_id)).content
    assert await over_blocks(place, place.client.take_or_complain(task_id, target)) == USELESS
    assert not list(place.world.folder.glob("output*"))
    committed = place.party.journal.transactions(task_id)[0]
    assert committed.kind == "commit" and committed.height is not None
    assert rating.commit_deadline - COMPLAIN_BEFORE < committed.height <= rating.commit_deadline - 5
    assert rating.held == 988_000_000
    before = place.world.balance(place.node.signer.tree)
    await settled(place, task_id)
    assert sum(box.value for box in place.world.boxes(BURN)) == rating.held
    assert (
        place.world.balance(place.node.signer.tree) - before == 4_000_000 - FEE
    )  # the rating's own value, and no more
    assert (await place.bond()).content.score == -16


@pytest.mark.asyncio
async def test_take_or_complain__when__the_node_gives_it_late__then__no_mark_is_spent_on_it(
    place: Place, target: Path
) -> None:
    task_id = await place.post(holdback_bps=10_000)
    await place.release(task_id, b"{}", HASH, b"sig")
    chain, rating = place.world.chain, (await rating_of(place, task_id)).content
    taking = asyncio.ensure_future(place.client.take_or_complain(task_id, target))
    chain.mine(rating.commit_deadline - COMPLAIN_BEFORE - 2 - chain.height)
    await asyncio.sleep(5 * POLL)
    assert not taking.done()
    await served(place, task_id)
    assert await asyncio.wait_for(taking, 10) is None
    assert target.read_bytes() == CONTENT
    assert place.party.journal.transactions(task_id) == []
    post = place.party.journal.post(task_id)
    assert post is not None and post["mark"] is None


@pytest.mark.asyncio
async def test_take_or_complain__when__the_receipt_is_yet_to_come__then__waited_for(place: Place, target: Path) -> None:
    task_id = await place.post()
    taking = asyncio.ensure_future(place.client.take_or_complain(task_id, target))
    await asyncio.sleep(3 * POLL)
    await served(place, task_id)
    await place.release(task_id, b"{}", HASH, b"sig")
    assert await asyncio.wait_for(taking, 10) is None
    assert target.read_bytes() == CONTENT


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["failed", "timed_out", "lost"])
async def test_take_or_complain__when__the_task_ends_without_a_receipt__then__told_and_nothing_is_marked(
    place: Place, target: Path, end: str
) -> None:
    task_id = await place.post()
    if end == "lost":
        await place.world.mined(place.client.refund(task_id))
    else:
        claimed, chain = await place.claim(task_id), place.world.chain
        if end == "failed":
            why = FailureReceipt(task_id, claimed.content.node, 1, OUTPUT, chain.height, b"signature")
            await place.world.mined(place.node.do("fail", lambda m, f: plans.fail(m, claimed, why, f)))
        else:
            chain.mine(claimed.content.exec_deadline - chain.height)
            await place.world.mined(place.client.refund(task_id))
    with pytest.raises(DependencyError, match=f"ended: {end}"):
        await asyncio.wait_for(place.client.take_or_complain(task_id, target), 10)
    post = place.party.journal.post(task_id)
    assert post is not None and post["mark"] is None


@pytest.mark.asyncio
async def test_rate__when__the_mark_is_not_1__then__the_held_share_goes_to_the_node(place: Place) -> None:
    task_id = await place.post(holdback_bps=5_000)
    await place.release(task_id, b"{}", HASH, b"sig")
    assert await over_blocks(place, place.client.rate(task_id, 2)) == 2
    before = place.world.balance(place.node.signer.tree)
    await settled(place, task_id)
    assert place.world.balance(place.node.signer.tree) - before == 494_000_000 + 4_000_000 - FEE
    assert place.world.boxes(BURN) == []


# ---------------------------------------------------------------- others bring it back


@pytest.mark.asyncio
async def test_timeout__when__a_stranger_asks__then__the_money_goes_to_the_client_as_soon_as_it_may(
    place: Place,
) -> None:
    stranger: Party = await place.world.party("stranger")
    before = place.balance()
    task_id = await place.post()
    with pytest.raises(UsageError, match="is open: no deadline of it can be over"):
        await stranger.client.timeout(task_id)
    claimed, chain = await place.claim(task_id), place.world.chain
    deadline = claimed.content.exec_deadline
    chain.mine(deadline - chain.height - 1)
    for verb in (stranger.client.timeout, stranger.client.refund):
        with pytest.raises(
            TemporaryError, match=f"may be delivered until height {deadline}, the chain is at {deadline - 1}"
        ):
            await verb(task_id)
    chain.mine()
    mine = place.world.balance(stranger.signer.tree)
    assert await place.world.mined(stranger.client.timeout(task_id)) == "timed out"
    assert place.world.balance(stranger.signer.tree) == mine
    assert place.balance() == before + slash(claimed.content.worth * 5, ERG) - 2 * FEE
    progress = await place.client.progress(task_id)
    assert progress is not None and progress.where is Where.TIMED_OUT
    with pytest.raises(UsageError, match="is timed_out: no deadline of it can be over"):
        await stranger.client.timeout(task_id)


@pytest.mark.asyncio
async def test_refund__when__it_is_anothers_task__then__only_after_its_deadline_and_to_its_client(place: Place) -> None:
    stranger = await place.world.party("stranger")
    before = place.balance()
    task_id = await place.post()
    chain = place.world.chain
    box = place.world.chain.ledger.utxo(task_id.hex())
    assert box is not None
    (escrow,) = await place.party.view.escrows()
    deadline = escrow.content.claim_deadline
    chain.mine(deadline - chain.height - 1)
    with pytest.raises(TemporaryError, match=f"is another client's, who alone may cancel it until height {deadline}"):
        await stranger.client.refund(task_id)
    assert len(chain.pool) == 0
    chain.mine()
    mine = place.world.balance(stranger.signer.tree)
    assert await place.world.mined(stranger.client.refund(task_id)) == "refunded to its client"
    assert place.world.balance(stranger.signer.tree) == mine
    assert place.balance() == before - 2 * FEE
    assert CLIENT.public_key == escrow.content.client


@pytest.mark.asyncio
async def test_refund__when__the_task_was_delivered__then__there_is_nothing_to_get_back(place: Place) -> None:
    stranger = await place.world.party("stranger")
    task_id = await place.post()
    await place.release(task_id, b"{}", HASH, b"sig")
    for client in (place.client, stranger.client):
        with pytest.raises(UsageError, match="is released: there is nothing to get back"):
            await client.refund(task_id)
        with pytest.raises(UsageError, match="is released: no deadline of it can be over"):
            await client.timeout(task_id)
