"""Holdback, tokens and failures on a real devnet: what the history says of them is what lies on the chain."""

from __future__ import annotations

from functools import partial

import pytest
from offchain import ERG, signer
from onchain import DEPTH
from test_indexer import BOTH, Place, place, send

from aihd.chain import history
from aihd.chain.history import name_of
from aihd.protocol import guards, plans
from aihd.protocol.constants import BURN, SETTLE_GRACE
from aihd.protocol.hashes import blake2b256
from aihd.protocol.plans import Side
from aihd.protocol.trees import address_of, p2pk_tree
from aihd.reputation.explain import explain
from aihd.reputation.history import Outcome, Role, TaskRecord

__all__ = ["place"]

PAYMENT = ERG // 2
WHOLE = 10_000


async def token(place: Place) -> bytes:
    """1,000 units of a new token in the client's wallet."""
    made = bytes.fromhex(place.world.chain.issue("coin", 1000, 0, to=address_of(place.client.signer.tree)))
    place.world.chain.mine()
    return made


async def the_record(place: Place, task_id: bytes) -> TaskRecord:
    await place.look()
    return place.records()[task_id]


def paid_out(place: Place, tree: bytes, task_id: bytes) -> list[tuple[int, list[int]]]:
    """Values and amounts of tokens of the boxes under a tree that settling the task made."""
    chain = place.world.chain
    settled = [tx for tx in chain.ledger.transactions.values() if tx.height == place.records()[task_id].height]
    boxes = [output.box for tx in settled for output in tx.view.outputs]
    return [(box.value, [int(t.amount) for t in box.tokens]) for box in boxes if bytes(box.ergo_tree) == tree]


@pytest.mark.asyncio
@pytest.mark.parametrize("share", [WHOLE, WHOLE // 2])
@pytest.mark.parametrize("mark", [1, 2])
async def test_record__when__a_payment_was_held_back__then__burned_by_a_mark_of_1_alone(
    place: Place, share: int, mark: int
) -> None:
    task_id = await place.whole({Side.CLIENT: mark, Side.NODE: 4}, PAYMENT, holdback_bps=share)
    record = await the_record(place, task_id)
    held = guards.held_share(PAYMENT, PAYMENT, share, in_token=False)
    assert (record.outcome, record.held, record.client_mark, record.asset) == (Outcome.COMPLETED, held, mark, None)
    assert record.burned == (held if mark == 1 else 0)
    assert record.paid == PAYMENT - record.burned
    to_node = paid_out(place, place.nodes["node"].signer.tree, task_id)
    assert paid_out(place, BURN, task_id) == ([(held, [])] if mark == 1 else [])
    assert ((held, []) in to_node) is (mark != 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("mark", [1, 5])
async def test_record__when__the_payment_is_a_token__then__worth_and_held_share_of_it(place: Place, mark: int) -> None:
    asset = await token(place)
    marks = {Side.CLIENT: mark, Side.NODE: 4}
    task_id = await place.whole(marks, 300, worth=PAYMENT, asset=asset, holdback_bps=WHOLE // 3)
    record = await the_record(place, task_id)
    units = 300 * (WHOLE // 3) // WHOLE
    assert (record.worth, record.asset, record.held) == (PAYMENT, asset, PAYMENT * units // 300)
    assert record.burned == (record.held if mark == 1 else 0)
    winner = BURN if mark == 1 else place.nodes["node"].signer.tree
    assert [units] in [amounts for _, amounts in paid_out(place, winner, task_id)]


@pytest.mark.asyncio
async def test_record__when__nobody_marks__then__let_go_whoever_settles(place: Place) -> None:
    task_id = await place.post(PAYMENT, holdback_bps=WHOLE)
    await place.claim(task_id)
    await place.release(task_id)
    rating = (await place.client.view.life(task_id)).rating
    assert rating is not None
    await place.look()
    assert place.records() == {}, "a release ends nothing: the rating is open"
    place.world.chain.mine(rating.content.reveal_deadline + SETTLE_GRACE + 1 - place.world.chain.height)
    bond = await place.bond()
    await place.world.mined(place.client.do("a stranger settles", lambda m, f: plans.settle(m, rating, bond, f)))
    record = await the_record(place, task_id)
    assert (record.outcome, record.held, record.burned, record.client_mark) == (
        Outcome.COMPLETED,
        rating.content.held,
        0,
        0,
    )


@pytest.mark.asyncio
async def test_record__when__a_task_failed__then__counted_at_its_settlement_and_nothing_was_held(place: Place) -> None:
    task_id = await place.post(PAYMENT, holdback_bps=WHOLE)
    await place.claim(task_id)
    await place.fail(task_id)
    record = await the_record(place, task_id)
    assert (record.outcome, record.held, record.paid) == (Outcome.FAILED, 0, 0)
    assert (await place.bond()).content.failed == 1


@pytest.mark.asyncio
async def test_standing__when__the_client_burned__then__both_lose_it_and_a_reorg_gives_it_back(place: Place) -> None:
    await place.whole(BOTH, PAYMENT, holdback_bps=WHOLE)
    place.world.chain.mine(DEPTH)
    await place.look()
    node, client = place.nodes["node"].signer.public_key, place.client.signer.public_key
    before = [place.indexer.standing(node, Role.NODE), place.indexer.standing(client, Role.CLIENT)]
    assert min(before) > 0
    fork = place.world.chain.height
    await place.whole({Side.CLIENT: 1, Side.NODE: 5}, PAYMENT, holdback_bps=WHOLE)
    place.world.chain.mine(DEPTH)
    await place.look()
    after = [place.indexer.standing(node, Role.NODE), place.indexer.standing(client, Role.CLIENT)]
    assert after[0] <= 0 < after[1] < before[1]
    (scores,) = place.engine.scores
    assert explain(scores, node).terms[0].burn > 10**9, "one burn among two is the exception still"
    place.world.chain.reorg(place.world.chain.height - fork, lose=True)
    place.world.chain.mine(DEPTH)
    await place.look()
    assert [place.indexer.standing(node, Role.NODE), place.indexer.standing(client, Role.CLIENT)] == before


@pytest.mark.parametrize("size", [0, 1, 3, 35, 36, 37, 810])
def test_name_of__when__a_source_has_any_script__then__the_key_of_a_lone_key_and_else_the_hash(size: int) -> None:
    lone = p2pk_tree(b"\2" * 33)
    tree = (lone + bytes(1000))[:size]
    assert name_of(tree) == (b"\2" * 33 if tree == lone else blake2b256(tree))
    assert name_of(b"\x10" * 36) == blake2b256(b"\x10" * 36)


@pytest.mark.asyncio
async def test_funding__when__a_source_came_to_serve_everybody__then__only_who_had_money_of_it_before_is_tied_to_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted are the boxes that the source had when it paid: what an exchange did before it was one is still told."""
    monkeypatch.setattr(history, "PUBLIC_BOXES", 8)
    bank, nodes = await place.world.party("bank"), list(place.nodes)
    clients = {name: signer(name) for name in ("early", "late")}
    for number, (name, key) in enumerate(clients.items()):
        for gift in range(1 + 9 * number):  # each makes a box of the bank's change
            target = bank.signer.tree if gift < 9 * number else key.tree
            await place.world.mined(bank.do(f"{name} {gift}", partial(send, tree=target)))
    for name, node in zip(clients, nodes, strict=True):
        place.client = await place.world.party(name)
        await place.whole(BOTH, node=node)
    await place.look()
    found = {record.client: record.client_funding for record in place.records().values()}
    assert found == {clients["early"].public_key: bank.signer.public_key, clients["late"].public_key: None}
