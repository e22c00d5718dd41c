"""The index of a market's boxes: whatever blocks come and are taken back, it shows what the surviving ones leave."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import made as made_terms
import pytest
from ergo_lib_python.chain import ErgoBox, ErgoBoxCandidate, Token, TokenId
from ergo_lib_python.transaction import TxId
from hypothesis import given
from hypothesis import strategies as st
from offchain import COMMITMENT, ERG, OUTPUT, PARAMS, SERVICE, coin, digest, signer

from aihd.chain.contracts import make_deployment
from aihd.core.index import UNDO, Block, Header, Index
from aihd.core.life import Sighting
from aihd.errors import InvariantError
from aihd.protocol.blocks import Mined
from aihd.protocol.box import CONTENT, REGISTERS, Box, Odd, box_of
from aihd.protocol.boxes import Bond, Content, On, Receipt, TaskEscrow, registers
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import parse_tree

OWNER, STRANGER = signer("node"), signer("stranger")
WALLET: Final = OWNER.tree
BOND_TOKEN: Final = digest("bond token")
DEPLOYMENT: Final = make_deployment(
    network="devnet", bond_token=BOND_TOKEN, treasury=signer("treasury").tree, expiry=1_000_000
)
BASE: Final = Header(100, digest("base"), digest("before the base"))
TASKS: Final = (digest("one task"), digest("another task"))
TERMS: Final = made_terms.escrow(service_hash=SERVICE, input_commitment=COMMITMENT, client=OWNER.public_key)
# Under these a box of a task's token tells of the task; under a bond, the minter or a wallet it tells nothing.
OF_TASK: Final = (Guard.CLAIMED, Guard.RECEIPT, Guard.FAILURE, Guard.RATING)


def made(guard: Guard, content: Content, seed: object, token: bytes | None = None) -> Box:
    """A well-formed box under a guard."""
    tokens = [Token(TokenId(token), 1)] if token else None
    script = parse_tree(DEPLOYMENT.trees[guard])
    candidate = ErgoBoxCandidate(
        value=ERG, script=script, creation_height=90, tokens=tokens, registers=registers(content)
    )
    return box_of(ErgoBox.from_box_candidate(candidate, TxId(digest(guard, seed).hex()), 0))


def escrow(seed: object) -> Box:
    return made(Guard.TASK, TERMS, seed)


def receipt(task: bytes) -> Box:
    content = Receipt(task, COMMITMENT, OUTPUT, PARAMS, OWNER.public_key, b"signature", digest("cid"))
    return made(Guard.RECEIPT, content, task, task)


def bond(seed: object) -> Box:
    return made(Guard.BOND, Bond(OWNER.public_key, ERG), seed, BOND_TOKEN)


def holding(tree: bytes, task: bytes, seed: object) -> Box:
    """A box with a unit of a task's token and no registers: malformed under any guard."""
    return box_of(coin(tree, ERG, f"holding {seed}", ((task, 1),)))


@dataclass(frozen=True, slots=True)
class Made:
    """A box with what is expected of it, worked out once: its script, the task that it tells of, and whether it is well formed."""

    box: Box
    tree: bytes
    task: bytes | None
    kind: type[Content] | None = None

    @property
    def kept(self) -> bool:
        """Whether an index knows it: a wallet's boxes, and what is well formed under a guard."""
        return self.tree == WALLET or self.kind is not None


