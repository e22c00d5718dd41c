"""The faucet: a key that owns the genesis money and pays by ordinary transactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ergo_lib_python.chain import ErgoBoxCandidate
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet.blocks import blake2b
from aihd.devnet.ledger import By
from aihd.devnet.views import BoxView
from aihd.errors import UsageError, one_line
from aihd.protocol.panics import contained
from aihd.protocol.rules import MIN_FEE
from aihd.protocol.trees import FEE_TREE, p2pk_tree, parse_tree, tree_of

if TYPE_CHECKING:
    from aihd.devnet.chain import Chain

_PAGE = 500


class Faucet:
    """Signs payments with a key made from the seed."""

    def __init__(self, seed: bytes) -> None:
        secret = SecretKey.from_bytes(blake2b(b"faucet" + seed))
        public = secret.public_image()
        assert isinstance(public, ProveDlog)
        self.tree = p2pk_tree(bytes(public.h))
        self._wallet = Wallet([secret])

    def payment(self, chain: Chain, address_or_tree: str, nano_erg: int) -> Transaction:
        """A signed transaction that pays `nano_erg` to an address or a tree (hex); UsageError for bad values."""
        target = _target(chain, address_or_tree)
        source = max(self._spendable(chain), key=lambda box: box.value)
        change = source.value - nano_erg - MIN_FEE
        parts = [(nano_erg, target), (MIN_FEE, FEE_TREE), (change, self.tree)]
        height = max(chain.height, source.creation_height)
        try:
            outputs = contained(
                lambda: [ErgoBoxCandidate(value=v, script=parse_tree(t), creation_height=height) for v, t in parts]
            )
        except (ValueError, OverflowError) as error:
            text = f"nanoErg {nano_erg}: no box can hold it, or the faucet (largest box {source.value}) cannot pay it"
            raise UsageError(f"{text}: {one_line(error)}") from error
        unsigned = UnsignedTransaction([UnsignedInput(source.box.box_id)], [], outputs)
        return self._wallet.sign_transaction(unsigned, [source.box], [], chain.context)

    def _spendable(self, chain: Chain) -> Iterator[BoxView]:
        tree = self.tree.hex()
        confirmed = chain.ledger.unspent.page(By.TREE, tree, 0, _PAGE, descending=False)
        yield from (chain.ledger.boxes[box_id].view for box_id in confirmed if chain.pool.spender(box_id) is None)
        yield from (box for box in chain.pool.outputs() if box.tree == tree and chain.pool.spender(box.box_id) is None)


def _target(chain: Chain, address_or_tree: str) -> bytes:
    try:
        return tree_of(address_or_tree, chain.network)
    except ValueError as not_address:
        try:
            tree = bytes.fromhex(address_or_tree)
            parse_tree(tree)
        except ValueError:
            text = f"address {address_or_tree[:60]!r} is neither an address of this network nor a tree in hex"
            raise UsageError(f"{text}: {one_line(not_address)}") from not_address
        return tree
