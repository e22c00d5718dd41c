"""Random histories: a few in every run of the tests, an hour by `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihd.store.journal import Journal

from .promises import BrokenPromise, Promises
from .run import Stage, explore, stage
from .world import FINAL_DEPTH

FEW = 12
PAYMENT = 10**8
SEED = 2026  # the same histories in every run: new ones are for `python -m tests.chaos`


@pytest.mark.slow
def test_daemon__when__its_world_fails_at_random__then__every_promise_holds() -> None:
    with stage() as on:
        explore(on, FEW, SEED)
    assert on.tally.sequences >= FEW
    assert on.tally.ends["PAID"]


def test_check__when__the_journal_forgets_our_claim__then__told(tmp_path: Path) -> None:
    with stage() as on:
        on.run(_forgotten(on, tmp_path))


async def _forgotten(on: Stage, folder: Path) -> None:
    (daemon,) = on.world.again()
    assert on.world.client.post(on.world.service, PAYMENT, inline=True) is not None
    for _ in range(3):
        on.world.chain.mine()
        assert await daemon.turn()
    promises = Promises(on.world.ground, on.world.places[0].signer.public_key, FINAL_DEPTH)
    promises.check(daemon.journal, {}, 0)
    promises.intents.clear()
    with Journal(folder / "empty.sqlite") as empty, pytest.raises(BrokenPromise, match="and not in the journal"):
        promises.check(empty, {}, 0)
    await daemon.stop()