def _pool() -> Iterator[Made]:
    """Boxes that blocks create: some of each kind, well formed and not, ours and not."""
    guards: list[tuple[Guard | None, bytes]] = [(None, WALLET), (None, STRANGER.tree), *DEPLOYMENT.trees.items()]
    for guard, tree in guards:
        plain = box_of(coin(tree, ERG, f"plain {tree.hex()}"))
        yield Made(plain, tree, plain.raw_id if guard is Guard.TASK else None)
        for task in TASKS:
            held = holding(tree, task, tree.hex() + task.hex())
            named = held.raw_id if guard is Guard.TASK else task if guard in OF_TASK else None
            yield Made(held, tree, named)
    yield from (Made(box, DEPLOYMENT.trees[Guard.TASK], box.raw_id, TaskEscrow) for box in map(escrow, range(4)))
    yield from (Made(box, DEPLOYMENT.trees[Guard.BOND], None, Bond) for box in map(bond, range(3)))
    yield from (Made(receipt(task), DEPLOYMENT.trees[Guard.RECEIPT], task, Receipt) for task in TASKS)


def key(box: Box) -> str:
    return box.id


def seen(box: Box, at: Header = BASE, spent_by: str | None = None) -> Sighting:
    return Sighting(box, at.height, at.id, spent_by)


POOL: Final = {key(made.box): made for made in _pool()}
LISTED: Final = {
    key(made.box): made
    for made in (
        Made(escrow("listed"), DEPLOYMENT.trees[Guard.TASK], escrow("listed").raw_id, TaskEscrow),
        Made(bond("listed"), DEPLOYMENT.trees[Guard.BOND], None, Bond),
        Made(box_of(coin(WALLET, ERG, "listed")), WALLET, None),
    )
}
KNOWN: Final = POOL | LISTED
OURS: Final = frozenset({WALLET, *DEPLOYMENT.trees.values()})


@dataclass(frozen=True, slots=True)
class Shown:
    """All that an index shows of the boxes and transactions of these tests."""

    tip: Header
    boxes: dict[str, Sighting]
    unspent: dict[bytes, set[str]]
    typed: dict[type, set[str]]
    tasks: dict[bytes, list[Sighting]]
    mined: dict[str, int]


def shown(index: Index, tx_ids: Iterable[str]) -> Shown:
    task_ids = {*TASKS, *(made.task for made in KNOWN.values() if made.task)}
    return Shown(
        index.tip,
        {box_id: found for box_id in KNOWN if (found := index.box(box_id)) is not None},
        {tree: {key(box) for box in index.unspent(tree)} for tree in index.trees},
        {kind: {on.id for on in index.typed(kind)} for kind in (TaskEscrow, Bond)},
        {task_id: boxes for task_id in task_ids if (boxes := index.of_task(task_id))},
        {tx_id: height for tx_id in tx_ids if (height := index.mined_at(tx_id)) is not None},
    )


def expected(chain: Chain) -> Shown:
    """The same, worked out by looking at everything from the start."""
    boxes = {box_id: seen(made.box) for box_id, made in LISTED.items()}
    mined: dict[str, int] = {}
    for block in chain.blocks:
        for tx in block.transactions:
            spent = {box_id: replace(boxes[box_id], spent_by=tx.id) for box_id in tx.inputs if box_id in boxes}
            ours = [box_id for box_id in chain.outputs[tx.id] if POOL[box_id].tree in OURS]
            kept = (box_id for box_id in ours if POOL[box_id].kept)
            boxes |= spent | {box_id: seen(POOL[box_id].box, block.header) for box_id in kept}
            if spent or ours:
                mined[tx.id] = block.header.height
    unspent = [box_id for box_id, found in boxes.items() if found.spent_by is None]
    tasks: dict[bytes, list[Sighting]] = {}
    for box_id, found in boxes.items():
        if (task := KNOWN[box_id].task) is not None:
            tasks.setdefault(task, []).append(found)
    return Shown(
        chain.tip,
        boxes,
        {tree: {box_id for box_id in unspent if KNOWN[box_id].tree == tree} for tree in OURS},
        {kind: {box_id for box_id in unspent if KNOWN[box_id].kind is kind} for kind in (TaskEscrow, Bond)},
        tasks,
        mined,
    )


