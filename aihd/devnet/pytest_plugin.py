"""The fixture `devnet` for another project's tests (needs pytest-asyncio).

Name this module in a `conftest.py`: `pytest_plugins = ["aihd.devnet.pytest_plugin"]`. Each test gets a chain of its own,
with blocks on demand, that ends with the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from aihd.devnet.server import Devnet


@pytest_asyncio.fixture
async def devnet() -> AsyncIterator[Devnet]:
    """A running devnet."""
    async with Devnet() as running:
        yield running
