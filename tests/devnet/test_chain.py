from __future__ import annotations

import json

import pytest
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Key, funded, key, out, pay, sign
from ergo_lib_python.chain import Constant, ErgoBox
from ergo_lib_python.transaction import Transaction

from aihd.devnet.chain import FAUCET_SUPPLY, Chain, RejectedError
from aihd.devnet.ledger import By, Pages
from aihd.errors import UsageError
from aihd.protocol.trees import FEE_TREE, GENERATOR, p2pk_tree, reward_tree

A, B = key(1), key(2)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def snapshot(chain: Chain) -> dict[str, object]:
    """Everything the ledger answers, to compare states."""
    ledger = chain.ledger
    trees = {box.view.tree for box in (*ledger.boxes.values(), *ledger.orphans.values())}

    def listed(pages: Pages) -> dict[str, list[str]]:
        lists = {tree: pages.page(By.TREE, tree, 0, 10**6, descending=False) for tree in trees}
        return {tree: ids for tree, ids in lists.items() if ids}

    return {
        "boxes": {box_id: (box.gix, box.height, ledger.spender(box_id)) for box_id, box in ledger.boxes.items()},
        "unspent": listed(ledger.unspent),
        "all": listed(ledger.all),
        "tokens": dict(ledger.tokens),
        "touched": {tree: list(ledger.transactions_of(tree)) for tree in trees if ledger.transactions_of(tree)},
        "transactions": {tx_id: row.gix for tx_id, row in ledger.transactions.items()},
    }


def supply(chain: Chain) -> int:
    return sum(box.view.value for box_id, box in chain.ledger.boxes.items() if not chain.ledger.spender(box_id))


def test_chain__when__new__then__has_linked_headers_and_the_allocated_money() -> None:
    chain = Chain(genesis={A.tree.hex(): 5 * ERG})
    assert chain.height >= 20
    for parent, child in zip(chain.blocks, chain.blocks[1:], strict=False):
        assert child.header["parentId"] == parent.block_id
        assert child.header["timestamp"] > parent.header["timestamp"]
    assert supply(chain) == FAUCET_SUPPLY + 5 * ERG
    assert chain.ledger.unspent.count(By.TREE, A.tree.hex()) == 1


def test_chain__when__same_seed_and_transactions__then__same_block_ids() -> None:
    def run(seed: int) -> list[str]:
        chain = Chain(seed=seed)
        chain.faucet(A.address, ERG)
        chain.mine(2)
        chain.reorg(1)
        return [block.block_id for block in chain.blocks]

    assert run(7) == run(7)
    assert run(7)[0] != run(8)[0]


def test_mine__when__transactions_are_chained__then__all_are_in_one_block_parents_first(chain: Chain) -> None:
    first = pay(chain, A, funded(chain, A), A.tree, 5 * ERG)
    second = pay(chain, A, first.outputs[0], B.tree, 2 * ERG)
    third = pay(chain, B, second.outputs[0], B.tree, ERG)
    ids = [chain.submit(tx) for tx in (first, second, third)]
    (block,) = chain.mine()
    assert [view.tx_id for view in block.transactions[:-1]] == ids
    assert len(chain.pool) == 0
    assert chain.ledger.spender(str(first.outputs[0].box_id)) == ids[1]


def test_mine__when__block_has_fees__then__they_go_to_the_miner_and_no_erg_is_made_or_lost(chain: Chain) -> None:
    before = supply(chain)
    chain.submit(pay(chain, A, funded(chain, A), B.tree, ERG, fee=3 * FEE))
    (block,) = chain.mine()
    collected = block.transactions[-1].outputs
    assert [(box.tree, box.value) for box in collected] == [(reward_tree(GENERATOR).hex(), 3 * FEE)]
    assert chain.ledger.unspent.count(By.TREE, FEE_TREE.hex()) == 0
    assert supply(chain) == before


def test_submit__when__already_waiting__then__the_idempotent_text(chain: Chain) -> None:
    tx = pay(chain, A, funded(chain, A), B.tree, ERG)
    chain.submit(tx)
    with pytest.raises(RejectedError, match="it is already in the mempool"):
        chain.submit(tx)


def test_submit__when__rival_pays_no_more__then__double_spend_and_the_first_stays(chain: Chain) -> None:
    box = funded(chain, A)
    first = chain.submit(pay(chain, A, box, B.tree, ERG))
    with pytest.raises(RejectedError, match="Double spending attempt"):
        chain.submit(pay(chain, A, box, B.tree, 2 * ERG))
    assert [entry.view.tx_id for entry in chain.pool] == [first]


