"""What to do about a signed transaction: one table, from what is known of it to one action.

Two things make it safe to act on little knowledge. A transaction ends only when it can never be mined: an input is spent by another one
in a block, or every node refuses it for what no time mends. And whatever is signed in the place of another one conflicts with it, so that
never both are mined: the answer of one node, or none at all, is no verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PATIENCE: Final = 5  # blocks that a transaction may wait before it is offered anew


class Origin(StrEnum):
    """Who ordered a transaction."""

    DAEMON = "daemon"  # decided by itself, within the limits of the configuration
    OPERATOR = "operator"  # ordered by a person, who confirms it


class Answer(StrEnum):
    """What a node makes of a transaction that it is given. Of several nodes' answers the one that stands first here counts."""

    ACCEPTED = "accepted"
    KNOWN = "already in the mempool"
    FEE = "the fee is too low now"
    UNKNOWN = "unknown"  # no verdict: it may or may not have arrived
    DOUBLE_SPEND = "an input is spent in the mempool"
    SPOILT = "found invalid earlier"  # this node never takes this id again, whatever has changed since
    MISSING_INPUT = "an input is spent, or not seen yet"
    EARLY = "not yet"  # what it asks of the height will be true, or the node is behind
    UNREACHED = "not reached"
    REFUSED = "refused"


class Standing(StrEnum):
    WAITING = "waiting"  # in no block
    MINED = "mined"
    REPLACED = "replaced"  # another one took its place, and conflicts with it


class Age(StrEnum):
    FRESH = "fresh"  # no block came since
    AGED = "aged"
    OVERDUE = "overdue"  # PATIENCE blocks and more


class Action(StrEnum):
    WAIT = "wait"
    SEND = "send"
    REPLACE = "replace"  # the next one for its purpose takes its place, for a higher fee
    BUILD = "build"  # the same at the usual fee: no node has it, so there is nothing to outbid
    DROP = "drop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one transaction.

    `answer` is the nodes' together (None: not asked since the last block), `spent` that an input was spent by another transaction in a
    block, `orphaned` that it rests on one of ours that no node takes, `unwanted` that its purpose is better served by another one.
    """

    standing: Standing = Standing.WAITING
    answer: Answer | None = None
    age: Age = Age.FRESH
    spent: bool = False
    orphaned: bool = False
    unwanted: bool = False


TAKEN: Final = frozenset({Answer.ACCEPTED, Answer.KNOWN})
# Some node may hold it: who wants its place has to offer more.
_HELD: Final = TAKEN | {Answer.UNKNOWN, Answer.DOUBLE_SPEND, Answer.FEE}
# Nobody holds it, as far as can be seen, but that may change by itself.
_MAY_YET_BETAKEN: Final = frozenset({Answer.UNKNOWN, Answer.UNREACHED, Answer.EARLY, Answer.FEE})


def together(answers: Iterable[Answer]) -> Answer:
    """What the answers of all nodes say: it is enough that one has it, and REFUSED only if all refuse."""
    given = set(answers)
    return next((answer for answer in Answer if answer in given), Answer.UNREACHED)


def age_of(waited: int) -> Age:
    """The age of a transaction that has been waiting for so many blocks."""
    return Age.FRESH if waited < 1 else Age.AGED if waited < PATIENCE else Age.OVERDUE


def decide(facts: Facts) -> Action:
    """The one thing to do about a transaction."""
    if facts.standing is not Standing.WAITING:
        return Action.WAIT  # what is in a block is watched, and so is what lost its place
    if facts.spent or (facts.answer is Answer.REFUSED and not facts.orphaned):
        return Action.DROP
    if facts.orphaned:
        return Action.BUILD
    if facts.answer is None:
        return Action.SEND
    return _of_the_asked(facts, facts.answer)


def _of_the_asked(facts: Facts, answer: Answer) -> Action:
    anew = Action.REPLACE if answer in _HELD else Action.BUILD
    if facts.unwanted or facts.age is Age.OVERDUE or answer in (Answer.FEE, Answer.SPOILT):
        return anew
    # A block has come, and still nobody knows what it spends.
    if answer is Answer.MISSING_INPUT and facts.age is not Age.FRESH:
        return anew
    return Action.WAIT


def bears(facts: Facts) -> bool:
    """Whether others may be built on a transaction: nodes have it, or it is not known that none takes it."""
    if facts.standing is Standing.MINED:
        return True
    if facts.standing is Standing.REPLACED or facts.spent or facts.orphaned:
        return False
    if facts.answer is None or facts.answer in TAKEN:
        return True
    return facts.answer in _MAY_YET_BETAKEN and facts.age is not Age.OVERDUE
