"""What has a deadline touches no box that others can spend: a client with unlimited fees cannot push a release or a failure out.

The same plays succeed against version 1, so they can fail.
"""

from __future__ import annotations

from typing import Any

import pytest

from .ground import STAKE
from .play import PRIZE, cancelled_escrows, marks_kept_back
from .rules import VERSION_1, VERSION_2

SLASHED = STAKE - PRIZE // 10


RUNS = 50


def seeds(quick: int) -> list[Any]:
    """The first few are among the fast tests."""
    return [pytest.param(seed, marks=pytest.mark.slow if seed >= quick else ()) for seed in range(RUNS)]


@pytest.mark.parametrize("seed", seeds(2))
def test_release__when__a_client_settles_a_rating_in_every_block__then__it_is_mined_in_time(seed: int) -> None:
    ending = marks_kept_back(VERSION_2, seed, fails=seed % 2 == 1)
    assert (ending.released, ending.stake) == (True, STAKE)
    assert ending.attempts == 1


@pytest.mark.parametrize("seed", seeds(2))
def test_release__when__a_client_cancels_every_task_that_is_claimed__then__it_is_mined_in_time(seed: int) -> None:
    ending = cancelled_escrows(VERSION_2, seed, fails=seed % 2 == 1, claims_first=seed % 4 < 2)
    assert (ending.released, ending.stake) == (True, STAKE)
    assert ending.attempts == 1


@pytest.mark.parametrize("seed", seeds(1))
def test_version_1__when__a_client_settles_a_rating_in_every_block__then__the_node_is_slashed(seed: int) -> None:
    ending = marks_kept_back(VERSION_1, seed)
    assert (ending.released, ending.stake) == (False, SLASHED)
    assert ending.attempts > 10


@pytest.mark.parametrize("seed", seeds(1))
def test_version_1__when__a_client_cancels_every_task_that_is_claimed__then__the_node_is_slashed(seed: int) -> None:
    ending = cancelled_escrows(VERSION_1, seed)
    assert (ending.released, ending.stake) == (False, SLASHED)
    assert ending.attempts > 10
