"""Policy: an offer that no rule objects to, and for each rule the smallest change that makes it object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from offchain import COMMITMENT, ERG, FEE, SERVICE, coin, digest, signer

from aihd.core.policy import RULES, Limits, Offer, Terms, consider, explain
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.constants import MAX_OPEN, RATING_VALUE, VERSION
from aihd.protocol.funding import Output, Plan, TxKind
from aihd.protocol.selection import HeaderRef
from aihd.protocol.trees import p2pk_tree

NODE, CLIENT = signer("node").public_key, signer("client").public_key
CREATED, HEIGHT = 990, 1001
LIMITS = Limits(
    min_profit=0, max_open=4, claim_margin=10, release_margin=5, tx_fee=FEE, services={SERVICE: Terms(ERG // 10, 20)}
)
TASK = TaskEscrow(SERVICE, COMMITMENT, ERG, 0, HEIGHT + 10, 50, 0, 1, VERSION, CLIENT)
BOND = Bond(NODE, ERG, born=900)


def escrow(content: TaskEscrow, value: int | None = None) -> On[TaskEscrow]:
    """A task box; its script does not matter to policy."""
    held = plans.escrow_value(content.payment) if value is None else value
    output = Output(held, p2pk_tree(CLIENT))
    (box,) = plans.boxes_of(
        Plan(TxKind.POST, (coin(p2pk_tree(CLIENT), ERG, "policy"),), (output,), 1, 0, CREATED, None)
    )
    return On(box, content)


def offer(task: TaskEscrow = TASK, bond: Bond = BOND, value: int | None = None, **changes: Any) -> Offer:
    headers = tuple(HeaderRef(height, digest("main", height)) for height in range(1000, 990, -1))
    return replace(Offer(escrow(task, value), bond, HEIGHT, headers, 0), **changes)


def test_consider__when__nothing_is_wrong__then__accepted_by_every_rule() -> None:
    assert consider(offer(), LIMITS) is None
    assert [answer for _, answer in explain(offer(), LIMITS)] == [None] * len(RULES)


PROFIT_FREE = ERG - ERG // 100 - 5 * FEE + RATING_VALUE  # what a payment of 1 ERG leaves

# (code, what declines, what is on the right side of the same line)
CASES = [
    ("version", offer(replace(TASK, version=2)), offer()),
    ("service", offer(replace(TASK, service_hash=digest("unknown"))), offer()),
    ("funded", offer(value=ERG + 6_000_000 - 1), offer(value=ERG + 6_000_000)),
    ("price", offer(replace(TASK, payment=ERG // 10 - 1)), offer(replace(TASK, payment=ERG // 10))),
    ("own", offer(replace(TASK, client=NODE)), offer()),
    ("allow_list", offer(replace(TASK, allowed=(CLIENT,))), offer(replace(TASK, allowed=(CLIENT, NODE)))),
    ("claim_deadline", offer(replace(TASK, claim_deadline=HEIGHT + 9)), offer()),
    ("exec_window", offer(replace(TASK, exec_window=49)), offer()),
    ("exec_window", offer(replace(TASK, exec_window=2**31 - HEIGHT + 1)), offer(replace(TASK, exec_window=2**30))),
    ("reputation", offer(replace(TASK, min_reputation=1)), offer(replace(TASK, min_reputation=-1))),
    ("bond", offer(bond=replace(BOND, committed=ERG + 1)), offer(bond=replace(BOND, committed=ERG))),
    (
        "bond_slots",
        offer(bond=replace(BOND, open_ids=(bytes(32),) * MAX_OPEN)),
        offer(bond=replace(BOND, open_ids=(bytes(32),) * (MAX_OPEN - 1))),
    ),
    ("busy", offer(at_work=4), offer(at_work=3)),
    (
        "not_selected",
        offer(replace(TASK, selection_window=11, selection_difficulty=2**62)),
        offer(replace(TASK, selection_window=10, selection_difficulty=2**62)),
    ),
]


@pytest.mark.parametrize(("code", "bad", "good"), CASES, ids=[code for code, _, _ in CASES])
def test_consider__when__one_term_is_over_the_line__then__declined_with_its_code_and_accepted_on_the_line(
    code: str, bad: Offer, good: Offer
) -> None:
    decline = consider(bad, LIMITS)
    assert decline is not None
    assert decline.code == code
    assert decline.sentence
    assert consider(good, LIMITS) is None


def test_consider__when__the_profit_is_one_nano_short__then__declined_with_both_numbers() -> None:
    assert consider(offer(), replace(LIMITS, min_profit=PROFIT_FREE)) is None
    decline = consider(offer(), replace(LIMITS, min_profit=PROFIT_FREE + 1))
    assert decline is not None
    assert (decline.code, decline.passing) == ("profit", False)
    assert str(PROFIT_FREE) in decline.sentence


@pytest.mark.parametrize("payment", [0, -1, -(2**63)])
def test_consider__when__the_payment_is_not_positive__then__declined_before_any_arithmetic(payment: int) -> None:
    free = replace(LIMITS, services={SERVICE: Terms(-(2**63), 20)}, min_profit=-(2**63))
    decline = consider(offer(replace(TASK, payment=payment), value=ERG), free)
    assert decline is not None
    assert decline.code == "funded"


def test_consider__when__several_rules_object__then__the_first_is_told_and_explain_tells_all() -> None:
    bad = offer(replace(TASK, min_reputation=5, exec_window=1), at_work=9)
    first = consider(bad, LIMITS)
    told = [answer.code for _, answer in explain(bad, LIMITS) if answer]
    assert told == ["exec_window", "reputation", "busy"]
    assert first is not None
    assert first.code == told[0]


def test_consider__when__what_is_wrong_may_pass__then__it_says_so() -> None:
    passing = {code for code, bad, _ in CASES if (found := consider(bad, LIMITS)) and found.passing}
    assert passing == {"reputation", "bond", "bond_slots", "busy", "not_selected"}
