"""The key, and the last look at a transaction before it is signed.

The signer decodes what it is asked to sign and holds it against the plan and the operator's limits (aihd/core/signing.py), lets ergo-lib
evaluate every script, and checks the chain's rules. Nothing of the key is ever part of an error, a log line or a `repr`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from ergo_lib_python.chain import Address
from ergo_lib_python.exceptions import WalletException
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import Transaction, UnsignedTransaction
from ergo_lib_python.wallet import DerivationPath, ExtSecretKey, Wallet

from aihd.chain.mnemonic import read_mnemonic
from aihd.core.signing import Permit, Spending, Spent, refusals
from aihd.errors import AihdError, ConfigError, Exit, one_line
from aihd.protocol import rules
from aihd.protocol.context import state_context
from aihd.protocol.deployment import Deployment
from aihd.protocol.funding import Plan
from aihd.protocol.panics import contained


class SigningError(AihdError):
    """A transaction was not signed; nothing left this process."""

    exit_code = Exit.INVARIANT


class Signer:
    """One key, at m/44'/429'/0'/0/0 of a mnemonic. Whoever takes words from a person has them checked first (`from_file` does)."""

    def __init__(self, mnemonic: str) -> None:
        secret = ExtSecretKey.from_mnemonic(mnemonic, "").derive(DerivationPath(0, [0])).secret_key()
        image = secret.public_image()
        if not isinstance(image, ProveDlog):
            raise ConfigError("wallet: the mnemonic gives no usable key")
        self._wallet = Wallet([secret])
        self._key = ec.derive_private_key(int.from_bytes(bytes(secret), "big"), ec.SECP256K1())
        self._address = Address.p2pk(image)
        self.tree = bytes(self._address.ergo_tree())
        self.public_key = self.tree[3:]

    def __repr__(self) -> str:
        return f"Signer({self.public_key.hex()})"

    @classmethod
    def from_file(cls, path: Path, password_file: Path | None = None) -> Signer:
        """The key of a mnemonic file; ConfigError as `read_mnemonic`."""
        return cls(read_mnemonic(path, password_file))

    def permit(self, deployment: Deployment, spending: Spending, payout: bytes | None = None) -> Permit:
        """What this key may sign on a market."""
        return Permit(self.public_key, deployment, spending, payout)

    def sign(
        self,
        plan: Plan,
        headers: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        *,
        permit: Permit,
        spent: Spent,
        unsigned: UnsignedTransaction | None = None,
    ) -> Transaction:
        """The plan's transaction, or `unsigned` if it is the same, with its proofs. SigningError says why not, in one line.

        `headers` newest first; `spent` is what left the wallet lately.
        """
        unsigned = _decoded(plan) if unsigned is None else unsigned
        reasons = refusals(permit, plan, unsigned, spent)
        if reasons:
            raise SigningError(f"{plan.kind}: not signed: {'; '.join(reasons)[:400]}")
        try:
            context = state_context(headers, parameters)
            tx = contained(
                lambda: self._wallet.sign_transaction(unsigned, list(plan.inputs), list(plan.data_inputs), context)
            )
        except (WalletException, ValueError) as error:
            raise SigningError(f"{plan.kind}: a guard refuses it: {one_line(error, 200)}") from None
        if str(tx.id) != str(unsigned.id):
            raise SigningError(f"{plan.kind}: the signed transaction {tx.id} is not the planned {unsigned.id}")
        broken = rules.violations(
            tx, plan.inputs, height=headers[0]["height"] + 1, parameters=parameters, data_inputs=plan.data_inputs
        )
        if broken:
            raise SigningError(f"{plan.kind}: no node would take it: {'; '.join(v.text for v in broken)[:300]}")
        return tx

    def sign_message(self, message: bytes) -> bytes:
        """Schnorr signature of the key over `message`; callers give it a domain prefix."""
        return bytes(self._wallet.sign_message_using_p2pk(self._address, message))

    def agree(self, peer: bytes) -> bytes:
        """The secret (32 bytes) that the key shares with a compressed public key (33 bytes), for aihd/execution/seal.py to derive from.

        SigningError when `peer` is no point of the curve.
        """
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), peer)
        except ValueError:
            raise SigningError(f"{peer.hex()[:80]} is no compressed key of 33 bytes") from None
        return self._key.exchange(ec.ECDH(), public)


def _decoded(plan: Plan) -> UnsignedTransaction:
    try:
        return contained(plan.unsigned)
    except ValueError as error:
        raise SigningError(f"{plan.kind}: it is no transaction: {one_line(error, 200)}") from None
