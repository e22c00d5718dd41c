"""An Ergo chain in memory: blocks, UTXO set, mempool, forks.

Every transaction passes the chain's rules, its scripts and its proofs, in the mempool and again in the block that takes
it. Simpler than a real chain: no coinbase (the sum of ERG never changes), no proof of work, no cost limits, no storage
rent. Fees go to the miner by a real transaction at the end of a block. The same seed, genesis and transactions give the
same block ids. Nothing here waits, and nothing is thread-safe: one event loop owns a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, ErgoStateContext, NetworkPrefix
from ergo_lib_python.transaction import Transaction, TxId, UnsignedInput, UnsignedTransaction

from aihd.devnet.blocks import Block, blake2b, make_block
from aihd.devnet.faucet import Faucet
from aihd.devnet.ledger import Ledger
from aihd.devnet.mempool import CAPACITY, Mempool, PoolTx
from aihd.devnet.sigma import verify_transaction
from aihd.devnet.views import BoxView, TxView, view_box, view_transaction
from aihd.errors import AihdError, Exit, UsageError
from aihd.protocol import rules
from aihd.protocol.context import HEADERS, state_context
from aihd.protocol.trees import FEE_TREE, GENERATOR, parse_tree, reward_tree

FIRST_HEIGHT = 20  # blocks that exist from the start: scripts see 10 headers, and a test may fork below the tip
FAUCET_SUPPLY = 10_000_000 * 10**9  # nanoERG
BLOCK_INTERVAL = 120_000  # ms between headers where no clock is given
GENESIS_TIME = 1_700_000_000_000  # ms
PARAMETERS: Mapping[str, Any] = {  # of the main net in 2026
    "outputCost": 298,
    "tokenAccessCost": 100,
    "maxBlockCost": 8_001_091,
    "height": 0,
    "maxBlockSize": 1_271_009,
    "dataInputCost": 100,
    "blockVersion": 4,
    "inputCost": 2407,
    "storageFeeFactor": 1_250_000,
    "subblocksPerBlock": 30,
    "minValuePerByte": 360,
}

Lookup = Callable[[str], ErgoBox | None]


class RejectedError(AihdError):
    """A transaction that the chain does not take; the text is the `detail` of a node's answer."""

    exit_code = Exit.UNHEALTHY


