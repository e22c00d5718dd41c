"""The line between daemon and exchange: each end with the other one hostile, dead or out of date."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import made
import pytest
from door import Shop, line
from holder import Holder
from offchain import digest

from aihd.core.task import Stage, Task, Where
from aihd.errors import DependencyError
from aihd.execution import seal
from aihd.execution.cards import RefusedError
from aihd.execution.desk import Keys
from aihd.execution.inputs import InputStore
from aihd.execution.line import MAX_QUESTION, DaemonEnd
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment

NODE, CLIENT = Holder.of("the key of node"), Holder.of("the key of client")
SALT = digest("salt")
BODY = SALT + b"".join(envelope.encode({}, [b"the input"]))
TASK = made.task(
    id=digest("task"),
    input_commitment=input_commitment(SALT, [BODY[32:]]),
    client=CLIENT.public_key,
    where=Where.CLAIMED,
)
OTHER = replace(TASK, id=digest("other"), where=Where.OPEN)
DONE = replace(TASK, id=digest("done"), stage=Stage.DONE, output_hash=digest("o"), note="the log said 'my secret'")


@dataclass(slots=True)
class Book:
    tasks: dict[bytes, Task]

    def find(self, task_id: bytes) -> Task | None:
        return self.tasks.get(task_id)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    book = Book({task.id: task for task in (TASK, OTHER, DONE)})
    (tmp_path / "inbox").mkdir()

    def stored(task_id: bytes) -> None:
        book.tasks[task_id] = replace(book.tasks[task_id], stage=Stage.INPUT)

    keys = Keys(NODE.public_key, NODE.agree, digest("genesis"))
    return Shop.at(tmp_path, book, InputStore(tmp_path / "inputs", 1000), keys, stored)


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.asyncio
async def test_line__when__an_exchange_asks_for_keys__then__only_those_of_transfers_that_may_be(shop: Shop) -> None:
    async with line(shop.desk(), [TASK, OTHER, DONE]) as (_, exchange):
        private, ephemeral = seal.fresh_key(), Holder(9)
        one = seal.seal_key(NODE.public_key, seal.input_context(TASK.id), private)
        assert await exchange.input_key(TASK.id, one.ephemeral) == one.chunks
        assert one.chunks != NODE.agree(one.ephemeral)  # not the secret itself, which would open everything
        assert len((await exchange.output_key(DONE.id, digest("o"))).chunks) == 32
        for status, asked in (
            (409, exchange.input_key(OTHER.id, ephemeral.public_key)),
            (409, exchange.input_key(DONE.id, ephemeral.public_key)),
            (404, exchange.input_key(digest("unknown"), ephemeral.public_key)),
            (400, exchange.input_key(TASK.id, b"\2" * 33 + b"x")),
            (404, exchange.output_key(TASK.id, digest("o"))),
            (404, exchange.output_key(DONE.id, digest("x"))),
        ):
            with pytest.raises(RefusedError) as refused:
                await asked
            assert refused.value.status == status


@pytest.mark.asyncio
async def test_line__when__the_rule_says_not_yet__then__neither_key_nor_hash_is_given_out(shop: Shop) -> None:
    allowed = False
    desk = replace(shop, may_serve=lambda task: allowed).desk()
    async with line(desk, [DONE]) as (daemon, exchange):
        card = exchange.card(DONE.id)
        assert card is not None
        assert (card.output_hash, card.receipt_cid) == (b"", b"")
        assert b"secret" not in card.note
        with pytest.raises(RefusedError, match="gives out no output"):
            await exchange.output_key(DONE.id, digest("o"))
        allowed = True
        daemon.show([desk.card_of(DONE)])
        assert await exchange.output_key(DONE.id, digest("o"))
        card = exchange.card(DONE.id)
        assert card is not None and card.output_hash == digest("o")
        allowed = False  # a reorg
        daemon.show([desk.card_of(DONE)])
        await asyncio.sleep(0.1)
        with pytest.raises(RefusedError, match="gives out no output"):
            await exchange.output_key(DONE.id, digest("o"))


@pytest.mark.asyncio
async def test_take__when__the_exchange_lies_about_an_upload__then__nothing_is_believed(shop: Shop) -> None:
    inbox = shop.inbox
    secret = inbox.parent / "secret"
    secret.write_bytes(BODY)
    good, wrong, link = (f"{TASK.id.hex()}.{word}" for word in ("good", "wrong", "link"))
    (inbox / wrong).write_bytes(BODY + b"x")
    (inbox / link).symlink_to(secret)
    (inbox / f"{TASK.id.hex()}.folder").mkdir()
    async with line(shop.desk(), [TASK]) as (_, exchange):
        for name in (wrong, link, good, "../secret", f"{TASK.id.hex()}/../secret", "secret", f"{OTHER.id.hex()}.x"):
            with pytest.raises(RefusedError) as refused:
                await exchange.take(TASK.id, name)
            assert refused.value.status in (400, 503)
            assert shop.inputs.get(TASK.id) is None
        assert secret.read_bytes() == BODY
        (inbox / good).write_bytes(BODY)
        assert await exchange.take(TASK.id, good) is True
        stored = shop.inputs.get(TASK.id)
        assert stored is not None and stored.path.read_bytes() == b"the input"
        assert not (inbox / good).exists()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "said",
    [b"x" * (2 * MAX_QUESTION), b"[]\n", b"{}\n", b"7\n", b'{"n": "x", "ask": "take"}\n', b"\xff\xfe\n", b'{"report": 7}\n',
     b'{"n": 1, "ask": "take", "task": "zz"}\n', b'{"n": 1, "ask": "take", "task": 7}\n', b"[" * 4000 + b"\n", b"null\n"],
)  # fmt: skip
async def test_daemon__when__the_exchange_talks_nonsense__then__it_hangs_up_or_refuses_and_lives(
    shop: Shop, said: bytes
) -> None:
    ours, theirs = socket.socketpair()
    streams = await asyncio.open_unix_connection(sock=ours, limit=MAX_QUESTION)
    daemon = DaemonEnd(shop.desk(), *streams, {}, lambda _: None)
    running = asyncio.create_task(daemon.run())
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    writer.write(said)
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    if answer:
        assert "refused" in json.loads(answer)
        await running
    else:
        with pytest.raises(DependencyError, match="says what cannot be read"):
            await running


@pytest.mark.asyncio
async def test_exchange__when__the_daemon_hangs_up__then__who_waits_is_told_at_once(shop: Shop) -> None:
    async with line(shop.desk(), [TASK]) as (daemon, exchange):
        (shop.inbox / f"{TASK.id.hex()}.x").write_bytes(BODY)
        waiting = asyncio.create_task(exchange.take(TASK.id, f"{TASK.id.hex()}.x"))
        await asyncio.sleep(0)
        daemon._writer.transport.abort()
        with pytest.raises(RefusedError) as refused:
            await asyncio.wait_for(waiting, 5)
        assert refused.value.status == 503
        with pytest.raises(RefusedError):
            await exchange.input_key(TASK.id, CLIENT.public_key)
        assert exchange.card(TASK.id) is not None  # what was known stays known


@pytest.mark.asyncio
async def test_daemon__when__the_exchange_reads_nothing__then__little_is_kept_for_it(shop: Shop) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_QUESTION)
    daemon = DaemonEnd(shop.desk(), reader, writer, {}, lambda _: None)
    running = asyncio.create_task(daemon.run())
    card = shop.desk().card_of(DONE)
    for _ in range(50_000):
        daemon.show([card])
        if writer.transport.is_closing():
            break
    assert writer.transport.is_closing()
    await asyncio.wait_for(running, 5)
    theirs.close()