class Chain:
    """Blocks that spend what there is and create what is left of the pool; a box that a reorg took back may come again."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.outputs: dict[str, tuple[str, ...]] = {}  # box ids by transaction id, of every block that ever was
        self.made = 0

    @property
    def tip(self) -> Header:
        return self.blocks[-1].header if self.blocks else BASE

    def next(self, choices: list[tuple[list[int], list[int]]]) -> Block:
        """A block; each of its transactions is given by numbers that pick its inputs and its outputs."""
        self.made += 1
        header = Header(self.tip.height + 1, digest("block", self.made), self.tip.id)
        txs: list[Mined] = []
        unspent, unmade = self._left()
        for ins, outs in choices:
            inputs = [unspent.pop(pick % len(unspent)) for pick in ins if unspent]
            outputs = [unmade.pop(pick % len(unmade)) for pick in outs if unmade]
            unspent += outputs
            tx_id = digest("tx", self.made, len(txs)).hex()
            self.outputs[tx_id] = tuple(outputs)
            boxes = tuple(POOL[box_id].box for box_id in outputs)
            txs.append(Mined(tx_id, (*inputs, digest("a box of others", tx_id).hex()), boxes))
        self.blocks.append(Block(header, tuple(txs)))
        return self.blocks[-1]

    def _left(self) -> tuple[list[str], list[str]]:
        txs = [tx for block in self.blocks for tx in block.transactions]
        spent = {box_id for tx in txs for box_id in tx.inputs}
        created = [box_id for tx in txs for box_id in self.outputs[tx.id]]
        unspent = [box_id for box_id in (*LISTED, *created) if box_id not in spent]
        return unspent, sorted(POOL.keys() - set(created))


def empty_index() -> Index:
    return Index(DEPLOYMENT, WALLET, BASE, (seen(made.box) for made in LISTED.values()))


PICKS = st.lists(st.integers(0, 99), max_size=4)
STEPS = st.one_of(st.lists(st.tuples(PICKS, PICKS), max_size=3), st.integers(1, 4))


@given(st.lists(STEPS, max_size=14))
def test_index__when__blocks_come_and_are_taken_back__then__it_shows_what_the_surviving_ones_leave(
    steps: list[list[tuple[list[int], list[int]]] | int],
) -> None:
    chain, index = Chain(), empty_index()
    for step in steps:
        if isinstance(step, int):
            for _ in range(min(step, len(chain.blocks))):
                chain.blocks.pop()
                index.undo()
        else:
            index.apply(chain.next(step))
        # Reading fills the memory of what was read, which a reorg must not leave behind.
        assert shown(index, chain.outputs) == expected(chain)
    fresh = empty_index()
    for block in chain.blocks:
        fresh.apply(block)
    assert shown(fresh, chain.outputs) == shown(index, chain.outputs)


def block(*transactions: Mined) -> Block:
    """The block after the base."""
    return Block(Header(BASE.height + 1, digest("after the base"), BASE.id), transactions)


@pytest.mark.parametrize(
    "header",
    [
        Header(BASE.height + 1, digest("next"), digest("another block")),
        Header(BASE.height, digest("next"), BASE.id),
        Header(BASE.height + 2, digest("next"), BASE.id),
    ],
    ids=["parent", "too low", "too high"],
)
def test_apply__when__the_block_does_not_follow_the_tip__then__refused_and_nothing_changes(header: Header) -> None:
    index = empty_index()
    before = shown(index, ["a" * 64])
    with pytest.raises(InvariantError) as error:
        index.apply(Block(header, (Mined("a" * 64, (next(iter(LISTED)),), (escrow(0),)),)))
    assert str(error.value) == f"block {header.id.hex()} of height {header.height} does not follow {BASE.id.hex()}"
    assert shown(index, ["a" * 64]) == before


def test_undo__when__at_the_base__then__refused_by_its_name() -> None:
    index = empty_index()
    index.apply(block())
    index.undo()
    with pytest.raises(InvariantError) as error:
        index.undo()
    assert str(error.value) == f"block {BASE.id.hex()} is the base of the index and cannot be taken back"
    assert index.tip == index.base == BASE


def test_index__when__a_box_is_created_and_spent_in_one_block__then__known_as_spent_and_gone_with_the_block() -> None:
    index, box = empty_index(), escrow(0)
    index.apply(block(Mined("a" * 64, (), (box,)), Mined("b" * 64, (key(box),), ())))
    found = index.box(key(box))
    assert found == seen(box, index.tip, "b" * 64)
    assert index.of_task(box.raw_id) == [found]
    index.undo()
    assert (index.box(key(box)), index.of_task(box.raw_id)) == (None, [])
    assert index.unspent(DEPLOYMENT.trees[Guard.TASK]) == [next(iter(LISTED.values())).box]


def test_undo__when__several_transactions_of_a_block_spent_something__then__all_of_it_is_unspent_again() -> None:
    index = empty_index()
    before = shown(index, ["a" * 64, "b" * 64])
    first, second, third = LISTED
    index.apply(block(Mined("a" * 64, (first, second), ()), Mined("b" * 64, (third,), ())))
    assert all(index.unspent(tree) == [] for tree in index.trees)
    index.undo()
    assert shown(index, ["a" * 64, "b" * 64]) == before


@pytest.mark.parametrize("guard", Guard)
def test_of_task__when__a_malformed_box_holds_its_token__then__it_tells_nothing_and_is_counted(guard: Guard) -> None:
    held = holding(DEPLOYMENT.trees[guard], TASKS[0], guard)
    bare = box_of(coin(DEPLOYMENT.trees[guard], ERG, f"bare {guard}"))
    index = Index(DEPLOYMENT, WALLET, BASE, [seen(bare), seen(held)])
    assert [index.of_task(task) for task in (TASKS[0], bare.raw_id, held.raw_id)] == [[], [], []]
    assert index.set_aside == {f"{guard}: {CONTENT}": 2}


def test_of_task__when__boxes_are_well_formed__then__told_under_the_guards_that_only_a_task_reaches() -> None:
    index = Index(DEPLOYMENT, WALLET, BASE, [seen(escrow(0)), seen(receipt(TASKS[0])), seen(bond(0))])
    assert index.of_task(TASKS[0]) == [seen(receipt(TASKS[0]))]
    assert index.of_task(escrow(0).raw_id) == [seen(escrow(0))]  # an escrow tells of its own task
    assert index.of_task(BOND_TOKEN) == []


def test_index__when__boxes_stand_outside_of_the_market__then__ignored_even_with_a_task_token() -> None:
    outside = holding(STRANGER.tree, TASKS[0], "outside")
    index = Index(DEPLOYMENT, WALLET, BASE, [seen(outside)])
    index.apply(block(Mined("a" * 64, (key(outside),), (holding(STRANGER.tree, TASKS[0], "later"),))))
    assert (index.box(key(outside)), index.of_task(TASKS[0]), index.mined_at("a" * 64)) == (None, [], None)
    assert STRANGER.tree not in index.trees


def test_index__when__a_listing_shows_a_box_twice__then__the_later_sighting_counts() -> None:
    box = escrow(0)
    listed = [seen(box), seen(box, spent_by="a" * 64)]
    for sightings in (listed, listed[::-1]):
        index = Index(DEPLOYMENT, WALLET, BASE, sightings)
        assert index.box(key(box)) == sightings[-1]
        assert bool(index.unspent(DEPLOYMENT.trees[Guard.TASK])) == (sightings[-1].spent_by is None)
        assert index.of_task(box.raw_id) == [sightings[-1]]


def test_index__when__the_listing_was_ahead_of_its_base__then__the_block_brings_what_is_known_and_a_reorg_takes_it() -> (
    None
):
    box = escrow(0)
    index = Index(DEPLOYMENT, WALLET, BASE, [seen(box, spent_by="a" * 64)])
    index.apply(block(Mined("a" * 64, (key(box),), ())))
    assert index.box(key(box)) == seen(box, spent_by="a" * 64)
    index.undo()
    assert index.box(key(box)) == seen(box)
    assert index.unspent(DEPLOYMENT.trees[Guard.TASK]) == [box]


def test_typed__when__a_box_stands_under_the_guard_but_is_malformed__then__left_out_and_counted() -> None:
    bare = box_of(coin(DEPLOYMENT.trees[Guard.TASK], ERG, "no registers"))
    index = Index(DEPLOYMENT, WALLET, BASE, [seen(bare), seen(escrow(0))])
    for _ in range(2):
        assert [(on.id, on.content) for on in index.typed(TaskEscrow)] == [(key(escrow(0)), TERMS)]
    assert index.box(key(bare)) is None
    assert index.set_aside == {f"task: {CONTENT}": 1}


def test_apply__when__boxes_are_odd__then__counted_by_script_and_kind_and_taken_back_with_their_block() -> None:
    trees = (WALLET, DEPLOYMENT.trees[Guard.BOND], STRANGER.tree)
    odd = tuple(Odd(digest("odd", number).hex(), tree, REGISTERS) for number, tree in enumerate(trees))
    index = empty_index()
    for _ in range(2):
        index.apply(block(Mined("a" * 64, (), odd)))
        assert index.set_aside == {f"wallet: {REGISTERS}": 1, f"bond: {REGISTERS}": 1}
        index.undo()
        assert not index.set_aside


def test_index__when__an_escrow_is_not_wanted__then__it_costs_nothing_and_its_spending_is_no_news() -> None:
    def wanted(on: On[Content], height: int | None) -> bool:
        return not isinstance(on.content, TaskEscrow) or height == BASE.height

    index = Index(DEPLOYMENT, WALLET, BASE, [seen(escrow(0))], wanted=wanted)
    index.apply(block(Mined("a" * 64, (), (escrow(1), bond(0)))))
    assert [on.id for on in index.typed(TaskEscrow)] == [key(escrow(0))]
    assert index.box(key(escrow(1))) is None and index.box(key(bond(0))) is not None
    assert not index.set_aside


def test_apply__when__a_block_is_too_deep_for_any_reorg__then__what_it_spent_is_forgotten_but_for_tasks_that_last() -> (
    None
):
    listed = [seen(escrow(0)), seen(escrow(1)), seen(bond(0))]
    index = Index(DEPLOYMENT, WALLET, BASE, listed, lasting=lambda task: task == escrow(0).raw_id)
    index.apply(block(Mined("a" * 64, tuple(key(found.box) for found in listed), ())))
    for number in range(UNDO):
        assert index.box(key(escrow(1))) is not None
        index.apply(Block(Header(index.tip.height + 1, digest("later", number), index.tip.id), ()))
    assert [index.box(key(found.box)) is not None for found in listed] == [True, False, False]
    assert index.base.height == BASE.height + 1
    assert index.mined_at("a" * 64) is None  # whoever asks, asks a source
    for _ in range(UNDO):
        index.undo()
    with pytest.raises(InvariantError):
        index.undo()


def test_add__when__the_listing_lacked_a_box__then__as_if_it_had_been_listed_and_no_undo_takes_it_away() -> None:
    late, spender = escrow("late"), digest("spender").hex()
    index = Index(DEPLOYMENT, WALLET, BASE, [])
    index.add(seen(late))
    whole = Index(DEPLOYMENT, WALLET, BASE, [seen(late)])
    for each in (index, whole):
        assert [on.id for on in each.typed(TaskEscrow)] == [key(late)]
        block = Block(Header(101, digest("block"), BASE.id), (Mined(spender, (key(late),), ()),))
        each.apply(block)
        spent = each.box(key(late))
        assert spent is not None and spent.spent_by == spender
        each.undo()
        assert each.box(key(late)) == seen(late)
        assert each.of_task(late.raw_id) == [seen(late)]
