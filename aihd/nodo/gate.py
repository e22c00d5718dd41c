"""Keeps one client's calls below the number for which nodo would shut it out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Self

from aihd.nodo.failures import QUARANTINE, Quarantined


@dataclass(frozen=True, slots=True)
class GateRule:
    """nodo's own rule, with its defaults: who makes more than `calls` in `window` seconds is shut out for `quarantine` seconds."""

    calls: int = 120
    window: float = 60.0
    quarantine: float = QUARANTINE

    @property
    def ours(self) -> int:
        """Calls that we allow ourselves: a sixth is left, since another program may use the same client id."""
        return max(1, self.calls * 5 // 6)


class Gate:
    """One client id's turn to call. In quarantine every call is refused here: the node would only say no."""

    def __init__(
        self, calls: int = GateRule().ours, window: float = GateRule().window, quarantine: float = QUARANTINE
    ) -> None:
        """At most `calls` in any `window` seconds; who is shut out is so for `quarantine` seconds."""
        self._calls = calls
        self._window = window
        self._quarantine = quarantine
        self._times: deque[float] = deque()
        self._shut_until = 0.0

    @classmethod
    def below(cls, rule: GateRule) -> Self:
        """One that keeps below a node's rule."""
        return cls(rule.ours, rule.window, rule.quarantine)

    async def turn(self, method: str) -> None:
        """Wait until another call is allowed, and count it; Quarantined while the node shuts us out."""
        while True:
            now = time.monotonic()
            if now < self._shut_until:
                left = self._shut_until - now
                raise Quarantined(f"{method}: nodo has quarantined our client id, for {left:.0f} s more", left)
            while self._times and self._times[0] <= now - self._window:
                self._times.popleft()
            if len(self._times) < self._calls:
                self._times.append(now)
                return
            await asyncio.sleep(self._times[0] + self._window - now)

    def shut(self) -> float:
        """The node has quarantined us: nothing more until that is over; the seconds until then."""
        self._shut_until = time.monotonic() + self._quarantine
        return self._quarantine
