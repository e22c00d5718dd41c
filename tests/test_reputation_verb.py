"""`aihd reputation`: what the store knows, without a chain and without a daemon; and posting to the best by it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from offchain import ERG, digest, signer
from test_cli import Place, place
from test_verbs import at, inside

from aihd.cli.reputation import key_of
from aihd.client.client import Order
from aihd.client.ranking import READ_UPTO, best, for_the_best, known
from aihd.errors import UsageError
from aihd.protocol.boxes import Bond
from aihd.protocol.trees import FEE_TREE, address_of, p2pk_tree
from aihd.reputation.history import Outcome
from aihd.store.history import Claimed, Ended, Funding, Step
from aihd.store.journal import Journal

__all__ = ["place"]

GOOD, BAD, NEW, TURNED = (signer(name).public_key for name in ("good", "bad", "new", "turned"))
CLIENTS = [signer(f"client {n}").public_key for n in range(6)]


def whole(task: bytes, client: bytes, node: bytes, mark: int, height: int) -> tuple[Step, Step]:
    """A task of 1 ERG, half of it held back, from claim to settlement."""
    end = Ended(
        task=task,
        outcome=Outcome.COMPLETED,
        held=ERG // 2,
        client_mark=mark,
        node_mark=5,
        client_committed=True,
        node_committed=True,
    )
    begin = Claimed(task=task, service=b"s" * 32, client=client, node=node, worth=ERG, payment=ERG)
    return Step(height, digest(height), None, (), begin), Step(height + 1, digest(height + 1), None, (), end)


@pytest.fixture
def history(place: Place) -> Place:
    """Six clients who were content with one node and not with another; the newest rating of each node is not final yet."""
    place.data.mkdir(mode=0o700)
    with Journal(place.data / "aihd.sqlite") as journal:
        steps: list[Step] = []
        for number, client in enumerate(CLIENTS):
            for node, mark in ((GOOD, 5), (BAD, 1)):
                task = digest("task", number, node)
                height = 100 + 10 * number
                steps += whole(task, client, node, mark, height)
        journal.history.add(steps)
        journal.history.fund(Funding(key, key, 1, public=False) for key in (*CLIENTS, GOOD, BAD))
        journal.remember(READ_UPTO, "155")
    return place


def test_list__when__some_are_better__then__the_best_first(history: Place) -> None:
    said = at(history, "reputation", "list")
    assert (said.code, said.err) == (0, "")
    assert said.out.index(GOOD.hex()) < said.out.index(BAD.hex())
    assert "as of height 155" in said.out
    document = json.loads(inside(history, "reputation", "list", "--client", "--json").out)
    assert (document["height"], document["role"]) == (155, "client")
    assert [party["key"] for party in document["parties"]] == sorted(key.hex() for key in CLIENTS[:5])


def test_explain__when__a_key_or_its_address_is_named__then__every_term_and_they_add_up(history: Place) -> None:
    by_key = json.loads(inside(history, "reputation", "explain", GOOD.hex(), "--json").out)
    address = address_of(p2pk_tree(GOOD))
    assert by_key == json.loads(inside(history, "reputation", "explain", address, "--json").out)
    assert (by_key["address"], by_key["score"], by_key["waiting"], len(by_key["terms"])) == (address, 10**9, 1, 5)
    assert by_key["standing"] == by_key["score"] * by_key["confidence"] // 10**9
    assert abs(sum(term["share"] for term in by_key["terms"]) - 10**9) <= len(by_key["terms"])
    assert {term["rater"] for term in by_key["terms"]} == {key.hex() for key in CLIENTS[:5]}
    told = inside(history, "reputation", "explain", BAD.hex()).out
    assert f"{BAD.hex()} as a node" in told
    assert "score -1.000 with confidence" in told
    assert "left out: 1 not final yet" in told
    assert (told.count("1 ERG"), told.count("0.5 ERG")) == (5, 5)
    burned = json.loads(inside(history, "reputation", "explain", BAD.hex(), "--json").out)["terms"]
    assert {(term["worth"], term["held"], term["burned"], term["asset"]) for term in burned} == {
        (ERG, ERG // 2, ERG // 2, None)
    }
    assert {term["burn"] for term in burned} == {10**9 + 10**9 // 16}, "each has burned once and let go once"
    assert {term["burned"] for term in by_key["terms"]} == {0}


def test_explain__when__recent_work_was_worse__then__says_what_that_takes_off(history: Place) -> None:
    with Journal(history.data / "aihd.sqlite") as journal:
        steps: list[Step] = []
        for week, (client, mark) in enumerate(zip(CLIENTS, (5, 5, 5, 5, 1, 1), strict=True), 1):
            height, task = week * 5_040, digest("turn", week)
            steps += whole(task, client, TURNED, mark, height)
        journal.history.add(steps)
        journal.history.fund([Funding(TURNED, TURNED, 1, public=False)])
        journal.remember(READ_UPTO, "40000")
    found = json.loads(inside(history, "reputation", "explain", TURNED.hex(), "--json").out)
    recent = sum(term["recent"] * term["opinion"] for term in found["terms"]) // 10**9
    assert found["turned"] > 0
    assert abs(recent + 10**9 // 5 - found["score"]) <= len(found["terms"])
    assert "below the mean of all opinions" in inside(history, "reputation", "explain", TURNED.hex()).out


def test_explain__when__nobody_knows_the_key__then__zero_and_not_an_error(history: Place) -> None:
    said = inside(history, "reputation", "explain", NEW.hex())
    assert said.code == 0
    assert "score 0.000 with confidence 0.000" in said.out


@pytest.mark.parametrize("verb", [["explain", GOOD.hex()], ["list"]], ids=" ".join)
def test_reputation__when__aihd_never_ran_here__then__78(place: Place, verb: list[str]) -> None:
    said = inside(place, "reputation", *verb)
    assert (said.code, "aihd has not run here yet" in said.line) == (78, True)


@pytest.mark.parametrize("who", ["", "zz", "05" * 33, "02" * 32, address_of(FEE_TREE)])
def test_key_of__when__it_is_no_key__then__usage_error_says_what_is_wanted(who: str) -> None:
    with pytest.raises(UsageError, match="expected a public key of 66 hexadecimal digits, or the address of one"):
        key_of(who)


def test_best__when__bonds_differ__then__the_able_ones_by_standing_and_none_that_is_complained_of(
    history: Place,
) -> None:
    with Journal(history.data / "aihd.sqlite") as journal:
        scores = known(journal, 10)
    good, bad, new = (Bond(key, 5 * ERG) for key in (GOOD, BAD, NEW))
    newer = Bond(signer("newer").public_key, 9 * ERG)
    bonds = [bad, new, newer, good]
    assert best(bonds, scores, 2, worth=ERG, least=0) == (GOOD, newer.node)
    assert best(bonds, scores, 9, worth=ERG, least=0) == (GOOD, newer.node, NEW)
    assert best(bonds, scores, 9, worth=18 * ERG, least=0) == (newer.node,)
    full = replace(good, committed=10 * ERG)
    assert best([full, new, new], scores, 9, worth=1, least=0) == (NEW,)
    assert best(bonds, scores, 9, worth=ERG, least=1) == ()


def test_for_the_best__when__a_stranger_is_among_them__then__all_is_held_back_unless_the_client_says_otherwise(
    history: Place,
) -> None:
    with Journal(history.data / "aihd.sqlite") as journal:
        scores = known(journal, 10)
    order = Order(service_hash=b"s" * 32, payment=ERG, worth=ERG, holdback_bps=10_000, claim_window=30, exec_window=40)
    bonds = [Bond(GOOD, 5 * ERG), Bond(NEW, 9 * ERG)]
    assert scores.score(GOOD).standing > 10**9 // 2
    trusted = for_the_best(order, bonds, scores, 1, holdback=None)
    assert (trusted.allowed, trusted.holdback_bps) == ((GOOD,), 0)
    mixed = for_the_best(order, bonds, scores, 2, holdback=None)
    assert (mixed.allowed, mixed.holdback_bps) == ((GOOD, NEW), 10_000)
    assert for_the_best(order, bonds, scores, 2, holdback=2_500).holdback_bps == 2_500
    assert for_the_best(order, bonds, scores, 1, holdback=2_500).holdback_bps == 2_500
    with pytest.raises(UsageError, match="--allow-best 2: none of the market's 1 bonds could take this task"):
        for_the_best(order, [Bond(BAD, 5 * ERG)], scores, 2, holdback=None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rate", "ab" * 32], "expected one of: a mark, --expect-hash, --reexecute"),
        (["rate", "ab" * 32, "5", "--expect-hash", "ab" * 32], "expected one of: a mark, --expect-hash, --reexecute"),
        (
            ["rate", "ab" * 32, "--expect-hash", "ab"],
            "--expect-hash 'ab': expected the hash of an output, 64 hexadecimal digits",
        ),
    ],
)
def test_task_rate__when__the_rule_is_unclear__then__64_and_nothing_is_read(
    place: Place, arguments: list[str], says: str
) -> None:
    said = inside(place, "task", *arguments)
    assert (said.code, said.line) == (64, f"aihd: {says}")
    assert not place.data.exists()
