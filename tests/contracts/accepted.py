"""A transaction that a chain would accept, as the invariants look at it: what ended in it, what began, what was settled.

What happened is read off the outputs: a claimed box that is gone was released if its receipt is there, failed if its failure receipt is
there, else timed out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from aihd.protocol.constants import FEE_BPS, MAX_MINER_FEE, MIN_BOX, SLASH_BPS
from aihd.protocol.deployment import Deployment, Guard

from .fuzz_tx import Seen

ERG: Final = 10**9
UNITS: Final[Mapping[Guard, int]] = {Guard.CLAIMED: 2, Guard.FAILURE: 1, Guard.RECEIPT: 1, Guard.RATING: 1}


@dataclass(frozen=True)
class Accepted:
    """A transaction as the next block would hold it: `height` is that block's, `signers` the keys (33 bytes) its maker holds.

    `headers` are (height, id) of the blocks before, `variables` the context variables of each input, serialized.
    """

    deployment: Deployment
    inputs: Sequence[Seen]
    outputs: Sequence[Seen]
    height: int
    signers: frozenset[bytes]
    headers: Sequence[tuple[int, bytes]]
    variables: Mapping[int, Mapping[int, bytes]]

    def under(self, guard: Guard, boxes: Sequence[Seen]) -> list[Seen]:
        return [box for box in boxes if box.tree == self.deployment.trees[guard]]

    @cached_property
    def bonds(self) -> list[Seen]:
        return [box for box in self.under(Guard.BOND, self.inputs) if box.holds(self.deployment.bond_token)]

    @cached_property
    def open_ids(self) -> set[bytes]:
        """Ids that a bond answered for before this transaction."""
        return {task_id for bond in self.bonds for task_id in bond.strings(8)}

    @cached_property
    def heirs(self) -> list[Seen]:
        return [box for box in self.outputs if box.holds(self.deployment.bond_token) == 1]

    @cached_property
    def minted(self) -> set[bytes]:
        """The id of a new task: what a bond's successor answers for besides."""
        first = self.inputs[0].id
        return {first} if self.bonds and any(first in heir.strings(8) for heir in self.heirs) else set()

    @cached_property
    def started(self) -> list[Seen]:
        """Claimed boxes that this transaction made with a bond behind them."""
        claimed = self.under(Guard.CLAIMED, self.outputs)
        return [box for box in claimed if any(box.holds(task_id) for task_id in self.minted)]

    @cached_property
    def late(self) -> list[Seen]:
        """Claimed boxes that were timed out."""
        return [claimed for claimed, left in self.ended if left is None]

    @cached_property
    def ended(self) -> list[tuple[Seen, Guard | None]]:
        """Claimed boxes spent, with the guard of what they left behind: receipt, failure receipt, or nothing."""
        return [(box, self._left_by(box.tokens[0][0])) for box in self.under(Guard.CLAIMED, self.inputs)]

    @cached_property
    def settled(self) -> list[Seen]:
        """Ratings spent without a successor."""
        heirs = {token for box in self.under(Guard.RATING, self.outputs) for token, _ in box.tokens}
        return [box for box in self.under(Guard.RATING, self.inputs) if box.tokens[0][0] not in heirs]

    def _left_by(self, task_id: bytes) -> Guard | None:
        found = (g for g in (Guard.RECEIPT, Guard.FAILURE) for b in self.under(g, self.outputs) if b.holds(task_id))
        return next(found, None)

    def paid(self, tree: bytes) -> Counter[bytes]:
        """All that outputs under this tree hold, nanoERG under the empty id."""
        return total([box for box in self.outputs if box.tree == tree])


def total(boxes: Sequence[Seen]) -> Counter[bytes]:
    """Tokens by id, and nanoERG under the empty id."""
    found: Counter[bytes] = Counter()
    for box in boxes:
        found[b""] += box.value
        for token, amount in box.tokens:
            found[token] += amount
    return found


def p2pk(key: bytes) -> bytes:
    return b"\x00\x08\xcd" + key


def slash_of(bond: Seen, worth: int) -> int:
    return min(bond.longs(5)[0], worth * SLASH_BPS // 10_000)


def weight_of(worth: int) -> int:
    return 1 + sum((1, 2, 4, 8)[i] for i in range(4) if worth >= ERG * 10**i // 100)


def fee_of(worth: int) -> int:
    fee = worth * FEE_BPS // 10_000
    return fee if fee >= MIN_BOX else 0


def held_of(claimed: Seen) -> int:
    """What a release of this claimed box has to leave in the rating: nanoERG, or units where it is paid in a token."""
    worth, payment, _, _, share = claimed.longs(6)
    if len(claimed.tokens) > 1:
        return payment * share // 10_000
    held = max(0, payment - fee_of(worth) - MAX_MINER_FEE) * share // 10_000
    return held if held >= MIN_BOX else 0
