# ruff: noqa: N818 - the name of a failure is its kind
"""How bringing input in and output out can fail; each kind knows what a failure receipt calls it."""

from __future__ import annotations

from typing import ClassVar

from aihd.errors import DependencyError
from aihd.execution.failures import Failure

REFUSED_INPUT = frozenset({400, 411, 413, 414, 415, 422})
"""HTTP statuses by which a service says that the input is at fault."""


class ExecutionError(DependencyError):
    """The service gave no output that can be paid for."""

    failure: ClassVar[Failure] = Failure.UNABLE

    @property
    def kind(self) -> Failure:
        """What a failure receipt calls it."""
        return self.failure


class NotListening(ExecutionError):
    """Nobody listened at the slot in time; the service saw nothing of the input."""

    failure = Failure.UNREACHABLE


class BadAnswer(ExecutionError):
    """The service answered with an error, broke off, or gave an answer whose end cannot be told.

    `status` is the HTTP status, None when there was none.
    """

    failure = Failure.CRASHED

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status

    @property
    def kind(self) -> Failure:
        """The input's fault if the service says so."""
        return Failure.BAD_INPUT if self.status in REFUSED_INPUT else self.failure


class BadInput(ExecutionError):
    """The service, or what is known of it, does not take this input."""

    failure = Failure.BAD_INPUT


class Crashed(ExecutionError):
    """The instance ended with an error, or before its output was whole."""

    failure = Failure.CRASHED


class OutOfMemory(ExecutionError):
    """The instance was killed at its memory limit."""

    failure = Failure.OUT_OF_MEMORY


class TooLarge(ExecutionError):
    """More bytes than the limit."""

    failure = Failure.TOO_LARGE


class TooSlow(ExecutionError):
    """The service listened, but did not end its answer in time."""

    failure = Failure.TOO_SLOW
