"""The promise of the exchange: whatever strangers do at the door, the daemon claims on, is paid, and says how it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from .play import TASKS, Outcome, play


def judged(outcome: Outcome, kills: int) -> None:
    print(outcome)
    assert outcome.paid == TASKS
    assert outcome.kills == kills
    # While it is killed, started again and attacked, on a machine with other work; where places are not taken back it is 0.02.
    assert outcome.door > 0.25, outcome
    assert outcome.usual < 1.0, outcome
    assert outcome.slowest < 3.0, outcome  # other work on the same machine may delay one
    assert outcome.asked > 20
    assert outcome.grown < 20_000_000, outcome
    assert outcome.logged < 1_000_000, outcome
    assert outcome.exchange < 300_000_000, outcome
    assert all(
        outcome.strangers[kind] for kind in ("silent", "half", "dribble", "body", "bomb", "forged", "deaf", "noise")
    )


@pytest.mark.asyncio
async def test_daemon__when__attacked_for_a_while_and_its_exchange_is_killed__then__all_paid_and_healthy(
    tmp_path: Path,
) -> None:
    judged(await play(tmp_path, seconds=12, strangers=1300, kills=1), 1)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_daemon__when__attacked_by_two_thousand_for_two_minutes__then__all_paid_and_healthy(
    tmp_path: Path,
) -> None:
    outcome = await play(tmp_path, seconds=120, strangers=2000, kills=3)
    judged(outcome, 3)
    assert outcome.took < 120, outcome  # under attack, not after it
