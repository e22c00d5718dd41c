"""Logs: one line per event on one stream, for aihd and for the libraries under it.

Promise: times are UTC, a field whose name says that it holds a secret is masked at every depth, and no text is longer than
a line can bear (ergo-lib's errors run to 100 KB).
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from aihd.errors import one_line
from aihd.text import plain

TEXT_LIMIT = 1_000
TRACE_LIMIT = 8_000
MASK = "***"
MAX_KINDS = 1024  # of records that are counted
_SECRET = re.compile(r"mnemonic|passw|passphrase|secret|seed|api_?key|private_?key|authorization", re.IGNORECASE)


def setup_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    log_format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO = sys.stderr,
) -> None:
    """Send structlog's and the standard library's events to `stream`; "auto" means console on a terminal, else JSON.

    May be called again, e.g. after a reload.
    """
    console = log_format == "console" or (log_format == "auto" and stream.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
        shorten,
    ]
    handler = logging.StreamHandler(stream)
    handler.addFilter(HoldBack())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(console, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second set-up reaches the loggers that modules hold
    )


class HoldBack(logging.Filter):
    """Lets no more than `limit` records of a kind through in `seconds`; the next one that comes through says how many were held back.

    A kind is a logger, a level, and the event or the text before it is filled in: what a stranger can make happen again and again.
    """

    def __init__(self, limit: int = 60, seconds: float = 60.0) -> None:
        super().__init__()
        self._limit = limit
        self._seconds = seconds
        self._seen: dict[tuple[str, int, str], list[float]] = {}  # since when, how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown."""
        now, kind = time.monotonic(), _kind(record)
        if len(self._seen) > MAX_KINDS:
            self._seen.clear()
        since, count = self._seen.get(kind, (now, 0))
        held = 0.0
        if now - since >= self._seconds:
            since, count, held = now, 0, max(0.0, count - self._limit)
        self._seen[kind] = [since, count + 1]
        if held:
            _add(record, "held_back", int(held))
        return count < self._limit


def _kind(record: logging.LogRecord) -> tuple[str, int, str]:
    told = record.msg
    text = f"{told.get('event')} {told.get('service', '')}" if isinstance(told, Mapping) else str(told)
    return record.name, record.levelno, re.sub(r"[0-9]+", "0", text[:80])


def _add(record: logging.LogRecord, name: str, value: int) -> None:
    if isinstance(record.msg, Mapping):
        record.msg = {**record.msg, name: value}
    else:
        setattr(record, name, value)


def mask_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the value of every field whose name says secret; the path in a `*_file` field stays."""
    return {key: _masked(key, value) for key, value in event.items()}


def shorten(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn what is not JSON into text, and every text into one line that is not too long; a traceback keeps its lines."""
    return {key: value if key.startswith("_") else _short(key, value) for key, value in event.items()}


def _renderer(console: bool, stream: TextIO) -> Processor:
    if console:
        return structlog.dev.ConsoleRenderer(colors=stream.isatty())
    return structlog.processors.JSONRenderer(ensure_ascii=False)


def _masked(key: object, value: Any) -> Any:
    if isinstance(key, str) and _SECRET.search(key) and not key.endswith("_file"):
        return MASK
    if isinstance(value, Mapping):
        return {inner: _masked(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(None, item) for item in value]
    return value


def _short(key: str, value: Any) -> Any:
    if key in ("exception", "stack") and isinstance(value, str):
        return plain(value if len(value) <= TRACE_LIMIT else value[:TRACE_LIMIT] + "…", lines=True)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {plain(str(inner)): _short("", item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short("", item) for item in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {one_line(value, TEXT_LIMIT)}"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return one_line(ValueError(text), TEXT_LIMIT) if text else text
