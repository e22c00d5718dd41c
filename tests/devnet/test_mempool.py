from __future__ import annotations

import pytest
from devnet_wallet import ERG, FEE, funded, key, out, pay, sign
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.mempool import Weighing
from aihd.protocol.trees import FEE_TREE

A, B = key(1), key(2)


def ids(chain: Chain) -> list[str]:
    return [entry.view.tx_id for entry in chain.pool.heaviest_first()]


def bulky(chain: Chain, box: ErgoBox, fee: int) -> Transaction:
    """A payment in many outputs: large and, by outputs, costly."""
    parts = [out(ERG // 100, B.tree, chain.height) for _ in range(20)]
    change = out(box.value - 20 * (ERG // 100) - fee, A.tree, chain.height)
    return sign(chain, [A], [box], [*parts, out(fee, FEE_TREE, chain.height), change])


def wide(chain: Chain, boxes: list[ErgoBox], fee: int) -> Transaction:
    """A payment from many inputs: costlier for its size."""
    total = sum(box.value for box in boxes)
    return sign(chain, [A], boxes, [out(total - fee, B.tree, chain.height), out(fee, FEE_TREE, chain.height)])


@pytest.mark.parametrize(("weighing", "first"), [("size", "wide"), ("cost", "bulky")])
def test_weight__when__by_size_or_by_cost__then__another_transaction_is_mined_first(
    weighing: Weighing, first: str
) -> None:
    chain = Chain(weighing=weighing)
    many, one = [funded(chain, A, ERG) for _ in range(8)], funded(chain, A, 10 * ERG)
    ids_of = {chain.submit(bulky(chain, one, 2 * FEE)): "bulky", chain.submit(wide(chain, many, 2 * FEE)): "wide"}
    assert ids_of[chain.mine()[0].transactions[0].tx_id] == first


def test_weight__when__a_child_pays_well__then__its_parent_is_lifted_above_others() -> None:
    chain = Chain()
    poor, other = funded(chain, A), funded(chain, A)
    parent, bystander = pay(chain, A, poor, B.tree, ERG), pay(chain, A, other, B.tree, ERG, fee=2 * FEE)
    chain.submit(parent)
    chain.submit(bystander)
    assert ids(chain) == [str(bystander.id), str(parent.id)]
    child = pay(chain, B, parent.outputs[0], A.tree, ERG // 2, fee=5 * FEE)
    chain.submit(child)
    assert ids(chain) == [str(parent.id), str(child.id), str(bystander.id)]
    chain.drop(str(child.id))
    assert ids(chain) == [str(bystander.id), str(parent.id)]


def test_replacement__when__rival_of_two__then__must_outweigh_their_average() -> None:
    chain = Chain()
    one, two = funded(chain, A), funded(chain, A)
    chain.submit(pay(chain, A, one, B.tree, ERG, fee=FEE))
    chain.submit(pay(chain, A, two, B.tree, ERG, fee=5 * FEE))
    average = sum(entry.weight for entry in chain.pool) // 2
    size = len(bytes(wide(chain, [one, two], FEE)))
    least = average * size // 1024
    with pytest.raises(RejectedError, match="Double spending attempt"):
        chain.submit(wide(chain, [one, two], least - 100_000))
    winner = chain.submit(wide(chain, [one, two], least + 100_000))
    assert ids(chain) == [winner]


def test_capacity__when__reached__then__the_lightest_gives_way_to_a_heavier_one_alone() -> None:
    chain = Chain(capacity=3)
    boxes = [funded(chain, A) for _ in range(5)]
    first = [chain.submit(pay(chain, A, box, B.tree, ERG, fee=FEE * (n + 2))) for n, box in enumerate(boxes[:3])]
    with pytest.raises(RejectedError, match="pays less than any other in the pool being full"):
        chain.submit(pay(chain, A, boxes[3], B.tree, ERG, fee=FEE))
    heavy = chain.submit(pay(chain, A, boxes[4], B.tree, ERG, fee=9 * FEE))
    assert ids(chain) == [heavy, first[2], first[1]]


def test_invalid__when__a_block_has_made_it_so__then__remembered_and_refused_until_a_restart() -> None:
    chain = Chain()
    box = funded(chain, A)
    chain.mine()
    fork = chain.tip.block_id
    parent = pay(chain, A, box, B.tree, ERG)
    child = pay(chain, B, parent.outputs[0], A.tree, ERG // 2)
    chain.submit(parent)
    chain.mine()
    chain.submit(child)
    chain.reorg(1, lose=True)  # the parent is gone, so the child's input is unknown
    assert len(chain.pool) == 0
    chain.submit(parent)
    with pytest.raises(RejectedError, match="it is invalidated earlier or the pool is full"):
        chain.submit(child)
    chain.restart()
    assert len(chain.pool) == 0
    chain.submit(parent)
    chain.submit(child)
    assert ids(chain) == [str(parent.id), str(child.id)]
    assert chain.block(fork) is not None


def test_restart__when__weighing_is_random__then__chosen_anew_and_the_same_for_the_same_seed() -> None:
    def choices(seed: int) -> list[str]:
        chain = Chain(seed=seed, weighing="random")
        chosen: list[str] = []
        for _ in range(20):
            chain.restart()
            chosen.append(chain.pool.weighing)
        return chosen

    assert set(choices(1)) == {"size", "cost"}
    assert choices(1) == choices(1) != choices(2)


@pytest.mark.parametrize("limit", ["maxBlockSize", "maxBlockCost"])
def test_block__when__full__then__the_lighter_ones_wait_for_the_next(limit: str) -> None:
    chain = Chain()
    boxes = [funded(chain, A) for _ in range(3)]
    txs = [pay(chain, A, box, B.tree, ERG, fee=FEE * (n + 1)) for n, box in enumerate(boxes)]
    for tx in txs:
        chain.submit(tx)
    (cost,) = {entry.cost for entry in chain.pool}
    chain.parameters[limit] = 2 * (cost if limit == "maxBlockCost" else len(bytes(txs[0])) + 5)
    (block,) = chain.mine()
    assert [view.tx_id for view in block.transactions[:-1]] == [str(txs[2].id), str(txs[1].id)]
    assert ids(chain) == [str(txs[0].id)]
    chain.mine()
    assert str(txs[0].id) in chain.ledger.transactions