def test_submit__when__rival_pays_more__then__replaces_and_the_child_is_dropped_by_the_next_block(chain: Chain) -> None:
    box = funded(chain, A)
    parent = pay(chain, A, box, B.tree, ERG)
    child = pay(chain, B, parent.outputs[0], B.tree, ERG // 2)
    chain.submit(parent)
    chain.submit(child)
    rival = pay(chain, A, box, B.tree, ERG, fee=FEE * 3)
    chain.submit(rival)
    assert [entry.view.tx_id for entry in chain.pool] == [str(child.id), str(rival.id)]
    (block,) = chain.mine()
    assert str(rival.id) in [view.tx_id for view in block.transactions]
    assert len(chain.pool) == 0


def test_submit__when__input_is_spent_on_chain_or_unknown__then__missing_inputs_by_index(chain: Chain) -> None:
    spent, fresh = funded(chain, A), funded(chain, A)
    chain.submit(pay(chain, A, spent, B.tree, ERG))
    chain.mine()
    outputs = [
        out(spent.value + fresh.value - FEE, B.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    with pytest.raises(RejectedError, match=r"should be in UTXO\. [0-9a-f]{64}: 1 == 2\. Missing inputs: 1$"):
        chain.submit(sign(chain, [A], [fresh, spent], outputs))


def test_submit__when__proof_is_forged__then__script_text_with_id_and_index(chain: Chain) -> None:
    box = funded(chain, A)
    body = json.loads(pay(chain, A, box, B.tree, ERG).json())
    body["inputs"][0]["spendingProof"]["proofBytes"] = "00" * 56
    tx = Transaction.from_json(body)
    with pytest.raises(RejectedError) as refusal:
        chain.submit(tx)
    head = "Malformed transaction: Scripts of all transaction inputs should pass verification."
    assert str(refusal.value) == f"{head} {tx.id}: #0 => Success((false,403))"


def deadline_box(chain: Chain, owner: Key, deadline: int) -> tuple[ErgoBox, ErgoBox]:
    """A confirmed box that is spendable until a height, and the box with the rate that it reads."""
    fund = funded(chain, owner)
    registers = [owner.sigma_prop, Constant.from_i32(deadline)]
    outputs = [
        out(3 * ERG, DEADLINE_TREE, chain.height, registers=registers),
        out(ERG, owner.tree, chain.height, registers=[Constant.from_i64(2 * ERG)]),
        out(FEE, FEE_TREE, chain.height),
        out(fund.value - 4 * ERG - FEE, owner.tree, chain.height),
    ]
    tx = sign(chain, [owner], [fund], outputs)
    chain.submit(tx)
    chain.mine()
    return tx.outputs[0], tx.outputs[1]


def deadline_spend(chain: Chain, deadline: int) -> Transaction:
    guarded, rate = deadline_box(chain, A, deadline)
    registers = [A.sigma_prop, Constant.from_i32(deadline)]
    outputs = [
        out(3 * ERG - FEE, DEADLINE_TREE, chain.height, registers=registers),
        out(FEE, FEE_TREE, chain.height),
    ]
    return sign(chain, [A], [guarded], outputs, data=[rate])


def test_mine__when__contract_reads_height_and_data_input__then__spent_before_its_deadline(chain: Chain) -> None:
    tx_id = chain.submit(deadline_spend(chain, chain.height + 5))
    chain.mine()
    assert chain.ledger.transactions[tx_id].height == chain.height


def test_submit__when__deadline_has_passed__then__refused_by_the_script(chain: Chain) -> None:
    tx = deadline_spend(chain, chain.height + 4)
    chain.mine()
    with pytest.raises(RejectedError, match=r"#0 => Success\(\(false,0\)\)"):
        chain.submit(tx)


def test_reorg__when__transactions_waited__then__they_return_and_what_expired_meanwhile_is_dropped(
    chain: Chain,
) -> None:
    lasting = pay(chain, A, funded(chain, A), B.tree, ERG)
    expiring = deadline_spend(chain, chain.height + 4)
    chain.submit(lasting)
    chain.submit(expiring)
    chain.mine()
    child = chain.submit(pay(chain, B, lasting.outputs[0], B.tree, ERG // 2))
    orphaned = chain.reorg(1)
    assert [entry.view.tx_id for entry in chain.pool] == [str(lasting.id), child]
    assert str(lasting.id) not in chain.ledger.transactions
    assert chain.block(orphaned[0].block_id) is orphaned[0] and not chain.is_main(orphaned[0])
    assert chain.ids_at(orphaned[0].height)[1:] == [orphaned[0].block_id]
    assert str(lasting.outputs[0].box_id) in chain.ledger.orphans
    chain.mine()
    assert {str(lasting.id), child} <= chain.ledger.transactions.keys()
    assert str(lasting.outputs[0].box_id) not in chain.ledger.orphans


def test_reorg__when__blocks_are_undone__then__ledger_is_as_it_was_before_them(chain: Chain) -> None:
    fund = funded(chain, A)
    before = snapshot(chain)
    mint = [
        out(ERG, A.tree, chain.height, tokens=[(str(fund.box_id), 7)]),
        out(fund.value - ERG - FEE, A.tree, chain.height),
        out(FEE, FEE_TREE, chain.height),
    ]
    tx = sign(chain, [A], [fund], mint)
    chain.submit(tx)
    chain.mine()
    chain.submit(pay(chain, A, tx.outputs[1], B.tree, ERG))
    chain.faucet(B.address, ERG)
    chain.mine()
    after = snapshot(chain)
    assert after != before
    chain.reorg(2)
    assert snapshot(chain) == before
    assert len(chain.pool) == 3


@pytest.mark.parametrize("depth", [0, 11, 10_000])
def test_reorg__when__depth_leaves_too_few_headers__then__usage_error(chain: Chain, depth: int) -> None:
    with pytest.raises(UsageError, match=f"depth {depth}: a reorg here takes 1 to 10 blocks"):
        chain.reorg(depth)


def test_faucet__when__address_amount_or_network_is_wrong__then__says_which(chain: Chain) -> None:
    for address, amount, text in (
        ("9eatp", ERG, "neither an address of this network nor a tree"),
        ("3WzNbncirssoPyUCQeQn1U8Kn9kw2zjHTnQezmks4CneKhNupgkP", ERG, "neither an address of this network nor a tree"),
        (A.address, 2**63, "nanoErg 9223372036854775808: no box can hold it"),
        (A.address, 1, "nanoErg 1: no box can hold it"),
    ):
        with pytest.raises(UsageError, match=text):
            chain.faucet(address, amount)
    assert len(chain.pool) == 0


def test_faucet__when__paid_to_a_tree__then__the_box_is_there_after_the_next_block(chain: Chain) -> None:
    chain.faucet(DEADLINE_TREE.hex(), 3 * ERG)
    chain.mine()
    (box_id,) = chain.ledger.unspent.page(By.TREE, DEADLINE_TREE.hex(), 0, 10, descending=True)
    assert chain.ledger.boxes[box_id].view.value == 3 * ERG


def test_pool__when__full__then__takes_only_what_pays_more_than_the_least(chain: Chain) -> None:
    box = funded(chain, A)
    for _ in range(1000):
        chain.faucet(B.address, ERG)
    bulky = [
        out(box.value - FEE, B.tree, chain.height, registers=[Constant(bytes(500))]),
        out(FEE, FEE_TREE, chain.height),
    ]
    with pytest.raises(RejectedError, match="pays less than any other in the pool being full"):
        chain.submit(sign(chain, [A], [box], bulky))
    rich = chain.submit(pay(chain, A, box, B.tree, ERG, fee=ERG))
    assert rich in chain.pool and len(chain.pool) == 1000


def test_pages__when__walked_in_both_orders__then__every_box_once_whatever_was_removed(chain: Chain) -> None:
    tree = p2pk_tree(A.public).hex()
    for value in range(1, 8):
        chain.faucet(tree, value * ERG)
    chain.mine()
    pages = chain.ledger.unspent
    ascending = [box_id for offset in range(0, 9, 3) for box_id in pages.page(By.TREE, tree, offset, 3, False)]
    descending = [box_id for offset in range(0, 9, 3) for box_id in pages.page(By.TREE, tree, offset, 3, True)]
    assert len(ascending) == pages.count(By.TREE, tree) == 7
    assert descending == ascending[::-1]
    chain.submit(pay(chain, A, chain.ledger.boxes[ascending[3]].view.box, B.tree, ERG))
    chain.mine()
    left = pages.page(By.TREE, tree, 0, 100, False)
    assert left[:6] == ascending[:3] + ascending[4:]
