"""What the chain says of finished tasks: the score's only input.

Promise: a `TaskRecord` holds nothing that two readers of the same chain could see differently, and the order of records is total.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from aihd.errors import AihdError
from aihd.protocol.constants import MAX_PAYMENT
from aihd.reputation.fixed import ONE

BEST_MARK: Final = 5
_MIDDLE: Final = 3  # the mark that moves nothing, on the chain (docs/protocol.md, settle) as here
_STEP: Final = ONE // 2  # what one mark moves an opinion


class HistoryError(AihdError):
    """A record that the chain cannot have shown, or records in an order that it cannot have had."""


class Outcome(Enum):
    """How a claimed task ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed out"


class Role(IntEnum):
    """As what a key is scored: a good node may be a bad client."""

    NODE = 0
    CLIENT = 1


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """The end of one task.

    `height`: block of the last step (settled rating, failure receipt, timeout). `task`: its id. `value`: payment in nanoERG. Marks are 1..5
    and 0 for none; `*_committed`: that side committed to a mark, revealed or not. `*_funding`: key, address or script that first funded the
    party, as far as the indexer can tell; None for one that funds the public at large (an exchange) or is not known.
    """

    height: int
    task: bytes
    client: bytes
    node: bytes
    value: int
    outcome: Outcome = Outcome.COMPLETED
    client_mark: int = 0
    node_mark: int = 0
    client_committed: bool = False
    node_committed: bool = False
    client_funding: bytes | None = None
    node_funding: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 < self.value <= MAX_PAYMENT:
            raise HistoryError(
                f"value {self.value} of task {self.task.hex()}: must be 1 to {MAX_PAYMENT} nanoERG, as the guards allow"
            )
        if not (0 <= self.client_mark <= BEST_MARK and 0 <= self.node_mark <= BEST_MARK):
            raise HistoryError(
                f"marks {self.client_mark} and {self.node_mark} of task {self.task.hex()}: must be 0 (none) to {BEST_MARK}"
            )
        if self.height < 0:
            raise HistoryError(f"height {self.height} of task {self.task.hex()}: must be 0 or more")

    @property
    def order(self) -> tuple[int, bytes]:
        """Records are counted by height, within a block by task id."""
        return (self.height, self.task)

    @property
    def paid(self) -> int:
        """nanoERG that went from client to node."""
        return self.value if self.outcome is Outcome.COMPLETED else 0

    def key(self, role: Role) -> bytes:
        return self.client if role is Role.CLIENT else self.node

    def cluster(self, role: Role) -> bytes:
        """Who the party is counted as: what funded it, else itself."""
        funding = self.client_funding if role is Role.CLIENT else self.node_funding
        return self.key(role) if funding is None else funding

    @property
    def self_dealt(self) -> bool:
        """One side funded the other, or one purse funded both."""
        client, node = self.cluster(Role.CLIENT), self.cluster(Role.NODE)
        return client in (node, self.node) or self.client in (node, self.node)

    def opinion(self, role: Role) -> int | None:
        """What this end says of the party in that role, -1 to 1 in units of 10^-9; None when it says nothing.

        A timeout is the worst: only a node brings it about, and it could have failed in time. A failure is neutral, since a client that
        sends no input forces one. A commitment that only this side broke costs one mark (docs/protocol.md, bond, settle).
        """
        if self.outcome is not Outcome.COMPLETED:
            return None if role is Role.CLIENT else 0 if self.outcome is Outcome.FAILED else -ONE
        node_broke = self.node_committed and not self.node_mark
        client_broke = self.client_committed and not self.client_mark
        if role is Role.NODE:
            mark, broke = self.client_mark, node_broke and not client_broke
        else:
            mark, broke = self.node_mark, client_broke and not node_broke
        if not (mark or broke):
            return None
        return max(-ONE, ((mark or _MIDDLE) - _MIDDLE - broke) * _STEP)
