"""Inputs on disk: whole and committed to, or not there at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from offchain import digest

from aihd.errors import UsageError
from aihd.execution.inputs import InputStore
from aihd.protocol import envelope
from aihd.protocol.hashes import input_commitment

SALT, TASK = digest("salt"), digest("task")
LIMIT = 1000


def upload(content: bytes, config: dict[str, str] | None = None) -> tuple[bytes, bytes]:
    """(upload, its commitment)."""
    body = b"".join(envelope.encode(config or {}, [content]))
    return SALT + body, input_commitment(SALT, [body])


async def pieces(data: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def is_empty(root: Path) -> bool:
    return [path.name for path in root.iterdir()] == ["partial"] and not list((root / "partial").iterdir())


@pytest.fixture
def store(tmp_path: Path) -> InputStore:
    return InputStore(tmp_path / "inputs", LIMIT)


@pytest.mark.asyncio
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200), size=st.integers(1, 90), value=st.text(st.characters(exclude_categories=["Cs"]))
)
async def test_receive__when__cut_anywhere__then__input_and_configuration_as_sent(
    store: InputStore, content: bytes, size: int, value: str
) -> None:
    body, commitment = upload(content, {"A": value})
    stored = await store.receive(commitment, commitment, pieces(body, size))
    assert stored.path.read_bytes() == content
    assert stored.config == {"A": value}
    assert store.get(commitment) == stored


@pytest.mark.asyncio
async def test_receive__when__the_bytes_are_not_those_committed_to__then__nothing_stays(
    store: InputStore, tmp_path: Path
) -> None:
    body, commitment = upload(b"input")
    wrong = [body[:-1], body + b"x", b"\0" + body[1:], body[:-1] + b"T", upload(b"input", {"A": "1"})[0]]
    for sent in wrong:
        with pytest.raises(
            UsageError, match=f"input: its commitment is [0-9a-f]{{64}}, the task asks for {commitment.hex()}"
        ):
            await store.receive(TASK, commitment, pieces(sent))
        assert store.get(TASK) is None
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
@pytest.mark.parametrize("cut", [0, 1, 31, 35, 36, 37])
async def test_receive__when__it_ends_before_its_configuration_does__then__told(
    store: InputStore, tmp_path: Path, cut: int
) -> None:
    body, commitment = upload(b"input")
    with pytest.raises(UsageError, match=f"input: {cut} bytes end before its configuration does"):
        await store.receive(TASK, commitment, pieces(body[:cut]))
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
async def test_receive__when__over_the_limit__then__stopped_on_the_way(store: InputStore, tmp_path: Path) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield upload(b"")[0]
        while True:
            taken += 1
            yield bytes(1000)

    with pytest.raises(UsageError, match=f"larger than the {LIMIT} bytes that this node takes"):
        await store.receive(TASK, digest("c"), endless())
    assert taken * 1000 <= LIMIT + envelope.MAX_CONFIG + 1000
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
@pytest.mark.parametrize("config", [b"{}x", b'{"a":1}', b'{ "a":"1"}', b'{"a":"\\ud800"}', b"[" * 60_000])
async def test_receive__when__committed_to_but_malformed__then__refused(
    store: InputStore, tmp_path: Path, config: bytes
) -> None:
    body = SALT + len(config).to_bytes(4, "big") + config + b"input"
    with pytest.raises(UsageError, match="config"):
        await store.receive(TASK, input_commitment(SALT, [body[32:]]), pieces(body, 5000))
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
async def test_receive__when__the_configuration_claims_too_much__then__refused_at_once(store: InputStore) -> None:
    body = SALT + (2**32 - 1).to_bytes(4, "big")
    with pytest.raises(UsageError, match="claims 4294967295 bytes"):
        await store.receive(TASK, digest("c"), pieces(body))


@pytest.mark.asyncio
async def test_receive__when__it_breaks_off__then__nothing_stays(store: InputStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield upload(b"input")[0]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.receive(TASK, digest("c"), broken())
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
async def test_receive__when__sent_twice__then__the_first_stays(store: InputStore, tmp_path: Path) -> None:
    body, commitment = upload(b"input")
    first = await store.receive(TASK, commitment, pieces(body))
    inode = first.path.stat().st_ino
    assert await store.receive(TASK, commitment, pieces(body)) == first
    assert first.path.stat().st_ino == inode
    store.delete(TASK)
    store.delete(TASK)
    assert store.get(TASK) is None
    assert is_empty(tmp_path / "inputs")


@pytest.mark.asyncio
async def test_open__when__a_crash_left_half_an_input__then__cleared_and_whole_ones_kept(tmp_path: Path) -> None:
    root = tmp_path / "inputs"
    body, commitment = upload(b"input")
    await InputStore(root, LIMIT).receive(TASK, commitment, pieces(body))
    (root / "partial" / "left").mkdir()
    (root / "partial" / "left" / "input").write_bytes(b"half")
    again = InputStore(root, LIMIT)
    assert not list((root / "partial").iterdir())
    stored = again.get(TASK)
    assert stored is not None
    assert stored.path.read_bytes() == b"input"
