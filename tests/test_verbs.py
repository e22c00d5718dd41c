"""The operator's verbs, each as a command in a process of its own, beside a daemon's folder and beside a daemon's lock."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from typing import Any

import made
import pytest
from made import ASSET
from offchain import ERG, digest
from test_cli import Place, Said, aihd, place

from aihd.cli import main
from aihd.core.task import Stage, State, Task, Where
from aihd.core.verdict import WalletFacts
from aihd.ops.lock import process_lock
from aihd.protocol import guards
from aihd.services.report import KEY
from aihd.store.journal import Journal, TxRecord, TxStatus

__all__ = ["place"]  # the folder of a daemon, as the other tests of commands make it

SALT = digest("salt")
TASK = made.task(
    id=digest("t"),
    service_hash=digest("service"),
    where=Where.CLAIMED,
    stage=Stage.INPUT,
    since=40,
    claim_height=40,
    exec_deadline=100,
    salt=SALT,
)
WALLET = WalletFacts(address="9f", confirmed=ERG, reserved=0, bond=ERG, committed=0, score=0)
CLAIM = TxRecord("aa" * 32, f"claim:{TASK.id.hex()}", "claim", TASK.id, b"x", 1_100_000, 1_100_000)


@pytest.fixture
def journal(place: Place) -> Iterator[Journal]:
    """A journal with one claimed task whose input is here, last seen at height 50."""
    place.data.mkdir(mode=0o700)
    with Journal(place.data / "aihd.sqlite") as opened:
        opened.bind(market="m" * 64)
        opened.remember(KEY, json.dumps({"height": 50, "wallet": asdict(WALLET), "expiry": 10**6, "services": 1}))
        opened.add(TASK)
        opened.record(CLAIM)
        opened.mark(CLAIM.id, TxStatus.MINED, height=40)
        yield opened


def at(place: Place, *arguments: object) -> Said:
    return aihd(*arguments, "--config", place.config)


def inside(place: Place, *arguments: object) -> Said:
    """As `at`, within this process."""
    return within(*arguments, "--config", place.config)


def within(*arguments: object) -> Said:
    """Without a process of its own, which takes a second: for what a verb's first call in a process has shown to work."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main([*map(str, arguments)])
    assert isinstance(left.value.code, int)
    return Said(left.value.code, out.getvalue(), err.getvalue())


EVERY_VERB = [
    ["backup", "copy"],
    ["pause"],
    ["resume"],
    ["earnings"],
    ["explain", "ab" * 32],
    ["tasks", "list"],
    ["tasks", "show", "ab" * 32],
    ["tasks", "abandon", "ab" * 32],
    ["tasks", "retry", "ab" * 32],
]


@pytest.mark.parametrize("verb", EVERY_VERB, ids=" ".join)
def test_verbs__when__aihd_never_ran_here__then__78_and_nothing_is_made(place: Place, verb: list[str]) -> None:
    said = inside(place, *verb)
    assert (said.code, said.out) == (78, "")
    assert "aihd has not run here yet" in said.line
    assert not place.data.exists()


# ---------------------------------------------------------------- backup, pause, drain, version


def test_backup__when__the_database_is_in_use__then__a_copy_that_opens_and_is_not_overwritten(
    place: Place, journal: Journal
) -> None:
    target = place.folder / "copy.sqlite"
    said = at(place, "backup", target)
    assert (said.code, said.err) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with Journal(target) as copy:
        assert copy.task(TASK.id) == TASK
        assert copy.restored_from() is not None
    again = inside(place, "backup", target)
    assert (again.code, "is there already" in again.line) == (64, True)


def test_status__when__the_database_was_put_back_from_a_backup__then__named_until_cleared(
    place: Place, journal: Journal
) -> None:
    journal.backup(place.folder / "copy")
    journal.close()
    for file in place.data.iterdir():
        file.unlink()
    (place.folder / "copy").rename(place.data / "aihd.sqlite")
    with process_lock(place.data / "aihd.lock"):
        document = json.loads(inside(place, "status", "--json").out)
        assert document["restored"] is not None
        assert [issue["what"] for issue in document["issues"]] == ["database"]
        assert document["restored"] in document["issues"][0]["reason"]
        with Journal(place.data / "aihd.sqlite") as restored:
            restored.clear_restored()
        assert json.loads(inside(place, "status", "--json").out)["issues"] == []


