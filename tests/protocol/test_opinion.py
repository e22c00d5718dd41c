"""Reputation proofs under the contract that is on the chain: what both interpreters accept and refuse, and what plans take care of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from contracts.chain import NODE, PARAMETERS, STRANGER, Draft, Out, box_of, context, header, headers, message_of
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction
from hypothesis import given
from hypothesis import strategies as st
from offchain import ERG, FEE

from aihd.chain.appkit import Appkit
from aihd.devnet.sigma import verify_transaction
from aihd.errors import UsageError
from aihd.protocol import rules
from aihd.protocol.boxes import On, tokens_of
from aihd.protocol.codec import BoxError, coll_byte
from aihd.protocol.context import next_header
from aihd.protocol.funding import Funds, InsufficientFundsError, Plan
from aihd.protocol.opinion import (
    CELAUT_NODE_TYPE,
    MAX_OPINIONS,
    OPINION_VALUE,
    REPUTATION_TREE,
    SUPPLY,
    TYPE_TREE,
    Opinion,
    OpinionBox,
    Proof,
    changed,
    price,
    publish,
    read_proof,
    shares,
    token_of,
    update,
)

TIP = 1000
OTHER_TYPE = b"\x0f" * 32
EXTRA = b"\xee" * 32  # a token that somebody sacrificed to the proof
POINTER = Opinion(CELAUT_NODE_TYPE, NODE.pk, 1)
GOOD = Opinion(CELAUT_NODE_TYPE, b"\x02" * 33, 30, b"quick")
BAD = Opinion(CELAUT_NODE_TYPE, b"\x03" * 33, -10)


def nft(type_id: bytes = CELAUT_NODE_TYPE, tree: bytes = TYPE_TREE) -> ErgoBox:
    return box_of(Out(ERG, tree, ((type_id, 1),), (coll_byte(b"node"),)), b"nft" + type_id, 500)


def wallet(owner: bytes = NODE.tree, seed: bytes = b"wallet") -> Funds:
    return Funds((box_of(Out(10 * ERG, owner), seed, 900),), owner, FEE)


def published(opinions: Sequence[Opinion] = (GOOD, BAD)) -> tuple[Plan, Proof]:
    plan = publish(TIP - 10, POINTER, opinions, [nft()], wallet())
    return plan, proof_of(plan)


def proof_of(plan: Plan) -> Proof:
    return read_proof(token_of(plan), NODE.tree, list(plan.unsigned().outputs))


def draft(plan: Plan) -> Draft:
    return Draft.of(plan, TIP, (NODE,), ()).read(*plan.data_inputs)


def updated(opinions: Sequence[Opinion] = (GOOD, BAD), proof: Proof | None = None) -> Draft:
    proof = published()[1] if proof is None else proof
    return draft(update(TIP + 1, proof, POINTER, opinions, [nft()], wallet(seed=b"later")))


@dataclass(frozen=True, slots=True)
class Judge:
    """One of the two interpreters, asked with the makers' signatures on their own boxes and empty proofs on the others."""

    appkit: Appkit | None

    def __call__(self, tried: Draft) -> bool:
        unsigned = tried.unsigned()
        message = message_of(unsigned)
        keys = {party.tree: party for party in tried.signers}
        trees = [bytes(box.ergo_tree) for box in tried.inputs]
        tx = Transaction.from_unsigned_tx(unsigned, [keys[t].proof(message) if t in keys else b"" for t in trees])
        if self.appkit is None:
            found = verify_transaction(tx, tried.inputs, tried.data_inputs, context(tried.tip))
            return len(found) == len(tried.inputs) and all(result.ok for result in found)
        arguments = headers(tried.tip), next_header(header(tried.tip)), PARAMETERS
        return self.appkit.verify(tx, tried.inputs, tried.data_inputs, *arguments).ok


@pytest.fixture(scope="module", params=["ergo-lib", pytest.param("jvm", marks=pytest.mark.jvm)])
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    if request.param == "ergo-lib":
        yield Judge(None)
    else:
        with Appkit() as appkit:
            yield Judge(appkit)


# ---------------------------------------------------------------- what the contract says


def test_constants__when__hashed__then__are_the_contracts_of_the_ecosystem() -> None:
    def digest(tree: bytes) -> str:
        return hashlib.blake2b(tree, digest_size=32).hexdigest()

    assert digest(REPUTATION_TREE) == "3a94621862f67454cbdd613ed3a64482b9dfe3093c6182356ba4f4a14411f795"
    assert digest(TYPE_TREE) == "ceea52651b6b206381ea28a2e59f775367cef567c0c2f089dc7e09356b64ef61"
    assert bytes.fromhex(digest(TYPE_TREE)) in REPUTATION_TREE


