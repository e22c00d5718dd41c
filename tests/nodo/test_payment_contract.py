"""Every name, and every way of calling it, that each age of nodo asks of a payment process: read from nodo's own files, by commit."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from aihd.nodo import payment_process

ENVS_FEB, ENVS_JUL = "src/payment_system/contracts/envs.py (February)", "src/payment_system/contracts/envs.py@f5edcbe7"
ENVS_AUG = "src/payment_system/contracts/envs.py@0eb8301c"
REGISTRY = "src/payment_system/contracts/registry.py@d219ccb1"
REGISTRY_NEW, LEDGERS = "src/payment_system/contracts/registry.py@0cdc9a0c", "src/payment_system/ledgers.py"


@dataclass(frozen=True)
class Asked:
    """A member: a value of a type, or a function that is called with these arguments."""

    by: str
    name: str
    kind: type | None = None
    args: tuple[object, ...] = ()
    named: tuple[str, ...] = ()


def value(by: str, name: str, kind: type) -> Asked:
    return Asked(by, name, kind)


def called(by: str, name: str, *args: object, named: tuple[str, ...] = ()) -> Asked:
    return Asked(by, name, None, args, named)


PAID = ("amount", "deposit_token", "ledger", "script")
TABLE = [
    value(ENVS_FEB, "CONTRACT_HASH", str),
    called(ENVS_FEB, "process_payment", named=PAID),
    called(ENVS_FEB, "payment_process_validator", 1, "token", "ledger", b""),
    called(ENVS_JUL, "check_sender_balance", 1),
    called(ENVS_JUL, "init"),
    called(ENVS_JUL, "manager"),
    called(ENVS_JUL, "get_balance"),
    called(ENVS_AUG, "transaction_id_reporting", print),
    called(ENVS_AUG, "settlement_floors_mu"),
    called(ENVS_AUG, "mu_to_native", 1),
    called(LEDGERS + " (August)", "mu_per_unit"),
    value(REGISTRY, "CONTRACT", str),
    value(REGISTRY, "CONTRACT_HASH", str),
    value(REGISTRY, "LEDGER", str),
    called(REGISTRY, "ledger"),
    called(REGISTRY, "init"),
    called(REGISTRY, "manager"),
    called(REGISTRY, "process_payment", named=PAID),
    called(REGISTRY, "payment_process_validator", 1, "token", "ledger", b""),
    called(REGISTRY, "check_sender_balance", 1),
    called(REGISTRY, "settlement_floors_mu"),
    value(REGISTRY, "needs_unspent_proof", bool),
    value(REGISTRY, "is_demo", bool),
    value(REGISTRY, "DEPOSIT_TOKEN_TTL", int),
    value(REGISTRY, "NATIVE_ASSET", str),
    called(REGISTRY, "unavailable_reason"),
    value(REGISTRY_NEW, "PROSE", str),
    value(REGISTRY_NEW, "FORMAL", bytes),
    called(LEDGERS + " (newest)", "mu_per_base_unit"),
    called("src/payment_system/payment_process.py (newest)", "await_payment", named=("tx_id", "script")),
    called("src/manager/maintain.py (newest)", "manager_iteration_time"),
]


@pytest.mark.parametrize("asked", TABLE, ids=[f"{row.by.rpartition('/')[2]}:{row.name}" for row in TABLE])
def test_module__when__an_age_of_nodo_asks_for_a_member__then__there_and_called_as_nodo_does(asked: Asked) -> None:
    module = importlib.import_module("aihd.nodo.payment_process")
    member: Any = getattr(module, asked.name)
    if asked.kind is not None:
        assert isinstance(member, asked.kind)
        return
    function: Callable[..., Any] = member
    inspect.signature(function).bind(*asked.args, **dict.fromkeys(asked.named))


def test_ledger_s_description__when__read_as_the_newest_nodo_does__then__sorted_lines_of_key_and_value() -> None:
    pairs = [line.split("=") for line in payment_process.FORMAL.decode().split("\n")]
    assert pairs == sorted(pairs)
    assert all(len(pair) == 2 and all(pair) for pair in pairs)
    found = dict(pairs)
    assert found["payment.contract"] == payment_process.CONTRACT
    assert {"chain", "consensus", "asset.native", "asset.native.base_unit"} <= found.keys()


@pytest.mark.parametrize(
    ("rate", "whole", "base"), [("1", 10**9, "1"), ('"0.5"', 5 * 10**8, "0.5"), ("40", 4 * 10**10, "40")]
)
def test_rates__when__declared__then__of_a_whole_erg_for_one_age_and_of_a_nanoerg_for_the_next(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, rate: str, whole: int, base: str
) -> None:
    settings = tmp_path / "payment.toml"
    settings.write_text(f'config = "{tmp_path}/aihd.toml"\nmu_per_nanoerg = {rate}\n')
    (tmp_path / "aihd.toml").write_text("")
    monkeypatch.setenv("AIH_PAYMENT_FILE", str(settings))
    assert payment_process.mu_per_unit() == whole
    assert payment_process.mu_per_base_unit() == Decimal(base)
    assert payment_process.mu_to_native(10) == 10 / Decimal(base)
    reason = payment_process.unavailable_reason()
    assert reason is not None
    assert "payee is not set" in reason
    settings.write_text("nonsense")
    assert "AIH_PAYMENT_FILE" in (payment_process.unavailable_reason() or "")