class Chain:
    """The main chain, its orphaned blocks and its mempool.

    `genesis`: nanoERG by tree (hex), beside the faucet's. `clock`: ms since the epoch for new headers; without one,
    headers are 120 s apart from a fixed start.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        genesis: Mapping[str, int] | None = None,
        network: NetworkPrefix = NetworkPrefix.Mainnet,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.network = network
        self.parameters = dict(PARAMETERS)
        self.ledger = Ledger()
        self.pool = Mempool()
        self.blocks: list[Block] = []  # main chain; the block of height h is at h - 1
        self._known: dict[str, Block] = {}
        self._at_height: dict[int, list[str]] = {}
        self._seed = blake2b(f"aihd devnet {seed}".encode())
        self._branch = 0
        self._clock = clock
        self._context: tuple[str, ErgoStateContext] | None = None
        self._faucet = Faucet(self._seed)
        self._begin({self._faucet.tree.hex(): FAUCET_SUPPLY, **(genesis or {})})

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def tip(self) -> Block:
        """The newest block."""
        return self.blocks[-1]

    @property
    def height(self) -> int:
        """Height of the newest block."""
        return len(self.blocks)

    @property
    def context(self) -> ErgoStateContext:
        """What scripts see now: the block after the tip, as a node assumes it for its mempool."""
        if self._context is None or self._context[0] != self.tip.block_id:
            newest_first = [block.header for block in reversed(self.blocks[-HEADERS:])]
            self._context = (self.tip.block_id, state_context(newest_first, self.parameters))
        return self._context[1]

    def block(self, block_id: str) -> Block | None:
        """The block of this id, on the main chain or orphaned."""
        return self._known.get(block_id)

    def is_main(self, block: Block) -> bool:
        """Whether a block is on the main chain."""
        return block.height <= self.height and self.blocks[block.height - 1] is block

    def ids_at(self, height: int) -> list[str]:
        """Ids of all blocks of a height; that of the main chain first."""
        ids = self._at_height.get(height, [])
        return sorted(ids, key=lambda block_id: not self.is_main(self._known[block_id]))

    def unconfirmed_box(self, box_id: str) -> ErgoBox | None:
        """The box if it is unspent on the chain, or made in the mempool (even if the mempool spends it, too)."""
        made = self.pool.output(box_id)
        return made.box if made else self.ledger.utxo(box_id)

    # -- transactions -------------------------------------------------------------------------------------------

    def check(self, tx: Transaction) -> TxView:
        """Validates a transaction against chain and mempool, without looking for double spends in the mempool.

        RejectedError where a node would answer 400.
        """
        view = view_transaction(tx)
        refusal = self._refusal(view, self.unconfirmed_box, self.unconfirmed_box)
        if refusal:
            raise RejectedError(refusal)
        return view

    def submit(self, tx: Transaction) -> str:
        """Takes a transaction into the mempool and gives its id; RejectedError where a node would answer 400."""
        if str(tx.id) in self.pool:
            raise RejectedError(f"Pool can not accept transaction {tx.id}, it is already in the mempool")
        entry = PoolTx(self.check(tx), self.tip.header["timestamp"] + 1)
        rivals = self.pool.rivals(entry.view)
        if rivals and entry.weight * len(rivals) <= sum(rival.weight for rival in rivals):
            raise RejectedError(f"Double spending attempt for transaction {tx.id}")
        for rival in rivals or self._crowded_out(entry):
            self.pool.remove(rival.view.tx_id)
        self.pool.add(entry)
        return entry.view.tx_id

    def faucet(self, address_or_tree: str, nano_erg: int) -> str:
        """Pays from the faucet by an ordinary transaction and gives its id; it waits in the mempool.

        UsageError for an address of another network, something that is no tree, or an amount that fits no box.
        """
        return self.submit(self._faucet.payment(self, address_or_tree, nano_erg))

    # -- blocks -------------------------------------------------------------------------------------------------

    def mine(self, blocks: int = 1) -> list[Block]:
        """Adds blocks, the first of them with what waits in the mempool; what is no longer valid is dropped."""
        return [self._mine_one() for _ in range(blocks)]

    def reorg(self, depth: int) -> list[Block]:
        """Replaces the newest `depth` blocks by `depth + 1` empty ones and gives the orphaned blocks, oldest first.

        Their transactions go back to the mempool, before those that wait there. UsageError where the chain is too short.
        """
        if not 1 <= depth <= self.height - HEADERS:
            raise UsageError(f"depth {depth}: a reorg here takes 1 to {self.height - HEADERS} blocks")
        orphaned = self.blocks[-depth:]
        for block in reversed(orphaned):
            self.ledger.undo(block)
        del self.blocks[-depth:]
        self._branch += 1
        waiting = [entry.view for entry in self.pool.clear()]
        for _ in range(depth + 1):
            self._connect([])
        returned = [view for block in orphaned for view in block.transactions if not _collects_fees(view)]
        self._readmit(returned + waiting)
        return orphaned

    def _begin(self, allocation: Mapping[str, int]) -> None:
        first = self._connect([])
        self.ledger.add_genesis(
            [_genesis_box(i, tree, value) for i, (tree, value) in enumerate(allocation.items())], first
        )
        while self.height < FIRST_HEIGHT:
            self._connect([])

    def _mine_one(self) -> Block:
        builder = _Builder(self.ledger)
        room = self.parameters["maxBlockSize"]
        for entry in self.pool:
            if entry.view.size > room:
                continue
            if self._refusal(entry.view, builder.unspent, builder.readable, policy=False):
                self.pool.remove(entry.view.tx_id)
                continue
            builder.add(entry.view)
            room -= entry.view.size
        collect = builder.fee_collection(self.height + 1)
        if collect:
            builder.add(collect)
        block = self._connect(builder.transactions)
        for view in block.transactions:
            self.pool.remove(view.tx_id)
        self._readmit([entry.view for entry in self.pool.clear()])
        return block

    def _connect(self, transactions: Sequence[TxView]) -> Block:
        parent = self.blocks[-1] if self.blocks else None
        block = make_block(parent, transactions, self._timestamp(parent), self._seed + self._branch.to_bytes(4, "big"))
        self.ledger.apply(block)
        self.blocks.append(block)
        self._known[block.block_id] = block
        self._at_height.setdefault(block.height, []).append(block.block_id)
        return block

    def _timestamp(self, parent: Block | None) -> int:
        if self._clock is None:
            return GENESIS_TIME + BLOCK_INTERVAL * (self.height + 1)
        return max(self._clock(), parent.header["timestamp"] + 1 if parent else 0)

    # -- validation ---------------------------------------------------------------------------------------------

    def _refusal(self, view: TxView, unspent: Lookup, readable: Lookup, policy: bool = True) -> str | None:
        """Why the next block could not hold the transaction, in the node's words."""
        boxes = [box for box in map(unspent, view.inputs) if box]
        data_boxes = [box for box in map(readable, view.data_inputs) if box]
        found = rules.violations(
            view.tx, boxes, height=self.height + 1, parameters=self.parameters, data_inputs=data_boxes
        )
        for violation in found:
            if policy or violation.code not in rules.POLICY:
                return violation.text
        for result in verify_transaction(view.tx, boxes, data_boxes, self.context):
            if not result.ok:
                head = "Scripts of all transaction inputs should pass verification."
                return f"{head} {view.tx_id}: #{result.index} => {result.text}"
        return None

    def _crowded_out(self, entry: PoolTx) -> list[PoolTx]:
        if len(self.pool) < CAPACITY:
            return []
        lightest = self.pool.lightest()
        if entry.weight <= lightest.weight:
            raise RejectedError(f"Transaction {entry.view.tx_id} pays less than any other in the pool being full")
        return [lightest]

    def _readmit(self, views: Sequence[TxView]) -> None:
        """Puts transactions into the mempool again; those that are no longer valid are dropped, as a node does."""
        for view in views:
            try:
                self.submit(view.tx)
            except RejectedError:
                continue


