"""The errors a user sees, and the exit code each of them ends a command with.

Every error carries one sentence that names what was given and what would be right.
"""

from __future__ import annotations

from enum import IntEnum

from aihd.text import plain


class Exit(IntEnum):
    """Exit codes of every `aihd` verb (the sysexits numbers where one fits)."""

    OK = 0
    UNHEALTHY = 1  # a check ran and its answer is no
    USAGE = 64  # the command line is wrong
    DEPENDENCY = 69  # something outside is missing: Java, the gateway, the explorer
    INVARIANT = 70  # aihd is wrong about itself: never acts on
    TEMPORARY = 75  # try again later: lock held, not synced, port in use
    CONFIG = 78  # the configuration, a deployment or a secret file is wrong


class AihdError(Exception):
    """Base of all errors that end a command; `str(error)` is the one line that is shown."""

    exit_code: Exit = Exit.INVARIANT


class UsageError(AihdError):
    """The command was called with something that cannot be right."""

    exit_code = Exit.USAGE


class DependencyError(AihdError):
    """Something outside aihd is missing or answers wrongly."""

    exit_code = Exit.DEPENDENCY


class InvariantError(AihdError):
    """aihd finds itself in a state that its own rules exclude."""

    exit_code = Exit.INVARIANT


class TemporaryError(AihdError):
    """The same call may succeed later."""

    exit_code = Exit.TEMPORARY


class ConfigError(AihdError):
    """A configuration value, a deployment file or a secret file is wrong."""

    exit_code = Exit.CONFIG


def one_line(error: BaseException, limit: int = 300) -> str:
    """The text of an error fit for a log line or a status page: one line, of visible characters.

    ergo-lib appends the whole script environment to its errors (up to 100 KB), so the text is cut at `limit` characters.
    """
    text = plain(" ".join(str(error)[: 16 * limit].split())) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
