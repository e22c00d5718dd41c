"""The content store on a real folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from aihd.errors import InvariantError, UsageError
from aihd.execution.content import ContentStore
from aihd.execution.errors import TooLarge


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


@pytest.mark.asyncio
async def test_receive__when__committed__then__file_is_under_its_sha3_256(tmp_path: Path) -> None:
    store = ContentStore(tmp_path / "new" / "store")
    async with store.receive(100) as sink:
        sink.write(b"hello ")
        sink.write(b"world")
        assert not store.has(hashlib.sha3_256(b"hello world").digest())
        digest, size = await sink.commit()
    assert (digest, size) == (hashlib.sha3_256(b"hello world").digest(), 11)
    assert store.has(digest)
    with store.open(digest) as file:
        assert file.read() == b"hello world"
    assert files(tmp_path) == [digest.hex()]


@pytest.mark.asyncio
async def test_receive__when__left_without_commit_or_by_an_error__then__nothing_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    async with store.receive(100) as sink:
        sink.write(b"half")
    with pytest.raises(ZeroDivisionError):
        async with store.receive(100) as sink:
            sink.write(b"half")
            raise ZeroDivisionError
    assert files(tmp_path) == []


@pytest.mark.asyncio
async def test_receive__when__same_content_twice__then__one_file(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    for _ in range(2):
        async with store.receive(10) as sink:
            sink.write(b"same")
            await sink.commit()
    assert len(files(tmp_path)) == 1


@pytest.mark.asyncio
async def test_write__when__limit_is_passed__then__too_large_and_nothing_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(TooLarge, match="more than 4 bytes"):
        async with store.receive(4) as sink:
            sink.write(b"full")
            sink.write(b"!")
    assert files(tmp_path) == []


@pytest.mark.asyncio
async def test_commit__when__called_twice__then__invariant_error_and_the_file_stays(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with pytest.raises(InvariantError, match="committed or left before"):
        async with store.receive(4) as sink:
            await sink.commit()
            await sink.commit()
    assert store.has(hashlib.sha3_256().digest())


@pytest.mark.asyncio
async def test_store__when__opened_after_a_crash__then__leftovers_are_gone_and_content_is_not(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    async with store.receive(4) as sink:
        sink.write(b"kept")
        digest, _ = await sink.commit()
    (tmp_path / "partial" / "left").write_bytes(b"half")
    ContentStore(tmp_path)
    assert files(tmp_path) == [digest.hex()]


def test_path__when__digest_has_another_length__then__usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="digest has 31 bytes"):
        ContentStore(tmp_path).path(bytes(31))


def test_open__when__content_is_unknown_or_deleted__then__file_not_found(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.path(bytes(32)).write_bytes(b"")
    store.delete(bytes(32))
    store.delete(bytes(32))
    with pytest.raises(FileNotFoundError):
        store.open(bytes(32))