def test_pause__when__set_and_lifted__then__the_status_says_so(place: Place, journal: Journal) -> None:
    assert journal.paused() is None
    assert at(place, "pause").out == "paused: no new task is taken\n"
    since = journal.paused()
    assert since is not None
    assert inside(place, "pause").out == f"is paused already, since {since}\n"
    with process_lock(place.data / "aihd.lock"):
        said = inside(place, "status", "--json")
    document = json.loads(said.out)
    assert (said.code, document["verdict"], document["paused"]) == (1, "Not earning", since)
    assert document["sentence"].startswith(f"no new task is taken: paused since {since}.")
    assert inside(place, "resume").out == "new tasks are taken again\n"
    assert journal.paused() is None
    assert inside(place, "resume").out == "was not paused\n"


def test_drain__when__nothing_runs__then__0_and_told(place: Place) -> None:
    assert at(place, "drain") == Said(0, "aihd is not running\n", "")


DAEMON = """
    import signal, sys, time
    from pathlib import Path
    from aihd.ops.lock import process_lock

    def end(*_):
        raise SystemExit
    signal.signal(signal.SIGTERM, end if sys.argv[2] == "leaves" else signal.SIG_IGN)
    with process_lock(Path(sys.argv[1])):
        print("locked", flush=True)
        time.sleep(60)
"""