@pytest.mark.parametrize("opinions", [(), (GOOD,), (GOOD, BAD), (BAD,)])
def test_publish__when__judged__then__accepted_and_whole(judge: Judge, opinions: tuple[Opinion, ...]) -> None:
    plan, proof = published(opinions)
    assert judge(replace(draft(plan), tip=TIP - 11))
    assert sum(on.tokens[0][1] for on in proof) == SUPPLY
    assert [on.content.positive for on in proof] == [True, *(opinion.weight > 0 for opinion in opinions)]
    assert price((), plan) == FEE + OPINION_VALUE * (1 + len(opinions))


@pytest.mark.parametrize(
    "opinions",
    [(GOOD, BAD), (replace(GOOD, weight=-1), BAD), (BAD,), (), (GOOD, BAD, replace(GOOD, subject=b"\x09" * 33))],
)
def test_update__when__judged__then__accepted_and_nothing_leaves(judge: Judge, opinions: tuple[Opinion, ...]) -> None:
    before = published()[1]
    plan = update(TIP + 1, before, POINTER, opinions, [nft()], wallet(seed=b"later"))
    assert judge(draft(plan))
    after = proof_of(plan)
    assert sum(on.tokens[0][1] for on in after) == SUPPLY
    assert sum(on.value for on in after) >= sum(on.value for on in before)
    assert [on.content.subject for on in after] == [NODE.pk, *(opinion.subject for opinion in opinions)]


def test_update__when__as_many_as_fit__then__accepted_within_the_mempool_s_cost(judge: Judge) -> None:
    many = [Opinion(CELAUT_NODE_TYPE, bytes([2, n]) * 16, 1 + n, b"x" * 1000) for n in range(MAX_OPINIONS)]
    plan = update(TIP + 1, published(many)[1], POINTER, many, [nft()], wallet(seed=b"later"))
    assert judge(draft(plan))
    assert not rules.violations(
        draft(plan).unsigned(), plan.inputs, height=TIP + 1, parameters=PARAMETERS, data_inputs=plan.data_inputs
    )
    if judge.appkit:
        tried = draft(plan)
        proofs = [
            NODE.proof(message_of(tried.unsigned())) if bytes(b.ergo_tree) == NODE.tree else b"" for b in tried.inputs
        ]
        tx = Transaction.from_unsigned_tx(tried.unsigned(), proofs)
        arguments = headers(TIP), next_header(header(TIP)), PARAMETERS
        assert judge.appkit.verify(tx, tried.inputs, tried.data_inputs, *arguments).cost < 4_900_000


def kept(tried: Draft, index: int, **changes: Any) -> Draft:
    """Change the content of an output."""
    return tried.edit(index, OpinionBox, **changes)


def amount(tried: Draft, index: int, more: int) -> Draft:
    (token, held), *rest = tried.outputs[index].tokens
    return tried.out(index, tokens=((token, held + more), *rest))


def by_stranger(tried: Draft) -> Draft:
    coin = box_of(Out(10 * ERG, STRANGER.tree), b"stranger", 900)
    inputs = tuple(box for box in tried.inputs if bytes(box.ergo_tree) == REPUTATION_TREE)
    return replace(tried, inputs=(*inputs, coin), change=STRANGER.tree).by(STRANGER)


def unlocked_by(left: int = 5, **changes: Any) -> Callable[[Draft], Draft]:
    """Spend a locked box of 5 units and leave a successor of `left` units with these changes."""

    def spend(tried: Draft) -> Draft:
        token = tokens_of(tried.inputs[0])[0][0]
        content = OpinionBox(CELAUT_NODE_TYPE, b"\x0c" * 33, True, NODE.tree, True, b"for ever")
        box = box_of(Out(OPINION_VALUE, REPUTATION_TREE, ((token, 5),), content.constants()), b"locked", 900)
        after = replace(content, **changes)
        successor = Out(OPINION_VALUE, REPUTATION_TREE, ((token, left),), after.constants())
        return amount(tried.spend(0, box).add(successor), 0, 5 - left)

    return spend


