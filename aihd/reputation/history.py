"""What the chain says of finished tasks: the score's only input.

Promise: a `TaskRecord` holds nothing that two readers of the same chain could see differently, and the order of records is total.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from aihd.errors import AihdError
from aihd.protocol.constants import BOND_MULTIPLIER, MAX_PAYMENT, USELESS
from aihd.reputation.fixed import ONE

BEST_MARK: Final = 5
_MIDDLE: Final = 3  # the mark that moves nothing, on the chain (docs/protocol.md, settle) as here
_STEP: Final = ONE // 2  # what one mark moves an opinion

IN_A_TOKEN: Final = 1 + BOND_MULTIPLIER
"""By this the worth of a payment in a token is divided: nobody but the client said it.

Who deals with himself locks the payment and, as bond, a half of its worth; in a token that is worth nothing he locks the half alone. At a
third of its worth a token locks as much ERG as a payment in ERG that weighs the same, and costs three times its share for the treasury.
"""


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

    `height`: block of the last step (settled rating, timeout). `task`: its id. `worth`: of the payment, in nanoERG; `asset`: the token that
    it was made in, None for ERG. `held`: the part of the worth that waited for the client's mark. Marks are 1..5 and 0 for none;
    `*_committed`: that side committed to a mark, revealed or not. `*_funding`: key, address or script that first funded the party, as far
    as the indexer can tell; None for one that funds the public at large (an exchange) or is not known.
    """

    height: int
    task: bytes
    client: bytes
    node: bytes
    worth: int
    outcome: Outcome = Outcome.COMPLETED
    client_mark: int = 0
    node_mark: int = 0
    client_committed: bool = False
    node_committed: bool = False
    client_funding: bytes | None = None
    node_funding: bytes | None = None
    held: int = 0
    asset: bytes | None = None

    def __post_init__(self) -> None:
        if not 0 < self.worth <= MAX_PAYMENT:
            raise HistoryError(
                f"worth {self.worth} of task {self.task.hex()}: must be 1 to {MAX_PAYMENT} nanoERG, as the guards allow"
            )
        most = self.worth if self.outcome is Outcome.COMPLETED else 0
        if not 0 <= self.held <= most:
            raise HistoryError(
                f"held {self.held} of task {self.task.hex()}, {self.outcome.value}: must be 0 to {most} nanoERG"
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
    def burned(self) -> int:
        """Returns the nanoERG of worth that the client's mark burned: all that was held, or nothing."""
        return self.held if self.client_mark == USELESS else 0

    @property
    def stake(self) -> int:
        """Returns the nanoERG by which the task weighs."""
        return self._proven(self.worth) or 1

    @property
    def paid(self) -> int:
        """Returns the nanoERG that went from client to node, at the least."""
        return self._proven(self.worth - self.burned) if self.outcome is Outcome.COMPLETED else 0

    @property
    def moved(self) -> int:
        """The same at the most: a token may be worth anything, so that no circle is hidden by what it is said to be worth."""
        if self.asset is None:
            return self.paid
        return MAX_PAYMENT if self.outcome is Outcome.COMPLETED and self.burned < self.worth else 0

    def _proven(self, amount: int) -> int:
        return amount // IN_A_TOKEN if self.asset else amount

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
        """Returns the opinion that this end is of the party in that role, -1 to 1 in units of 10^-9; None when it says nothing.

        A timeout is the worst: only a node brings it about, and it could have failed in time. A failure is neutral, since a client that
        sends no input forces one. A commitment that only this side broke costs one mark (docs/protocol.md, bond, settle). A burn takes
        back whatever good the node said of the client, for it had to say so before it knew; it says nothing bad, or garbage would.
        """
        if self.outcome is not Outcome.COMPLETED:
            return None if role is Role.CLIENT else 0 if self.outcome is Outcome.FAILED else -ONE
        node_broke = self.node_committed and not self.node_mark
        client_broke = self.client_committed and not self.client_mark
        if role is Role.NODE:
            mark, broke = self.client_mark, node_broke and not client_broke
        else:
            mark, broke = self.node_mark, client_broke and not node_broke
        if not (mark or broke or self.burned):
            return None
        said = max(-ONE, ((mark or _MIDDLE) - _MIDDLE - broke) * _STEP)
        return min(said, 0) if self.burned else said