class _Builder:
    """A block in the making, over the state before it."""

    def __init__(self, ledger: Ledger) -> None:
        self.transactions: list[TxView] = []
        self._ledger = ledger
        self._made: dict[str, BoxView] = {}
        self._spent: set[str] = set()

    def add(self, view: TxView) -> None:
        """Puts a valid transaction into the block."""
        self.transactions.append(view)
        self._spent.update(view.inputs)
        self._made.update((box.box_id, box) for box in view.outputs)

    def readable(self, box_id: str) -> ErgoBox | None:
        """A box that may be a data input: one that the block itself spends counts still."""
        made = self._made.get(box_id)
        return made.box if made else self._ledger.utxo(box_id)

    def unspent(self, box_id: str) -> ErgoBox | None:
        """A box that may be an input."""
        return None if box_id in self._spent else self.readable(box_id)

    def fee_collection(self, height: int) -> TxView | None:
        """The transaction that moves this block's fees to its miner; the fee guard's only spending path."""
        fees = [box for box in self._made.values() if box.tree == FEE_TREE.hex() and box.box_id not in self._spent]
        if not fees:
            return None
        reward = ErgoBoxCandidate(
            value=sum(box.value for box in fees), script=parse_tree(reward_tree(GENERATOR)), creation_height=height
        )
        unsigned = UnsignedTransaction([UnsignedInput(box.box.box_id) for box in fees], [], [reward])
        return view_transaction(Transaction.from_unsigned_tx(unsigned, [b""] * len(fees)))


def _collects_fees(view: TxView) -> bool:
    return view.fee == 0 and len(view.outputs) == 1 and view.outputs[0].tree == reward_tree(GENERATOR).hex()


def _genesis_box(index: int, tree: str, value: int) -> BoxView:
    candidate = ErgoBoxCandidate(value=value, script=parse_tree(bytes.fromhex(tree)), creation_height=0)
    return view_box(ErgoBox.from_box_candidate(candidate, TxId("00" * 32), index))
