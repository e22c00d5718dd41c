"""The kinds of failure that a failure receipt can name: its register holds the number, the hash in it is that of the sentence.

The sentence is the task's note, `kind: what happened`; so the kind needs no place of its own in the journal.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Failure(IntEnum):
    """Why a node gave a task back. The guard takes numbers up to MAX_FAILURE_TYPE (8)."""

    UNABLE = 1  # an honest "I cannot", for any other reason
    BAD_INPUT = 2  # the service or its schema refuses the input
    NO_INPUT = 3  # it did not come, or is gone
    CRASHED = 4  # the service ended, or broke off, before its output was whole
    OUT_OF_MEMORY = 5  # it was killed at its memory limit
    TOO_SLOW = 6  # it ran into its time limit
    TOO_LARGE = 7  # its output passed the size limit
    UNREACHABLE = 8  # the network between us and nodo, or between nodo and the service


LABELS: Final = {failure: failure.name.lower().replace("_", " ") for failure in Failure}


def note_of(failure: Failure, sentence: str) -> str:
    """The task's note: the evidence that the failure receipt's hash commits to."""
    return f"{LABELS[failure]}: {sentence}"


def failure_of(note: str) -> Failure:
    """The kind that a note names; UNABLE for any other text."""
    label = note.partition(":")[0]
    return next((failure for failure, known in LABELS.items() if known == label), Failure.UNABLE)
