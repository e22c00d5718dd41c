"""What an operator is told: the status, an explanation for every state a task can have, and the books."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from aihd.core.books import SLASHED, Move, Row, books
from aihd.core.explain import MEANING, explain, sentence
from aihd.core.task import FINAL, Limits, Stage, State, Task, Where
from aihd.core.views import Facts, SourceFacts, Verdict, WalletFacts, deadline, status
from aihd.protocol import guards

ERG = 10**9
TASK = Task(b"\1" * 32, b"\2" * 32, b"", ERG, b"", 100, 60, "", note="a note", salt=b"\x5a" * 32)
WHOLE = replace(TASK, claim_height=40, exec_deadline=100, commit_deadline=120, reveal_deadline=140, since=40)
FACTS = Facts(True, "m", 50, None, (), {}, {}, {}, Limits())


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
    assert sentence(event, data) == says


def test_status__when__money_is_at_risk__then__the_sentence_names_where_and_not_the_first_issue() -> None:
    late = replace(WHOLE, where=Where.CLAIMED, stage=Stage.DONE)
    document = status(replace(FACTS, height=101, open_tasks=(late,), troubles={"claim": "no answer"}))
    assert document["verdict"] == Verdict.ERROR
    assert document["sentence"].startswith(f"1 ERG are at risk: task {late.id.hex()}: executed since height 100")


def test_status__when__paused_or_restored__then__said_and_only_the_second_is_an_issue() -> None:
    paused = status(replace(FACTS, paused="noon"))
    assert (paused["verdict"], paused["paused"]) == (Verdict.HEALTHY, "noon")
    assert (
        paused["sentence"]
        == "Paused since noon: no new task is taken. 0 tasks open; 0 closed as paid; 0 ERG owed to us."
    )
    tasks = tuple(replace(WHOLE, where=where) for where in (Where.CLAIMED, Where.COMMITTED))
    waits = status(replace(FACTS, open_tasks=tasks))["sentence"]
    assert waits == "2 tasks open, 1 of them paid already; 0 closed as paid; 1 ERG owed to us."
    restored = status(replace(FACTS, restored="monday"))
    assert (restored["verdict"], restored["restored"]) == (Verdict.ISSUES, "monday")
    assert "the backup of monday" in restored["sentence"]


def test_status__when__there_are_newest_tasks__then__each_with_its_deadline() -> None:
    over = replace(WHOLE, where=Where.SETTLED, final=True)
    document = status(replace(FACTS, newest=(TASK, over)))
    assert [(line["state"], line["deadline"]) for line in document["newest"]] == [("claiming", 110), (State.PAID, None)]


def test_status__when__all_is_well__then__healthy_with_the_wallet_and_what_is_owed() -> None:
    in_time = replace(WHOLE, where=Where.CLAIMED, stage=Stage.DONE)
    over = replace(WHOLE, where=Where.LOST, final=True)
    wallet = WalletFacts("9address", 5 * ERG, ERG, 2 * ERG, ERG, 7)
    document = status(replace(FACTS, height=100, wallet=wallet, open_tasks=(in_time, over)))
    assert (document["verdict"], document["issues"]) == (Verdict.HEALTHY, [])
    assert document["wallet"] == {
        "address": "9address",
        "confirmed": 5 * ERG,
        "reserved": ERG,
        "owed": ERG,
        "bond": 2 * ERG,
        "committed": ERG,
        "score": 7,
    }


def test_status__when__the_daemon_is_down_and_nothing_was_ever_seen__then__said_and_nothing_is_called_late() -> None:
    document = status(replace(FACTS, running=False, height=None, open_tasks=(replace(WHOLE, exec_deadline=None),)))
    assert (document["verdict"], document["sentence"]) == (
        Verdict.ISSUES,
        "service: aihd is not running; 1 tasks are open",
    )
    assert document["wallet"] == {"owed": 0}


def test_status__when__a_source_lied__then__an_issue_as_long_as_it_rests_and_every_source_is_listed() -> None:
    liar, reformed = SourceFacts("explorer", "http://a", 2, "shows a false box"), SourceFacts("node", "http://b", 1, "")
    silent = SourceFacts("node", "http://c", 0, "no answer")
    document = status(replace(FACTS, sources=(liar, reformed, silent)))
    assert document["issues"] == [
        {"what": "explorer http://a", "reason": "it was found untrue, and is asked last: shows a false box"}
    ]
    assert [source["url"] for source in document["sources"]] == ["http://a", "http://b", "http://c"]


def test_books__when__things_moved__then__one_row_for_each_day_and_service() -> None:
    moves = [
        Move("2026-01-02", "s", "release", 10 * ERG, 5, -9 * ERG),
        Move("2026-01-01", "s", "claim", 10 * ERG, 5, 7),
        Move("2026-01-02", "s", "commit", 10 * ERG, 5, 5),
        Move("2026-01-02", "s", "fail", 3 * ERG, 5, 5),
        Move("2026-01-02", "s", SLASHED, 2 * ERG, 0, 0),
        Move("2026-01-02", "s", "timeout", 2 * ERG, 5, 0),  # its fee is the client's
        Move("2026-01-02", "", "bond", 0, 5, ERG),
    ]
    assert books(moves) == [
        Row("2026-01-01", "s", 0, 0, 5, 0, 0, -7),
        Row("2026-01-02", "", 0, 0, 5, 0, 0, -ERG),
        Row(
            "2026-01-02",
            "s",
            1,
            10 * ERG - guards.treasury_fee(10 * ERG),
            15,
            ERG // 5,
            3 * ERG,
            9 * ERG - 10,
        ),
    ]
    assert books([]) == []
