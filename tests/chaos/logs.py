"""What a daemon in this process says: kept in memory, so that a defect is heard and nothing is printed."""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

KEPT = 400


@dataclass(slots=True)
class Heard:
    """The newest events, and every defect with its traceback since it was last cleared."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    defects: list[str] = field(default_factory=list)

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        facts: dict[str, Any] = {key: value for key, value in event.items() if key not in ("event", "exc_info")}
        self.lines.append(f"{method:8} {event['event']} {facts}")
        if event["event"] == "defect":
            self.defects.append(f"{facts} {traceback.format_exc()}")
        raise structlog.DropEvent


@contextmanager
def hearing() -> Iterator[Heard]:
    """Hear what is logged while the block runs."""
    heard = Heard()
    before = structlog.get_config()
    structlog.configure(processors=[heard], cache_logger_on_first_use=False)
    try:
        yield heard
    finally:
        structlog.configure(**before)
