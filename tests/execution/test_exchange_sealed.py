"""The door with the node's key: uploads signed by the client and sealed for the node, outputs sealed for the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

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
from aihd.protocol.hashes import input_commitment

GENESIS = digest("genesis")
CLIENT, NODE = "the key of client", "the key of node"
SIGNER, CLIENT_KEY, NODE_KEY = Signer(CLIENT), Holder.of(CLIENT), Holder.of(NODE)
SALT = digest("salt")
BODY = SALT + b"".join(envelope.encode({"A": "1"}, [b"the input"]))
COMMITMENT = input_commitment(SALT, [BODY[32:]])
TASK = made.task(input_commitment=COMMITMENT, client=CLIENT_KEY.public_key, where=Where.CLAIMED)
OUTPUT = bytes(range(256)) * 3000  # 12 chunks


@dataclass(frozen=True, slots=True)
class Book:
    tasks: dict[bytes, Task]

    def find(self, task_id: bytes) -> Task | None:
        return self.tasks.get(task_id)


@dataclass(slots=True)
class Door:
    url: str
    session: aiohttp.ClientSession
    book: dict[bytes, Task]
    inputs: InputStore
    content: ContentStore

    async def put(self, body: bytes, signature: bytes | str, kind: str = seal.CONTENT_TYPE) -> tuple[int, bytes]:
        text = signature if isinstance(signature, str) else signature.hex()
        headers = {"AIH-Signature": text, "Content-Type": kind}
        url = f"{self.url}/tasks/{TASK.id.hex()}/input"
        async with self.session.put(url, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    async def get(
        self, output_hash: bytes, task: bytes = TASK.id, method: str = "GET", **headers: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        url = f"{self.url}/outputs/{output_hash.hex()}?task={task.hex()}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, headers=named) as answer:
            return answer.status, await answer.read(), answer.headers

    async def keep(self, output: bytes = OUTPUT) -> bytes:
        async with self.content.receive(1 << 24) as sink:
            sink.write(output)
            output_hash, _ = await sink.commit()
        self.book[TASK.id] = replace(TASK, stage=Stage.DONE, output_hash=output_hash)
        return output_hash


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    book = {TASK.id: TASK}
    inputs, content = InputStore(tmp_path / "inputs", 1000), ContentStore(tmp_path / "content")
    keys = Keys(NODE_KEY.public_key, NODE_KEY.agree, GENESIS)
    (tmp_path / "receipts").mkdir()

    def stored(task_id: bytes) -> None:
        book[task_id] = replace(book[task_id], stage=Stage.INPUT)

    shop = Shop.at(tmp_path, Book(book), inputs, keys, stored)
    async with open_door(shop) as port, aiohttp.ClientSession() as session:
        yield Door(f"http://127.0.0.1:{port}{PREFIX}", session, book, inputs, content)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def sealed(body: bytes = BODY, task_id: bytes = TASK.id, reader: Holder = NODE_KEY) -> bytes:
    context = seal.input_context(task_id)
    return b"".join([piece async for piece in seal.seal(reader.public_key, context, pieces(body))])


async def opened(data: bytes, output_hash: bytes, reader: Holder = CLIENT_KEY) -> bytes:
    context = seal.output_context(TASK.id, output_hash)
    return b"".join([part async for part in seal.unseal(reader.agree, reader.public_key, context, pieces(data))])


SIGNATURE = SIGNER.sign_message(upload_message(GENESIS, TASK.id))


@pytest.mark.asyncio
async def test_upload__when__sealed_and_signed_by_the_client__then__stored_in_the_clear(door: Door) -> None:
    assert await door.put(await sealed(), SIGNATURE) == (201, b'{"stored": true}')
    stored = door.inputs.get(TASK.id)
    assert stored is not None
    assert (stored.path.read_bytes(), stored.config) == (b"the input", {"A": "1"})


@pytest.mark.asyncio
async def test_upload__when__not_signed_by_the_client_for_this_task__then__403_and_nothing_kept(door: Door) -> None:
    wrong = (
        Signer(NODE).sign_message(upload_message(GENESIS, TASK.id)),
        SIGNER.sign_message(upload_message(GENESIS, digest("another task"))),
        SIGNER.sign_message(upload_message(digest("another chain"), TASK.id)),
    )
    for signature in (*wrong, b"", b"\0" * 56, "no hex"):
        status, answer = await door.put(await sealed(), signature)
        assert (status, b"AIH-Signature has to be" in answer) == (403, True)
    assert door.inputs.get(TASK.id) is None


@pytest.mark.asyncio
async def test_upload__when__not_sealed_for_this_node_and_task__then__refused_and_nothing_kept(door: Door) -> None:
    assert (await door.put(BODY, SIGNATURE, "application/octet-stream"))[0] == 415
    whole = await sealed()
    for body in (BODY, whole[:-1], await sealed(reader=CLIENT_KEY), await sealed(task_id=digest("another")), b""):
        status, answer = await door.put(body, SIGNATURE)
        assert (status, answer.startswith(b'{"error": "sealed: ')) == (400, True)
    assert door.inputs.get(TASK.id) is None


@pytest.mark.asyncio
async def test_output__when__fetched__then__only_the_client_can_read_it(door: Door) -> None:
    output_hash = await door.keep()
    status, body, headers = await door.get(output_hash)
    assert (status, headers["Content-Type"]) == (200, seal.CONTENT_TYPE)
    assert len(body) == seal.sealed_size(len(OUTPUT))
    assert OUTPUT[:64] not in body
    assert await opened(body, output_hash) == OUTPUT
    with pytest.raises(seal.SealError):
        await opened(body, output_hash, Holder(5))


@pytest.mark.asyncio
@pytest.mark.parametrize("output", [b"", b"x", OUTPUT[: seal.CHUNK]])
async def test_output__when__small__then__whole(door: Door, output: bytes) -> None:
    output_hash = await door.keep(output)
    assert await opened((await door.get(output_hash))[1], output_hash) == output


@pytest.mark.asyncio
async def test_output__when__asked_for_in_parts__then__they_make_the_whole(door: Door) -> None:
    output_hash = await door.keep()
    _, whole, headers = await door.get(output_hash)
    etag, total = headers["ETag"], len(whole)
    for start, end in ((0, 10), (5, 38), (30, 70_000), (65_590, 65_591), (total - 1, total), (100_000, 700_000)):
        status, part, headers = await door.get(output_hash, Range=f"bytes={start}-{end - 1}", If_Range=etag)
        assert (status, part, headers["Content-Range"]) == (206, whole[start:end], f"bytes {start}-{end - 1}/{total}")
    assert (await door.get(output_hash, Range="bytes=700000-"))[1] == whole[700_000:]
    assert (await door.get(output_hash, Range="bytes=-100"))[1] == whole[-100:]
    assert (await door.get(output_hash, Range=f"bytes=5-{total + 50}"))[1] == whole[5:]


@pytest.mark.asyncio
async def test_output__when__the_range_is_none_or_of_another_file__then__416_or_the_whole(door: Door) -> None:
    output_hash = await door.keep()
    total = seal.sealed_size(len(OUTPUT))
    for wanted in (f"bytes={total}-", "bytes=9-3", "lines=1-2", "bytes=1-2,5-6"):
        status, body, headers = await door.get(output_hash, Range=wanted)
        assert (status, headers["Content-Range"], b"error" in body) == (416, f"bytes */{total}", True)
    status, body, _ = await door.get(output_hash, Range="bytes=5-9", If_Range='"another"')
    assert (status, len(body)) == (200, total)
    status, body, headers = await door.get(output_hash, method="HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(total))


@pytest.mark.asyncio
async def test_output__when__the_task_is_not_named_or_has_another_output__then__refused(door: Door) -> None:
    output_hash = await door.keep()
    assert (await door.get(output_hash, digest("unknown")))[0] == 404
    assert (await door.get(digest("other output")))[0] == 404
    assert (await door.get(output_hash, b""))[0] == 400
    door.content.delete(output_hash)
    assert (await door.get(output_hash))[0] == 404
