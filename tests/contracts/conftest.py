"""One reference interpreter and one market for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import templates

from .judge import Judge
from .world import World


@pytest.fixture(scope="session")
def appkit() -> Iterator[Appkit]:
    with Appkit() as running:
        yield running


@pytest.fixture(scope="session")
def world() -> World:
    return World.of(templates())


@pytest.fixture(scope="session")
def judge(world: World, appkit: Appkit) -> Judge:
    return Judge(world.deployment, appkit)
