"""A wallet on a devnet, for tests and examples: a key from a name, and transactions that find their own inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ergo_lib_python.chain import Constant, ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.chain import NonMandatoryRegisterId as Register
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import DataInput, Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet.blocks import blake2b
from aihd.devnet.chain import Chain
from aihd.devnet.ledger import By
from aihd.errors import UsageError
from aihd.protocol.panics import contained
from aihd.protocol.rules import MIN_FEE, token_totals
from aihd.protocol.trees import FEE_TREE, address_of, p2pk_tree, parse_tree, tree_of

MIN_BOX = 1_000_000  # nanoERG, more than any box here needs
_REGISTERS = (Register.R4, Register.R5, Register.R6, Register.R7, Register.R8, Register.R9)


class Account:
    """Its key depends on the name alone. Never for real money: whoever knows the name has the key."""

    def __init__(self, chain: Chain, name: str) -> None:
        secret = SecretKey.from_bytes(blake2b(f"aihd devnet account {name}".encode()))
        public = secret.public_image()
        assert isinstance(public, ProveDlog)
        self.public_key = bytes(public.h)
        self.tree = p2pk_tree(self.public_key)
        self.address = address_of(self.tree, chain.network)
        self._chain = chain
        self._wallet = Wallet([secret])

    def boxes(self) -> list[ErgoBox]:
        """What can be spent now, confirmed boxes before those of the mempool."""
        chain, tree = self._chain, self.tree.hex()
        unspent = chain.ledger.unspent
        ids = unspent.page(By.TREE, tree, 0, unspent.count(By.TREE, tree), descending=False)
        waiting = (view for view in chain.pool.outputs() if view.tree == tree)
        views = (*(chain.ledger.boxes[box_id].view for box_id in ids), *waiting)
        return [view.box for view in views if not chain.pool.spender(view.box_id)]

    def balance(self) -> int:
        """nanoERG in the boxes that can be spent now."""
        return sum(box.value for box in self.boxes())

    def output(
        self,
        address_or_tree: str | bytes,
        nano_erg: int = MIN_BOX,
        *,
        tokens: Sequence[tuple[str, int]] = (),
        registers: Sequence[Constant] = (),
    ) -> ErgoBoxCandidate:
        """A box to be made: under an address or a tree (bytes), with token ids and amounts, and registers from R4 on."""
        tree = tree_of(address_or_tree, self._chain.network) if isinstance(address_or_tree, str) else address_or_tree
        return contained(
            lambda: ErgoBoxCandidate(
                value=nano_erg,
                script=parse_tree(tree),
                creation_height=self._chain.height,
                tokens=[Token(TokenId(token_id), amount) for token_id, amount in tokens] or None,
                registers=dict(zip(_REGISTERS, registers, strict=False)) or None,
            )
        )

    def send(self, address_or_tree: str | bytes, nano_erg: int, tokens: Sequence[tuple[str, int]] = ()) -> Transaction:
        """Pays nanoERG and tokens."""
        return self.transact([self.output(address_or_tree, nano_erg, tokens=tokens)])

    def mint(self, amount: int, name: str, description: str = "", decimals: int = 0) -> str:
        """Issues a token by EIP-4 and gives its id."""
        (first, *_) = self._funds(MIN_BOX + MIN_FEE, Counter(), [])
        texts = [Constant(text.encode()) for text in (name, description, str(decimals))]
        issue = self.output(self.tree, MIN_BOX, tokens=[(str(first.box_id), amount)], registers=texts)
        self.transact([issue], spend=[first])
        return str(first.box_id)

    def transact(
        self, outputs: Sequence[ErgoBoxCandidate], *, spend: Sequence[ErgoBox] = (), data: Sequence[ErgoBox] = ()
    ) -> Transaction:
        """Signs and submits a transaction that spends `spend` first, adds boxes of its own, a fee and the change.

        `data`: data inputs. UsageError where the money does not suffice; ergo-lib's WalletException where a script is
        false; RejectedError where the chain refuses.
        """
        wanted, value = token_totals(outputs), sum(output.value for output in outputs) + MIN_FEE
        if spend:
            wanted.pop(str(spend[0].box_id), None)  # what its first input's id names is minted
        inputs = [*spend, *self._funds(value, wanted, spend)]
        change = token_totals(inputs) - wanted
        left = sum(box.value for box in inputs) - value
        parts = [*outputs, self.output(FEE_TREE, MIN_FEE)]
        if left or change:
            parts.append(self.output(self.tree, left, tokens=list(change.items())))
        unsigned = UnsignedTransaction(
            [UnsignedInput(box.box_id) for box in inputs], [DataInput(box.box_id) for box in data], parts
        )
        signed = self._wallet.sign_transaction(unsigned, inputs, list(data), self._chain.context)
        self._chain.submit(signed)
        return signed

    def _funds(self, nano_erg: int, tokens: Counter[str], spend: Sequence[ErgoBox]) -> list[ErgoBox]:
        """Boxes that hold this much together with `spend`, and a box of change or nothing beyond it."""
        taken = {str(box.box_id) for box in spend}
        short, lacking = nano_erg - sum(box.value for box in spend), tokens - token_totals(spend)
        chosen: list[ErgoBox] = []
        for box in self.boxes():
            enough, brought = short == 0 or short <= -MIN_BOX, token_totals([box])
            if str(box.box_id) not in taken and not (enough and not lacking & brought):
                chosen.append(box)
                short, lacking = short - box.value, lacking - brought
        if lacking or (short and short > -MIN_BOX):
            asked = f"{nano_erg} nanoERG" + "".join(f", {amount} of token {held}" for held, amount in tokens.items())
            raise UsageError(f"address {self.address}: {asked}, and a box of change, are more than it has")
        return chosen