REFUSED: dict[str, Callable[[Draft], Draft]] = {
    "a stranger updates": by_stranger,
    "units vanish": lambda t: amount(t, 1, -3),
    "units appear": lambda t: amount(t, 1, 3),
    "units go to the owner's wallet": lambda t: amount(t, 1, -1).add(
        Out(ERG, NODE.tree, ((tokens_of(t.inputs[0])[0][0], 1),))
    ),
    "nanoERG are taken out": lambda t: t.value(0, -1),
    "an opinion goes to another owner": lambda t: kept(t, 1, owner=STRANGER.tree),
    "no type NFT is shown": lambda t: t.read(),
    "another type's NFT is shown": lambda t: t.read(nft(OTHER_TYPE)),
    "the NFT lies under another guard": lambda t: t.read(nft(tree=STRANGER.tree)),
    "the text of a locked box changes": unlocked_by(content=b"changed"),
    "the subject of a locked box changes": unlocked_by(subject=b"\x0d" * 33),
    "the type of a locked box changes": unlocked_by(type_nft=OTHER_TYPE),
    "a locked box is unlocked": unlocked_by(locked=False),
    "a locked box loses units": unlocked_by(left=4),
    "a sacrificed token is taken out": lambda t: t.instead(0, with_extra(t.inputs[0])),
}

NOT_REFUSED: dict[str, Callable[[Draft], Draft]] = {
    "a locked box stays as it was": unlocked_by(),
    "the sign of a locked box is turned": unlocked_by(positive=False),
    "an opinion is of a type without an NFT": lambda t: kept(t, 1, type_nft=OTHER_TYPE),
    "the owner states one thing twice": lambda t: kept(t, 2, subject=GOOD.subject),
}


def with_extra(box: ErgoBox) -> ErgoBox:
    content = OpinionBox.read(box).constants()
    return box_of(Out(box.value, REPUTATION_TREE, (*tokens_of(box), (EXTRA, 7)), content), b"extra", 900)


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED)
def test_contract__when__attacked__then__refuses(judge: Judge, attack: Callable[[Draft], Draft]) -> None:
    honest = updated()
    assert judge(honest)
    assert not judge(attack(honest))


@pytest.mark.parametrize("change", NOT_REFUSED.values(), ids=NOT_REFUSED)
def test_contract__when__owner_does_what_it_does_not_mind__then__accepts(
    judge: Judge, change: Callable[[Draft], Draft]
) -> None:
    assert judge(change(updated()))


def top_up(boxes: Sequence[ErgoBox], successors: Sequence[ErgoBox]) -> Draft:
    """A stranger spends boxes of a proof by the public path."""
    coin = box_of(Out(ERG, STRANGER.tree), b"stranger", 900)
    outs = [Out(box.value, REPUTATION_TREE, tokens_of(box), OpinionBox.read(box).constants()) for box in successors]
    return Draft((*boxes, coin), tuple(outs), TIP, (STRANGER,), TIP, STRANGER.tree)


def test_contract__when__stranger_tops_up_one_box__then__accepts(judge: Judge) -> None:
    box = published()[1][1].box
    assert judge(top_up([box], [box]).value(0, 5))
    assert not judge(top_up([box], [box]).value(0, -5))


def test_contract__when__two_boxes_are_equal__then__a_stranger_merges_them(judge: Judge) -> None:
    """The flaw that plans avoid: two equal boxes are satisfied by one successor, and the other's nanoERG are the stranger's."""
    box = published()[1][1].box
    out = Out(box.value, REPUTATION_TREE, tokens_of(box), OpinionBox.read(box).constants())
    assert judge(top_up([box, box_of(out, b"its twin", TIP - 10)], [box]))


def test_contract__when__boxes_are_of_one_plan__then__no_two_can_be_merged(judge: Judge) -> None:
    alike = [replace(GOOD, subject=bytes([2, n])) for n in range(3)]  # equal in all but the subject
    boxes = [on.box for on in published(alike)[1]][1:]
    assert tokens_of(boxes[0]) == tokens_of(boxes[1])
    for successor in boxes[:2]:
        assert not judge(top_up(boxes[:2], [successor]))


# ---------------------------------------------------------------- what plans take care of


@given(st.lists(st.integers(-(10**12), 10**12).filter(bool), max_size=40), st.integers(40, 10**9))
def test_shares__when__drawn__then__add_up_in_order_of_size(weights: list[int], total: int) -> None:
    found = shares(weights, total)
    assert sum(found) == (total if weights else 0)
    assert all(share >= 1 for share in found)
    ordered = [share for _, share in sorted(zip(map(abs, weights), found, strict=True))]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(("weights", "total"), [([0], 5), ([1, 1], 1)])
def test_shares__when__somebody_would_get_nothing__then__usage_error(weights: list[int], total: int) -> None:
    with pytest.raises(UsageError, match="each has to get one"):
        shares(weights, total)


