"""The node's public door: uploads that match, outputs and receipts by their hash, and every refusal as one JSON line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import made
import pytest
import pytest_asyncio
from offchain import digest

from aihd.core.task import Stage, Task, Where
from aihd.execution.content import ContentStore
from aihd.execution.exchange import PREFIX, exchange_app
from aihd.execution.inputs import InputStore
from aihd.ops.web import serve
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment, receipt_cid

SALT = digest("salt")
BODY = SALT + b"".join(envelope.encode({"A": "1"}, [b"the input"]))
TASK = made.task(input_commitment=input_commitment(SALT, [BODY[32:]]), where=Where.CLAIMED)


@dataclass(slots=True)
class Door:
    """A served door over a book of tasks that the test writes."""

    url: str
    session: aiohttp.ClientSession
    book: dict[bytes, Task]
    inputs: InputStore
    content: ContentStore
    receipts: Path
    told: list[bytes]

    async def ask(self, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, bytes]:
        async with self.session.request(method, f"{self.url}{PREFIX}/{path}", data=data, headers=headers) as answer:
            return answer.status, await answer.read()

    async def put(self, data: Any = BODY, task_id: bytes = TASK.id) -> tuple[int, bytes]:
        return await self.ask("PUT", f"tasks/{task_id.hex()}/input", data)


@dataclass(frozen=True, slots=True)
class Book:
    tasks: dict[bytes, Task]

    def find(self, task_id: bytes) -> Task | None:
        return self.tasks.get(task_id)


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    book, told = {TASK.id: TASK}, []
    inputs = InputStore(tmp_path / "inputs", 1000)
    content, receipts = ContentStore(tmp_path / "content"), tmp_path / "receipts"
    receipts.mkdir()

    def stored(task_id: bytes) -> None:
        told.append(task_id)
        book[task_id] = replace(book[task_id], stage=Stage.INPUT)

    app = exchange_app(Book(book), inputs, content, receipts, stored)
    async with serve(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        yield Door(f"http://127.0.0.1:{port}", session, book, inputs, content, receipts, told)


@pytest.mark.asyncio
async def test_upload__when__it_matches__then__stored_told_once_and_a_repeat_is_fine(door: Door) -> None:
    assert await door.put() == (201, b'{"stored": true}')
    stored = door.inputs.get(TASK.id)
    assert stored is not None
    assert (stored.path.read_bytes(), stored.config) == (b"the input", {"A": "1"})
    assert await door.put() == (200, b'{"stored": true}')
    assert await door.put(b"anything") == (200, b'{"stored": true}')
    assert door.told == [TASK.id]


@pytest.mark.asyncio
async def test_upload__when__a_crash_came_between_disk_and_journal__then__the_repeat_tells_it(door: Door) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield BODY

    await door.inputs.receive(TASK.id, TASK.input_commitment, body())
    assert await door.put() == (200, b'{"stored": true}')
    assert door.told == [TASK.id]


@pytest.mark.asyncio
@pytest.mark.parametrize("data", [b"", b"short", BODY + b"x", BODY[:-1], bytes(len(BODY)), SALT + b"\xff" * 90])
async def test_upload__when__it_does_not_match__then__400_with_the_reason_and_still_awaited(
    door: Door, data: bytes
) -> None:
    status, answer = await door.put(data)
    assert status == 400
    assert answer.startswith(b'{"error": "input: ')
    assert door.inputs.get(TASK.id) is None
    assert door.told == []
    assert (await door.put())[0] == 201


@pytest.mark.asyncio
async def test_upload__when__too_large__then__400_before_its_end(door: Door) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield BODY
        while sent < 10**9:
            sent += 1 << 16
            yield bytes(1 << 16)

    try:
        status, answer = await door.put(endless())
        assert (status, b"larger than the 1000 bytes" in answer) == (400, True)
    except aiohttp.ClientError:
        pass  # the node closed while we were still sending
    assert sent < 10**8
    assert door.inputs.get(TASK.id) is None


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("where", "stage", "says"),
    [
        (Where.OPEN, Stage.WANTED, "claiming"),
        (Where.CLAIMED, Stage.BROKEN, "failing"),
        (Where.FAILED, Stage.BROKEN, "refunded"),
        (Where.LOST, Stage.WANTED, "beaten"),
    ],
)
async def test_upload__when__the_task_takes_none_now__then__409_with_its_state(
    door: Door, where: Where, stage: Stage, says: str
) -> None:
    door.book[TASK.id] = replace(TASK, where=where, stage=stage)
    status, answer = await door.put()
    assert (status, says in answer.decode()) == (409, True)
    assert door.inputs.get(TASK.id) is None


@pytest.mark.asyncio
async def test_upload__when__the_time_for_it_ends_on_the_way__then__refused_and_the_failure_stands(door: Door) -> None:
    half = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield BODY[:50]
        await half.wait()
        yield BODY[50:]

    sending = asyncio.ensure_future(door.put(slow()))
    await asyncio.sleep(0.1)
    door.book[TASK.id] = replace(TASK, stage=Stage.BROKEN)
    half.set()
    status, answer = await sending
    assert (status, b"failing" in answer) == (409, True)
    assert door.told == []
    assert door.book[TASK.id].stage is Stage.BROKEN


@pytest.mark.asyncio
async def test_upload__when__a_stranger_dribbles__then__the_client_gets_in(door: Door) -> None:
    ended = asyncio.Event()

    async def dribble() -> AsyncIterator[bytes]:
        yield b"x"
        await ended.wait()
        yield b"y"

    stranger = asyncio.ensure_future(door.put(dribble()))
    await asyncio.sleep(0.1)
    assert (await door.put())[0] == 201
    ended.set()
    assert (await stranger)[0] in (400, 200)
    assert door.told == [TASK.id]


@pytest.mark.asyncio
async def test_task__when__shown__then__its_state_and_nothing_secret(door: Door) -> None:
    door.book[TASK.id] = replace(TASK, output_hash=digest("o"), receipt_cid=b"\1" * 38, note="why", salt=b"secret" * 5)
    async with door.session.get(f"{door.url}{PREFIX}/tasks/{TASK.id.hex()}") as answer:
        assert await answer.json() == {
            "id": TASK.id.hex(),
            "state": "awaiting input",
            "output_hash": digest("o").hex(),
            "receipt_cid": "01" * 38,
            "note": "why",
        }


@pytest.mark.asyncio
async def test_output__when__kept__then__whole_or_a_part_of_it(door: Door) -> None:
    async with door.content.receive(100) as sink:
        sink.write(b"0123456789")
        output_hash, _ = await sink.commit()
    assert await door.ask("GET", f"outputs/{output_hash.hex()}") == (200, b"0123456789")
    assert await door.ask("GET", f"outputs/{output_hash.hex()}", Range="bytes=3-5") == (206, b"345")
    status, answer = await door.ask("GET", f"outputs/{digest('x').hex()}")
    assert (status, answer) == (404, b'{"error": "no output with this hash is kept here"}')


@pytest.mark.asyncio
async def test_receipt__when__kept__then__given_by_its_cid(door: Door) -> None:
    cid = receipt_cid(b"{}")
    (door.receipts / cid.hex()).write_bytes(b"{}")
    assert await door.ask("GET", f"receipts/{cid.hex()}") == (200, b"{}")
    assert (await door.ask("GET", f"receipts/{receipt_cid(b'other').hex()}"))[0] == 404


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("tasks/zz", 400, "task id 'zz': expected 32 bytes in hex"),
        (f"tasks/{'ab' * 31}", 400, "expected 32 bytes in hex"),
        (f"tasks/{'ab' * 32}", 404, "this node does not work on a task with this id"),
        ("outputs/..%2F..%2Fetc%2Fpasswd", 400, "output hash '../../etc/passwd': expected 32 bytes"),
        ("receipts/..%2F..%2Faihd.sqlite", 400, "receipt CID"),
        (f"receipts/{'ab' * 32}", 400, "expected 38 bytes in hex"),
        ("nothing", 404, "Not Found"),
    ],
)
async def test_get__when__the_address_is_wrong__then__one_json_line(
    door: Door, path: str, status: int, says: str
) -> None:
    async with door.session.get(f"{door.url}{PREFIX}/{path}".replace("%2F", "%2F")) as answer:
        document = await answer.json()
        assert (answer.status, says in document["error"]) == (status, True)
