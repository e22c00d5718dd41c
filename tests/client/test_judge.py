"""A mark by a rule: the output is what it has to be and can be had, or it is worth nothing."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator

import pytest
from offchain import digest
from test_client import Place, place

from aihd.client.client import Post
from aihd.client.judge import judge, reexecute
from aihd.errors import DependencyError, TemporaryError, UsageError
from aihd.execution import seal

__all__ = ["place"]

RESULT = b"ONE TWO\n"
HASH = hashlib.sha3_256(RESULT).digest()
UPPER = [sys.executable, "-c", "import sys; print(sys.stdin.read().upper(), end='')"]


async def released(place: Place) -> bytes:
    """A task whose receipt names the hash of RESULT."""
    task_id = await place.post()
    await place.release(task_id, b"{}", HASH, b"sig")
    return task_id


async def sealed(place: Place, task_id: bytes, plain: bytes) -> bytes:
    """What a node gives for the receipt's output, sealed for the client."""

    async def pieces() -> AsyncIterator[bytes]:
        yield plain

    context = seal.output_context(task_id, HASH)
    return b"".join([part async for part in seal.seal(place.party.signer.public_key, context, pieces())])


def post_of(place: Place, task_id: bytes) -> Post:
    found = place.party.journal.post(task_id)
    assert found is not None
    return Post.read(found)


@pytest.mark.asyncio
async def test_judge__when__the_output_is_as_expected__then__5_and_the_mark_gets_on_the_chain(place: Place) -> None:
    task_id = await released(place)
    place.door[f"outputs/{HASH.hex()}"] = (200, await sealed(place, task_id, RESULT))
    found = await judge(place.client, task_id, HASH, 0)
    assert found.mark == 5
    rating = asyncio.ensure_future(place.client.rate(task_id, found.mark))
    while not rating.done():
        await asyncio.sleep(0.03)
        place.world.chain.mine()
    assert await rating == 5


@pytest.mark.asyncio
async def test_judge__when__another_output_or_none_or_not_that_of_the_receipt__then__1_and_why(place: Place) -> None:
    task_id = await released(place)
    other = await judge(place.client, task_id, digest("other"), 0)
    assert (other.mark, f"the output's hash is {HASH.hex()}" in other.reason) == (1, True)
    absent = await judge(place.client, task_id, HASH, 0)
    assert (absent.mark, "the output cannot be fetched" in absent.reason) == (1, True)
    place.door[f"outputs/{HASH.hex()}"] = (200, await sealed(place, task_id, b"something else"))
    lie = await judge(place.client, task_id, HASH, 0)
    assert (lie.mark, "the output cannot be fetched" in lie.reason) == (1, True)


@pytest.mark.asyncio
async def test_judge__when__there_is_no_receipt_yet__then__no_mark(place: Place) -> None:
    task_id = await place.post()
    with pytest.raises(TemporaryError, match="no receipt yet"):
        await judge(place.client, task_id, HASH, 0)


@pytest.mark.asyncio
async def test_reexecute__when__a_command_makes_the_output_again__then__its_hash_with_seed_and_configuration(
    place: Place,
) -> None:
    task_id = await released(place)
    post = post_of(place, task_id)
    assert await reexecute(place.client, task_id, post, UPPER) == HASH
    seeded = [sys.executable, "-c", "import os; print(os.environ['AIH_SEED'])"]
    first = await reexecute(place.client, task_id, post, seeded)
    assert first == await reexecute(place.client, task_id, post, seeded)
    assert first != hashlib.sha3_256(b"\n").digest()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["/no/such/program"], "--reexecute /no/such/program: it cannot be run"),
        ([sys.executable, "-c", "raise SystemExit(3)"], "it ended with exit code 3: there is nothing to compare with"),
    ],
)
async def test_reexecute__when__the_command_fails__then__usage_error_and_no_mark(
    place: Place, command: list[str], says: str
) -> None:
    task_id = await released(place)
    with pytest.raises(UsageError, match=says):
        await reexecute(place.client, task_id, post_of(place, task_id), command)


@pytest.mark.asyncio
async def test_rate__when__the_time_to_commit_is_over__then__an_error_that_says_so(place: Place) -> None:
    task_id = await released(place)
    rating = (await place.party.view.life(task_id)).rating
    assert rating is not None
    place.world.chain.mine(rating.content.commit_deadline - place.world.chain.height)
    with pytest.raises(DependencyError, match="the time to rate it is over, and no mark of ours is in"):
        await asyncio.wait_for(place.client.rate(task_id, 5), 5)
