"""Policy: an offer that no rule objects to, and for each rule the smallest change that makes it object."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import made
import pytest
from made import ASSET
from offchain import COMMITMENT, ERG, FEE, SERVICE, coin, digest, signer

from aihd.core.assets import Asset
from aihd.core.policy import (
    FEW_RUNS,
    MIN_WINDOW,
    RULES,
    STANDING_UNIT,
    Credit,
    Decline,
    Offer,
    Terms,
    consider,
    explain,
)
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.constants import (
    MAX_EXEC,
    MAX_MINER_FEE,
    MAX_OPEN,
    MAX_PAYMENT,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_VALUE,
    WHOLE_BPS,
)
from aihd.protocol.funding import Output, Plan, TxKind
from aihd.protocol.selection import HeaderRef
from aihd.protocol.trees import p2pk_tree

NODE, CLIENT = signer("node").public_key, signer("client").public_key
CREATED, HEIGHT = 990, 1001
UNPRICED = digest("a token without a price")
SIGUSD = Asset(name="SigUSD", decimals=2, max_worth=2 * ERG)
LIMITS = made.limits(
    claim_margin=10,
    services={SERVICE: Terms({None: ERG // 10, ASSET: 10}, 20)},
    assets={ASSET: SIGUSD, UNPRICED: SIGUSD},
    holdback=((-STANDING_UNIT, 5_000), (STANDING_UNIT // 2, WHOLE_BPS)),
    expiry=HEIGHT + MAX_EXEC,
)
TASK = made.escrow(
    service_hash=SERVICE, input_commitment=COMMITMENT, claim_deadline=HEIGHT + 10, exec_window=50, client=CLIENT
)
IN_TOKEN = replace(TASK, asset=ASSET, payment=50, worth=ERG)  # 0.5 SigUSD, the most that its worth may be
BOND = Bond(NODE, ERG, born=900)


def escrow(content: TaskEscrow, value: int | None = None) -> On[TaskEscrow]:
    """A task box; its script does not matter to policy."""
    held = plans.value_of(content) if value is None else value
    output = Output(held, p2pk_tree(CLIENT))
    (box,) = plans.boxes_of(
        Plan(TxKind.POST, (coin(p2pk_tree(CLIENT), ERG, "policy"),), (output,), 1, 0, CREATED, None)
    )
    return On(box, content)


def credit(balance: int, start: int = 10) -> Credit:
    return Credit(balance=balance, start=start, unit="MU", cure="`give`")


def offer(task: TaskEscrow = TASK, bond: Bond = BOND, value: int | None = None, **changes: Any) -> Offer:
    headers = tuple(HeaderRef(height, digest("main", height)) for height in range(1000, 990, -1))
    whole = Offer(task=escrow(task, value), bond=bond, height=HEIGHT, headers=headers, at_work=0)
    return replace(whole, **changes)


def test_consider__when__nothing_is_wrong__then__accepted_by_every_rule() -> None:
    assert consider(offer(), LIMITS) is None
    assert [answer for _, answer in explain(offer(), LIMITS)] == [None] * len(RULES)


def paying(payment: int) -> TaskEscrow:
    return replace(TASK, payment=payment, worth=payment)


def held(bps: int) -> TaskEscrow:
    return replace(TASK, holdback_bps=bps)


LATE = replace(TASK, exec_window=MAX_EXEC, claim_deadline=HEIGHT + 20)


@pytest.mark.parametrize(
    ("balance", "start", "at_work", "enough"),
    [
        (0, 10, 0, False),
        (-5, 10, 0, False),
        (FEW_RUNS * 10 - 1, 10, 0, False),
        (FEW_RUNS * 10, 10, 0, True),
        (FEW_RUNS * 10, 10, FEW_RUNS - 1, True),
        (FEW_RUNS * 10, 10, FEW_RUNS, False),  # those at work may still have to start
        (0, 0, 0, True),  # nothing is charged
    ],
)
def test_consider__when__credit_is_held_against_runs__then__a_few_have_to_be_left(
    balance: int, start: int, at_work: int, enough: bool
) -> None:
    decline = consider(offer(at_work=at_work, credit=credit(balance, start)), replace(LIMITS, max_open=40))
    assert (decline is None) is enough
    if decline is not None:
        assert (decline.code, decline.passing) == ("credit", True)
    busy = consider(offer(at_work=9), LIMITS)
    assert busy is not None and busy.passing


PROFIT_FREE = ERG - ERG // 100 - 5 * FEE + RATING_VALUE  # what a payment of 1 ERG leaves

# (code, what declines, what is on the right side of the same line)
CASES = [
    ("version", offer(replace(TASK, version=1)), offer()),
    ("service", offer(replace(TASK, service_hash=digest("unknown"))), offer()),
    ("funded", offer(value=ERG + 6_000_000 - 1), offer(value=ERG + 6_000_000)),
    ("price", offer(paying(ERG // 10 - 1)), offer(paying(ERG // 10))),
    ("price", offer(replace(IN_TOKEN, payment=9, worth=1)), offer(replace(IN_TOKEN, payment=10, worth=ERG // 10))),
    ("price", offer(replace(IN_TOKEN, asset=UNPRICED)), offer(IN_TOKEN)),
    ("asset", offer(replace(IN_TOKEN, asset=digest("unknown"))), offer(IN_TOKEN)),
    ("worth", offer(replace(IN_TOKEN, worth=ERG + 1)), offer(IN_TOKEN)),
    ("holdback", offer(held(5_001)), offer(held(5_000))),
    ("holdback", offer(held(5_001), client=STANDING_UNIT // 2 - 1), offer(held(WHOLE_BPS), client=STANDING_UNIT // 2)),
    ("expiry", offer(LATE, height=HEIGHT + 1), offer(LATE)),
    ("own", offer(replace(TASK, client=NODE)), offer()),
    ("allow_list", offer(replace(TASK, allowed=(CLIENT,))), offer(replace(TASK, allowed=(CLIENT, NODE)))),
    ("claim_deadline", offer(replace(TASK, claim_deadline=HEIGHT + 9)), offer()),
    ("exec_window", offer(replace(TASK, exec_window=49)), offer()),
    ("exec_window", offer(replace(TASK, exec_window=MAX_EXEC + 1)), offer(replace(TASK, exec_window=MAX_EXEC))),
    ("reputation", offer(replace(TASK, min_reputation=1)), offer(replace(TASK, min_reputation=-1))),
    ("bond", offer(bond=replace(BOND, committed=ERG + 1)), offer(bond=replace(BOND, committed=ERG))),
    (
        "bond_slots",
        offer(bond=replace(BOND, open_ids=(bytes(32),) * MAX_OPEN)),
        offer(bond=replace(BOND, open_ids=(bytes(32),) * (MAX_OPEN - 1))),
    ),
    ("busy", offer(at_work=4), offer(at_work=3)),
    ("credit", offer(credit=credit(29)), offer(credit=credit(30))),
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
    free = replace(LIMITS, services={SERVICE: Terms({None: -(2**63)}, 20)}, min_profit=-(2**63))
    decline = consider(offer(paying(payment), value=ERG), free)
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
    assert passing == {"reputation", "bond", "bond_slots", "busy", "credit", "not_selected"}


SENTENCES = {
    "version": "the task is of protocol version 1, this is 2",
    "service": f"service {digest('unknown').hex()[:16]}… is not offered here",
    "funded": "it holds 1.005999999 ERG, its terms need 1.006 ERG",
    "price": "it pays 0.099999999 ERG, this service costs at least 0.1 ERG",
    "asset": f"it pays in token {digest('unknown').hex()[:16]}…, which is none of [assets]",
    "worth": "it says that 0.5 SigUSD are worth 1.000000001 ERG, at most 1 ERG are believed",
    "holdback": "it holds back 50.01 % until the client's mark, policy.max_holdback allows this client 50 %",
    "expiry": f"it may last until height {HEIGHT + 1 + MAX_EXEC}, the market ends at {HEIGHT + MAX_EXEC}",
    "own": "it was posted with our own key",
    "allow_list": "our key is not among the 1 that it allows",
    "claim_deadline": "9 blocks are left to claim it, 10 are needed",
    "exec_window": "it gives 49 blocks to run and release, 50 to 21600 are taken",
    "reputation": "it asks for a score of 1, ours is 0",
    "bond": "1.000000001 ERG are committed, 1 ERG more is over twice the bond",
    "bond_slots": f"the bond holds {MAX_OPEN} open tasks, no more fit",
    "busy": "4 tasks are at work, policy.max_open_tasks allows no more",
    "credit": "nodo does not trust our client id (it has 29 MU, a run takes 10 at its start, 3 are asked for); `give`",
    "not_selected": "the lottery has not drawn our bond yet",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_consider__when__it_declines__then__the_sentence_tells_what_is_and_what_would_be_right(code: str) -> None:
    bad = next(bad for known, bad, _ in CASES if known == code)
    decline = consider(bad, LIMITS)
    assert decline is not None
    assert decline.sentence == SENTENCES[code]
    assert {known for known, _, _ in CASES} == set(SENTENCES)


def test_explain__when__asked__then__every_rule_by_its_name_in_the_order_in_which_they_object() -> None:
    assert [name for name, _ in explain(offer(), LIMITS)] == [
        "version",
        "service",
        "funded",
        "asset",
        "price",
        "profit",
        "holdback",
        "stranger",
        "client",
        "allowed",
        "claim_time",
        "run_time",
        "expiry",
        "reputation",
        "capacity",
        "busy",
        "credit",
        "selected",
    ]


@pytest.mark.parametrize(("payment", "funded"), [(0, False), (1, True), (MAX_PAYMENT, True), (MAX_PAYMENT + 1, False)])
def test_explain__when__the_payment_is_at_an_edge_of_what_guards_allow__then__funded_from_one_nano_to_the_most(
    payment: int, funded: bool
) -> None:
    answers = dict(explain(offer(paying(payment)), LIMITS))
    assert (answers["funded"] is None) is funded


@pytest.mark.parametrize(("blocks", "least"), [(0, MIN_WINDOW), (5, MIN_WINDOW), (6, 22), (20, 50)])
def test_explain__when__the_window_is_at_an_edge__then__twice_run_and_release_fit_and_never_less_than_the_least(
    blocks: int, least: int
) -> None:
    limits = replace(LIMITS, services={SERVICE: Terms({None: 1}, blocks)})
    for window, accepted in (
        (least - 1, False),
        (least, True),
        (MAX_EXEC, True),
        (MAX_EXEC + 1, False),
        (2**40, False),
    ):
        answers = dict(explain(offer(replace(TASK, exec_window=window)), limits))
        assert (answers["run_time"] is None) is accepted, window


# ---------------------------------------------------------------- payment in a token


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"worth": 0}, "it pays 50 and is said to be worth 0 nanoERG: no claim of it can be valid"),
        ({"worth": -1}, "it pays 50 and is said to be worth -1 nanoERG: no claim of it can be valid"),
        ({"payment": 0}, "it pays 0 and is said to be worth 1000000000 nanoERG: no claim of it can be valid"),
        ({"worth": MAX_PAYMENT + 1}, f"it pays 50 and is said to be worth {MAX_PAYMENT + 1} nanoERG: no claim of it can be valid"),
        ({"holdback_bps": WHOLE_BPS + 1}, "its holdback is 10001 basis points, no claim of it can be valid"),
        ({"holdback_bps": -1}, "its holdback is -1 basis points, no claim of it can be valid"),
    ],
)  # fmt: skip
def test_consider__when__no_guard_would_let_it_be_claimed__then__declined_as_not_funded(
    changes: dict[str, Any], said: str
) -> None:
    assert consider(offer(replace(IN_TOKEN, **changes), value=ERG), LIMITS) == Decline("funded", said)


def test_consider__when__it_pays_in_erg_and_claims_another_worth__then__declined_whichever_is_more() -> None:
    for worth in (ERG - 1, ERG + 1, 2 * ERG):
        decline = consider(offer(replace(TASK, worth=worth)), LIMITS)
        assert decline is not None and decline.code == "funded"
        assert decline.sentence.startswith("it pays 1 ERG and is said to be worth ")


def test_consider__when__it_pays_in_a_token__then__the_escrow_holds_what_treasury_miner_receipt_and_rating_take() -> (
    None
):
    needed = ERG // 100 + MAX_MINER_FEE + RECEIPT_VALUE + RATING_VALUE
    assert plans.value_of(IN_TOKEN) == needed
    assert consider(offer(IN_TOKEN, value=needed), LIMITS) is None
    decline = consider(offer(IN_TOKEN, value=needed - 1), LIMITS)
    assert decline == Decline("funded", "it holds 0.017999999 ERG, its terms need 0.018 ERG")


def test_consider__when__a_token_has_no_price__then__declined_by_its_name_and_erg_too_where_only_tokens_sell() -> None:
    decline = consider(offer(replace(IN_TOKEN, asset=UNPRICED)), LIMITS)
    assert decline == Decline("price", "this service is not sold for SigUSD")
    only_tokens = replace(LIMITS, services={SERVICE: Terms({ASSET: 10}, 20)})
    assert consider(offer(), only_tokens) == Decline("price", "this service is not sold for ERG")
    assert consider(offer(IN_TOKEN), only_tokens) is None
    cheap = consider(offer(replace(IN_TOKEN, payment=9, worth=1)), LIMITS)
    assert cheap == Decline("price", "it pays 0.09 SigUSD, this service costs at least 0.1 SigUSD")


@pytest.mark.parametrize(
    ("decimals", "payment", "most"), [(0, 3, 6 * ERG), (2, 3, 6 * ERG // 100), (9, 3, 6), (18, 10**17, ERG // 5)]
)
def test_consider__when__a_worth_is_declared__then__believed_up_to_that_of_whole_units_rounded_down(
    decimals: int, payment: int, most: int
) -> None:
    asset = replace(SIGUSD, decimals=decimals)
    limits = replace(LIMITS, assets={ASSET: asset}, services={SERVICE: Terms({ASSET: 1}, 20)}, min_profit=-ERG)
    bond = replace(BOND, amount=10 * ERG)
    answers = [
        dict(explain(offer(replace(IN_TOKEN, payment=payment, worth=worth), bond), limits))["asset"]
        for worth in (most, most + 1)
    ]
    assert answers[0] is None
    assert answers[1] is not None and answers[1].code == "worth"


def test_consider__when__it_pays_in_a_token__then__profit_and_bond_count_its_worth() -> None:
    # What the client adds for treasury and miner covers them; the receipt's value comes back one day, a box with the token stays.
    left = ERG + MAX_MINER_FEE + RATING_VALUE - MIN_BOX - 5 * FEE
    assert consider(offer(IN_TOKEN), replace(LIMITS, min_profit=left)) is None
    decline = consider(offer(IN_TOKEN), replace(LIMITS, min_profit=left + 1))
    assert decline is not None and decline.code == "profit"
    full = consider(offer(IN_TOKEN, replace(BOND, committed=ERG + 1)), LIMITS)
    assert full is not None and full.code == "bond"


# ---------------------------------------------------------------- holdback


@pytest.mark.parametrize(
    ("standing", "most"),
    [(None, 5_000), (-STANDING_UNIT, 5_000), (0, 5_000), (STANDING_UNIT // 2 - 1, 5_000), (STANDING_UNIT // 2, 10_000)],
)
def test_consider__when__a_share_is_held_back__then__as_much_as_the_clients_standing_allows(
    standing: int | None, most: int
) -> None:
    assert dict(explain(offer(held(most), client=standing), LIMITS))["holdback"] is None
    if most < WHOLE_BPS:
        over = dict(explain(offer(held(most + 1), client=standing), LIMITS))["holdback"]
        assert over is not None and over.code == "holdback"
        assert over.passing is (standing is None)  # a history that is not read yet may say more of him


def test_consider__when__no_row_is_for_a_client__then__nothing_may_be_held_back() -> None:
    limits = replace(LIMITS, holdback=((0, 1_000),))
    assert consider(offer(held(0), client=-1), limits) is None
    decline = consider(offer(held(1), client=-1), limits)
    assert decline == Decline(
        "holdback", "it holds back 0.01 % until the client's mark, policy.max_holdback allows this client 0 %"
    )
    assert consider(offer(held(WHOLE_BPS), client=-STANDING_UNIT), made.limits(services=LIMITS.services)) is None


def test_consider__when__nodo_has_not_said_what_a_run_costs__then__declined_for_now() -> None:
    assert consider(offer(cost=None), LIMITS) == Decline("cost", "nodo has not said what the run costs", passing=True)


@pytest.mark.parametrize(
    ("cost", "asked", "declined", "passing"),
    [
        (0, PROFIT_FREE, False, False),
        (7, PROFIT_FREE - 7, False, False),
        (7, PROFIT_FREE - 6, True, True),  # one nanoERG short, and a cheaper run would do
        (7, PROFIT_FREE, True, True),
        (7, PROFIT_FREE + 1, True, False),  # not even a run for nothing would do
    ],
)
def test_consider__when__a_run_costs_something__then__it_comes_off_the_profit_and_may_fall(
    cost: int, asked: int, declined: bool, passing: bool
) -> None:
    answer = consider(offer(cost=cost), replace(LIMITS, min_profit=asked))
    assert (answer is not None) is declined
    if answer is not None:
        left = PROFIT_FREE - cost
        said = f"it would leave {left} nanoERG after fees and {cost} for the run, {asked} are asked"
        assert answer == Decline("profit", said, passing)


@pytest.mark.parametrize(
    ("standing", "least", "said"),
    [
        (0, None, None),
        (None, None, None),
        (0, 0, None),
        (2 * 10**8, 10**8, None),
        (-(10**9), 0, "its client stands at -1.000, at least 0.000 is asked"),
        (25 * 10**7, 5 * 10**8, "its client stands at 0.250, at least 0.500 is asked"),
        (None, 0, "the market's history is not read yet"),
    ],
)
def test_consider__when__the_operator_asks_a_score_of_clients__then__worse_ones_are_declined_for_now(
    standing: int | None, least: int | None, said: str | None
) -> None:
    decline = consider(offer(client=standing), replace(LIMITS, min_client=least))
    assert decline == (None if said is None else Decline("client", said, passing=True))
