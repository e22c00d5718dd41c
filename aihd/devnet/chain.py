"""An Ergo chain in memory: blocks, UTXO set, mempool, forks.

Every transaction passes the chain's rules, its scripts and its proofs, in the mempool and again in the block that takes
it. Of several branches the longest counts, of equal ones the first. Simpler than a real chain: no coinbase (the sum of
ERG never changes), no proof of work, no storage rent; fees go to the miner by a real transaction at the end of a block.
The same seed, genesis and transactions give the same block ids. Nothing here waits, and nothing is thread-safe: one
event loop owns a chain.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ergo_lib_python.chain import ErgoBox, ErgoStateContext, NetworkPrefix
from ergo_lib_python.transaction import Transaction

from aihd.chain.appkit import Appkit
from aihd.devnet.blocks import Block, JsonObject, Making, blake2b, make_block
from aihd.devnet.builder import Builder, collects_fees, genesis_boxes
from aihd.devnet.decode import view_of
from aihd.devnet.faucet import Coin, Faucet
from aihd.devnet.history import History
from aihd.devnet.judge import Judge, Ruling
from aihd.devnet.ledger import Ledger
from aihd.devnet.mempool import CAPACITY, MEMORY_BLOCKS, Mempool, PoolTx, Weighing
from aihd.devnet.parameters import MAX_TX_COST, BlockVersion, parameters_of
from aihd.devnet.refusals import fee_refusal, printed, too_large
from aihd.devnet.views import BoxView, TxView, view_transaction
from aihd.devnet.wire import Made
from aihd.errors import AihdError, Exit, UsageError
from aihd.protocol.context import HEADERS

FIRST_HEIGHT = 20  # blocks that exist from the start: scripts see 10 headers, and a test may fork below the tip
FAUCET_SUPPLY = 10_000_000 * 10**9  # nanoERG
BLOCK_INTERVAL = 120_000  # ms between headers where no clock is given
GENESIS_TIME = 1_700_000_000_000  # ms
LOST_FROM = 20  # a reorg of as many blocks does not bring back what they held: the headers lead by too much
MOST_AHEAD = 100  # blocks
SELF_MINED = 0.5  # of the headers, where nothing else is said
SALT_BYTES = 4


class RejectedError(AihdError):
    """A transaction that the chain does not take; the text is the `detail` of a node's answer."""

    exit_code = Exit.UNHEALTHY


@dataclass(frozen=True, slots=True)
class Saved:
    """Everything a chain is made of; `side` are the blocks that are not on the main chain, parents first."""

    seed: bytes
    network: NetworkPrefix
    parameters: Mapping[str, Any]
    forks: int
    genesis: tuple[BoxView, ...]
    blocks: tuple[Block, ...]
    side: tuple[Block, ...]
    waiting: tuple[TxView, ...]


@dataclass(frozen=True, slots=True)
class Lead:
    """Blocks of the best chain of headers above height `fork` of the full chain, whose contents have not come yet."""

    fork: int = 0
    blocks: tuple[Block, ...] = ()


