from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from devnet_wallet import ERG

from aihd.devnet import Chain
from aihd.devnet.account import MIN_BOX, Account
from aihd.errors import UsageError
from aihd.protocol.rules import MIN_FEE

PAGE = Path(__file__).parents[2] / "docs" / "devnet.md"


def test_example__when__the_page_s_files_are_run_by_pytest__then__they_pass(tmp_path: Path) -> None:
    files = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert [name for name, _ in files] == ["conftest.py", "test_shop.py"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", "."]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0 and "1 passed" in ended.stdout, ended.stdout + ended.stderr


def test_account__when__tokens_are_spread_over_boxes__then__taken_from_as_many_as_it_needs() -> None:
    chain = Chain()
    alice, bob = Account(chain, "alice"), Account(chain, "bob")
    chain.faucet(alice.address, 10 * ERG)
    chain.mine()
    token = alice.mint(100, "Beans")
    alice.send(alice.address, MIN_BOX, tokens=[(token, 40)])
    alice.send(bob.address, 2 * MIN_BOX, tokens=[(token, 70)])
    chain.mine()
    held = {box.value: [entry.amount for entry in box.tokens] for box in bob.boxes()}
    assert held == {2 * MIN_BOX: [70]}
    assert sum(entry.amount for box in alice.boxes() for entry in box.tokens) == 30
    assert alice.balance() == 10 * ERG - 2 * MIN_BOX - 3 * MIN_FEE


def test_account__when__it_has_too_little__then__refused_with_what_was_asked() -> None:
    chain = Chain()
    alice = Account(chain, "alice")
    with pytest.raises(UsageError, match=f"{alice.address}: 6000000 nanoERG"):
        alice.send(alice.address, 5_000_000)
    chain.faucet(alice.address, ERG)
    with pytest.raises(UsageError, match=f"1 of token {'11' * 32}"):
        alice.send(alice.address, MIN_BOX, tokens=[("11" * 32, 1)])
