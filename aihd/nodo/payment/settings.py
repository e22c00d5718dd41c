"""The settings of the payment process: one TOML file, named by the variable AIH_PAYMENT_FILE.

Not a section of aihd's own configuration, since it is read in nodo's process: it names the configuration whose chain section is looked
at and, if this nodo also pays, whose wallet pays. The file is read at every call, so a change of it needs no restart of nodo.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

from ergo_lib_python.chain import Address
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from aihd.config import Settings, load_settings
from aihd.config_values import Duration, File, ServiceHash, Whole
from aihd.errors import ConfigError, UsageError, one_line

VARIABLE: Final = "AIH_PAYMENT_FILE"
DEFAULT_FILE: Final = Path("/etc/aihd/payment.toml")
_P2PK: Final = b"\x00\x08\xcd"
LONGEST: Final = 8.0
"""Seconds: nodo's threads look after more than payments, so no call keeps one for longer than ten."""
TREE_SIZE: Final = 36
"""Bytes of the tree of a payee: that of one public key."""


def _rate(value: object) -> Fraction:
    if isinstance(value, bool | float):
        raise ValueError('should be a whole number, or a decimal as a text such as "0.5"')
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise ValueError('should be a number, for example 1 or "0.5"') from None
    if rate <= 0:
        raise ValueError("should be above 0")
    return rate


def _one_key(address: str) -> str:
    try:
        tree = bytes(Address(address).ergo_tree())
    except ValueError as error:
        raise ValueError(f"should be an Ergo address ({one_line(error, 80)})") from None
    if not is_payee(tree):
        raise ValueError("should be the address of one key, as `aihd wallet address` prints it")
    return address


class PaymentSettings(BaseModel):
    """`config` is a configuration of aihd: its chain section for everything, its wallet and data folder for paying.

    `payee` is the address of the daemon beside this nodo, `service`, `input` and `environment` are what a payment of ours has run.
    Windows are blocks. `wait` and `patience` are seconds, at most LONGEST: how long one call waits for the receipt of a payment, and how
    long a receipt is waited for that is on its way or cannot be looked up. `ratings` is the daemon's file of ratings for nodo to count.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    config: File
    payee: Annotated[str, AfterValidator(_one_key)] | None = None
    service: ServiceHash | None = None
    input: File | None = None
    environment: dict[str, str] = {}
    mu_per_nanoerg: Annotated[Fraction, BeforeValidator(_rate)] = Fraction(1)
    claim_window: Whole = 30
    exec_window: Whole = 30
    confirmations: Annotated[Whole, Field(ge=1, le=720)] = 2
    wait: Annotated[Duration, Field(le=LONGEST)] = 5.0
    patience: Annotated[Duration, Field(le=LONGEST)] = 5.0
    ratings: File | None = None

    def settings(self) -> Settings:
        """The configuration that `config` names; the variables of nodo's process do not change it."""
        return load_settings(self.config, {}, {})

    def payee_tree(self) -> bytes:
        """The tree (36 bytes) of the daemon beside this nodo; ConfigError when none is named."""
        if self.payee is None:
            raise ConfigError(f"payee is not set in the file of {VARIABLE}: the address of the daemon that is paid")
        return bytes(Address(self.payee).ergo_tree())

    def nanoerg(self, amount: int) -> int:
        """nodo's unit in nanoERG; what is left of one is dropped, as nodo does it, so that no more is claimed than is owed."""
        return math.floor(amount / self.mu_per_nanoerg)

    def units(self, nanoerg: int) -> int:
        """nanoERG in nodo's unit, rounded up."""
        return math.ceil(nanoerg * self.mu_per_nanoerg)


def load_payment(env: Mapping[str, str]) -> PaymentSettings:
    """The settings in the file that `env` names; ConfigError lists what is wrong with it."""
    path = Path(env.get(VARIABLE) or DEFAULT_FILE)
    try:
        return PaymentSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: {told}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} ({VARIABLE}): {one_line(error)}") from None


def is_payee(tree: bytes) -> bool:
    """Whether these bytes are the tree of one public key: what nodo calls the `script` of a payee."""
    return len(tree) == TREE_SIZE and tree.startswith(_P2PK)


def key_of(script: bytes) -> bytes:
    """The public key (33 bytes) of a payee; UsageError for any other script."""
    if not is_payee(script):
        raise UsageError(f"script {script.hex()[:80]!r}: expected the tree of one key, {TREE_SIZE} bytes")
    return script[len(_P2PK) :]
