"""The envelope: one encoding for each input, and nothing else is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aihd.errors import UsageError
from aihd.protocol import envelope
from aihd.protocol.envelope import HEADER_SIZE, MAX_CONFIG, SALT_SIZE

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
configs = st.dictionaries(words.filter(bool), words, max_size=6)


@given(config=configs, chunks=st.lists(st.binary(max_size=50), max_size=5))
def test_encode__when__read_back__then__configuration_and_input(config: dict[str, str], chunks: list[bytes]) -> None:
    salt = bytes(SALT_SIZE)
    upload = salt + b"".join(envelope.encode(config, chunks))
    end = HEADER_SIZE + envelope.config_size(upload[:HEADER_SIZE])
    assert envelope.decode_config(upload[HEADER_SIZE:end]) == config
    assert upload[end:] == b"".join(chunks)


@given(config=configs)
def test_canonical_config__when__the_order_differs__then__the_same_bytes(config: dict[str, str]) -> None:
    backwards = dict(reversed(config.items()))
    assert envelope.canonical_config(backwards) == envelope.canonical_config(config)


def test_encode__when__fixed__then__length_configuration_and_input() -> None:
    made = b"".join(envelope.encode({"b": "ü", "a": ""}, [b"input"]))
    config = '{"a":"","b":"ü"}'.encode()
    assert made == len(config).to_bytes(4, "big") + config + b"input"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * MAX_CONFIG, "not JSON"),
        (b"1" * 5000, "not JSON"),
        (b"[]", "must be a JSON object whose values are strings"),
        (b'{"a":1}', "must be a JSON object whose values are strings"),
        (b'{"a":null}', "must be a JSON object whose values are strings"),
        (b'{"b":"1","a":"2"}', "canonical"),
        (b'{"a":"1","a":"2"}', "canonical"),
        (b'{"a": "1"}', "canonical"),
        (b'{"a":"1"} ', "canonical"),
        (b'{"a":"\\u00fc"}', "canonical"),
        (b'\xef\xbb\xbf{"a":"1"}', "input: the configuration"),
        (b'{"":"1"}', "empty name"),
        (b'{"a":"\\ud800"}', "UTF-8"),
        (b'{"\\udfff":"1"}', "UTF-8"),
    ],
)
def test_decode_config__when__not_the_one_encoding__then__refused_with_the_reason(raw: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        envelope.decode_config(raw)


def test_canonical_config__when__it_grows__then__64_kib_are_the_most() -> None:
    room = MAX_CONFIG - len(b'{"a":""}')
    assert len(envelope.canonical_config({"a": "x" * room})) == MAX_CONFIG
    with pytest.raises(UsageError, match=f"config: {MAX_CONFIG + 1} bytes, at most {MAX_CONFIG} fit"):
        envelope.canonical_config({"a": "x" * (room + 1)})


@pytest.mark.parametrize("size", [MAX_CONFIG + 1, 2**32 - 1])
def test_config_size__when__over_the_limit__then__refused_before_it_is_read(size: int) -> None:
    with pytest.raises(UsageError, match=f"claims {size} bytes, at most {MAX_CONFIG}"):
        envelope.config_size(bytes(SALT_SIZE) + size.to_bytes(4, "big"))


def test_config_size__when__at_the_limit__then__taken() -> None:
    assert envelope.config_size(bytes(SALT_SIZE) + MAX_CONFIG.to_bytes(4, "big")) == MAX_CONFIG


@pytest.mark.parametrize("size", [0, HEADER_SIZE - 1, HEADER_SIZE + 1])
def test_config_size__when__the_header_is_of_another_size__then__refused(size: int) -> None:
    with pytest.raises(UsageError):
        envelope.config_size(bytes(size))


def test_decode_config__when__names_need_escapes__then__they_come_back() -> None:
    config = {'"quoted"\n': "tab\t", "€": "\x7f"}
    assert envelope.decode_config(envelope.canonical_config(config)) == config
    assert json.loads(envelope.canonical_config(config)) == config