class Chain:
    """The main chain, its side branches and its mempool.

    `genesis`: nanoERG by tree (hex), beside the faucet's. `clock`: ms since the epoch for new headers; without one,
    headers are 120 s apart from a fixed start. `weighing`: what a mempool divides fees by; "random" chooses at every
    start, as a node does. `appkit`: the JVM, for a second opinion on every transaction that is taken. `memory`: for how
    many blocks the mempool refuses an id that it found invalid. `block_version`: 3 as before Sigma 6, or 4.
    `self_mined`, 0 to 1: the share of headers that show the 256-bit distance of their solution, as a miner's own do.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        genesis: Mapping[str, int] | None = None,
        network: NetworkPrefix = NetworkPrefix.Mainnet,
        clock: Callable[[], int] | None = None,
        weighing: Weighing | Literal["random"] = "size",
        capacity: int = CAPACITY,
        memory: int = MEMORY_BLOCKS,
        block_version: BlockVersion = 4,
        self_mined: float = SELF_MINED,
        appkit: Appkit | None = None,
    ) -> None:
        self.network = network
        self.parameters = parameters_of(block_version)
        self.self_mined = self_mined
        self.peer_height: int | None = None  # that of the highest peer; None: as high as the headers
        self.ahead = 0
        self._lead = Lead()
        self.judge = Judge(self.parameters, appkit)
        self._seed = blake2b(f"aihd devnet {seed}".encode())
        self._random = random.Random(seed)  # noqa: S311 - to be the same for the same seed
        self._weighing, self._capacity, self._memory = weighing, capacity, memory
        self._clock = clock
        self._forks = 0
        self._known: dict[str, Block] = {}
        self._at_height: dict[int, list[str]] = {}
        self._faucet = Faucet(self._seed)
        self.genesis = genesis_boxes({self._faucet.tree.hex(): FAUCET_SUPPLY, **(genesis or {})})
        self.main = History(self.genesis)
        self.restart()
        while self.height < FIRST_HEIGHT:
            self._connect([])

    # -- reading ------------------------------------------------------------------------------------------------

    @property
    def blocks(self) -> list[Block]:
        """The main chain; the block of height h is at h - 1."""
        return self.main.blocks

    @property
    def ledger(self) -> Ledger:
        """What the main chain adds up to."""
        return self.main.ledger

    @property
    def tip(self) -> Block:
        """The newest block."""
        return self.main.tip

    @property
    def height(self) -> int:
        """Height of the newest block."""
        return self.main.height

    @property
    def best_header(self) -> Block:
        """The newest block of the best chain of headers; its contents may not have come yet."""
        return self._lead.blocks[-1] if self._lead.blocks else self.tip

    def headers(self, first: int, last: int) -> list[JsonObject]:
        """The best chain's headers of the heights `first` to `last`, ascending."""
        fork = self._lead.fork if self._lead.blocks else self.height
        full = self.blocks[max(0, first - 1) : min(last, fork)]
        return [block.header for block in (*full, *self._lead.blocks[max(0, first - fork - 1) : max(0, last - fork)])]

    @property
    def context(self) -> ErgoStateContext:
        """What scripts see now: the block after the tip, as a node assumes it for its mempool."""
        return self.judge.context(self.blocks)

    def block(self, block_id: str) -> Block | None:
        """The block of this id, on the main chain or beside it; None while only its header has come."""
        block = self._known.get(block_id)
        return None if block in self._lead.blocks else block

    def is_main(self, block: Block) -> bool:
        """Whether a block is on the main chain."""
        return self.main.holds(block)

    def ids_at(self, height: int) -> list[str]:
        """Ids of all headers of a height; that of the best chain first."""
        best = [header["id"] for header in self.headers(height, height)]
        return sorted(self._at_height.get(height, []), key=lambda block_id: block_id not in best)

    def unconfirmed_box(self, box_id: str) -> ErgoBox | None:
        """The box if it is unspent on the chain, or made in the mempool (even if the mempool spends it, too)."""
        view = self.unconfirmed_view(box_id)
        return view.box if view else None

    def unconfirmed_view(self, box_id: str) -> BoxView | None:
        """The same as plain facts."""
        return self.pool.output(box_id) or self.ledger.utxo_view(box_id)

    # -- transactions -------------------------------------------------------------------------------------------

    def check(self, tx: Transaction | TxView) -> TxView:
        """Validates a transaction against chain and mempool, without looking for double spends in the mempool.

        RejectedError where a node would answer 400.
        """
        view = view_of(tx)
        self._cost_of(view)
        return view

    def submit(self, tx: Transaction | TxView) -> str:
        """Takes a transaction into the mempool and gives its id; RejectedError where a node would answer 400."""
        view = view_of(tx)
        entry = PoolTx(view, self._now(), self._cost_of(view))
        refused = f"Pool can not accept transaction {view.tx_id}, it is"
        if fee := fee_refusal(view):
            raise RejectedError(fee)
        if view.tx_id in self.pool:
            raise RejectedError(f"{refused} already in the mempool")
        if self.pool.found_invalid(view.tx_id, self.height):
            raise RejectedError(f"{refused} invalidated earlier or the pool is full")
        self._admit(entry)
        return view.tx_id

    def drop(self, tx_id: str) -> None:
        """Loses a waiting transaction, as if it had never come; UsageError where none of this id waits."""
        if tx_id not in self.pool:
            raise UsageError(f"transaction {tx_id}: no such transaction waits in the mempool")
        self.pool.remove(tx_id)

    def restart(self) -> None:
        """What a restart does to a node: the mempool is lost, and how it weighs is chosen anew."""
        weighing = self._weighing
        chosen: Weighing = self._random.choice(("size", "cost")) if weighing == "random" else weighing
        self.pool = Mempool(chosen, self._capacity, self._memory)

    def faucet(self, address_or_tree: str, nano_erg: int) -> str:
        """Pays from the faucet by an ordinary transaction and gives its id; it waits in the mempool.

        UsageError for an address of another network, something that is no tree, or an amount that fits no box.
        """
        return self.submit(self._faucet.payment(self, address_or_tree, nano_erg))

    def issue(self, name: str, amount: int, decimals: int, *, to: str | None = None, description: str = "") -> str:
        """Issues a token by EIP-4 from the faucet's money and gives its id; the transaction waits in the mempool.

        `amount`: of the smallest unit. `to`: an address or a tree, else the faucet has it. UsageError as for `faucet`.
        """
        tx = self._faucet.issue(self, Coin(name, amount, decimals, description), to)
        self.submit(tx)
        return str(tx.inputs[0].box_id)

    def plant(
        self, tree: bytes, nano_erg: int, registers: Sequence[bytes] = (), tokens: Sequence[tuple[str, int]] = ()
    ) -> str:
        """Makes a box of any bytes from the faucet's money and gives its id, as a stranger may: it waits in the mempool.

        `registers`: bytes from R4 on, also such as ergo-lib cannot read. RejectedError where a node would refuse.
        """
        view = self._faucet.plant(self, Made(nano_erg, tree, self.height, tuple(tokens), tuple(registers)))
        self.submit(view)
        return view.outputs[0].box_id

    # -- blocks -------------------------------------------------------------------------------------------------

    def mine(
        self, blocks: int = 1, *, on: str | None = None, transactions: Sequence[Transaction] | None = None
    ) -> list[Block]:
        """Adds blocks, the first of them with what waits in the mempool; what is no longer valid is dropped.

        `on`: id of the block to build on instead of the tip; the branch takes over once it is the longest, and what
        only the old one held goes back to the mempool. `transactions`: for the first block in place of the mempool's
        (a branch has none by itself); RejectedError for one that this block cannot hold. UsageError for a block
        that is unknown or too near the first one, or fewer blocks than one.
        """
        if blocks < 1:
            raise UsageError(f"blocks {blocks}: at least one is mined")
        if on is None and transactions is None:
            return [self._mine_one() for _ in range(blocks)]
        self.settle()
        parent = self.tip if on is None else self._fork_point(on)
        return self._grow(parent, blocks, transactions or (), lose=False)[0]

    def reorg(
        self, depth: int, *, transactions: Sequence[Transaction] = (), lose: bool = False, making: bool = False
    ) -> list[Block]:
        """Replaces the newest `depth` blocks by `depth + 1` others and gives the orphaned blocks, oldest first.

        The first of the new blocks holds `transactions`, the others are empty. The orphaned transactions go back to
        the mempool, before those that wait there, unless `lose`, or there are `LOST_FROM` blocks of them or more.
        `making`: only the headers of the new blocks have come; `settle` or the next block brings the rest.
        UsageError where the chain is too short.
        """
        self.settle()
        if not 1 <= depth <= self.height - HEADERS:
            raise UsageError(f"depth {depth}: a reorg here takes 1 to {self.height - HEADERS} blocks")
        made, orphaned = self._grow(self.blocks[-depth - 1], depth + 1, transactions, lose=lose or making)
        if making:
            fork = made[0].height - 1
            self._lead = Lead(fork, tuple(self.main.move(fork, orphaned)))
            self._forget_orphans()
        return orphaned

    def run_ahead(self, blocks: int) -> None:
        """Lets the headers run so many blocks ahead of the full chain: the next ones come as headers alone.

        UsageError for less than 0 or more than `MOST_AHEAD`.
        """
        if not 0 <= blocks <= MOST_AHEAD:
            raise UsageError(f"headersAhead {blocks}: headers run 0 to {MOST_AHEAD} blocks ahead")
        self.ahead, waiting = blocks, len(self._lead.blocks)
        self.settle()
        self._fall_back(min(blocks, waiting))

    def settle(self) -> None:
        """Brings the contents of all blocks whose headers have come."""
        lead, self._lead = self._lead, Lead()
        if lead.blocks:
            self._return(self.main.move(lead.fork, lead.blocks), lose=False)

    def save(self) -> Saved:
        """Everything, as values; what the mempool remembers of invalid transactions is not kept."""
        side = sorted((b for b in self._known.values() if not self.is_main(b)), key=lambda block: block.height)
        waiting = tuple(entry.view for entry in self.pool)
        parts = (tuple(self.genesis), tuple(self.blocks), tuple(side), waiting)
        return Saved(self._seed, self.network, dict(self.parameters), self._forks, *parts)

    def restore(self, saved: Saved) -> None:
        """Becomes what was saved, nothing of it validated again; UsageError where the network is another."""
        if int(saved.network) != int(self.network):
            raise UsageError(f"network {saved.network}: this devnet's is {self.network}")
        self._seed, self._forks, self._faucet = saved.seed, saved.forks, Faucet(saved.seed)
        self.parameters.update(saved.parameters)
        self.genesis = list(saved.genesis)
        self._known, self._at_height, self.main, self._lead = {}, {}, History(self.genesis), Lead()
        self.main.move(0, saved.blocks)
        for block in saved.side:
            self.ledger.add_orphans(block)
        for block in (*saved.blocks, *saved.side):
            self._register(block)
        self.restart()
        self._readmit(PoolTx(view, self._now()) for view in saved.waiting)

    def follow(self, blocks: Sequence[Block]) -> None:
        """Becomes the line of these blocks, which another chain with the same first block has; what waits is checked anew."""
        self._lead = Lead()
        self.main.follow(blocks)
        for block in self.blocks:
            if block.block_id not in self._known:
                self._register(block)
        self._readmit(self.pool.clear())

    def _mine_one(self) -> Block:
        waiting = len(self._lead.blocks)
        self.settle()
        builder = self._builder()
        for entry in self.pool.heaviest_first():
            ruling = self._rule(entry.view, builder)
            if ruling.refusal is None and builder.has_room_for(entry.view, ruling.cost):
                builder.add(entry.view, ruling.cost)
        block = self._seal(builder)
        self._fall_back(min(self.ahead, waiting + 1))
        self._readmit(self.pool.clear())
        return block

    def _fall_back(self, blocks: int) -> None:
        """Takes the contents of the newest blocks away again; what they hold still waits in the mempool."""
        if blocks:
            fork = max(HEADERS + 1, self.height - blocks)
            self._lead = Lead(fork, tuple(self.main.move(fork, ())))
            self._forget_orphans()

    def _forget_orphans(self) -> None:
        for box in (made for block in self._lead.blocks for tx in block.transactions for made in tx.outputs):
            self.ledger.orphans.pop(box.box_id, None)

    def _grow(
        self, parent: Block, count: int, transactions: Sequence[Transaction], *, lose: bool
    ) -> tuple[list[Block], list[Block]]:
        """Blocks on top of `parent`, the first with these transactions; gives them and what they have orphaned."""
        best = self.tip
        self._forks += parent is not best
        orphaned = self._go_to(parent)
        try:
            made = [self._seal(self._filled(transactions))]
        except RejectedError:
            self._go_to(best)
            raise
        made += [self._connect([]) for _ in range(count - 1)]
        if self.height <= best.height:  # the first seen stays the best
            self._go_to(best)
            return made, []
        self._return(orphaned, lose=lose)
        return made, orphaned

    def _return(self, orphaned: Sequence[Block], *, lose: bool) -> None:
        """Puts what orphaned blocks held back into the mempool, before what waits there."""
        lost = lose or len(orphaned) >= LOST_FROM
        returned = [] if lost else [v for b in orphaned for v in b.transactions if not collects_fees(v)]
        waiting = self.pool.clear()
        self._readmit([*(PoolTx(view, self._now()) for view in returned), *waiting])

    def _filled(self, transactions: Iterable[Transaction]) -> Builder:
        builder = self._builder()
        for view in map(view_transaction, transactions):
            ruling = self._rule(view, builder)
            if ruling.refusal is not None:
                raise RejectedError(ruling.refusal)
            if not builder.has_room_for(view, ruling.cost):
                raise RejectedError(
                    f"Transaction {view.tx_id}: {view.size} bytes, cost {ruling.cost}: the block is full"
                )
            builder.add(view, ruling.cost)
        return builder

    def _builder(self) -> Builder:
        return Builder(self.ledger, self.parameters["maxBlockSize"], self.parameters["maxBlockCost"])

    def _seal(self, builder: Builder) -> Block:
        collect = builder.fee_collection(self.height + 1)
        if collect:
            builder.add(collect)
        return self._connect(builder.transactions)

    def _connect(self, transactions: Sequence[TxView]) -> Block:
        parent = self.tip if self.blocks else None
        block = make_block(parent, transactions, self._making(parent))
        self.main.append(block)
        self._register(block)
        return block

    def _making(self, parent: Block | None) -> Making:
        salt = self._seed + self._forks.to_bytes(SALT_BYTES, "big")
        lot = blake2b(b"solution" + salt + self.height.to_bytes(SALT_BYTES, "big"))
        own = int.from_bytes(lot[:SALT_BYTES], "big") < self.self_mined * 2 ** (8 * SALT_BYTES)
        return Making(
            timestamp=self._timestamp(parent),
            salt=salt,
            version=self.parameters["blockVersion"],
            genesis=self.blocks[0].block_id if parent else "",
            distance=int.from_bytes(lot, "big") | 1 << 255 if own else 0,
        )

    def _register(self, block: Block) -> None:
        self._known[block.block_id] = block
        self._at_height.setdefault(block.height, []).append(block.block_id)

    def _fork_point(self, block_id: str) -> Block:
        block = self._known.get(block_id)
        if block is None or block.height < HEADERS:
            known = f"it has height {block.height}" if block else "it is unknown"
            raise UsageError(
                f"block {block_id}: {known}; blocks can be built on a known one of height {HEADERS} or more"
            )
        return block

    def _go_to(self, block: Block) -> list[Block]:
        """Makes this block the tip and gives the blocks that have left the main chain."""
        above = []
        while not self.is_main(block):
            above.append(block)
            block = self._known[block.header["parentId"]]
        return self.main.move(block.height, above[::-1])

    def _timestamp(self, parent: Block | None) -> int:
        if self._clock is None:
            return GENESIS_TIME + BLOCK_INTERVAL * (self.height + 1)
        return max(self._clock(), parent.header["timestamp"] + 1 if parent else 0)

    def _now(self) -> int:
        return int(self.tip.header["timestamp"]) + 1

    # -- mempool ------------------------------------------------------------------------------------------------

    def _rule(self, view: TxView, builder: Builder) -> Ruling:
        return self.judge.rule(self.blocks, view, builder.unspent, builder.readable)

    def _cost_of(self, view: TxView) -> int:
        """What a transaction costs in the next block; RejectedError where it is not valid there, or over a mempool's limits."""
        if large := too_large(view):
            raise RejectedError(large)
        ruling = self.judge.rule(self.blocks, view, self.unconfirmed_view, self.unconfirmed_view)
        text = ruling.refusal
        if text is None and ruling.cost > MAX_TX_COST:
            text = f"Transaction {printed(view)} has too high cost {ruling.cost}"
        if text is not None:
            raise RejectedError(f"Malformed transaction: {text}")
        return ruling.cost

    def _admit(self, entry: PoolTx) -> None:
        rivals, weight = self.pool.rivals(entry.view), self.pool.own_weight(entry)
        if rivals and weight <= sum(rival.weight for rival in rivals) // len(rivals):
            raise RejectedError("Double spending attempt")
        for rival in rivals or self._crowded_out(weight):
            self.pool.remove(rival.view.tx_id)
        self.pool.add(entry)

    def _crowded_out(self, weight: int) -> list[PoolTx]:
        if len(self.pool) < self.pool.capacity:
            return []
        lightest = self.pool.lightest()
        if weight <= lightest.weight:
            raise RejectedError("Transaction pays less than any other in the pool being full")
        return [lightest]

    def _readmit(self, entries: Iterable[PoolTx]) -> None:
        """Checks transactions anew and puts them into the mempool; a node drops what is invalid, and remembers it."""
        for entry in entries:
            if entry.view.tx_id in self.ledger.transactions:
                continue
            try:
                entry.cost = self._cost_of(entry.view)
            except RejectedError:
                self.pool.remember_invalid(entry.view.tx_id, self.height)
                continue
            with contextlib.suppress(RejectedError):  # a rival or a full pool: it is lost, but not invalid
                self._admit(entry)
