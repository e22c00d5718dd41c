"""Every hash against bytes put together by hand."""

from __future__ import annotations

import base64
import hashlib

import pytest

from aihd.errors import UsageError
from aihd.protocol import hashes

SALT, TASK, HEADER, COMMITMENT, SERVICE, SEED, OUTPUT, GENESIS = (bytes([n]) * 32 for n in range(1, 9))
KEY = b"\x02" + b"\x99" * 32


def blake(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def test_blake2b256__when__nothing_is_hashed__then__the_known_digest() -> None:
    assert hashes.blake2b256().hex() == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    assert hashes.blake2b256(b"a", b"", b"bc") == blake(b"abc")


def test_input_commitment__when__streamed__then__prefix_salt_and_envelope() -> None:
    assert hashes.input_commitment(SALT, [b"ab", b"", b"c"]) == blake(b"aih:input:1" + SALT + b"abc")


@pytest.mark.parametrize("size", [0, 31, 33])
def test_input_commitment__when__the_salt_has_another_length__then__refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"salt has {size} bytes, expected 32"):
        hashes.input_commitment(bytes(size), [b"abc"])


def test_seed__when__made__then__block_task_and_commitment() -> None:
    assert hashes.seed(HEADER, TASK, COMMITMENT) == blake(HEADER + TASK + COMMITMENT)


def test_run_seed__when__the_configuration_chooses_one__then__that_one_and_else_the_claims() -> None:
    derived = hashes.seed(HEADER, TASK, COMMITMENT)
    for config in ({}, {"A": "1"}, {"aih_seed": "5a" * 32}):
        assert hashes.run_seed(config, HEADER, TASK, COMMITMENT) == derived
        assert hashes.chosen_seed(config) is None
    chosen = {"AIH_SEED": "5a" * 32}
    for header in (HEADER, SALT):  # whatever block the claim is in, and moves to
        assert hashes.run_seed(chosen, header, TASK, COMMITMENT) == b"\x5a" * 32
    assert hashes.chosen_seed({"AIH_SEED": derived.hex()}) == derived


@pytest.mark.parametrize(
    "text", ["", "5a", "5a" * 33, "5A" * 32, "zz" * 32, " " + "5a" * 32, "5a" * 32 + "\n", "٣" * 64]
)
def test_run_seed__when__what_was_chosen_is_no_seed__then__refused_and_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"config: AIH_SEED is .*, expected 64 hexadecimal digits, lower case"):
        hashes.run_seed({"AIH_SEED": text}, HEADER, TASK, COMMITMENT)


def test_exec_params_hash__when__made__then__sha3_of_service_seed_and_configuration() -> None:
    assert (
        hashes.exec_params_hash(SERVICE, SEED, b'{"A":"1"}') == hashlib.sha3_256(SERVICE + SEED + b'{"A":"1"}').digest()
    )


def test_messages__when__made__then__each_begins_with_its_own_domain() -> None:
    assert hashes.receipt_message(GENESIS, TASK, OUTPUT) == b"aih:receipt:1" + GENESIS + TASK + OUTPUT
    assert hashes.failure_message(GENESIS, TASK, OUTPUT) == b"aih:failure:1" + GENESIS + TASK + OUTPUT


@pytest.mark.parametrize("mark", range(1, 6))
def test_rating_commitment__when__made__then__mark_salt_task_and_proposition_of_the_rater(mark: int) -> None:
    expected = blake(bytes([mark]) + SALT + TASK + bytes.fromhex("0008cd") + KEY)
    assert hashes.rating_commitment(mark, SALT, TASK, KEY) == expected


def test_receipt_cid__when__made__then__a_cid_of_version_1_raw_and_blake2b256() -> None:
    cid = hashes.receipt_cid(b"document")
    assert cid == b"\x01\x55" + b"\xa0\xe4\x02" + b"\x20" + blake(b"document")
    text = hashes.cid_text(cid)
    assert text.startswith("bafk2bza")
    assert base64.b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8)) == cid


def test_prop_bytes__when__a_key__then__the_bytes_of_its_proposition() -> None:
    assert hashes.prop_bytes(KEY) == bytes.fromhex("0008cd") + KEY
