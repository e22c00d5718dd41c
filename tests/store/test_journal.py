"""The journal: what it returned from is on the disk, one live transaction for an intent, and nobody else's database is touched."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import made
import pytest
from made import ERG

from aihd.core.sending import Origin
from aihd.core.task import Stage, State, Where
from aihd.errors import ConfigError, InvariantError
from aihd.store.journal import HEADERS_KEPT, Header, Journal, TxRecord, TxStatus

TASK = made.task(locator="data:")
TX = TxRecord("aa" * 32, "claim:01", "claim", TASK.id, b"bytes", 1_100_000, 1_100_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aihd.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with Journal(path) as opened:
        yield opened


def raw(path: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement).fetchall()


# ---------------------------------------------------------------- tasks


def test_add__when__known_already__then__false_and_the_first_stays(journal: Journal) -> None:
    assert journal.add(TASK)
    assert not journal.add(replace(TASK, payment=1))
    assert journal.task(TASK.id) == TASK
    assert [event for _, event, _ in journal.events(TASK.id)] == ["accepted"]


def test_task__when__every_field_is_set__then__read_back_the_same(journal: Journal) -> None:
    full = replace(
        TASK,
        where=Where.COMMITTED,
        stage=Stage.DONE,
        since=1,
        final=True,
        claim_height=2,
        claim_block=b"\5" * 32,
        exec_deadline=3,
        commit_deadline=4,
        reveal_deadline=5,
        may_reveal=True,
        instance="token",
        output_hash=b"\6" * 32,
        receipt_cid=b"\7" * 38,
        params_hash=b"\x08" * 32,
        mark=5,
        salt=b"\x09" * 32,
        client_mark=4,
        bridged=True,
        asset=b"\x0a" * 32,
        worth=7,
        holdback_bps=10_000,
        claim_tx=b"\x0b" * 32,
        release_height=6,
        acknowledged=True,
        note="a note",
    )
    journal.add(full)
    assert asdict(journal.task(TASK.id)) == asdict(full)


def test_update__when__fields_change__then__stored_and_journalled_and_the_salt_is_not_shown(
    journal: Journal, path: Path
) -> None:
    journal.add(TASK)
    after = journal.update(TASK.id, "mark chosen", stage=Stage.DONE, output_hash=b"\xab", salt=b"secret salt")
    assert after == replace(TASK, stage=Stage.DONE, output_hash=b"\xab", salt=b"secret salt")
    assert journal.find(TASK.id) == after
    assert journal.events(TASK.id)[-1][1:] == ("mark chosen", {"stage": "done", "output_hash": "ab"})
    assert all("salt" not in data for _, _, data in journal.events(TASK.id))
    assert raw(path, "SELECT json_extract(data, '$.salt') FROM journal ORDER BY seq") == [
        (None,),
        (b"secret salt".hex(),),
    ]


@pytest.mark.parametrize("changes", [{}, {"wher": "open"}, {"final": True, "colour": 1}])
def test_update__when__a_field_is_unknown_or_none_is_given__then__nothing_changes(
    journal: Journal, changes: dict[str, object]
) -> None:
    journal.add(TASK)
    with pytest.raises(InvariantError, match="task fields to change"):
        journal.update(TASK.id, "x", **changes)
    assert journal.task(TASK.id) == TASK
    assert len(journal.events(TASK.id)) == 1


def test_update__when__the_task_is_unknown__then__refused_and_not_journalled(journal: Journal) -> None:
    with pytest.raises(InvariantError, match=f"task {TASK.id.hex()} is not in the journal"):
        journal.update(TASK.id, "x", final=True)
    assert journal.events(TASK.id) == []
    with pytest.raises(InvariantError):
        journal.task(TASK.id)
    assert journal.find(TASK.id) is None


def test_update__when__a_value_does_not_fit__then__rolled_back_with_its_event(journal: Journal) -> None:
    journal.add(TASK)
    with pytest.raises(sqlite3.IntegrityError):
        journal.update(TASK.id, "x", payment="much")
    assert journal.task(TASK.id) == TASK
    assert len(journal.events(TASK.id)) == 1
    assert journal.add(replace(TASK, id=b"\x0a" * 32))  # the journal works on


def test_states__when__tasks_stand_in_many_places__then__counted_as_the_operator_sees_them(journal: Journal) -> None:
    places = [
        (Where.OPEN, Stage.WANTED, False),
        (Where.OPEN, Stage.RUNNING, False),
        (Where.CLAIMED, Stage.RUNNING, False),
        (Where.SETTLED, Stage.DONE, False),
        (Where.SETTLED, Stage.DONE, True),
        (Where.SETTLED, Stage.BROKEN, True),
        (Where.LOST, Stage.WANTED, True),
    ]
    for number, (where, stage, final) in enumerate(places):
        journal.add(replace(TASK, id=bytes([number]) * 32, where=where, stage=stage, final=final))
    assert journal.states() == {
        State.CLAIMING: 2,
        State.RUNNING: 1,
        State.SETTLED: 1,
        State.PAID: 2,
        State.LOST: 1,
    }
    assert [task.id[0] for task in journal.open_tasks()] == [0, 1, 2, 3]
    assert [task.id[0] for task in journal.tasks(3)] == [6, 5, 4]


def test_states__when__shares_were_held_back__then__burned_ones_are_counted_apart(journal: Journal) -> None:
    over = replace(TASK, where=Where.SETTLED, final=True)
    tasks = [
        over,
        replace(over, client_mark=1),  # nothing was held back
        replace(over, holdback_bps=5_000),
        replace(over, holdback_bps=5_000, client_mark=5),
        replace(over, holdback_bps=5_000, client_mark=1),
        replace(over, holdback_bps=10_000, client_mark=1),
        replace(over, holdback_bps=1, payment=ERG // 1000, worth=ERG // 1000, client_mark=1),  # too little to be held
        replace(over, holdback_bps=5_000, client_mark=1, asset=b"\7" * 32, payment=100),
        replace(over, holdback_bps=5_000, client_mark=1, asset=b"\7" * 32, payment=1),  # half a unit is none
        replace(over, holdback_bps=5_000, client_mark=1, final=False),
        replace(over, holdback_bps=5_000, client_mark=1, where=Where.FAILURE_SETTLED),
    ]
    for number, task in enumerate(tasks):
        journal.add(replace(task, id=bytes([number]) * 32))
    assert journal.states() == {State.PAID: 6, State.BURNED: 3, State.SETTLED: 1, State.FAILED: 1}
    assert journal.states() == Counter(task.state for task in journal.tasks())


def test_slashed__when__some_were_acknowledged__then__the_others(journal: Journal) -> None:
    slashed = replace(TASK, where=Where.TIMED_OUT)
    for number in range(3):
        journal.add(replace(slashed, id=bytes([number]) * 32))
    journal.add(replace(TASK, id=b"\7" * 32))
    journal.update(bytes([1]) * 32, "acknowledged", acknowledged=True)
    assert [task.id[0] for task in journal.slashed()] == [0, 2]


def test_claims_at_work__when__tasks_stand_in_many_places__then__the_reserves_that_their_ends_still_need(
    journal: Journal,
) -> None:
    def claim(number: int) -> bytes:
        return bytes([number]) * 32

    places = [(Where.OPEN, False), (Where.CLAIMED, False), (Where.RELEASED, False), (Where.FAILED, False)]
    places += [(Where.FAILURE_SETTLED, True), (Where.LOST, True), (Where.CLAIMED, True)]
    for number, (where, final) in enumerate(places):
        journal.add(replace(TASK, id=claim(number), where=where, final=final, claim_tx=claim(number)))
    journal.add(replace(TASK, id=claim(20)))  # not claimed yet
    statuses = ((30, None, 2), (31, TxStatus.MINED, 2), (32, TxStatus.DROPPED, 20), (34, TxStatus.MINED, 20))
    for number, status, task in statuses:
        journal.record(replace(TX, id=claim(number).hex(), intent=str(number), task_id=claim(task)))
        if status:
            journal.mark(claim(number).hex(), status)
    journal.record(replace(TX, id=claim(33).hex(), intent="33", kind="release"))
    assert journal.claims_at_work() == {claim(number).hex() for number in (0, 1, 30, 34)}


# ---------------------------------------------------------------- transactions


def test_record__when__the_intent_is_live__then__refused_until_it_is_dropped(journal: Journal) -> None:
    journal.record(TX)
    second = replace(TX, id="bb" * 32)
    for status in (TxStatus.PENDING, TxStatus.MINED, TxStatus.FINAL):
        journal.mark(TX.id, status)
        with pytest.raises(InvariantError, match="intent claim:01 already has a live transaction"):
            journal.record(second)
        assert journal.has_live("claim:01")
    journal.mark(TX.id, TxStatus.DROPPED, note="input gone")
    assert not journal.has_live("claim:01")
    journal.record(second)
    assert [(tx.id, tx.status) for tx in journal.transactions(TASK.id)] == [
        (TX.id, TxStatus.DROPPED),
        (second.id, TxStatus.PENDING),
    ]


def test_record__when__written__then__read_back_with_its_bytes(journal: Journal) -> None:
    journal.record(TX)
    journal.count_send(TX.id)
    journal.count_send(TX.id)
    journal.mark(TX.id, TxStatus.MINED, height=7, note="n")
    assert journal.transactions() == [replace(TX, status=TxStatus.MINED, height=7, sent=2, note="n")]
    assert [event for _, event, _ in journal.events(TASK.id)] == ["signed", "mined"]


def test_live__when__some_ended__then__the_others_in_the_order_of_signing(journal: Journal) -> None:
    for number, status in enumerate((TxStatus.FINAL, TxStatus.MINED, TxStatus.DROPPED, TxStatus.PENDING)):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number)))
        journal.mark(f"{number:064}", status)
    assert [int(tx.id) for tx in journal.live()] == [1, 3]


def test_spent_since__when__some_are_old_dropped_ordered_or_earn__then__left_out(journal: Journal) -> None:
    for number, (spent, tip, origin) in enumerate(
        (
            (5, 100, Origin.DAEMON),
            (70, 71, Origin.DAEMON),
            (-1000, 100, Origin.DAEMON),
            (900, 100, Origin.DAEMON),
            (4000, 70, Origin.DAEMON),
            (30_000, 100, Origin.OPERATOR),
        )
    ):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number), spent=spent, tip=tip, origin=origin))
    journal.mark(f"{3:064}", TxStatus.DROPPED)
    assert [journal.spent_since(height) for height in (100, 99, 70, 69)] == [0, 5, 75, 4075]


def test_transactions__when__recorded__then__origin_tip_and_parents_come_back(journal: Journal) -> None:
    record = replace(TX, origin=Origin.OPERATOR, tip=77, parents=("aa" * 32, "bb" * 32))
    journal.record(record)
    assert journal.transaction(TX.id) == record == journal.transactions()[0]
    assert journal.transaction("cc" * 32) is None
    assert journal.predecessors(TX.intent) == []
    journal.mark(TX.id, TxStatus.DROPPED)
    assert [tx.id for tx in journal.predecessors(TX.intent)] == [TX.id]


def test_record__when__it_replaces_a_pending_one__then__that_one_makes_room_in_the_same_commit(
    journal: Journal,
) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, spent=5, replaces=TX.id))
    first, second = journal.transactions(TASK.id)
    assert (first.status, first.note) == (TxStatus.REPLACED, f"replaced by {second.id}")
    assert (second.status, second.replaces) == (TxStatus.PENDING, first.id)
    assert [tx.id for tx in journal.live()] == [second.id]
    assert [tx.id for tx in journal.replaced()] == [first.id]
    assert journal.has_live(TX.intent)
    assert (journal.spent_since(-1), journal.reserved()) == (5, 5)
    assert [event for _, event, _ in journal.events(TASK.id)] == ["signed", "replaced", "signed"]


@pytest.mark.parametrize("status", [TxStatus.MINED, TxStatus.FINAL, TxStatus.DROPPED, None])
def test_record__when__what_it_replaces_is_not_pending_or_of_another_intent__then__refused_whole(
    journal: Journal, status: TxStatus | None
) -> None:
    journal.record(TX if status else replace(TX, intent="other"))
    if status:
        journal.mark(TX.id, status)
    before = journal.transactions()
    with pytest.raises(InvariantError, match="not a pending transaction for claim:01"):
        journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    assert journal.transactions() == before


def test_mark__when__the_replaced_one_is_mined_after_all__then__it_takes_its_place_back(journal: Journal) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [(tx.id, tx.status) for tx in journal.transactions()] == [
        (TX.id, TxStatus.MINED),
        ("bb" * 32, TxStatus.REPLACED),
    ]
    assert [tx.id for tx in journal.replaced()] == ["bb" * 32]
    journal.mark(TX.id, TxStatus.FINAL, height=9)
    assert journal.replaced() == []


def test_mark__when__the_replacement_was_dropped_first__then__the_replaced_one_is_still_followed(
    journal: Journal,
) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark("bb" * 32, TxStatus.DROPPED)
    assert not journal.has_live(TX.intent)
    assert [tx.id for tx in journal.replaced()] == [TX.id]
    journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [tx.id for tx in journal.live()] == [TX.id]


def test_mark__when__the_replacement_is_mined_already__then__the_other_cannot_be(journal: Journal) -> None:
    journal.record(TX)
    journal.record(replace(TX, id="bb" * 32, replaces=TX.id))
    journal.mark("bb" * 32, TxStatus.MINED, height=8)
    with pytest.raises(InvariantError, match="not a pending transaction"):
        journal.mark(TX.id, TxStatus.MINED, height=9)
    assert [tx.status for tx in journal.transactions()] == [TxStatus.REPLACED, TxStatus.MINED]


def test_reserved__when__some_are_mined_or_earn__then__pending_outflow_only(journal: Journal) -> None:
    assert journal.reserved() == 0
    for number, spent in enumerate((5, 70, -1000, 900)):
        journal.record(replace(TX, id=f"{number:064}", intent=str(number), spent=spent))
    journal.mark(f"{3:064}", TxStatus.MINED, height=1)
    assert journal.reserved() == 75


# ---------------------------------------------------------------- headers


def header(height: int, branch: int = 0) -> Header:
    return (
        height,
        bytes([branch]) * 28 + height.to_bytes(4, "big"),
        bytes([branch]) * 28 + (height - 1).to_bytes(4, "big"),
    )


def test_headers__when__a_branch_is_replaced__then__newest_first_without_the_old_one(
    journal: Journal, path: Path
) -> None:
    assert journal.headers() == []
    journal.replace_headers(10, [header(10), header(11), header(12)])
    journal.replace_headers(11, [header(11, 1)])
    with Journal(path, read_only=True) as reader:
        assert reader.headers() == [header(11, 1), header(10)]
    journal.replace_headers(11, [])
    assert journal.headers() == [header(10)]


def test_headers__when__more_than_are_kept__then__the_oldest_go(journal: Journal) -> None:
    journal.replace_headers(1, [header(height) for height in range(1, HEADERS_KEPT + 5)])
    journal.replace_headers(HEADERS_KEPT + 5, [header(HEADERS_KEPT + 5)])
    kept = journal.headers()
    assert len(kept) == HEADERS_KEPT
    assert (kept[0], kept[-1]) == (header(HEADERS_KEPT + 5), header(6))


def test_headers__when__one_lies_below_or_is_given_twice__then__nothing_changes(journal: Journal) -> None:
    journal.replace_headers(10, [header(10)])
    with pytest.raises(InvariantError, match="headers from height 10 on, but the lowest given is 9"):
        journal.replace_headers(10, [header(10, 1), header(9, 1)])
    with pytest.raises(sqlite3.IntegrityError):
        journal.replace_headers(10, [header(10, 1), header(10, 2)])
    assert journal.headers() == [header(10)]


# ---------------------------------------------------------------- posts, facts, declines


def test_post__when__saved_again__then__replaced(journal: Journal) -> None:
    assert journal.post(b"\1") is None
    journal.save_post(b"\1", {"salt": "aa"})
    journal.save_post(b"\2", {"salt": "bb"})
    journal.save_post(b"\1", {"salt": "aa", "mark": 5})
    assert journal.post(b"\1") == {"salt": "aa", "mark": 5}
    assert set(journal.posts()) == {b"\1", b"\2"}


def test_decline__when__counted__then__each_task_once_and_the_newest_sentence_stays(journal: Journal) -> None:
    assert journal.decline_task(b"\1" * 32, "price", "first", 100)
    assert journal.decline_task(b"\2" * 32, "price", "second", 100)
    assert not journal.decline_task(b"\1" * 32, "price", "first again", 100)
    assert not journal.decline_task(b"\1" * 32, "own", "for another reason", 100)
    assert journal.decline_task(b"\3" * 32, "own", "mine", 100)
    assert journal.declines() == {"own": (1, "mine"), "price": (2, "second")}
    assert journal.declined(b"\1" * 32) == ("price", "first")
    assert journal.declined(b"\4" * 32) is None


def test_decline__when__more_than_are_kept__then__the_oldest_are_forgotten_and_the_count_stays(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aihd.store.journal.DECLINES_KEPT", 3)
    for number in range(5):
        journal.decline_task(bytes([number]) * 32, "price", str(number), 100)
    assert [journal.declined(bytes([number]) * 32) is not None for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert journal.declines() == {"price": (5, "4")}


def test_named__when__a_few_digits_are_given__then__the_tasks_known_here_that_begin_so(journal: Journal) -> None:
    taken, declined, posted = (bytes.fromhex(digits.ljust(64, "0")) for digits in ("ab01", "ab02", "ac01"))
    journal.add(replace(TASK, id=taken))
    journal.decline_task(declined, "price", "x", 100)
    journal.decline_task(taken, "input", "both taken and declined", 100)
    journal.save_post(posted, {})
    assert journal.named("ab01") == [taken]
    assert sorted(journal.named("ab0")) == [taken, declined]
    assert journal.named("ac") == [posted]
    assert journal.named("ad") == []


def test_bind__when__the_same_again__then__fine_and_another_wallet_is_refused(path: Path) -> None:
    with Journal(path) as journal:
        journal.bind(genesis="g", wallet="w")
        journal.bind(genesis="g", wallet="w", market="m")
    with Journal(path) as journal:
        with pytest.raises(ConfigError, match="belongs to wallet w, the configuration has other"):
            journal.bind(genesis="g", wallet="other", added="x")
        assert journal.meta() == {"genesis": "g", "wallet": "w", "market": "m"}
        journal.remember("report", "1")
        journal.remember("report", "2")
        assert journal.meta()["report"] == "2"
        journal.forget("report")
        assert "report" not in journal.meta()
