"""A deployment is made from the committed templates alone, and takes only boxes that are wholly its own for its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ergo_lib_python.chain import Constant, ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.ergo_tree import ErgoTree
from ergo_lib_python.transaction import TxId
from offchain import COMMITMENT, ERG, SERVICE, digest, signer

from aihd.chain.contracts import make_deployment, source_of, template_record, templates
from aihd.errors import ConfigError
from aihd.protocol.boxes import (
    Bond,
    ClaimedTask,
    Content,
    FailureReceipt,
    Minter,
    Rating,
    Receipt,
    TaskEscrow,
    registers,
)
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import CONTENT_OF, SLOT_NAMES, Deployment, Guard, slot_marker
from aihd.protocol.hashes import blake2b256
from aihd.protocol.trees import parse_tree
from aihd.resources import resource

NODE, CLIENT = signer("node").public_key, signer("client").public_key
TOKEN, TASK = digest("bond token"), digest("task")
TREASURY = signer("treasury").tree
EXPIRY = 1_000_000
ASSET = digest("asset")


def deployment(token: bytes = TOKEN, treasury: bytes = TREASURY, expiry: int = EXPIRY) -> Deployment:
    return make_deployment(network="devnet", bond_token=token, treasury=treasury, expiry=expiry)


DEPLOYMENT = deployment()
TERMS: dict[str, Any] = {"service_hash": SERVICE, "input_commitment": COMMITMENT, "worth": ERG, "payment": ERG}
ESCROW = TaskEscrow(
    **TERMS,
    min_reputation=0,
    claim_deadline=1,
    exec_window=1,
    selection_window=0,
    selection_difficulty=1,
    client=CLIENT,
)
CLAIMED = ClaimedTask(**TERMS, exec_deadline=1, claim_height=1, client=CLIENT, node=NODE)
RATING = Rating(client=CLIENT, node=NODE, worth=ERG, commit_deadline=1, reveal_deadline=2)

CONTENTS: dict[Guard, tuple[Content, tuple[tuple[bytes, int], ...]]] = {
    Guard.MINTER: (Minter(), ((TOKEN, 1000),)),
    Guard.BOND: (Bond(NODE, ERG), ((TOKEN, 1),)),
    Guard.TASK: (ESCROW, ()),
    Guard.CLAIMED: (CLAIMED, ((TASK, 2),)),
    Guard.RECEIPT: (Receipt(TASK, COMMITMENT, digest(1), digest(2), NODE, b"", b""), ((TASK, 1),)),
    Guard.FAILURE: (FailureReceipt(TASK, NODE, 1, digest(1), 1, b""), ((TASK, 1),)),
    Guard.RATING: (RATING, ((TASK, 1),)),
}


def box(tree: bytes, content: Content, *tokens: tuple[bytes, int]) -> ErgoBox:
    candidate = ErgoBoxCandidate(
        value=ERG,
        script=parse_tree(tree),
        creation_height=1,
        tokens=[Token(TokenId(token), amount) for token, amount in tokens] or None,
        registers=registers(content) or None,
    )
    return ErgoBox.from_box_candidate(candidate, TxId("11" * 32), 0)


@pytest.mark.parametrize("guard", Guard)
def test_templates__when__committed__then__record_tree_slots_and_hashes_are_consistent(guard: Guard) -> None:
    template = templates()[guard]
    committed = json.loads(resource("ergoscript", "compiled", f"{guard}.json").read_text())
    assert committed == template_record(template)
    constants = [bytes(c) for c in ErgoTree.from_bytes(template.tree).constants()]
    for name in SLOT_NAMES:
        found = tuple(i for i, c in enumerate(constants) if c == bytes(slot_marker(name)))
        assert template.slots.get(name, ()) == found
    assert all(name in source_of(guard) for name in template.slots)


@pytest.mark.parametrize("guard", Guard)
def test_make__when__slots_are_filled__then__each_has_its_value_and_nothing_else_changed(guard: Guard) -> None:
    template = templates()[guard]
    before = [bytes(c) for c in ErgoTree.from_bytes(template.tree).constants()]
    after = [bytes(c) for c in ErgoTree.from_bytes(DEPLOYMENT.trees[guard]).constants()]
    values = {"BOND_TOKEN": Constant(TOKEN), "TREASURY": Constant(TREASURY), "EXPIRY": Constant.from_i64(EXPIRY)}
    values |= {f"{g.upper()}_HASH": Constant(blake2b256(DEPLOYMENT.trees[g])) for g in Guard}
    filled = {index: bytes(values[name]) for name, places in template.slots.items() for index in places}
    assert after == [filled.get(index, constant) for index, constant in enumerate(before)]


def test_make__when__a_guard_names_others__then__only_those_made_before_it() -> None:
    order = list(Guard)
    for number, guard in enumerate(order):
        named = {name for name in templates()[guard].slots if name.endswith("_HASH")}
        assert named <= {f"{earlier.upper()}_HASH" for earlier in order[:number]}


def test_make__when__a_value_differs__then__another_market() -> None:
    ids = {
        deployment(token, treasury, expiry).id
        for token in (TOKEN, digest("other"))
        for treasury in (TREASURY, signer("other").tree)
        for expiry in (EXPIRY, EXPIRY + 1)
    }
    assert len(ids) == 8
    assert deployment().id == DEPLOYMENT.id


def test_make__when__a_value_is_none__then__refused() -> None:
    with pytest.raises(ConfigError, match="bond_token is 0102, expected 32 bytes"):
        deployment(b"\1\2")
    with pytest.raises(ConfigError, match="expiry is 0, expected a height"):
        deployment(expiry=0)


@pytest.mark.parametrize("guard", Guard)
def test_read__when__script_tokens_and_registers_are_right__then__the_typed_box(guard: Guard) -> None:
    content, tokens = CONTENTS[guard]
    made = box(DEPLOYMENT.trees[guard], content, *tokens)
    assert DEPLOYMENT.guard_of(made) is guard
    found: Any = DEPLOYMENT.read(CONTENT_OF[guard], made)
    assert (found.content, found.box) == (content, made)


@pytest.mark.parametrize("guard", Guard)
def test_read__when__the_script_is_another__then__refused(guard: Guard) -> None:
    content, tokens = CONTENTS[guard]
    foreign = deployment(digest("other")).trees[guard]
    others = [tree for other, tree in DEPLOYMENT.trees.items() if other is not guard]
    for tree in (TREASURY, *others, *([foreign] if foreign != DEPLOYMENT.trees[guard] else [])):
        with pytest.raises(BoxError, match=f"does not stand under the {guard} guard of this deployment"):
            DEPLOYMENT.read(CONTENT_OF[guard], box(tree, content, *tokens))


@pytest.mark.parametrize(
    ("guard", "tokens"),
    [
        (Guard.BOND, ()),
        (Guard.BOND, ((TOKEN, 2),)),
        (Guard.BOND, ((TASK, 1),)),
        (Guard.BOND, ((TOKEN, 1), (TASK, 1))),
        (Guard.MINTER, ((TASK, 1000),)),
        (Guard.TASK, ((ASSET, ERG - 1),)),
        (Guard.TASK, ((ASSET, ERG), (TASK, 1))),
        (Guard.CLAIMED, ((TASK, 1),)),
        (Guard.CLAIMED, ()),
        (Guard.CLAIMED, ((TASK, 2), (ASSET, ERG + 1))),
        (Guard.CLAIMED, ((TASK, 2), (ASSET, ERG), (digest("other"), 1))),
        (Guard.RECEIPT, ((digest("other"), 1),)),
        (Guard.RECEIPT, ((TASK, 2),)),
        (Guard.FAILURE, ((TASK, 2),)),
        (Guard.RATING, ((TASK, 2),)),
        (Guard.RATING, ((TASK, 1), (TOKEN, 1))),
    ],
)
def test_read__when__the_tokens_are_wrong__then__refused(guard: Guard, tokens: tuple[tuple[bytes, int], ...]) -> None:
    with pytest.raises(BoxError, match=f"^{guard} box [0-9a-f]{{64}}: it holds .*, which a box of this kind does not"):
        DEPLOYMENT.read(CONTENT_OF[guard], box(DEPLOYMENT.trees[guard], CONTENTS[guard][0], *tokens))


@pytest.mark.parametrize(
    ("guard", "content", "own"),
    [
        (Guard.TASK, replace(ESCROW, asset=ASSET, payment=7), ()),
        (Guard.CLAIMED, replace(CLAIMED, asset=ASSET, payment=7), ((TASK, 2),)),
        (Guard.RATING, replace(RATING, asset=ASSET, held=7), ((TASK, 1),)),
    ],
)
def test_read__when__paid_in_a_token__then__the_box_holds_what_its_registers_say(
    guard: Guard, content: Any, own: tuple[tuple[bytes, int], ...]
) -> None:
    tree = DEPLOYMENT.trees[guard]
    assert DEPLOYMENT.read(type(content), box(tree, content, *own, (ASSET, 7))).content == content
    for amount in (6, 8):
        with pytest.raises(BoxError, match="which a box of this kind does not"):
            DEPLOYMENT.read(type(content), box(tree, content, *own, (ASSET, amount)))
