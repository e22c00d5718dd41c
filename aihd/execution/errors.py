# ruff: noqa: N818 - the name of a failure is its kind
"""How bringing input in and output out can fail."""

from __future__ import annotations

from aihd.errors import DependencyError


class ExecutionError(DependencyError):
    """The service gave no output that can be paid for."""


class NotListening(ExecutionError):
    """Nobody listened at the slot in time; the service saw nothing of the input."""


class BadAnswer(ExecutionError):
    """The service answered with an error, broke off, or gave an answer whose end cannot be told.

    `status` is the HTTP status, None when there was none.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class TooLarge(ExecutionError):
    """More bytes than the limit."""


class TooSlow(ExecutionError):
    """The service listened, but did not end its answer in time."""
