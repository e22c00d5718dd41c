"""An output is hashed and written as it comes, whole or with an error."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aihd.client.download import BLOCK, LocalError, hash_of, take, target_for
from aihd.errors import TemporaryError, UsageError

SIZES = [[], [0], [1], [BLOCK - 1, 1, 1], [BLOCK // 3] * 10, [3 * BLOCK, 5]]


async def pieces(data: list[bytes], end: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
    if end is not None:
        raise end


async def fetched(target: Path, data: list[bytes], end: Exception | None = None) -> bytes:
    """As `aihd task fetch` does it."""
    with target_for(target) as place:
        digest = await take(pieces(data, end), place)
        place.keep()
    return digest


@pytest.mark.asyncio
@pytest.mark.parametrize("sizes", SIZES, ids=str)
async def test_take__when__pieces_have_any_size__then__all_of_them_in_order_and_their_hash(
    tmp_path: Path, sizes: list[int]
) -> None:
    data = [os.urandom(size) for size in sizes]
    digest = await fetched(tmp_path / "output", data)
    assert (tmp_path / "output").read_bytes() == b"".join(data)
    assert digest == hashlib.sha3_256(b"".join(data)).digest()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.asyncio
async def test_take__when__the_source_breaks_off__then__its_error_and_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "output").write_bytes(b"old")
    with pytest.raises(TemporaryError, match="it broke off"):
        await fetched(tmp_path / "output", [os.urandom(2 * BLOCK)], TemporaryError("it broke off"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("output", b"old")]


@pytest.mark.asyncio
async def test_take__when__the_disk_takes_nothing__then__the_disk_s_error_and_not_a_hash() -> None:
    with pytest.raises(LocalError, match=r"/dev/full: cannot be written \(No space left on device"):
        await fetched(Path("/dev/full"), [os.urandom(BLOCK)] * 3)
    assert Path("/dev/full").is_char_device()


@pytest.mark.asyncio
async def test_target__when__a_link_a_pipe_or_a_file_of_some_mode__then__as_a_shell_writes_to_it(
    tmp_path: Path,
) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"old")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to(real)
    await fetched(tmp_path / "link", [b"new"])
    assert (tmp_path / "link").is_symlink()
    assert (real.read_bytes(), real.stat().st_mode & 0o777) == (b"new", 0o640)
    before = os.umask(0o027)
    try:
        await fetched(tmp_path / "fresh", [b"x"])
    finally:
        os.umask(before)
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o640
    (tmp_path / "dangling").symlink_to(tmp_path / "later")
    await fetched(tmp_path / "dangling", [b"there"])
    assert (tmp_path / "later").read_bytes() == b"there"
    os.mkfifo(tmp_path / "pipe")
    reading = asyncio.get_running_loop().run_in_executor(None, (tmp_path / "pipe").read_bytes)
    await fetched(tmp_path / "pipe", [b"through"])
    assert (await reading, (tmp_path / "pipe").is_fifo()) == (b"through", True)


@pytest.mark.asyncio
async def test_target__when__standard_output__then__the_bytes_and_nothing_else(
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    await fetched(Path("-"), [b"the ", b"output"])
    assert capsysbinary.readouterr().out == b"the output"


@pytest.mark.parametrize("name", ["missing/output", "file/output", ".", "n" * 300, "loop"])
def test_target__when__nothing_can_be_written_there__then__one_line_and_64(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError) as said, target_for(tmp_path / name):
        pass
    assert "cannot be written (" in str(said.value)
    assert "\n" not in str(said.value)


def test_hash__when__the_file_is_missing_or_a_folder__then__one_line_and_64(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match=r"cannot be read \("):
            hash_of(path)
