"""The lottery: our twin and the guard that is evaluated must draw the same bonds, for any headers, scores and odds."""

from __future__ import annotations

import hashlib

import pytest
from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.transaction import TxId
from hypothesis import given, settings
from hypothesis import strategies as st
from offchain import COMMITMENT, ERG, FEE, SERVICE, coin, digest, headers, sign, signer

from aihd.chain.contracts import make_deployment
from aihd.chain.signer import SigningError
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, Content, On, TaskEscrow, registers
from aihd.protocol.constants import BOND_RESERVE, TICKETS
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Funds
from aihd.protocol.plans import Market
from aihd.protocol.selection import HeaderRef, is_selected, ticket, weight
from aihd.protocol.trees import parse_tree

NODE, CLIENT = signer("node"), signer("client")
TOKEN = digest("bond token")
DEPLOYMENT = make_deployment(network="devnet", bond_token=TOKEN, treasury=CLIENT.tree, expiry=1_000_000)
TIP = 1000


def placed(guard: Guard, content: Content, value: int, created: int, seed: str, *tokens: tuple[bytes, int]) -> ErgoBox:
    """A box of the market, made up."""
    candidate = ErgoBoxCandidate(
        value=value,
        script=parse_tree(DEPLOYMENT.trees[guard]),
        creation_height=created,
        tokens=[Token(TokenId(token), amount) for token, amount in tokens] or None,
        registers=registers(content),
    )
    return ErgoBox.from_box_candidate(candidate, TxId(digest(seed).hex()), 0)


def task_and_bond(seed: str, difficulty: int, score: int, created: int, born: int) -> tuple[On[TaskEscrow], On[Bond]]:
    # The window ends so late that only a ticket selects.
    terms = TaskEscrow(
        service_hash=SERVICE,
        input_commitment=COMMITMENT,
        worth=ERG,
        payment=ERG,
        min_reputation=-(2**40),
        claim_deadline=5000,
        exec_window=60,
        selection_window=2000,
        selection_difficulty=difficulty,
        client=CLIENT.public_key,
    )
    task = placed(Guard.TASK, terms, plans.value_of(terms), created, f"task {seed}")
    bond = Bond(NODE.public_key, ERG, score=score, born=born, last_activity=born)
    held = placed(Guard.BOND, bond, ERG + BOND_RESERVE, 900, f"bond {seed}", (TOKEN, 1))
    return DEPLOYMENT.read(TaskEscrow, task), DEPLOYMENT.read(Bond, held)


def guard_selects(task: On[TaskEscrow], bond: On[Bond], branch: str) -> bool:
    funds = Funds((coin(NODE.tree, ERG, "purse"),), NODE.tree, FEE)
    try:
        sign(NODE, DEPLOYMENT, plans.claim(Market(DEPLOYMENT, TIP + 1), task, bond, funds), headers(TIP, branch))
    except SigningError as error:
        assert "a guard refuses it" in str(error)
        return False
    return True


@settings(max_examples=120, deadline=None)
@given(
    branch=st.text(min_size=1, max_size=8),
    difficulty=st.integers(1, 60),
    score=st.integers(-40, 40),
    created=st.integers(TIP - 12, TIP),
    born=st.integers(TIP - 12, TIP + 2),
)
def test_is_selected__when__headers_odds_and_heights_are_any__then__the_guard_agrees(
    branch: str, difficulty: int, score: int, created: int, born: int
) -> None:
    task, bond = task_and_bond(branch, difficulty, score, created, born)
    refs = [HeaderRef(h["height"], bytes.fromhex(h["id"])) for h in headers(TIP, branch)]
    assert is_selected(task, bond.content, refs, TIP + 1) == guard_selects(task, bond, branch)


def test_is_selected__when__many_tasks_are_drawn__then__both_answers_come_up_and_the_guard_agrees() -> None:
    seen = set()
    for number in range(40):
        task, bond = task_and_bond(f"{number}", 15, 0, TIP - 12, TIP - 12)
        refs = [HeaderRef(h["height"], bytes.fromhex(h["id"])) for h in headers(TIP, f"{number}")]
        answer = is_selected(task, bond.content, refs, TIP + 1)
        assert answer == guard_selects(task, bond, f"{number}")
        seen.add(answer)
    assert seen == {True, False}


@pytest.mark.parametrize("difficulty", [0, -1, -(2**63), 2**63 - 1])
def test_is_selected__when__the_difficulty_is_at_the_edge_of_a_long__then__the_guard_agrees(difficulty: int) -> None:
    task, bond = task_and_bond("edge", difficulty, 3, TIP - 5, TIP - 5)
    refs = [HeaderRef(h["height"], bytes.fromhex(h["id"])) for h in headers(TIP, "edge")]
    assert is_selected(task, bond.content, refs, TIP + 1) == guard_selects(task, bond, "edge") == (difficulty <= 0)


def test_ticket__when__drawn__then__the_hash_of_header_task_and_key_folded_to_63_bits() -> None:
    node = NODE.public_key
    for number in range(20):
        header, task = digest("h", number), digest("t", number)
        raw = hashlib.blake2b(header + task + b"\x00\x08\xcd" + node, digest_size=32).digest()[:8]
        signed = int.from_bytes(raw, "big", signed=True)
        assert ticket(header, task, node) == (signed if signed >= 0 else -signed - 1)
        assert 0 <= ticket(header, task, node) < TICKETS


def test_weight__when__the_score_is_negative__then__one_is_left() -> None:
    assert [weight(score) for score in (-100, -1, 0, 1, 41)] == [1, 1, 1, 2, 42]
