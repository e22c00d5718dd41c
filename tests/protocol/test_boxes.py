"""Every box kind, written to registers and read back: the same content, whatever its values are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.transaction import TxId
from hypothesis import given
from hypothesis import strategies as st
from offchain import digest, signer

from aihd.protocol import codec
from aihd.protocol.boxes import (
    Bond,
    ClaimedTask,
    Content,
    FailureReceipt,
    Minter,
    On,
    Rating,
    Receipt,
    TaskEscrow,
    registers,
    tokens_of,
)
from aihd.protocol.codec import INT_RANGE, LONG_RANGE, BoxError
from aihd.protocol.constants import MAX_ALLOWED, MAX_CID, MAX_ENDPOINT, MAX_LOCATOR, MAX_OPEN, MAX_PROOF
from aihd.protocol.trees import parse_tree

TREE = parse_tree(signer("node").tree)
KEYS = [signer(name).public_key for name in ("node", "client", "stranger")]

hashes = st.binary(min_size=32, max_size=32)
keys = st.sampled_from(KEYS)
longs = st.integers(*LONG_RANGE)
ints = st.integers(*INT_RANGE)


def text(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=most // 4)


CONTENTS: dict[type[Any], st.SearchStrategy[Any]] = {
    Minter: st.just(Minter()),
    Bond: st.builds(
        Bond,
        keys,
        *(longs,) * 7,
        active=ints,
        last_activity=ints,
        open_ids=st.lists(hashes, max_size=MAX_OPEN).map(tuple),
        endpoint=text(MAX_ENDPOINT),
    ),
    TaskEscrow: st.builds(
        TaskEscrow,
        service_hash=hashes,
        input_commitment=hashes,
        **dict.fromkeys(
            (
                "worth", "payment", "min_reputation", "claim_deadline", "exec_window", "selection_window",
                "selection_difficulty", "holdback_bps", "version",
            ),
            longs,
        ),
        client=keys,
        locator=text(MAX_LOCATOR),
        allowed=st.lists(st.sampled_from(KEYS), max_size=MAX_ALLOWED).map(tuple),
    ),
    ClaimedTask: st.builds(
        ClaimedTask,
        service_hash=hashes,
        input_commitment=hashes,
        **dict.fromkeys(("worth", "payment", "exec_deadline", "claim_height", "holdback_bps"), longs),
        client=keys,
        node=keys,
        locator=text(MAX_LOCATOR),
    ),
    Receipt: st.builds(Receipt, *(hashes,) * 4, keys, st.binary(max_size=MAX_PROOF - 33), st.binary(max_size=MAX_CID)),
    FailureReceipt: st.builds(FailureReceipt, hashes, keys, ints, hashes, longs, st.binary(max_size=MAX_PROOF)),
    Rating: st.builds(
        Rating,
        client=keys,
        node=keys,
        **dict.fromkeys(("worth", "held", "outcome"), longs),
        **dict.fromkeys(("commit_deadline", "reveal_deadline", "client_mark", "node_mark"), ints),
        client_commitment=st.sampled_from([b"", digest("c")]),
        node_commitment=st.sampled_from([b"", digest("n")]),
    ),
}  # fmt: skip


def box(content: Content, **changes: Any) -> ErgoBox:
    held = registers(content) | {codec.REGISTER_IDS[int(name[1:]) - 4]: value for name, value in changes.items()}
    candidate = ErgoBoxCandidate(value=10**9, script=TREE, creation_height=1, registers=held or None)
    return ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0)


@pytest.mark.parametrize("kind", CONTENTS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_read__when__a_content_was_written__then__the_same_content(kind: type[Any], data: st.DataObject) -> None:
    content = data.draw(CONTENTS[kind])
    made = box(content)
    assert kind.read(made) == content
    assert kind.read(ErgoBox.from_bytes(bytes(made))) == content


BOND = Bond(KEYS[0], 1, open_ids=(digest("a"),), endpoint="http://x")
TASK = TaskEscrow(
    service_hash=digest("s"),
    input_commitment=digest("i"),
    worth=1,
    payment=1,
    min_reputation=0,
    claim_deadline=1,
    exec_window=1,
    selection_window=0,
    selection_difficulty=1,
    client=KEYS[1],
)
CLAIMED = ClaimedTask(
    service_hash=digest("s"),
    input_commitment=digest("i"),
    worth=1,
    payment=1,
    exec_deadline=2,
    claim_height=3,
    client=KEYS[1],
    node=KEYS[0],
)
RECEIPT = Receipt(digest("t"), digest("i"), digest("o"), digest("p"), KEYS[0], b"sig", b"cid")
FAILURE = FailureReceipt(digest("t"), KEYS[0], 1, digest("e"), 7, b"sig")
RATING = Rating(client=KEYS[1], node=KEYS[0], worth=1, commit_deadline=2, reveal_deadline=3)


@pytest.mark.parametrize(
    ("content", "register", "value"),
    [
        (BOND, "R4", codec.coll_byte(KEYS[0])),
        (BOND, "R5", codec.coll_long((0,) * 6)),
        (BOND, "R6", codec.long_constant(0)),
        (BOND, "R7", codec.long_constant(0)),
        (BOND, "R8", codec.coll_coll_byte((bytes(32),) * (MAX_OPEN + 1))),
        (BOND, "R8", codec.coll_coll_byte((bytes(31),))),
        (BOND, "R9", codec.coll_byte(bytes(MAX_ENDPOINT + 1))),
        (TASK, "R4", codec.coll_byte(bytes(31))),
        (TASK, "R5", codec.coll_byte(bytes(33))),
        (TASK, "R6", codec.coll_long((0,) * 8)),
        (TASK, "R6", codec.coll_long((0,) * 10)),
        (TASK, "R7", codec.coll_byte(KEYS[1])),
        (TASK, "R8", codec.coll_byte(bytes(MAX_LOCATOR + 1))),
        (TASK, "R8", codec.coll_byte(b"http://\xff")),
        (TASK, "R9", codec.coll_coll_byte((bytes(33),) * (MAX_ALLOWED + 1))),
        (TASK, "R9", codec.coll_coll_byte((bytes(32),))),
        (CLAIMED, "R6", codec.coll_int((1, 2, 3, 4, 5))),
        (CLAIMED, "R6", codec.coll_long((1, 2, 3, 4))),
        (CLAIMED, "R8", codec.int_constant(1)),
        (RECEIPT, "R6", codec.coll_byte(b"")),
        (RECEIPT, "R8", codec.coll_byte(bytes(32))),
        (RECEIPT, "R8", codec.coll_byte(bytes(MAX_PROOF + 1))),
        (RECEIPT, "R9", codec.coll_byte(bytes(MAX_CID + 1))),
        (FAILURE, "R5", codec.sigma_prop(KEYS[0])),
        (FAILURE, "R8", codec.int_constant(7)),
        (RATING, "R6", codec.long_constant(1)),
        (RATING, "R6", codec.coll_long((1, 0))),
        (RATING, "R7", codec.coll_long((1, 2, 3, 4))),
        (RATING, "R8", codec.coll_byte(bytes(31))),
        (RATING, "R9", codec.coll_byte(bytes(33))),
    ],
)
def test_read__when__one_register_is_wrong__then__the_error_names_box_and_register(
    content: Content, register: str, value: Any
) -> None:
    assert type(content).read(box(content)) == content
    wrong = box(content, **{register: value})
    with pytest.raises(BoxError) as caught:
        type(content).read(wrong)
    assert str(caught.value).startswith(f"{type(content).__name__} box {wrong.box_id}: {register} is ")


def test_bond__when__its_endpoint_is_no_utf8__then__read_all_the_same_and_copied_byte_for_byte() -> None:
    odd = Bond.read(box(BOND, R9=codec.coll_byte(b"http://\xff\x00")))
    assert bytes(odd.constants()[5]) == bytes(codec.coll_byte(b"http://\xff\x00"))


@pytest.mark.parametrize("content", [BOND, TASK, CLAIMED, RECEIPT, FAILURE, RATING], ids=lambda c: type(c).__name__)
def test_read__when__the_last_register_is_missing__then__refused(content: Content) -> None:
    held = dict(list(registers(content).items())[:-1])
    candidate = ErgoBoxCandidate(value=10**9, script=TREE, creation_height=1, registers=held)
    with pytest.raises(BoxError, match="R9 is missing"):
        type(content).read(ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0))


def test_on__when__asked__then__what_the_box_says() -> None:
    token = digest("token")
    candidate = ErgoBoxCandidate(
        value=5 * 10**8, script=TREE, creation_height=1, tokens=[Token(TokenId(token), 2)], registers=registers(BOND)
    )
    made = ErgoBox.from_box_candidate(candidate, TxId("22" * 32), 3)
    on = On(made, BOND)
    assert (on.value, on.tokens, on.transaction_id) == (5 * 10**8, ((token, 2),), "22" * 32)
    assert on.id == on.raw_id.hex() == str(made.box_id)
    assert tokens_of(made) == ((token, 2),)


def test_bond__when__fields_change__then__counters_follow_the_order_of_the_register() -> None:
    bond = replace(BOND, committed=2, score=3, completed=4, failed=5, timed_out=6, born=7)
    assert bond.counters() == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("content", "own"), [(TASK, ()), (CLAIMED, ((digest("t"), 2),)), (RATING, ((digest("t"), 1),))], ids=repr
)
def test_read__when__a_token_stands_after_the_task_token__then__it_is_what_is_paid(
    content: Any, own: tuple[tuple[bytes, int], ...]
) -> None:
    asset = digest("asset")
    for held, expected in ((own, None), ((*own, (asset, 7)), asset)):
        tokens = [Token(TokenId(token), amount) for token, amount in held] or None
        candidate = ErgoBoxCandidate(
            value=10**9, script=TREE, creation_height=1, tokens=tokens, registers=registers(content)
        )
        read = type(content).read(ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0))
        assert read == replace(content, asset=expected)
