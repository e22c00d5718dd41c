"""A whole task, from post to rating, by real daemons, in each set-up of sources and with headers that run ahead of the blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihd.demo.play import play
from aihd.demo.story import Step
from aihd.demo.world import Sourcing, world


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize(
    ("sources", "ahead"), [("node", 0), ("explorer", 0), ("node", 1), ("both", 4), ("explorer", 7), ("node", 12)]
)
async def test_task__when__sources_are_few_or_headers_ahead__then__paid_and_rated(
    tmp_path: Path, sources: Sourcing, ahead: int
) -> None:
    text = tmp_path / "input.txt"
    text.write_text("a few words\n")
    told: list[Step] = []
    async with world(tmp_path / "world", block_time=0.8, max_input=10_000, names=("node",), sources=sources) as stage:
        # Not before: a bond is valid for five blocks, and cannot be opened through a node that is more behind.
        stage.devnet.chain.run_ahead(ahead)
        ending = await play(stage, text, "text-digest", tmp_path / "output", told.append)
    assert ending.balanced
    assert all(finding.holds for finding in ending.findings)
