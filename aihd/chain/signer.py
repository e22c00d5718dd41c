"""The key, and the last look at a transaction before it is signed.

The signer decodes what it is asked to sign, compares it with the plan it was made from, and refuses a fee over the limit or anything
that breaks a rule of the chain. Nothing of the key is ever part of an error, a log line or a `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ergo_lib_python.chain import Address, NetworkPrefix
from ergo_lib_python.exceptions import WalletException
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import Transaction
from ergo_lib_python.wallet import DerivationPath, ExtSecretKey, MnemonicGenerator, Wallet

from aihd.errors import AihdError, ConfigError, Exit, one_line
from aihd.ops.secret_file import read_secret
from aihd.protocol import rules
from aihd.protocol.context import state_context
from aihd.protocol.funding import Plan
from aihd.protocol.panics import contained
from aihd.protocol.units import NanoErg, format_erg

WORDS: Final = (12, 15, 18, 21, 24)


class SigningError(AihdError):
    """A transaction was not signed; nothing left this process."""

    exit_code = Exit.INVARIANT


class Signer:
    """One key, at m/44'/429'/0'/0/0 of a mnemonic."""

    def __init__(self, mnemonic: str, password: str = "", *, max_fee: int = 10_000_000) -> None:
        secret = ExtSecretKey.from_mnemonic(mnemonic, password).derive(DerivationPath(0, [0])).secret_key()
        image = secret.public_image()
        if not isinstance(image, ProveDlog):
            raise ConfigError("wallet: the mnemonic gives no usable key")
        self._wallet = Wallet([secret])
        self._address = Address.p2pk(image)
        self._max_fee = max_fee
        self.tree = bytes(self._address.ergo_tree())
        self.public_key = self.tree[3:]

    def __repr__(self) -> str:
        return f"Signer({self.public_key.hex()})"

    @classmethod
    def from_file(cls, path: Path, password_file: Path | None = None) -> Signer:
        """Read a mnemonic from a file that strangers cannot read; ConfigError names the file, never its content."""
        words = read_secret(path, "wallet.mnemonic_file").split()
        if len(words) not in WORDS:
            expected = ", ".join(map(str, WORDS))
            raise ConfigError(f"wallet.mnemonic_file = {path} holds {len(words)} words, a mnemonic has {expected}")
        password = read_secret(password_file, "wallet.password_file") if password_file else ""
        return cls(" ".join(words), password)

    def address(self, network: NetworkPrefix) -> str:
        return self._address.to_str(network)

    def sign(self, plan: Plan, headers: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> Transaction:
        """The plan's transaction with its proofs. `headers` newest first. SigningError says why not, in one line."""
        self._check(plan)
        unsigned = plan.unsigned()
        try:
            context = state_context(headers, parameters)
            tx = contained(lambda: self._wallet.sign_transaction(unsigned, list(plan.inputs), [], context))
        except (WalletException, ValueError) as error:
            raise SigningError(f"{plan.kind}: a guard refuses it: {one_line(error, 200)}") from None
        if str(tx.id) != str(unsigned.id):
            raise SigningError(f"{plan.kind}: the signed transaction {tx.id} is not the planned {unsigned.id}")
        broken = rules.violations(tx, plan.inputs, height=headers[0]["height"] + 1, parameters=parameters)
        if broken:
            raise SigningError(f"{plan.kind}: no node would take it: {'; '.join(v.text for v in broken)[:300]}")
        return tx

    def _check(self, plan: Plan) -> None:
        if plan.signer is not None and plan.signer != self.public_key:
            raise SigningError(f"{plan.kind}: it asks for key {plan.signer.hex()}, this is {self.public_key.hex()}")
        if plan.fee > self._max_fee:
            raise SigningError(
                f"{plan.kind}: fee {format_erg(NanoErg(plan.fee))} is over the limit of {format_erg(NanoErg(self._max_fee))}"
            )

    def sign_message(self, message: bytes) -> bytes:
        """Schnorr signature of the key over `message`; callers give it a domain prefix."""
        return bytes(self._wallet.sign_message_using_p2pk(self._address, message))


def new_mnemonic() -> str:
    """24 fresh words."""
    return str(MnemonicGenerator("english", 256).generate())
