"""The faucet: a key that owns the genesis money and pays by ordinary transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ergo_lib_python.chain import Address, Constant, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.chain import NonMandatoryRegisterId as Register
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet.blocks import blake2b
from aihd.devnet.ledger import By
from aihd.devnet.views import BoxView, TxView
from aihd.devnet.wire import Made, Spent, plain_inputs, transaction_view
from aihd.errors import UsageError, one_line
from aihd.protocol.panics import contained
from aihd.protocol.rules import MIN_FEE
from aihd.protocol.trees import FEE_TREE, p2pk_tree, parse_tree, tree_of

if TYPE_CHECKING:
    from aihd.devnet.chain import Chain

_PAGE = 500
COIN_VALUE = 1_000_000  # nanoERG in a box that issues a token
MOST = 2**63 - 1  # of anything in a box
MOST_DECIMALS = 18  # more than any token's amount has digits
LONGEST_TEXT = 400  # bytes of a name or a description
_EIP4 = (Register.R4, Register.R5, Register.R6)


@dataclass(frozen=True, slots=True)
class Coin:
    """A token to be issued: `amount` in its smallest unit. UsageError for what EIP-4 or a box cannot hold."""

    name: str
    amount: int
    decimals: int
    description: str

    def __post_init__(self) -> None:
        if not 1 <= self.amount <= MOST:
            raise UsageError(f"amount {self.amount}: a token has 1 to {MOST} of its smallest unit")
        if not 0 <= self.decimals <= MOST_DECIMALS:
            raise UsageError(f"decimals {self.decimals}: a number of 0 to {MOST_DECIMALS} is wanted")
        for field, text, least in (("name", self.name, 1), ("description", self.description, 0)):
            if not least <= len(text.encode("utf-8", "replace")) <= LONGEST_TEXT:
                raise UsageError(f"{field} {text[:60]!r}: a text of {least} to {LONGEST_TEXT} bytes is wanted")

    @property
    def registers(self) -> list[Constant]:
        """R4 name, R5 description, R6 decimals in digits."""
        texts = (self.name, self.description, str(self.decimals))
        return [Constant(text.encode("utf-8", "replace")) for text in texts]


class Faucet:
    """Signs payments with a key made from the seed."""

    def __init__(self, seed: bytes) -> None:
        secret = SecretKey.from_bytes(blake2b(b"faucet" + seed))
        public = secret.public_image()
        assert isinstance(public, ProveDlog)
        self._public = public
        self.tree = p2pk_tree(bytes(public.h))
        self._wallet = Wallet([secret])

    def payment(self, chain: Chain, address_or_tree: str, nano_erg: int) -> Transaction:
        """A signed transaction that pays `nano_erg` to an address or a tree (hex); UsageError for bad values."""
        target = _target(chain, address_or_tree)
        return self._paid(chain, lambda source: _candidate(chain, source, nano_erg, target), nano_erg)

    def issue(self, chain: Chain, coin: Coin, address_or_tree: str | None) -> Transaction:
        """A signed transaction that issues a token by EIP-4, to the faucet's own tree where no other is named."""
        target = self.tree if address_or_tree is None else _target(chain, address_or_tree)
        return self._paid(chain, lambda source: _candidate(chain, source, COIN_VALUE, target, coin), COIN_VALUE)

    def plant(self, chain: Chain, made: Made) -> TxView:
        """A signed transaction that makes a box of any bytes, also such as ergo-lib cannot read."""
        source = max(self._spendable(chain), key=lambda box: box.value)
        height = max(chain.height, source.creation_height)
        rest = source.value - made.value - MIN_FEE
        outputs = (made, Made(MIN_FEE, FEE_TREE, height, (), ()), Made(rest, self.tree, height, (), ()))
        draft = transaction_view([Spent(source.box_id, b"")], [], outputs)
        _, message = plain_inputs(draft.raw) or ([], b"")
        proof = self._wallet.sign_message_using_p2pk(Address.p2pk(self._public), message)
        return transaction_view([Spent(source.box_id, bytes(proof))], [], outputs)

    def _paid(self, chain: Chain, output: Callable[[BoxView], ErgoBoxCandidate], nano_erg: int) -> Transaction:
        """A signed transaction that makes one output of `nano_erg`, pays the fee and keeps the change."""
        source = max(self._spendable(chain), key=lambda box: box.value)
        change = source.value - nano_erg - MIN_FEE
        try:
            outputs = [
                output(source),
                _candidate(chain, source, MIN_FEE, FEE_TREE),
                _candidate(chain, source, change, self.tree),
            ]
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


def _candidate(chain: Chain, source: BoxView, nano_erg: int, tree: bytes, coin: Coin | None = None) -> ErgoBoxCandidate:
    return contained(
        lambda: ErgoBoxCandidate(
            value=nano_erg,
            script=parse_tree(tree),
            creation_height=max(chain.height, source.creation_height),
            tokens=[Token(TokenId(source.box_id), coin.amount)] if coin else None,
            registers=dict(zip(_EIP4, coin.registers, strict=True)) if coin else None,
        )
    )


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
