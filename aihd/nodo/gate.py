"""Keeps one client's calls below the number for which nodo would shut it out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from aihd.nodo.failures import QUARANTINE, Quarantined

CALLS: Final = 100
"""Calls in a window: nodo quarantines at 120, and another program may use the same client id."""

WINDOW: Final = 60.0
"""Seconds."""


class Gate:
    """One client id's turn to call. In quarantine every call is refused here: the node would only say no."""

    def __init__(self, calls: int = CALLS, window: float = WINDOW) -> None:
        """At most `calls` in any `window` seconds."""
        self._calls = calls
        self._window = window
        self._times: deque[float] = deque()
        self._shut_until = 0.0

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

    def shut(self, seconds: float = QUARANTINE) -> None:
        """The node has quarantined us: nothing more for `seconds`."""
        self._shut_until = time.monotonic() + seconds
