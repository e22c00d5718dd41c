"""What an operator is told: the status, an explanation for every state a task can have, and the books."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import made
import pytest
from made import ASSET

from aihd.core.assets import Asset
from aihd.core.books import Row, books, of_failure, of_release, of_settlement, of_slash, of_transaction
from aihd.core.explain import MEANING, explain, money, sentence
from aihd.core.task import ENDS, FINAL, RELEASED, Amounts, Limits, Stage, State, Task, Where
from aihd.core.verdict import NOTICE, Facts, Verdict, WalletFacts, deadline
from aihd.core.views import status
from aihd.protocol import guards
from aihd.protocol.constants import MIN_BOX, SETTLE_GRACE, WHOLE_BPS

ERG = 10**9
TASK = made.task(note="a note", salt=b"\x5a" * 32)
WHOLE = replace(TASK, claim_height=40, exec_deadline=100, commit_deadline=120, reveal_deadline=140, since=40)
ASSETS = {ASSET: Asset(name="SigUSD", decimals=2, max_worth=2 * ERG)}
WALLET = WalletFacts(address="9address", confirmed=5 * ERG, reserved=ERG, bond=2 * ERG, committed=ERG, score=7)
FACTS = Facts(
    running=True,
    market="m",
    height=50,
    wallet=WALLET,
    open_tasks=(),
    states={},
    declines={},
    troubles={},
    limits=Limits(),
    assets=ASSETS,
)
IN_TOKEN = replace(WHOLE, asset=ASSET, payment=500, worth=ERG)


@pytest.mark.parametrize(("where", "stage", "final"), list(product(Where, Stage, [False, True])))
def test_explain__when__a_task_is_in_any_state__then__it_has_a_reason_and_what_comes_next(
    where: Where, stage: Stage, final: bool
) -> None:
    task = replace(WHOLE, where=where, stage=stage, final=final)
    told = explain(task, 50, Limits(), [])
    assert told["because"] == f"{MEANING[task.state]} (a note)"
    assert (told["deadline"] is None) == (task.state in FINAL)
    assert told["deadline"] is None or told["blocks_left"] == told["deadline"] - 50
    assert told["next"].startswith("nothing: it is over") == (task.state in FINAL)
    assert "5a5a" not in str(told)


def test_explain__when__nothing_of_the_chain_is_known__then__told_as_unknown() -> None:
    claimed = replace(TASK, where=Where.CLAIMED, stage=Stage.RUNNING)
    told = explain(claimed, None, Limits(), [])
    assert (told["deadline"], told["blocks_left"], told["next"]) == (
        None,
        None,
        "unknown: the chain has not been seen yet",
    )
    assert explain(claimed, 50, Limits(), [])["next"].startswith("unknown: task 0101")
    assert deadline(claimed, Limits()) is None


@pytest.mark.parametrize(
    ("event", "data", "says"),
    [
        ("accepted", {"payment": ERG}, "accepted, it pays 1 ERG"),
        ("accepted", {"payment": ERG, "asset": None}, "accepted, it pays 1 ERG"),
        ("accepted", {"payment": 150, "asset": ASSET.hex()}, "accepted, it pays 1.5 SigUSD"),
        ("accepted", {"payment": 150, "asset": "ef" * 32}, "accepted, it pays 150 of token efefefefefefefef…"),
        ("snapshot", {"salt": "5a"}, "its record was copied when the database was brought up to date"),
        ("signed", {"tx": "ab" * 32, "kind": "claim", "intent": "x"}, "signed claim abababababababab…"),
        ("dropped", {"tx": "ab" * 32, "height": None, "note": "gone"}, "dropped abababababababab… (gone)"),
        ("mined", {"tx": "ab" * 32, "height": 7, "note": ""}, "mined abababababababab… at height 7"),
        ("mark chosen", {"mark": 4, "salt": "5a5a"}, "mark chosen: mark 4"),
        ("retried", {"instance": None, "output_hash": "cd" * 32}, "retried: instance none, output_hash cdcdcdcdcdcdcdcd…"),
        ("salted", {"salt": "5a5a"}, "salted"),
    ],
)  # fmt: skip
def test_sentence__when__an_event_is_told__then__in_words_and_without_the_salt(
    event: str, data: dict[str, object], says: str
) -> None:
    assert sentence(event, data, ASSETS) == says


# ---------------------------------------------------------------- a payment's three parts

EDGES = [1, MIN_BOX, 2 * MIN_BOX, 3 * MIN_BOX, 3_000_001, ERG // 10, ERG, 10 * ERG + 7]
SHARES = [0, 1, 3_333, 5_000, WHOLE_BPS - 1, WHOLE_BPS]


@pytest.mark.parametrize("where", Where)
@pytest.mark.parametrize("asset", [None, ASSET])
def test_amounts__when__any_payment_stands_anywhere__then__paid_held_and_burned_are_all_of_it(
    where: Where, asset: bytes | None
) -> None:
    for payment, bps, mark in product(EDGES, SHARES, range(6)):
        worth = payment if asset is None else ERG
        task = replace(
            WHOLE, where=where, payment=payment, worth=worth, asset=asset, holdback_bps=bps, client_mark=mark
        )
        whole = payment - (guards.treasury_fee(payment) if asset is None else 0)
        amounts = task.amounts
        if where not in RELEASED:
            assert amounts == Amounts()  # nothing of it is ours before a receipt, and none is any more after a failure
            continue
        assert amounts.paid + amounts.held + amounts.burned == whole
        assert min(amounts.paid, amounts.held, amounts.burned) >= 0
        assert bool(amounts.held) == (where is not Where.SETTLED and bool(task.held_share))
        assert bool(amounts.burned) == (where is Where.SETTLED and mark == 1 and bool(task.held_share))
        assert task.held_share == guards.held_share(worth, payment, bps, in_token=asset is not None)


@pytest.mark.parametrize("where", sorted(ENDS))
@pytest.mark.parametrize("mark", range(6))
@pytest.mark.parametrize("bps", [0, WHOLE_BPS])
def test_state__when__an_end_is_final__then__burned_only_where_a_held_share_met_the_mark_1(
    where: Where, mark: int, bps: int
) -> None:
    task = replace(WHOLE, where=where, final=True, client_mark=mark, holdback_bps=bps)
    burned = where is Where.SETTLED and mark == 1 and bps > 0
    assert (task.state is State.BURNED) is burned
    assert replace(task, final=False).state not in FINAL


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (TASK, "pays 1 ERG"),
        (replace(TASK, holdback_bps=5_000), "pays 1 ERG, of which 0.494 ERG wait for the client's mark"),
        (replace(IN_TOKEN, where=Where.CLAIMED), "pays 5 SigUSD, worth 1 ERG"),
        (replace(WHOLE, where=Where.RELEASED), "pays 1 ERG, 0.99 ERG are ours"),
        (
            replace(WHOLE, where=Where.COMMITTED, holdback_bps=WHOLE_BPS),
            f"pays 1 ERG, 0.002 ERG are ours, 0.988 ERG held until the rating is settled (height {140 + SETTLE_GRACE} at the latest)",
        ),
        (
            replace(IN_TOKEN, where=Where.RATED, holdback_bps=5_000, reveal_deadline=None),
            "pays 5 SigUSD, worth 1 ERG, 2.5 SigUSD are ours, 2.5 SigUSD held until the rating is settled",
        ),
        (replace(IN_TOKEN, where=Where.SETTLED, holdback_bps=5_000), "pays 5 SigUSD, worth 1 ERG, 5 SigUSD are ours"),
        (
            replace(IN_TOKEN, where=Where.SETTLED, holdback_bps=5_000, client_mark=1),
            "pays 5 SigUSD, worth 1 ERG, 2.5 SigUSD are ours, 2.5 SigUSD burned by the client's mark",
        ),
        (replace(IN_TOKEN, asset=b"\xef" * 32), "pays 500 of token efefefefefefefef…, worth 1 ERG"),
        (replace(WHOLE, where=Where.FAILURE_SETTLED, final=True), "pays 1 ERG"),
    ],
)
def test_money__when__a_task_stands_anywhere__then__what_is_ours_what_waits_and_what_is_gone(
    task: Task, says: str
) -> None:
    assert money(task, ASSETS) == says
    told = explain(task, 50, Limits(), [], ASSETS)
    assert told["money"] == says
    assert told["asset"] == (task.asset.hex() if task.asset else "ERG")
    assert (told["paid"], told["held"], told["burned"]) == (task.amounts.paid, task.amounts.held, task.amounts.burned)


# ---------------------------------------------------------------- the status


def test_status__when__paused_or_restored__then__both_are_said() -> None:
    paused = status(replace(FACTS, paused="noon"))
    assert (paused["verdict"], paused["paused"]) == (Verdict.NOT_EARNING, "noon")
    restored = status(replace(FACTS, restored="monday"))
    assert (restored["verdict"], restored["restored"]) == (Verdict.ISSUES, "monday")


def test_status__when__there_are_newest_tasks__then__each_with_its_deadline_and_its_three_amounts() -> None:
    over = replace(WHOLE, where=Where.SETTLED, final=True)
    held = replace(IN_TOKEN, where=Where.RELEASED, holdback_bps=5_000)
    document = status(replace(FACTS, newest=(TASK, over, held)))
    assert [(line["state"], line["deadline"]) for line in document["newest"]] == [
        ("claiming", 110),
        (State.PAID, None),
        ("released, to rate", 120),
    ]
    assert [
        (line["pays"], line["asset"], line["paid"], line["held"], line["burned"]) for line in document["newest"]
    ] == [
        ("1 ERG", "ERG", 0, 0, 0),
        ("1 ERG", "ERG", 99 * ERG // 100, 0, 0),
        ("5 SigUSD", "SigUSD", 250, 250, 0),
    ]


def test_status__when__all_is_well__then__healthy_with_the_wallet_and_what_is_owed() -> None:
    in_time = replace(WHOLE, where=Where.CLAIMED, stage=Stage.DONE, exec_deadline=200)
    over = replace(WHOLE, where=Where.LOST, final=True)
    document = status(replace(FACTS, height=100, open_tasks=(in_time, over)))
    assert (document["verdict"], document["issues"]) == (Verdict.HEALTHY, [])
    assert document["wallet"] == {
        "address": "9address",
        "confirmed": 5 * ERG,
        "reserved": ERG,
        "owed": ERG,
        "bond": 2 * ERG,
        "committed": ERG,
        "score": 7,
        "bonded": True,
    }


def test_status__when__shares_are_held__then__by_asset_until_the_last_may_be_settled_and_not_called_owed() -> None:
    erg = replace(WHOLE, where=Where.RELEASED, holdback_bps=WHOLE_BPS)
    later = replace(erg, id=b"\7" * 32, where=Where.RATED, reveal_deadline=200)
    token = replace(IN_TOKEN, id=b"\6" * 32, where=Where.COMMITTED, holdback_bps=5_000)
    nothing_held = replace(erg, id=b"\5" * 32, holdback_bps=0)
    document = status(replace(FACTS, open_tasks=(erg, later, token, nothing_held)))
    assert document["held"] == [
        {"asset": "ERG", "amount": 2 * 988_000_000, "text": "1.976 ERG", "until": 200 + SETTLE_GRACE},
        {"asset": "SigUSD", "amount": 250, "text": "2.5 SigUSD", "until": 140 + SETTLE_GRACE},
    ]
    assert document["wallet"]["owed"] == 0
    assert "1.976 ERG held until clients' marks are in; 2.5 SigUSD held" in document["sentence"]
    assert status(FACTS)["held"] == []


@pytest.mark.parametrize("left", [NOTICE, NOTICE - 1, 1, 0, -1])
def test_status__when__the_market_comes_to_its_end__then__its_owner_is_told_two_months_before(left: int) -> None:
    document = status(replace(FACTS, height=1_000_000 - left, expiry=1_000_000))
    told = [issue for issue in document["issues"] if issue["what"] == "market"]
    assert len(told) == (left < NOTICE)
    for issue in told:
        assert "1000000" in issue["reason"]
        assert issue["command"] == "aihd bond withdraw"
    # Once it has ended no task can be claimed any more.
    assert document["verdict"] == (
        Verdict.HEALTHY if left >= NOTICE else Verdict.ISSUES if left > 0 else Verdict.NOT_EARNING
    )


def test_status__when__the_daemon_is_down_and_nothing_was_ever_seen__then__nothing_is_called_late() -> None:
    unseen = replace(WHOLE, where=Where.CLAIMED, exec_deadline=None)
    document = status(replace(FACTS, running=False, height=None, wallet=None, open_tasks=(unseen,)))
    assert document["verdict"] == Verdict.DOWN
    assert document["wallet"] == {"owed": ERG}
    assert [issue["blocks_left"] for issue in document["issues"]] == [None]


# ---------------------------------------------------------------- books

DAY, NEXT = "2026-01-01", "2026-01-02"
SERVICE = TASK.service_hash.hex()
HALF = replace(WHOLE, holdback_bps=5_000, where=Where.RELEASED)


def row(day: str = DAY, asset: str = "ERG", **amounts: int) -> Row:
    return Row(day=day, service=SERVICE, asset=asset, **amounts)


def test_books__when__a_share_is_held__then__it_is_held_on_the_day_of_the_release_and_paid_on_that_of_the_settlement() -> (
    None
):
    held = HALF.held_share
    assert held == 494_000_000
    released = of_release(HALF, DAY)
    assert released == row(paid=1, payments=99 * ERG // 100 - held, held=held)
    settled = of_settlement(replace(HALF, where=Where.SETTLED), NEXT)
    assert settled == row(NEXT, payments=held, held=-held)
    burned = of_settlement(replace(HALF, where=Where.SETTLED, client_mark=1), NEXT)
    assert burned == row(NEXT, held=-held, burned=held)
    # The release says the same whenever it is asked, also once the task is settled or its share burned.
    for later in (Where.COMMITTED, Where.RATED, Where.SETTLED):
        for mark in range(6):
            assert of_release(replace(HALF, where=later, client_mark=mark), DAY) == released
    assert books([settled, released]) == [released, settled]
    (both,) = books([released, replace(settled, day=DAY)])
    assert both == row(paid=1, payments=99 * ERG // 100)


def test_books__when__it_pays_in_a_token__then__its_own_row_with_fees_and_net_in_erg() -> None:
    task = replace(IN_TOKEN, holdback_bps=5_000, where=Where.RELEASED)
    asset = ASSET.hex()
    rows = [
        of_release(task, DAY),
        of_transaction(task, day=DAY, kind="release", fee=5, spent=-7),
        of_release(HALF, DAY),
        of_transaction(HALF, day=DAY, kind="release", fee=5, spent=-9),
        of_failure(replace(task, where=Where.FAILED), DAY),
    ]
    assert books(rows) == [
        row(paid=1, payments=496_000_000, held=494_000_000, fees=5, net=9),
        row(asset=asset, paid=1, payments=250, held=250, refunded=500, fees=5, net=7),
    ]


def test_books__when__things_moved__then__one_row_for_each_day_service_and_asset() -> None:
    task = replace(WHOLE, payment=10 * ERG, worth=10 * ERG, where=Where.SETTLED)
    failed = replace(WHOLE, payment=3 * ERG, worth=3 * ERG, where=Where.FAILED)
    slashed = replace(WHOLE, payment=2 * ERG, worth=2 * ERG, where=Where.TIMED_OUT)
    rows = [
        of_release(task, NEXT),
        of_settlement(task, NEXT),
        of_transaction(task, day=NEXT, kind="release", fee=5, spent=-9 * ERG),
        of_transaction(task, day=DAY, kind="claim", fee=5, spent=7),
        of_transaction(task, day=NEXT, kind="commit", fee=5, spent=5),
        of_transaction(failed, day=NEXT, kind="fail", fee=5, spent=5),
        of_failure(failed, NEXT),
        of_slash(slashed, NEXT),
        of_transaction(slashed, day=NEXT, kind="timeout", fee=5, spent=0),  # its fee is the client's
        of_transaction(None, day=NEXT, kind="bond", fee=5, spent=ERG),
    ]
    assert books(rows) == [
        row(fees=5, net=-7),
        Row(day=NEXT, service="", fees=5, net=-ERG),
        row(
            NEXT,
            paid=1,
            payments=10 * ERG - guards.treasury_fee(10 * ERG),
            fees=15,
            slashed=ERG // 5,
            refunded=3 * ERG,
            net=9 * ERG - 10,
        ),
    ]
    assert books([]) == []
