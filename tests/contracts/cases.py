"""What a case of the attack suite is: a transaction that must be refused, and the honest one that it differs from by a single change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from .chain import Draft


class Line(StrEnum):
    """The lines of the protocol's list of attacks, in its order; the last ones go beyond it."""

    STOLEN = "payment taken by a stranger with a forged receipt"
    WRONG_KEY = "receipt naming another node's key"
    SHARED = "two escrows satisfied by one output"
    TWO_BONDS = "two bonds, one successor"
    DRAINED = "bond drained while its register still claims the amount"
    NO_TASK = "counter lowered with no task spent"
    SELF_MADE = "counter lowered with a self-made claimed box"
    WITHDRAWN = "bond withdrawn by a stranger, with a task open, or before cool-down"
    SLASH = "slash with no missed deadline"
    DUST = "refund of dust to the client"
    TOO_EARLY = "refund while the release is still allowed"
    TOO_LATE = "release after the refund opened"
    BLOCKED = "honest refund blocked because an output lacks a register"
    REVEAL = "reveal with a wrong hash, with 0, 6 or 99, twice, by the other side, after the deadline"
    COPIED = "commitment copied from the other side"
    SETTLED = "rating settled twice, into another node's bond, before it is final, or eaten"
    SETTLER = "endpoint rewritten or bond padded by a settler or a timeout caller"
    BY_HAND = "score, completed or born written by hand"
    NO_MINTER = "a bond without the minter"
    UNITS = "extra units of the task token minted or kept"
    SECOND = "second receipt for a task"
    CLAIM = "claim by a bond that does not qualify, or too late"
    TERMS = "claim that changes client, payment, deadline or service"
    FEE = "fee output skipped, short, or sent elsewhere"
    LEAK = "a value that falls to the change address because no guard named it"
    PADDED = "a box padded to the size limit"
    LONG = "a negative or overflowing Long"
    HEIGHT = "a height declared far in the past or future"
    # Faults of version 1 that the guards answer.
    PUSHED = "fault 1: a release or a failure that depends on a box that others can spend"
    RENT = "fault 2: a bond token that storage rent gave away, or a market that is over"
    HELD = "fault 3: the held share skipped, short, sent elsewhere, or paid for the worst mark"
    TWO_MASTERS = "fault 5: a payout that serves two masters"
    NO_KEY = "fault 6: a key that nobody or anybody signs for"
    STALE = "fault 7: a claim with its deadline already over"
    BUSINESS = "fault 8: a failure that takes more of the client's money than it must"
    CREDIT = "fault 9: tickets drawn for a stake that comes later"
    RIDES = "a timeout that rides on another transaction"
    TOKEN = "a payment in a token lost, kept, exchanged or added to"
    SELF_CLAIM = "a claim of a self-made box that escapes the task's guard"
    EARLY = "settled by somebody who may not yet, or a failure marked"
    UNSIGNED = "beyond the list: moved without its owner's signature"
    FORM = "beyond the list: a box that is not what its readers expect"
    FOOLED = "beyond the list: data inputs, variables and positions that try to fool a guard"


@dataclass(frozen=True, slots=True)
class Case:
    """`attack` must be refused by both interpreters, `twin` accepted by both."""

    name: str
    line: Line
    attack: Draft
    twin: Draft


def against(what: str, twin: Draft, attacks: Iterable[tuple[Line, str, Draft]]) -> Iterator[Case]:
    """Cases that share one honest twin."""
    return (Case(f"{what}: {how}", line, attack, twin) for line, how, attack in attacks)
