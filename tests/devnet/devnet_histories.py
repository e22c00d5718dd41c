"""Random histories of a chain: honest and broken transactions, double spends, long chains, forks, losses.

An action is a kind and three numbers; what they mean depends on what there is to spend, so every list of actions is a history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from devnet_wallet import ERG, FEE, Key, key, out, unsigned
from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, ErgoStateContext
from ergo_lib_python.transaction import Transaction
from ergo_lib_python.wallet import Wallet

from aihd.devnet.blocks import Block
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.history import History
from aihd.devnet.ledger import By
from aihd.devnet.sigma import verify_transaction
from aihd.devnet.views import TxView, view_transaction
from aihd.protocol.context import HEADERS
from aihd.protocol.trees import FEE_TREE

PURSE: Final = 1000 * ERG
LONGEST: Final = 30
DEEPEST: Final = 12

KEYS: Final[tuple[Key, ...]] = tuple(key(number) for number in range(1, 5))
WALLET: Final = Wallet([each.secret for each in KEYS])
_DLOGS: Final = [b"\xcd" + each.public for each in KEYS]
COMPOUND: Final = (  # of all kinds: either, both, two of three
    b"\x00\x08\x97\x02" + _DLOGS[0] + _DLOGS[1],
    b"\x00\x08\x96\x02" + _DLOGS[0] + _DLOGS[1],
    b"\x00\x08\x98\x02\x03" + b"".join(_DLOGS[:3]),
)

Action = tuple[str, int, int, int]
KINDS: Final = (
    "pay",
    "pay",
    "pay",
    "broken",
    "broken",
    "rival",
    "rival",
    "chain",
    "chain",
    "mine",
    "mine",
    "reorg",
    "branch",
    "drop",
    "restart",
)
ODD: Final = ("forged", "tampered", "unbalanced", "dust", "future", "spent", "inflated", "no fee")


@dataclass(frozen=True, slots=True)
class Sample:
    """A transaction as an interpreter sees it, and what sigma-rust says about its scripts and proofs."""

    view: TxView
    boxes: tuple[ErgoBox, ...]
    blocks: tuple[Block, ...]
    accepted: bool


@dataclass(slots=True)
class Scenario:
    """Plays actions on a chain; `sampled` takes every transaction whose inputs exist."""

    chain: Chain = field(default_factory=lambda: Chain(genesis={each.tree.hex(): PURSE for each in KEYS}))
    sampled: Callable[[Sample], None] | None = None
    submitted: int = 0
    taken: int = 0
    refused: int = 0

    def play(self, actions: Sequence[Action]) -> None:
        steps = {
            "pay": self.pay,
            "broken": self.broken,
            "rival": self.rival,
            "chain": self.chained,
            "mine": self.mine,
            "reorg": self.reorg,
            "branch": self.branch,
            "drop": self.drop,
            "restart": self.restart,
        }
        for kind, a, b, c in actions:
            steps[kind](a, b, c)
            check_mempool(self.chain)
        check_ledger(self.chain)

    # -- actions ------------------------------------------------------------------------------------------------

    def pay(self, a: int, b: int, c: int) -> None:
        """One or two boxes become some more; one time in sixteen under a compound proposition."""
        boxes = self.spendable()
        if boxes:
            chosen = [boxes[a % len(boxes)]]
            if c % 3 == 0 and len(boxes) > 1:
                chosen.append(boxes[(a + 1) % len(boxes)])
            tree = COMPOUND[b % 3] if b % 16 == 0 else KEYS[b % 4].tree
            self.submit_honest(self.signed(chosen, self.outputs(chosen, tree, c)))

    def broken(self, a: int, b: int, c: int) -> None:
        """Transactions with one fault each are refused, and nothing else changes."""
        boxes = self.spendable()
        if boxes:
            waiting = [entry.view.tx_id for entry in self.chain.pool]
            for fault in range(b, b + 3):
                assert self.submit(self.odd(ODD[fault % len(ODD)], boxes[a % len(boxes)], c))
            assert waiting == [entry.view.tx_id for entry in self.chain.pool]

    def rival(self, a: int, b: int, c: int) -> None:
        """Spends what a waiting transaction spends; taken or refused, never both in the pool."""
        waiting = list(self.chain.pool)
        if waiting:
            box = self.chain.unconfirmed_box(waiting[a % len(waiting)].view.inputs[0])
            if box is not None and box.value > ERG // 10:
                self.submit(self.signed([box], self.outputs([box], KEYS[b % 4].tree, c, fee=FEE * (1 + c % 5))))

    def chained(self, a: int, b: int, c: int) -> None:
        """Each spends what the one before it has made, in the mempool."""
        boxes = [box for box in self.spendable() if box.value > 5 * ERG]
        if boxes:
            box = boxes[a % len(boxes)]
            for step in range(b % LONGEST + 1):
                tx = self.signed([box], self.outputs([box], KEYS[(c + step) % 4].tree, 6))
                self.submit_honest(tx)
                box = tx.outputs[0]
                if self.chain.pool.spender(str(box.box_id)):  # the same one was lost before, and its child still waits
                    return

    def mine(self, a: int, _b: int, _c: int) -> None:
        self.chain.mine(a % 3 + 1)

    def reorg(self, a: int, b: int, _c: int) -> None:
        depth = min(a % DEEPEST + 1, self.chain.height - HEADERS)
        self.chain.reorg(depth, lose=b % 3 == 0)

    def branch(self, a: int, b: int, c: int) -> None:
        """A side branch, with a transaction of its own that the main chain does not hold."""
        height = max(HEADERS, self.chain.height - a % DEEPEST - 1)
        self.chain.mine(b % 4 + 1, on=self.chain.ids_at(height)[c % len(self.chain.ids_at(height))])

    def drop(self, a: int, _b: int, _c: int) -> None:
        waiting = list(self.chain.pool)
        if waiting:
            self.chain.drop(waiting[a % len(waiting)].view.tx_id)

    def restart(self, a: int, _b: int, _c: int) -> None:
        if a % 4 == 0:
            self.chain.restart()

    # -- transactions -------------------------------------------------------------------------------------------

    def spendable(self) -> list[ErgoBox]:
        """What the keys can spend: confirmed and waiting boxes, the small ones left aside."""
        chain, trees = self.chain, {tree.hex() for tree in (*(each.tree for each in KEYS), *COMPOUND)}
        pages, spent = chain.ledger.unspent, chain.pool.spender
        ids = [box_id for tree in sorted(trees) for box_id in pages.page(By.TREE, tree, 0, 30, descending=True)]
        views = [chain.ledger.boxes[box_id].view for box_id in ids]
        made = [view for view in chain.pool.outputs() if view.tree in trees and view.tx_id in chain.pool]
        usable = (view for view in (*views, *made[:30]) if not spent(view.box_id) and view.value > ERG // 10)
        return [view.box for view in usable if all(map(chain.unconfirmed_box, self.parents(view.tx_id)))]

    def parents(self, tx_id: str) -> tuple[str, ...]:
        """The inputs of a waiting transaction: one whose parent was replaced lingers, and its boxes are no good."""
        entry = self.chain.pool.get(tx_id)
        return entry.view.inputs if entry and entry.view.outputs[0].box_id not in self.chain.ledger.boxes else ()

    def outputs(self, boxes: Sequence[ErgoBox], tree: bytes, c: int, fee: int = FEE) -> list[ErgoBoxCandidate]:
        height = max(self.chain.height, *(box.creation_height for box in boxes), 0)
        total, share = sum(box.value for box in boxes) - fee, c % 7 + 2
        parts = [(total - total // share, tree), (total // share, KEYS[c % 4].tree), (fee, FEE_TREE)]
        return [out(value, to, height) for value, to in parts]

    def signed(self, boxes: Sequence[ErgoBox], outputs: Sequence[ErgoBoxCandidate]) -> Transaction:
        return WALLET.sign_transaction(unsigned(boxes, outputs), list(boxes), [], self.chain.context)

    def odd(self, fault: str, box: ErgoBox, c: int) -> Transaction:
        outputs = self.outputs([box], KEYS[c % 4].tree, c)
        height, rest = outputs[0].creation_height, box.value - FEE
        if fault in ("forged", "tampered"):
            good = self.signed([box], outputs)
            proof = bytearray(bytes(good.inputs[0].spending_proof.proof))
            if fault == "forged":
                proof[c % 24] ^= 1 << c % 8
            else:
                outputs = self.outputs([box], KEYS[c % 4].tree, c + 1)
            return Transaction.from_unsigned_tx(unsigned([box], outputs), [bytes(proof)])
        if fault == "spent":
            gone = [each for each in self.chain.ledger.boxes if self.chain.ledger.spender(each)]
            box = self.chain.ledger.boxes[gone[c % len(gone)]].view.box if gone else box
            fault = fault if gone else "no fee"
        changed = {
            "unbalanced": [out(rest + 1 + c, KEYS[0].tree, height), out(FEE, FEE_TREE, height)],
            "dust": [out(rest - 20_000, KEYS[0].tree, height), out(20_000, KEYS[1].tree, height), outputs[2]],
            "future": [out(rest, KEYS[0].tree, self.chain.height + 2 + c), outputs[2]],
            "inflated": [out(rest, KEYS[0].tree, height, tokens=[("77" * 32, 1 + c)]), outputs[2]],
            "no fee": [out(box.value, KEYS[0].tree, max(height, box.creation_height))],
        }.get(fault, outputs)
        return Transaction.from_unsigned_tx(unsigned([box], changed), [b""])

    def submit(self, tx: Transaction) -> str | None:
        """Why it was refused, or None."""
        self.submitted += 1
        if self.sampled is not None:
            self._sample(view_transaction(tx), self.sampled)
        try:
            self.chain.submit(tx)
        except RejectedError as error:
            self.refused += 1
            return str(error)
        self.taken += 1
        return None

    def submit_honest(self, tx: Transaction) -> None:
        """It is taken, unless the same one has been there before, and still waits or was found invalid by a block."""
        refusal = self.submit(tx) or ""
        assert refusal == "" or "already in the mempool" in refusal or "invalidated earlier" in refusal, refusal

    def _sample(self, view: TxView, sampled: Callable[[Sample], None]) -> None:
        boxes = tuple(box for box in map(self.chain.unconfirmed_box, view.inputs) if box)
        if len(boxes) == len(view.inputs):
            context: ErgoStateContext = self.chain.context
            accepted = all(result.ok for result in verify_transaction(view.tx, boxes, [], context))
            sampled(Sample(view, boxes, tuple(self.chain.blocks[-HEADERS:]), accepted))


def check_mempool(chain: Chain) -> None:
    """No two waiting transactions spend the same box, and none waits that is already mined."""
    spent = [box_id for entry in chain.pool for box_id in entry.view.inputs]
    assert len(spent) == len(set(spent))
    assert not {entry.view.tx_id for entry in chain.pool} & chain.ledger.transactions.keys()


def check_ledger(chain: Chain) -> None:
    """The sum of ERG is that of the genesis, and the state is what the best chain adds up to from its first block."""
    ledger = chain.ledger
    unspent = {box_id: box for box_id, box in ledger.boxes.items() if not ledger.spender(box_id)}
    assert sum(box.view.value for box in unspent.values()) == sum(view.value for view in chain.genesis)
    replay = History(chain.genesis)
    replay.follow(chain.blocks)
    assert {i: box for i, box in replay.ledger.boxes.items() if not replay.ledger.spender(i)} == unspent
    assert replay.ledger.boxes == ledger.boxes and list(replay.ledger.boxes) == list(ledger.boxes)
    for tree in {box.view.tree for box in ledger.boxes.values()}:
        count = ledger.unspent.count(By.TREE, tree)
        listed = ledger.unspent.page(By.TREE, tree, 0, count, descending=False)
        assert listed == [box_id for box_id, box in ledger.boxes.items() if box_id in unspent and box.view.tree == tree]
