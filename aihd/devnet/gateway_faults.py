"""What goes wrong at the embedded gateway, by name, each on or off at any time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aihd.errors import UsageError

FAULTS: Final[Mapping[str, str]] = {
    "delegated-instances": "services run on a peer: another table, another token, and no tunnel reaches them",
    "slow-start": "StartService answers only after some seconds",
    "dying-instances": "an instance dies as soon as it has started",
    "zero-refunds": "StopService stops, and answers with a refund of 0",
    "lost-stops": "StopService answers with a refund of 0, and the instance goes on",
    "quarantine": "every client is shut out for calling too fast",
    "early-ports": "a port is accepted for, and the connection reset, before the service listens",
}


class GatewayFaults:
    """The switches. `on`: the faults that are on from the start."""

    def __init__(self, on: Iterable[str] = ()) -> None:
        self._on: set[str] = set()
        for name in on:
            self.switch(name, True)

    def switch(self, name: str, on: bool) -> None:
        """Turn a fault on or off; UsageError for a name that is none."""
        if name not in FAULTS:
            raise UsageError(f"fault {name!r} is none of {', '.join(FAULTS)}")
        (self._on.add if on else self._on.discard)(name)

    def active(self, name: str) -> bool:
        """Whether a fault is on."""
        return name in self._on