@contextmanager
def daemon_of(place: Place, manner: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, and leaves or stays when it is told to stop."""
    lock = place.data / "aihd.lock"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DAEMON), str(lock), manner], stdout=subprocess.PIPE, text=True
    ) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline() == "locked\n"
        yield daemon


def test_drain__when__it_leaves_with_a_task_that_it_owes__then__75_and_what_is_lost_when(
    place: Place, journal: Journal
) -> None:
    with daemon_of(place, "leaves"):
        said = at(place, "drain", "--patience", 30)
    assert said.code == 75
    assert "it has left with 1 task unpaid: start again before height 100 (50 blocks, " in said.line
    assert "or 1 ERG and 0.1 ERG of the bond are lost" in said.line


@pytest.mark.parametrize("manner", ["leaves", "stays"])
def test_drain__when__a_daemon_runs__then__told_and_waited_for(place: Place, journal: Journal, manner: str) -> None:
    journal.update(TASK.id, "seen on chain", where=Where.RELEASED)
    with daemon_of(place, manner) as daemon:
        said = at(place, "drain", "--patience", 30 if manner == "leaves" else 0.3)
        assert f"process {daemon.pid} was told to drain" in said.out
        if manner == "leaves":
            assert (said.code, daemon.wait(10)) == (0, 0)
            assert said.out.endswith("it has left, and owes nothing\n")
        else:
            assert (said.code, daemon.poll()) == (75, None)
            assert "still drains after 0.3 s" in said.line
            daemon.kill()


def test_drain__when__the_number_is_not_the_holders__then__nobody_is_signalled(place: Place) -> None:
    lock = place.data / "aihd.lock"
    with process_lock(lock), subprocess.Popen(["sleep", "60"]) as bystander:
        lock.write_text(f"{bystander.pid}\n")
        said = at(place, "drain")
        assert said.code == 78
        assert "not by a process seen here" in said.line
        assert bystander.poll() is None
        bystander.kill()


def test_version__when__asked__then__one_line() -> None:
    said = aihd("version")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("aihd ") and said.out.count("\n") == 1


# ---------------------------------------------------------------- explain, earnings, policy


def test_explain__when__a_task_is_at_work__then__state_deadline_next_and_story_without_the_salt(
    place: Place, journal: Journal
) -> None:
    journal.update(TASK.id, "mark chosen", mark=4, salt=SALT)
    said = at(place, "explain", TASK.id.hex())
    assert (said.code, said.err) == (0, "")
    for part in (
        f"Task {TASK.id.hex()} is ready: the input is here",
        "It pays 1 ERG",
        "until height 85, 35 blocks from now",
        "Next: execute.",
        "accepted, it pays 1 ERG",
        "signed claim aaaaaaaa",
        "mined aaaaaaaaaaaaaaaa… at height 40",
        "mark chosen: mark 4",
        "0.0011 ERG",
    ):
        assert part in said.out, part
    document = json.loads(inside(place, "explain", TASK.id.hex(), "--json").out)
    assert (document["state"], document["deadline"], document["blocks_left"]) == ("ready", 85, 35)
    assert [tx["status"] for tx in document["transactions"]] == ["mined"]


@pytest.mark.parametrize("verb", [["explain"], ["explain", "--json"], ["tasks", "show"]], ids=" ".join)
def test_verbs__when__a_task_has_a_salt__then__it_is_never_shown(
    place: Place, journal: Journal, verb: list[str]
) -> None:
    journal.update(TASK.id, "mark chosen", salt=SALT)
    said = inside(place, *verb, TASK.id.hex())
    assert said.code == 0
    assert SALT.hex() not in said.out + said.err
    assert "salt" not in said.out


def test_explain__when__the_task_was_never_taken__then__usage(place: Place, journal: Journal) -> None:
    said = inside(place, "explain", "ab" * 32)
    assert (said.code, "was never accepted here" in said.line) == (64, True)


def test_earnings__when__tasks_were_paid_failed_and_slashed__then__summed_by_day_and_service(
    place: Place, journal: Journal
) -> None:
    failed, slashed = (replace(TASK, id=digest(name)) for name in ("failed", "slashed"))
    for known, where in ((TASK, Where.RELEASED), (failed, Where.FAILED), (slashed, Where.TIMED_OUT)):
        journal.add(known)
        journal.update(known.id, "seen on chain", where=where)
    for number, (kind, task, spent) in enumerate(
        (("release", TASK, -ERG), ("fail", failed, 0), ("release", slashed, -9 * ERG), ("open bond", None, 5 * ERG))
    ):
        tx = TxRecord(f"{number:064}", str(number), kind, task.id if task else None, b"", 1_000_000, spent)
        journal.record(tx)
        journal.mark(tx.id, TxStatus.DROPPED if number == 2 else TxStatus.FINAL, height=50)
    said = at(place, "earnings", "--csv")
    assert (said.code, said.err) == (0, "")
    wallet, service = csv.DictReader(said.out.splitlines())
    assert (wallet["service"], wallet["asset"], wallet["net"], wallet["fees"]) == ("", "ERG", str(-5 * ERG), "1000000")
    assert service == {
        "day": wallet["day"],
        "service": TASK.service_hash.hex(),
        "asset": "ERG",
        "paid": "1",
        "payments": str(ERG - guards.treasury_fee(ERG)),
        "held": "0",
        "burned": "0",
        "fees": str(1_100_000 + 2 * 1_000_000),
        "slashed": str(ERG // 10),
        "refunded": str(ERG),
        "net": str(ERG - 1_100_000),
    }
    assert "(wallet, bond)" in inside(place, "earnings").out


def ended(place: Place, journal: Journal, task: Task, *steps: tuple[str, dict[str, Any]]) -> None:
    """A task of the journal that the chain moved on, each time on a day of its own."""
    journal.add(task)
    for day, changes in steps:
        journal.update(task.id, "seen on chain", **changes)
        with closing(sqlite3.connect(place.data / "aihd.sqlite", isolation_level=None)) as db:
            statement = "UPDATE journal SET at = ? WHERE seq = (SELECT max(seq) FROM journal WHERE task_id = ?)"
            db.execute(statement, (f"{day}T12:00:00.000Z", task.id))


def test_earnings__when__shares_were_held_back__then__held_on_the_day_of_release_and_paid_or_burned_on_that_of_settlement(
    place: Place, journal: Journal
) -> None:
    released = {"where": Where.RELEASED}
    settled = {"where": Where.SETTLED, "final": True}
    half = replace(TASK, holdback_bps=5_000)
    token = replace(half, asset=ASSET, payment=500)
    ended(
        place,
        journal,
        replace(half, id=digest("a")),
        ("2026-01-01", released),
        ("2026-01-03", {**settled, "client_mark": 5}),
    )
    ended(
        place,
        journal,
        replace(half, id=digest("b")),
        ("2026-01-01", released),
        ("2026-01-04", {**settled, "client_mark": 1}),
    )
    ended(place, journal, replace(half, id=digest("c")), ("2026-01-01", released))
    # A reorg took the first release back, the second one counts.
    again = [("2026-01-01", released), ("2026-01-02", {"where": Where.CLAIMED}), ("2026-01-03", released)]
    ended(place, journal, replace(token, id=digest("d")), *again)
    ended(place, journal, replace(token, id=digest("e")), ("2026-01-03", {"where": Where.FAILED}))
    said = at(place, "earnings", "--csv")
    assert (said.code, said.err) == (0, "")
    rows = [row for row in csv.DictReader(said.out.splitlines()) if row["day"].startswith("2026-01")]
    amounts = ("day", "asset", "paid", "payments", "held", "burned", "refunded")
    share = 494_000_000
    assert [tuple(row[name] for name in amounts) for row in rows] == [
        ("2026-01-01", "ERG", "3", str(3 * (99 * ERG // 100 - share)), str(3 * share), "0", "0"),
        ("2026-01-03", "ERG", "0", str(share), str(-share), "0", "0"),
        ("2026-01-03", ASSET.hex(), "1", "250", "250", "0", "500"),
        ("2026-01-04", "ERG", "0", "0", str(-share), str(share), "0"),
    ]
    place.edit(
        "[bond]", f"[[assets]]\nname = 'SigUSD'\nid = '{ASSET.hex()}'\ndecimals = 2\nmax_worth = '2 ERG'\n[bond]"
    )
    shown = inside(place, "earnings").out
    assert "2.5 SigUSD" in shown and "5 SigUSD" in shown


def test_explain__when__a_share_is_held__then__the_money_is_told_in_words(place: Place, journal: Journal) -> None:
    changes = {"where": Where.COMMITTED, "commit_deadline": 110, "reveal_deadline": 170}
    held = replace(TASK, id=digest("held"), asset=ASSET, payment=500, holdback_bps=5_000)
    ended(place, journal, held, ("2026-01-01", changes))
    said = inside(place, "explain", held.id.hex()[:12])
    assert said.code == 0
    assert "It pays 500 of token a5a5a5a5a5a5a5a5…, worth 1 ERG, 250 of token a5a5a5a5a5a5a5a5… are ours, " in said.out
    document = json.loads(inside(place, "explain", held.id.hex(), "--json").out)
    assert (document["paid"], document["held"], document["burned"]) == (250, 250, 0)
    assert (document["asset"], document["worth"], document["payment"]) == (ASSET.hex(), ERG, 500)


def test_policy__when__asked__then__numbers_and_declines(place: Place, journal: Journal) -> None:
    journal.decline_task(digest("1"), "price", "it pays too little", 100)
    journal.decline_task(digest("2"), "price", "it pays 1 nanoERG", 100)
    place.edit("[bond]", "[policy]\nmax_open_tasks = 7\nmin_payment = '0.25 ERG'\n[bond]")
    said = at(place, "policy")
    assert (said.code, said.err) == (0, "")
    rows = {line.split("│")[1].strip(): line for line in said.out.splitlines() if line.startswith("│")}
    assert "at least 0.25 ERG" in rows["price"] and "│ 2 " in rows["price"] and "1 nanoERG" in rows["price"]
    assert "fewer than 7 tasks" in rows["busy"]
    assert "no service is offered: every task is declined" in said.out


# ---------------------------------------------------------------- tasks


def test_tasks_list__when__some_are_over__then__shown_with_all_only(place: Place, journal: Journal) -> None:
    over = replace(TASK, id=digest("over"), where=Where.LOST, final=True)
    journal.add(over)
    assert [task["id"] for task in json.loads(at(place, "tasks", "list", "--json").out)] == [TASK.id.hex()]
    every = json.loads(inside(place, "tasks", "list", "--all", "--json").out)
    assert [task["state"] for task in every] == [str(State.LOST), str(State.READY)]
    shown = inside(place, "tasks", "list").out
    assert TASK.id.hex() in shown and "1 ERG" in shown and over.id.hex() not in shown


def test_abandon__when__a_claimed_task_is_given_up__then__it_is_to_fail_honestly(
    place: Place, journal: Journal
) -> None:
    said = at(place, "tasks", "abandon", TASK.id.hex(), "--yes")
    assert (said.code, said.err) == (0, "")
    task = journal.task(TASK.id)
    assert (task.state, task.note) == (State.FAILING, "abandoned by the operator")
    assert journal.audit() == []
    again = inside(place, "tasks", "abandon", TASK.id.hex(), "--yes")
    assert (again.code, "is being failed already" in again.line) == (64, True)


def test_abandon__when__not_confirmed__then__nothing_changes(place: Place, journal: Journal) -> None:
    assert at(place, "tasks", "abandon", TASK.id.hex()).code == 130
    assert journal.task(TASK.id) == TASK


END = TxRecord("ee" * 32, f"end:{TASK.id.hex()}", "fail", TASK.id, b"x", 1, 1)


@pytest.mark.parametrize("verb", [["abandon", "--yes"], ["retry"]], ids=" ".join)
@pytest.mark.parametrize(
    ("where", "end", "says"),
    [
        (Where.OPEN, False, "is not claimed yet"),
        (Where.RELEASED, False, "the chain has decided it"),
        (Where.CLAIMED, True, "nothing can call it back"),
    ],
)
def test_tasks__when__its_end_is_not_ours_to_change__then__refused(
    place: Place, journal: Journal, verb: list[str], where: Where, end: bool, says: str
) -> None:
    before = journal.update(TASK.id, "moved", where=where, stage=Stage.BROKEN)
    if end:
        journal.record(END)
    said = inside(place, "tasks", *verb, TASK.id.hex())
    assert (said.code, says in said.line) == (64, True), said
    assert journal.task(TASK.id) == before


def broken(place: Place, journal: Journal, *, with_input: bool) -> None:
    journal.update(TASK.id, "cannot be delivered", stage=Stage.BROKEN, note="the service crashed", instance="token")
    if with_input:
        (place.data / "inputs" / TASK.id.hex()).mkdir(parents=True)
        (place.data / "inputs" / "partial").mkdir()
        (place.data / "inputs" / "partial" / "arriving").write_text("an upload that the daemon receives")


def test_retry__when__it_broke_and_there_is_time__then__it_is_ready_again(place: Place, journal: Journal) -> None:
    broken(place, journal, with_input=True)
    said = at(place, "tasks", "retry", TASK.id.hex())
    assert (said.code, said.err) == (0, "")
    task = journal.task(TASK.id)
    assert (task.state, task.note, task.instance) == (State.READY, "", None)
    assert journal.audit() == []
    assert (place.data / "inputs" / "partial" / "arriving").exists()
    again = inside(place, "tasks", "retry", TASK.id.hex())
    assert (again.code, "only one that is failing" in again.line) == (64, True)


@pytest.mark.parametrize(
    ("height", "with_input", "says"),
    [(50, False, "its input is not here"), (94, True, "no time is left"), (None, True, "is not known yet")],
)
def test_retry__when__it_cannot_succeed__then__refused(
    place: Place, journal: Journal, height: int | None, with_input: bool, says: str
) -> None:
    broken(place, journal, with_input=with_input)
    journal.remember(KEY, json.dumps({"height": height}))
    said = inside(place, "tasks", "retry", TASK.id.hex())
    assert (said.code, says in said.line) == (64, True), said
    assert journal.task(TASK.id).stage is Stage.BROKEN
