"""What is kept of a task, and when it goes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import made
import pytest
from offchain import digest

from aihd.core.task import Where
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.execution.retention import expired, sweep
from aihd.protocol.constants import RECEIPT_RETENTION

TASK = made.task(where=Where.CLAIMED)


@pytest.mark.parametrize(
    ("where", "final", "since", "height", "gone"),
    [
        (Where.CLAIMED, False, 100, 10**6, False),
        (Where.OPEN, False, 100, 10**6, False),
        (Where.SETTLED, True, 100, 100 + RECEIPT_RETENTION, False),
        (Where.SETTLED, True, 100, 101 + RECEIPT_RETENTION, True),
        (Where.RELEASED, False, 100, 101 + RECEIPT_RETENTION, True),
        (Where.SETTLED, True, None, 10**6, False),
        (Where.FAILED, False, 100, 10**6, False),
        (Where.FAILURE_SETTLED, False, 100, 10**6, False),
        (Where.FAILURE_SETTLED, True, 100, 101, True),
        (Where.TIMED_OUT, True, 100, 101, True),
        (Where.LOST, True, None, 101, True),
    ],
)
def test_expired__when__the_receipt_may_be_reclaimed_or_there_is_none__then__true(
    where: Where, final: bool, since: int | None, height: int, gone: bool
) -> None:
    assert expired(replace(TASK, where=where, final=final, since=since), height) is gone


async def kept(content: ContentStore, data: bytes) -> bytes:
    async with content.receive(100) as sink:
        sink.write(data)
        return (await sink.commit())[0]


@pytest.mark.asyncio
async def test_sweep__when__some_tasks_are_over__then__only_what_no_other_needs_goes(tmp_path: Path) -> None:
    content, inputs = ContentStore(tmp_path / "content"), InputStore(tmp_path / "inputs", 100)
    shared, old, orphan = await kept(content, b"shared"), await kept(content, b"old"), await kept(content, b"orphan")
    young = replace(TASK, where=Where.SETTLED, since=1000, output_hash=shared)
    first = replace(young, id=digest("first"), since=10)
    second = replace(young, id=digest("second"), since=10, output_hash=old)
    for task in (young, first, second):
        (tmp_path / "inputs" / task.id.hex()).mkdir()
    (tmp_path / "content" / "a note").write_text("of the operator")
    height = 11 + RECEIPT_RETENTION
    assert sweep([young, first, second], height, content, inputs) == (0, 0)  # all of it is new
    for path in [*(tmp_path / "content").iterdir(), *(tmp_path / "inputs").iterdir()]:
        os.utime(path, (0, 0))
    assert sweep([young, first, second], height, content, inputs) == (2, 2)
    assert [content.has(digest) for digest in (shared, old, orphan)] == [True, False, False]
    left = {path.name for path in [*(tmp_path / "content").iterdir(), *(tmp_path / "inputs").iterdir()]}
    assert left == {shared.hex(), young.id.hex(), "a note", "partial"}
