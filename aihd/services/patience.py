"""Starting beside machines that are late: what is outside is waited for, whatever time it takes, and the service manager knows why.

A wrong configuration is not waited for: it does not get better by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from aihd.errors import DependencyError, TemporaryError, one_line
from aihd.ops.notify import Notifier

log = structlog.get_logger()
T = TypeVar("T")

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 15.0
EXTENSION: Final = 60.0  # seconds that the service manager is asked for at each try


class Patience:
    """Waits for what is outside until it answers, or until the daemon is told to stop."""

    def __init__(self, notifier: Notifier, told: asyncio.Event) -> None:
        self._notifier = notifier
        self._told = told

    async def until(self, what: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers in the end; its last error when the daemon is told to stop first. `what` is waited for, in a word or two."""
        pause, said = FIRST_PAUSE, ""
        while True:
            try:
                return await ask()
            except (DependencyError, TemporaryError) as error:
                if self._told.is_set():
                    raise
                if (reason := one_line(error)) != said:
                    log.warning("waiting", what=what, reason=reason)
                    said = reason
            self._notifier.status(f"waits for {what}: {said}")
            self._notifier.extend(EXTENSION)
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            return
