"""A disk that is full, over its quota, or broken, at every write: nothing half written stays, and later it goes well."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from offchain import digest

from aihd.errors import TemporaryError
from aihd.execution.cards import RefusedError
from aihd.execution.content import ContentStore
from aihd.execution.files import DiskError, new_file, private_file, private_folder, save, sweep
from aihd.execution.inbox import Inbox
from aihd.execution.inputs import InputStore
from aihd.ops import failpoints
from aihd.ops.room import Room
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment
from aihd.store.journal import Journal

TASK, SALT = digest("task"), digest("salt")
BODY = SALT + b"".join(envelope.encode({}, [b"x" * 3_000_000]))
COMMITMENT = input_commitment(SALT, [BODY[32:]])
PIECE = 1 << 18


async def pieces(data: bytes = BODY) -> AsyncIterator[bytes]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]


@pytest.fixture(autouse=True)
def _whole_disk() -> Iterator[None]:
    yield
    failpoints.errors.clear()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here: root is needed")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def left(folder: Path) -> list[str]:
    """Files that take up room."""
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.mark.asyncio
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
async def test_writes__when__one_of_them_fails__then__a_disk_error_and_nothing_is_left(
    tmp_path: Path, number: int
) -> None:
    inputs, content = InputStore(tmp_path / "inputs", 10**7), ContentStore(tmp_path / "content")
    inbox = Inbox(tmp_path / "inbox", limit=10**7, quota=10**8)
    for point in ("disk input", "disk upload", "disk output"):
        failpoints.errors[point] = number
    with pytest.raises(DiskError, match="the disk takes nothing now"):
        await inputs.receive(TASK, COMMITMENT, pieces())
    (tmp_path / "upload").write_bytes(BODY)
    with (tmp_path / "upload").open("rb") as file, pytest.raises(DiskError, match="the disk takes nothing now"):
        await inputs.copy(TASK, COMMITMENT, file)
    with pytest.raises(DiskError):
        async with content.receive(10**7) as sink:
            sink.write(b"x")
    with pytest.raises(RefusedError) as refused:
        async with inbox.receive(TASK, COMMITMENT, pieces()):
            pass
    assert (refused.value.status, inbox.held) == (507, 0)
    assert not inputs.get(TASK)
    (tmp_path / "upload").unlink()
    assert left(tmp_path) == []
    failpoints.errors.clear()
    assert (await inputs.receive(TASK, COMMITMENT, pieces())).path.stat().st_size == 3_000_000


@pytest.mark.asyncio
async def test_writes__when__the_disk_is_really_full__then__all_of_it_is_free_again(small: Path) -> None:
    free = os.statvfs(small).f_bfree
    inputs, content = InputStore(small / "inputs", 10**7), ContentStore(small / "content")
    inbox = Inbox(small / "inbox", limit=10**7, quota=10**8)
    with pytest.raises(DiskError, match="No space left"):
        await inputs.receive(TASK, COMMITMENT, pieces())
    with pytest.raises(DiskError, match="No space left"):
        async with content.receive(10**7) as sink:
            async for piece in pieces():
                sink.write(piece)
            await sink.commit()
    with pytest.raises(RefusedError, match="takes nothing now"):
        async with inbox.receive(TASK, COMMITMENT, pieces()):
            pass
    assert left(small) == []
    save(small / "receipts" / "one", b"old")
    (small / "fill").write_bytes(b"")
    with (small / "fill").open("wb", buffering=0) as fill:
        try:
            while fill.write(bytes(4096)):
                pass
        except OSError:
            pass
    with pytest.raises(DiskError):
        save(small / "receipts" / "one", b"new" * 4096)
    assert (small / "receipts" / "one").read_bytes() == b"old"
    assert [path.name for path in (small / "receipts").iterdir()] == ["one"]
    (small / "fill").unlink()
    save(small / "receipts" / "one", b"new")
    assert free - os.statvfs(small).f_bfree < 20


def test_room__when__the_disk_fills_and_empties__then__the_reserve_is_given_up_and_made_anew(small: Path) -> None:
    room = Room(small, floor=300_000, reserve=500_000)
    assert room.look() == ""
    assert (small / "reserve").stat().st_size == 500_000
    with Journal(small / "aihd.sqlite") as journal:
        with (small / "fill").open("wb", buffering=0) as fill:
            try:
                while fill.write(bytes(4096)):
                    pass
            except OSError:
                pass
        with pytest.raises(TemporaryError, match="the disk is full"):
            for number in range(100):
                journal.remember(str(number), "x" * 4000)
        assert "takes nothing now" in room.look()
        assert not (small / "reserve").exists()
        journal.remember("receipt", "x" * 4000)  # what is owed is written down
        save(small / "receipts" / "one", b"receipt")
        assert "new tasks need 0.8 MB" in room.look()
        (small / "fill").unlink()
        assert room.look() == ""
        assert (small / "reserve").stat().st_size == 500_000
        assert journal.meta()["receipt"]


def test_room__when__there_is_no_room_from_the_start__then__said_with_what_is_needed(tmp_path: Path) -> None:
    assert "new tasks need 1000000000.0 MB" in Room(tmp_path, floor=10**15, reserve=1000).look()
    failpoints.errors["disk probe"] = errno.EDQUOT
    assert "takes nothing now (Disk quota exceeded)" in Room(tmp_path, floor=0, reserve=1000).look()
    failpoints.errors.clear()
    assert Room(tmp_path, floor=0, reserve=1000).look() == ""


def test_sweep__when__some_cannot_be_deleted__then__the_others_are_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / digest(name).hex()).write_bytes(b"x")
    stuck, unlink = digest("b").hex(), Path.unlink

    def failing(path: Path, missing_ok: bool = False) -> None:
        if path.name == stuck:
            raise OSError(errno.EIO, "Input/output error")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", failing)
    with pytest.raises(DiskError, match=r"1 files of .* cannot be deleted"):
        sweep(tmp_path, set(), 0)
    assert [path.name for path in tmp_path.iterdir()] == [stuck]


@pytest.mark.asyncio
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
async def test_files__when__the_umask_is_odd_and_the_folder_open__then__for_nobody_else(
    tmp_path: Path, mask: int
) -> None:
    for name in ("inputs", "content", "inbox", "receipts"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    before = os.umask(mask)
    try:
        inputs, content = InputStore(tmp_path / "inputs", 10**7), ContentStore(tmp_path / "content")
        await inputs.receive(TASK, COMMITMENT, pieces())
        async with content.receive(100) as sink:
            sink.write(b"secret")
            await sink.commit()
        save(tmp_path / "receipts" / "one", b"{}")
        inbox = Inbox(tmp_path / "inbox", limit=10**7, quota=10**8)
        with Journal(tmp_path / "aihd.sqlite") as journal:
            journal.remember("salt", "secret")
            journal.backup(tmp_path / "copy.sqlite")
            Room(tmp_path, floor=0, reserve=10).look()
            new_file(private_folder(tmp_path / "new")).close()
            private_file(tmp_path / "new" / "named").close()
            async with inbox.receive(TASK, COMMITMENT, pieces()):
                for path in tmp_path.rglob("*"):
                    mode = stat.S_IMODE(path.stat().st_mode)
                    assert mode & 0o077 == 0, f"{path} has mode {mode:o}"
    finally:
        os.umask(before)


def test_journal__when__an_older_one_is_open_to_others__then__closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "aihd.sqlite"
    with Journal(path):
        pass
    path.chmod(0o644)
    with Journal(path) as journal:
        journal.remember("a", "b")
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
