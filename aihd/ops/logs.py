"""Logs: one line per event on one stream, for aihd and for the libraries under it.

Promise: times are UTC, a field whose name says that it holds a secret is masked at every depth, and no text is longer than
a line can bear (ergo-lib's errors run to 100 KB).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from aihd.errors import one_line

TEXT_LIMIT = 1_000
TRACE_LIMIT = 8_000
MASK = "***"
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
        return value if len(value) <= TRACE_LIMIT else value[:TRACE_LIMIT] + "…"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(inner): _short("", item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short("", item) for item in value]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {one_line(value, TEXT_LIMIT)}"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return one_line(ValueError(text), TEXT_LIMIT) if text else text
