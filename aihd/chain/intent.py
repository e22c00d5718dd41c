"""What a transaction is for, and which boxes of the wallet it may spend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aihd.core.sending import Origin


class Funding(StrEnum):
    """The boxes of the wallet that a transaction may spend."""

    ANY = "any"  # change of what waits to be mined, too
    FINAL = "final"  # only what no reorg can take away, what is kept back for its task among it
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a transaction is for. There is never more than one live transaction with the same `key`."""

    verb: str
    task_id: bytes | None = None
    funding: Funding = Funding.ANY
    origin: Origin | None = None  # None: that of the submitter

    @property
    def key(self) -> str:
        return f"{self.verb}:{self.task_id.hex()}" if self.task_id else self.verb
