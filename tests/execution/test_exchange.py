"""The node's public door: uploads that match, outputs and receipts by their hash, and every refusal as one JSON line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import made
import pytest
import pytest_asyncio
from door import Shop, open_door
from holder import Holder
from offchain import digest

from aihd.chain.signer import Signer
from aihd.core.task import Stage, Task, Where
from aihd.execution import seal
from aihd.execution.auth import upload_message
from aihd.execution.content import ContentStore
from aihd.execution.desk import Keys
from aihd.execution.exchange import PREFIX
from aihd.execution.inputs import InputStore
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment, receipt_cid

GENESIS = digest("genesis")
CLIENT, NODE = "the key of client", "the key of node"
SIGNER, CLIENT_KEY, NODE_KEY = Signer(CLIENT), Holder.of(CLIENT), Holder.of(NODE)
SALT = digest("salt")
BODY = SALT + b"".join(envelope.encode({"A": "1"}, [b"the input"]))
TASK = made.task(
    id=digest("task"),
    input_commitment=input_commitment(SALT, [BODY[32:]]),
    client=CLIENT_KEY.public_key,
    where=Where.CLAIMED,
)


@dataclass(slots=True)
class Door:
    """A served door over a book of tasks that the test writes."""

    url: str
    session: aiohttp.ClientSession
    book: dict[bytes, Task]
    inputs: InputStore
    content: ContentStore
    receipts: Path
    inbox: Path
    told: list[bytes]

    async def ask(self, method: str, path: str, data: Any = None, **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"{self.url}{PREFIX}/{path}", data=data, headers=named) as answer:
            return answer.status, await answer.read()

    async def put(self, data: bytes | AsyncIterator[bytes] = BODY, task_id: bytes = TASK.id) -> tuple[int, bytes]:
        """What the task's client sends: signed, and sealed for the node."""
        pieces = once(data) if isinstance(data, bytes) else data
        body = seal.seal(NODE_KEY.public_key, seal.input_context(task_id), pieces)
        signature = SIGNER.sign_message(upload_message(GENESIS, task_id)).hex()
        path = f"tasks/{task_id.hex()}/input"
        return await self.ask("PUT", path, body, AIH_Signature=signature, Content_Type=seal.CONTENT_TYPE)


@dataclass(frozen=True, slots=True)
class Book:
    tasks: dict[bytes, Task]

    def find(self, task_id: bytes) -> Task | None:
        return self.tasks.get(task_id)


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    book, told = {TASK.id: TASK}, []
    inputs = InputStore(tmp_path / "inputs", 1000)
    content, receipts = ContentStore(tmp_path / "content"), tmp_path / "receipts"
    receipts.mkdir()

    def stored(task_id: bytes) -> None:
        told.append(task_id)
        book[task_id] = replace(book[task_id], stage=Stage.INPUT)

    keys = Keys(NODE_KEY.public_key, NODE_KEY.agree, GENESIS)
    shop = Shop.at(tmp_path, Book(book), inputs, keys, stored)
    async with open_door(shop) as port, aiohttp.ClientSession() as session:
        yield Door(f"http://127.0.0.1:{port}", session, book, inputs, content, receipts, shop.inbox, told)


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
    await door.inputs.receive(TASK.id, TASK.input_commitment, once(BODY))
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
    assert list(door.inbox.iterdir()) == []
    assert (await door.put())[0] == 201


@pytest.mark.asyncio
async def test_upload__when__too_large__then__413_before_its_end(door: Door) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield BODY
        while sent < 10**9:
            sent += 1 << 16
            yield bytes(1 << 16)

    try:
        status, answer = await door.put(endless())
        assert (status, b"input: it is larger than" in answer) == (413, True)
    except aiohttp.ClientError:
        pass  # the node closed while we were still sending
    assert sent < 10**8
    assert list(door.inbox.iterdir()) == []
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
async def test_upload__when__the_signature_is_wrong_or_the_body_packed__then__refused_before_the_body(
    door: Door,
) -> None:
    path, signature = f"tasks/{TASK.id.hex()}/input", SIGNER.sign_message(upload_message(GENESIS, TASK.id)).hex()
    kind = f"Content-Type: {seal.CONTENT_TYPE}"
    for status, headers in (
        (403, [kind]),
        (403, [kind, "AIH-Signature: 00"]),
        (415, [kind, f"AIH-Signature: {signature}", "Content-Encoding: gzip"]),
        (415, [f"AIH-Signature: {signature}"]),
        (413, [kind, f"AIH-Signature: {signature}", "Content-Length: 1000000000"]),
    ):
        told = headers if any("Length" in line for line in headers) else [*headers, "Content-Length: 1000"]
        reader, writer = await asyncio.open_connection(*door.url.removeprefix("http://").split(":"))
        writer.write("\r\n".join([f"PUT {PREFIX}/{path} HTTP/1.1", "Host: x", *told, "", ""]).encode())
        assert int((await asyncio.wait_for(reader.readline(), 5)).split()[1]) == status
        writer.close()
    assert door.inputs.get(TASK.id) is None


@pytest.mark.asyncio
async def test_upload__when__announced_with_expect__then__told_to_go_on_or_why_not(door: Door) -> None:
    signature = SIGNER.sign_message(upload_message(GENESIS, TASK.id)).hex()
    for line, expected in ((f"AIH-Signature: {signature}", 100), ("AIH-Signature: 00", 403)):
        head = [
            f"PUT {PREFIX}/tasks/{TASK.id.hex()}/input HTTP/1.1",
            "Host: x",
            f"Content-Type: {seal.CONTENT_TYPE}",
            "Content-Length: 1000",
            "Expect: 100-continue",
            line,
        ]
        reader, writer = await asyncio.open_connection(*door.url.removeprefix("http://").split(":"))
        writer.write("\r\n".join([*head, "", ""]).encode())
        assert int((await asyncio.wait_for(reader.readline(), 5)).split()[1]) == expected
        writer.close()


@pytest.mark.asyncio
async def test_task__when__shown__then__its_state_and_nothing_secret(door: Door) -> None:
    note = "bad input: the service answers 422: 'my secret' is too short"
    door.book[TASK.id] = replace(
        TASK, stage=Stage.BROKEN, output_hash=digest("o"), receipt_cid=b"\1" * 38, note=note, salt=b"secret" * 5
    )
    async with door.session.get(f"{door.url}{PREFIX}/tasks/{TASK.id.hex()}") as answer:
        text = await answer.text()
    assert "secret" not in text
    shown = json.loads(text)
    sealed = bytes.fromhex(shown.pop("note"))
    assert shown == {
        "id": TASK.id.hex(),
        "state": "failing",
        "code": "bad input",
        "output_hash": digest("o").hex(),
        "receipt_cid": "01" * 38,
    }
    context = seal.note_context(TASK.id)
    opened = seal.unseal(CLIENT_KEY.agree, CLIENT_KEY.public_key, context, once(sealed))
    assert b"".join([part async for part in opened]).rstrip(b"\0").decode() == note


@pytest.mark.asyncio
async def test_note__when__it_quotes_more_or_less__then__its_length_does_not_tell(door: Door) -> None:
    sizes = set()
    for length in (1, 30, 150):
        door.book[TASK.id] = replace(TASK, note="x" * length)
        shown = json.loads((await door.ask("GET", f"tasks/{TASK.id.hex()}"))[1])
        sizes.add(len(shown["note"]))
        assert shown["code"] == ""
    assert len(sizes) == 1


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