@pytest.mark.parametrize(
    ("opinions", "types", "text"),
    [
        ([GOOD, GOOD], [nft()], "named twice"),
        ([POINTER], [nft()], "named twice"),
        ([replace(GOOD, type_nft=OTHER_TYPE)], [nft()], "no box shows type 0f0f"),
        ([GOOD], [], "no box shows type 6406"),
        ([GOOD], [nft(tree=STRANGER.tree)], "no box shows type"),
        ([GOOD], [box_of(Out(ERG, TYPE_TREE, ((CELAUT_NODE_TYPE, 1),)), b"new", TIP)], "no box shows type"),
        ([replace(GOOD, content=b"x" * 1001)], [nft()], "content of 1001 bytes"),
        ([replace(GOOD, subject=b"")], [nft()], "1 to 64 bytes"),
        ([replace(GOOD, subject=bytes([2, n])) for n in range(MAX_OPINIONS + 1)], [nft()], "at most 10"),
    ],
)
def test_publish__when__opinions_do_not_fit__then__usage_error(
    opinions: list[Opinion], types: list[ErgoBox], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        publish(TIP, POINTER, opinions, types, wallet())


def test_publish__when__wallet_is_empty__then__insufficient_funds() -> None:
    with pytest.raises(InsufficientFundsError, match="is empty"):
        publish(TIP, POINTER, [GOOD], [nft()], Funds((), NODE.tree, FEE))


def locked(proof: Proof, subject: bytes) -> Proof:
    token = proof[0].tokens[0][0]
    content = OpinionBox(CELAUT_NODE_TYPE, subject, True, NODE.tree, True, b"")
    box = box_of(Out(OPINION_VALUE, REPUTATION_TREE, ((token, 5),), content.constants()), b"locked", 900)
    return (*proof, On(box, content))


def test_update__when__a_box_is_locked__then__it_stays_and_its_subject_is_refused(judge: Judge) -> None:
    proof = locked(published()[1], b"\x0c" * 33)
    plan = update(TIP + 1, proof, POINTER, [GOOD], [nft()], wallet(seed=b"later"))
    assert proof[-1].id not in {str(box.box_id) for box in plan.inputs}
    assert judge(draft(plan))
    with pytest.raises(UsageError, match="is locked"):
        update(TIP + 1, proof, POINTER, [replace(GOOD, subject=b"\x0c" * 33)], [nft()], wallet(seed=b"later"))
    with pytest.raises(UsageError, match="no box of the proof"):
        update(TIP + 1, proof[-1:], POINTER, [GOOD], [nft()], wallet(seed=b"later"))


def test_update__when__something_was_sacrificed__then__it_ends_in_the_owner_s_box(judge: Judge) -> None:
    before = published()[1]
    rich = with_extra(before[1].box)
    plan = update(TIP + 1, (before[0], On(rich, before[1].content), before[2]), POINTER, [], [nft()], wallet(seed=b"x"))
    assert judge(draft(plan))
    (own,) = proof_of(plan)
    assert own.tokens[1:] == ((EXTRA, 7),)
    assert own.value == 3 * OPINION_VALUE
    assert price(before, plan) == FEE + own.value - before[0].value - before[2].value


def test_changed__when__compared_with_the_chain__then__counts_what_matters() -> None:
    proof = published()[1]
    other = replace(GOOD, subject=b"\x05" * 33, weight=1)
    assert changed((), POINTER, [GOOD, BAD]) == 2
    assert changed(proof, POINTER, [GOOD, BAD]) == 0
    assert changed(proof, POINTER, [replace(GOOD, weight=31), BAD]) == 0
    assert changed(proof, POINTER, [replace(GOOD, content=b"slow"), BAD]) == 1
    assert changed(proof, POINTER, [GOOD, replace(BAD, weight=10)]) == 1
    assert changed(proof, POINTER, [GOOD, BAD, other]) == 1
    assert changed(proof, POINTER, [GOOD]) == 2  # one is gone, and the other has all of its weight


def test_read_proof__when__boxes_are_others_or_malformed__then__left_out_or_refused() -> None:
    plan, proof = published()
    token = token_of(plan)
    mine = proof[1]
    theirs = replace(mine.content, owner=STRANGER.tree)
    out = Out(OPINION_VALUE, REPUTATION_TREE, mine.tokens, mine.content.constants())
    others = [
        box_of(replace(out, registers=theirs.constants()), b"theirs", 900),
        box_of(replace(out, tree=NODE.tree), b"wallet", 900),
        box_of(replace(out, tokens=((EXTRA, 1),)), b"other token", 900),
        box_of(replace(out, tokens=()), b"no token", 900),
    ]
    assert read_proof(token, NODE.tree, [mine.box, *others]) == (mine,)
    with pytest.raises(BoxError, match=r"R6 is .*, expected Boolean"):
        read_proof(token, NODE.tree, [box_of(replace(out, registers=out.registers[:2]), b"malformed", 900)])
