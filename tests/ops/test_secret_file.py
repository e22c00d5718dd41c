"""Secrets come from files that nobody else can read, and show up nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihd.errors import ConfigError
from aihd.ops.secret_file import MAX_BYTES, read_secret


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mnemonic"
    path.write_text("  slow silly start\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_read_secret__when__file_is_closed_to_others__then__its_text(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_secret(file, "wallet.mnemonic_file") == "slow silly start"


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o602, 0o666])
def test_read_secret__when__file_is_open_to_others__then__refused_with_the_command(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"has mode {mode:04o}, open to others: chmod 600 {file}") as caught:
        read_secret(file, "wallet.mnemonic_file")
    assert "silly" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n", b"silly\xff", b"silly" * MAX_BYTES])
def test_read_secret__when__content_is_no_secret__then__refused_without_showing_it(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"wallet\.mnemonic_file = .* should hold one secret") as caught:
        read_secret(file, "wallet.mnemonic_file")
    assert "silly" not in str(caught.value)


def test_read_secret__when__file_is_missing__then__setting_and_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wallet\.mnemonic_file = .*/none cannot be read \(No such file"):
        read_secret(tmp_path / "none", "wallet.mnemonic_file")
