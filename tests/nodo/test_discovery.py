"""Installations read from the files of each version of nodo."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from aihd.errors import ConfigError
from aihd.nodo.discovery import Installation, discover
from aihd.nodo.gate import GateRule
from aihd.nodo.hashing import ALGORITHMS
from aihd.nodo.pricing import Per, Rate

MAIN = """
main:
  MAIN_DIR: "/nodo"
  STORAGE: "${main.MAIN_DIR}/storage"
  CACHE: "${main.STORAGE}/__cache__/"
  REGISTRY: "${main.STORAGE}/__registry__/"
  METADATA_REGISTRY: "${main.STORAGE}/__metadata__/"
  DATABASE_FILE: "${main.STORAGE}/database.sqlite"
"""
VNEW_FILE = (
    MAIN
    + """
network:
  GATEWAY_PORT: 50123
  GATEWAY_PLAINTEXT_PORT: auto
virtualizers:
  ch: {NETWORK_GATEWAY_IP: "192.168.200.1", SERIAL_MODE: "file"}
hashing:
  HASH: "blake2b"
identity:
  MNEMONIC: "one two three"
ledgers:
  ergo:
    WALLET_MNEMONIC: "slow slow secret"
    payments: {MU_PER_NANOERG: 3}
"""
)
VFEB_FILE = MAIN + "network:\n  GATEWAY_PORT: 50200\nledgers:\n  ergo:\n    tags: [ ergo ]\n    GAS_PER_ERG: 1.0e+58\n"
VJUL_FILE = (
    MAIN + "network:\n  GATEWAY_PORT: 50300\nledgers:\n  ergo:\n    payments:\n      MU_PER_NANOERG: 0.5\npricing: {}\n"
)


def installed(folder: Path, text: str, name: str = "config.yaml") -> Installation:
    (folder / name).write_text(text)
    return discover(folder)


def test_discover__when__newest_version__then__everything_as_its_file_says_and_no_secret(tmp_path: Path) -> None:
    found = installed(tmp_path, VNEW_FILE)
    storage = Path("/nodo/storage")
    assert found == Installation(
        folder=tmp_path,
        version="VNEW",
        host="127.0.0.1",
        port=50123,
        plaintext_host="192.168.200.1",
        plaintext_port=50124,
        storage=storage,
        database=storage / "database.sqlite",
        registry=storage / "__registry__",
        metadata=storage / "__metadata__",
        cache=storage / "__cache__",
        hash_algorithm="blake2b",
        unit="MU",
        rate=Rate(Fraction(3), Per.NANOERG),
        gate=GateRule(),
        allows_debt=False,
        welcome=0,
        serial_log=True,
    )
    assert found.gateway == "127.0.0.1:50123"
    assert "slow" not in repr(found) and "one two" not in repr(found)
    assert replace(found, host="10.0.0.1").gateway == "10.0.0.1:50123"


@pytest.mark.parametrize(
    ("text", "version", "unit", "rate"),
    [(VFEB_FILE, "VFEB", "gas", Fraction(10**49)), (VJUL_FILE, "VJUL", "MU", Fraction(1, 2)), (MAIN, None, "MU", 1)],
)
def test_discover__when__older_version__then__guessed_with_its_unit_and_exact_rate(
    tmp_path: Path, text: str, version: str | None, unit: str, rate: Fraction
) -> None:
    found = installed(tmp_path, text)
    assert found.rate is not None
    assert (found.version, found.unit, found.rate.per_nanoerg, found.plaintext_port) == (version, unit, rate, None)


def test_discover__when__version_of_2024__then__folders_follow_main_dir(tmp_path: Path) -> None:
    found = installed(tmp_path, "# nodo\nMAIN_DIR=/opt/nodo\nGATEWAY_PORT='8091'\nSAVE_ALL=False\n", ".env")
    assert (found.version, found.unit, found.gateway) == ("V24", "gas", "127.0.0.1:8091")
    assert found.database == Path("/opt/nodo/storage/database.sqlite")
    assert installed(tmp_path, "", ".env").gateway == "127.0.0.1:8090"


@pytest.mark.parametrize(
    ("plaintext", "port", "expected"), [("0", "50000", None), ("60000", "50000", 60000), ("auto", "auto", None)]
)
def test_discover__when__plaintext_port_is_off_or_chosen__then__none_or_that(
    tmp_path: Path, plaintext: str, port: str, expected: int | None
) -> None:
    text = f"network:\n  GATEWAY_PORT: {port}\n  GATEWAY_PLAINTEXT_PORT: {plaintext}\n"
    found = installed(tmp_path, text)
    assert found.plaintext_port == expected
    assert found.gateway == (None if port == "auto" else f"127.0.0.1:{port}")
    assert found.database == tmp_path / "storage" / "database.sqlite"


@pytest.mark.parametrize("name", ALGORITHMS)
def test_discover__when__hash_is_given_by_its_id__then__its_algorithm(tmp_path: Path, name: str) -> None:
    text = f"hashing:\n  HASH: {ALGORITHMS[name](b'').hex()}\n"
    assert installed(tmp_path, text).hash_algorithm == name


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "is no YAML"),
        ("network: {GATEWAY_PORT: 65536}", "network.GATEWAY_PORT is '65536', should be a port or auto"),
        ("network: {GATEWAY_PORT: x}", "network.GATEWAY_PORT is 'x'"),
        ("hashing: {HASH: md5}", "hashing.HASH is 'md5', should be sha3_256, sha256"),
        ("ledgers: {ergo: {payments: {MU_PER_NANOERG: 0}}}", "MU_PER_NANOERG is '0', should be a number above 0"),
        ("ledgers: {ergo: {payments: {MU_PER_NANOERG: nan}}}", "MU_PER_NANOERG is 'nan'"),
        ("ledgers: {ergo: {payments: {MU_PER_NANOERG: inf}}}", "MU_PER_NANOERG is 'inf'"),
        ("ledgers: {ergo: {GAS_PER_ERG: many}}", "GAS_PER_ERG is 'many'"),
        ("main: {STORAGE: '${main.NOWHERE}/x'}", r"main.STORAGE refers to \$\{main.NOWHERE\}"),
        ("main: {STORAGE: '${main.CACHE}/x', CACHE: '${main.STORAGE}/y'}", "refers to"),
    ],
)
def test_discover__when__a_value_cannot_be__then__error_names_file_key_and_value(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        installed(tmp_path, text)
    assert str(tmp_path / "config.yaml") in str(caught.value)


def test_discover__when__folder_holds_no_nodo__then__error_says_what_it_should_hold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"neither config\.yaml nor \.env is there"):
        discover(tmp_path)
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        discover(tmp_path)


def test_discover__when__a_value_refers_to_one_twice__then__put_in_twice(tmp_path: Path) -> None:
    found = installed(tmp_path, "main: {A: /a, STORAGE: '${main.A}/b${main.A}'}")
    assert found.storage == Path("/a/b/a")
