"""aihd as a payment process of nodo: in a process of its own, as nodo imports and calls it, against a chain with a market on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from hashlib import sha3_256
from pathlib import Path

import made
import pytest
import pytest_asyncio
from offchain import ERG, FEE, digest
from onchain import node_rig
from payment_place import CONTRACTS, Place, nodo, payment_place

from aihd.chain.signer import Signer
from aihd.devnet.account import Account
from aihd.nodo.payment.deposit import paid_input
from aihd.nodo.payment_process import CONTRACT, CONTRACT_HASH
from aihd.ops.lock import process_lock
from aihd.protocol import plans
from aihd.protocol.boxes import Receipt
from aihd.protocol.constants import RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.deployment import Guard
from aihd.protocol.trees import address_of


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with payment_place(tmp_path) as found:
        yield found


@pytest.mark.asyncio
async def test_payment__when__the_daemon_delivers__then__proved_by_its_receipt_and_by_nothing_else(
    place: Place,
) -> None:
    node = await place.nodo()
    payment = node.pay(ERG, "token-1", place.script)
    (task_id,) = await place.posted(payment)
    script = place.script + task_id
    assert not await node.call("validate", ERG, "token-1", script), "it is only posted"
    assert [await node.call(name, task_id) for name in ("claim", "receipt", "release")] == [None, None, None]
    told = await place.paid(payment)
    assert told == {"contract_type": CONTRACT, "script": script, "token_id": "ERG", "ledger": "ergo"}
    assert sha3_256(told["contract_type"].encode()).hexdigest() == CONTRACT_HASH
    wrong = [
        ("token-1", ERG + 1, script, "ergo"),
        ("token-1", ERG - 1, script, "ergo"),
        ("token-2", ERG, script, "ergo"),
        ("token-1", ERG, script, "bitcoin"),
        ("token-1", ERG, place.script, "ergo"),
        ("token-1", ERG, place.payer.tree.hex() + task_id, "ergo"),
        ("token-1", ERG, place.script + "00" * 32, "ergo"),
        ("token-1", ERG, "", "ergo"),
    ]
    calls = [node.call("validate", amount, token, words, ledger) for token, amount, words, ledger in wrong]
    assert await asyncio.gather(*calls) == [False] * len(wrong)
    assert await node.call("validate", ERG, "token-1", script)
    assert not await node.call("validate", ERG, "token-1", script), "credited once"
    journal = {tx.kind: tx for tx in place.node.engine.journal.transactions(bytes.fromhex(task_id))}
    assert await node.call("claim", task_id) == journal["claim"].id
    assert await node.call("release", task_id) == journal["release"].id
    with pytest.raises(RuntimeError, match="UsageError: task 'x': expected its id"):
        await node.call("release", "x")
    receipt = (await place.node.party.view.life(bytes.fromhex(task_id))).receipt
    assert receipt is not None
    assert await node.call("receipt", task_id) == receipt.id


@pytest.mark.asyncio
async def test_payment__when__asked_again_or_otherwise_for_the_same_token__then__paid_for_once(place: Place) -> None:
    node = await place.nodo()
    first = node.pay(ERG, "token", place.script)
    await place.posted(first)
    again = node.pay(ERG, "token", place.script)
    with pytest.raises(RuntimeError, match="UsageError: this deposit token was paid for already"):
        await node.call("pay", 2 * ERG, "token", place.script)
    assert await place.paid(first) == await place.paid(again)
    assert await node.call("pay", ERG, "token", place.script) == first.result()
    assert place.escrows() == []
    assert len(place.node.engine.journal.tasks()) == 1


@pytest.mark.asyncio
async def test_payments__when__several_threads_pay_one_payee_at_once__then__each_task_is_credited_once(
    place: Place,
) -> None:
    node = await place.nodo()
    payments = [node.pay(ERG, f"token-{n}", place.script) for n in range(3)]
    await place.posted(payments[0])
    told = [await place.paid(payment) for payment in payments]
    tasks = {t["script"][72:136] for t in told}  # one, or more if a thread came when the first had been told
    assert tasks == {task.id.hex() for task in place.node.engine.journal.tasks()}
    proofs = [node.call("validate", ERG, f"token-{n}", t["script"]) for n, t in enumerate(told)]
    assert sum(await asyncio.gather(*proofs)) == len(tasks)
    assert await node.call("threads") == []
    with pytest.raises(RuntimeError, match="SigningError"):
        await node.call("pay", 3 * ERG, "too-much", place.script)
    assert place.escrows() == []
    later = await place.paid(node.pay(ERG, "token-3", place.script))
    assert await node.call("validate", ERG, "token-3", later["script"])
    assert len(place.node.engine.journal.tasks()) == len(tasks) + 1, "what was told is done with"


@pytest.mark.asyncio
async def test_payment__when__nodo_comes_back_with_another_token__then__the_one_under_way_is_taken_up(
    place: Place,
) -> None:
    node = await place.nodo(wait="0.5 s")
    with pytest.raises(RuntimeError, match="PendingError"):
        await node.call("pay", ERG, "first", place.script)
    assert len(await node.call("reported")) == 1
    with pytest.raises(
        RuntimeError, match=r"TemporaryError: a payment of 1000000000 nanoERG to this payee is under way"
    ):
        await node.call("pay", 2 * ERG, "another", place.script)
    told = await place.paid(node.pay(ERG, "second", place.script))
    (task,) = place.node.engine.journal.tasks()
    assert told["script"] == place.script + task.id.hex() + b"first".hex()
    for amount, token, script in (
        (ERG, "second", place.script + task.id.hex()),
        (ERG, "second", place.script + task.id.hex() + b"second".hex()),
        (2 * ERG, "second", told["script"]),
    ):
        assert not await node.call("validate", amount, token, script)
    assert await node.call("validate", ERG, "second", told["script"])
    assert not await node.call("validate", ERG, "second", told["script"])
    assert not await node.call("validate", ERG, "first", place.script + task.id.hex())


@pytest.mark.asyncio
async def test_payment__when__nodo_resumes_it_by_its_transaction__then__the_contract_once_it_is_delivered(
    place: Place,
) -> None:
    node = await place.nodo(wait="0.5 s")
    steps = await node.call("steps", ERG, "token", place.script)
    tx_id = steps[-1][0]
    assert steps[-1] == [tx_id, True]
    with pytest.raises(RuntimeError, match="PendingError"):
        await node.call("await", tx_id, place.script)
    for wrong in ((tx_id, place.payer.tree.hex()), ("00" * 32, place.script), ("x", "")):
        with pytest.raises(RuntimeError, match=r"UsageError: transaction .* is none with which this wallet paid"):
            await node.call("await", *wrong)
    journal = place.node.engine.journal
    await place.until(lambda: any(tx.kind == "release" and tx.height for tx in journal.transactions()))
    place.world.chain.mine(2)
    told = await node.call("await", tx_id, place.script)
    assert await node.call("validate", ERG, "token", told["script"])


@pytest.mark.asyncio
async def test_payment__when__the_receipt_is_not_deep_enough__then__not_proved_yet(place: Place) -> None:
    node = await place.nodo(confirmations=4)
    payment = node.pay(ERG, "token", place.script)
    (task_id,) = await place.posted(payment)
    journal = place.node.engine.journal

    def released() -> bool:
        return any(tx.kind == "release" and tx.height for tx in journal.transactions(bytes.fromhex(task_id)))

    await place.until(released)
    assert not payment.done()
    assert not await node.call("validate", ERG, "token", place.script + task_id)
    place.world.chain.mine(4)
    assert await node.call("validate", ERG, "token", place.script + task_id)
    await place.paid(payment)


@pytest.mark.asyncio
async def test_payment__when__the_task_fails__then__refused_and_the_money_is_back(place: Place) -> None:
    settings = place.settings()
    with settings.open("a") as file:
        file.write('[environment]\nDIGEST_ALGORITHM = "md5"\n')
    node = await place.stack.enter_async_context(nodo(place.folder, settings))
    before = place.world.balance(place.payer.tree)
    payment = node.pay(ERG, "token", place.script)
    (task_id,) = await place.posted(payment)
    with pytest.raises(RuntimeError, match="ended without a receipt: fail"):
        await place.paid(payment)
    assert not await node.call("validate", ERG, "token", place.script + task_id)
    assert place.world.balance(place.payer.tree) >= before - FEE - RECEIPT_VALUE, "some of it with the failure, settled"
    with pytest.raises(RuntimeError, match="ended without a receipt: fail"):
        await node.call("pay", ERG, "token", place.script)


@pytest.mark.asyncio
async def test_payment__when__nobody_claims_it__then__taken_back_after_its_window(place: Place) -> None:
    node = await place.nodo(wait="1 s")
    before = place.world.balance(place.payer.tree)
    payment = node.pay(ERG, "token", place.script)
    (task_id,) = await place.posted(payment)
    payment.cancel()
    with pytest.raises(RuntimeError, match=r"PendingError: the payment's task .* is not delivered yet"):
        await node.call("pay", ERG, "token", place.script)
    place.world.chain.mine(31)
    managed = node.call("manage")
    await place.until(managed.done)
    await managed
    assert place.escrows() == []
    assert place.world.balance(place.payer.tree) >= before - 2 * FEE
    assert not await node.call("validate", ERG, "token", place.script + task_id)
    place.world.chain.mine(4)
    await node.call("manage")
    with pytest.raises(RuntimeError, match="ended without a receipt: lost"):
        await node.call("pay", ERG, "token", place.script)


@pytest.mark.asyncio
async def test_validator__when__another_node_delivered__then__false(place: Place) -> None:
    rival = await place.stack.enter_async_context(node_rig(place.world, place.gateway, place.offered, "rival"))
    node = await place.nodo()
    payment = node.pay(ERG, "token", rival.party.signer.tree.hex())
    told = await place.paid(payment, rival)
    assert not await node.call("validate", ERG, "token", told["script"])
    assert not await node.call("validate", ERG, "token", place.script + told["script"][72:])
    assert await node.call("claim", told["script"][72:]) is None


@pytest.mark.asyncio
async def test_validator__when__the_payer_forges_claim_and_receipt__then__false(place: Place) -> None:
    """Whoever takes an escrow back can put boxes that look like a claim and a receipt beside it, all but for the task's token."""
    account = Account(place.world.chain, "forger")
    place.world.chain.faucet(account.address, 10 * ERG)
    place.world.chain.mine()
    key, height = place.node.party.signer.public_key, place.world.chain.height
    given = paid_input("token", place.folder / "input", {})
    service = next(iter(place.offered))
    terms = {"service_hash": service, "input_commitment": given.commitment, "client": account.public_key}
    escrow = made.escrow(**terms, claim_deadline=height + 30, locator=given.locator)
    trees = place.world.deployment.trees
    posted = account.transact([account.output(trees[Guard.TASK], plans.value_of(escrow), registers=escrow.constants())])
    place.world.chain.mine()
    box = posted.outputs[0]
    task_id = bytes(box.box_id)
    claimed = made.claimed(**terms, exec_deadline=height + 40, claim_height=height, node=key, locator=given.locator)
    receipt = Receipt(task_id, given.commitment, digest("out"), digest("params"), key, b"\x00" * 65, b"\x01\x55")
    forged = [
        account.output(trees[guard], 2_000_000, registers=content.constants())
        for guard, content in ((Guard.CLAIMED, claimed), (Guard.RECEIPT, receipt))
    ]
    account.transact(forged, spend=[box])
    place.world.chain.mine(5)
    node = await place.nodo()
    script = place.script + task_id.hex()
    assert not await node.call("validate", ERG, "token", script)
    assert [await node.call(name, task_id.hex()) for name in ("claim", "receipt", "release")] == [None] * 3


@pytest.mark.asyncio
async def test_payment__when__it_cannot_be__then__said_before_anything_is_locked(place: Place) -> None:
    node = await place.nodo()
    before = place.world.balance(place.payer.tree)
    for amount, script, ledger, words in (
        (ERG, place.payer.tree.hex(), "ergo", "has no bond on market"),
        (ERG, "00", "ergo", "expected the tree of one key"),
        (ERG, place.script, "bitcoin", "expected 'ergo'"),
        (999_999, place.script, "ergo", "expected at least 1000000"),
    ):
        with pytest.raises(RuntimeError, match=words):
            await node.call("pay", amount, "token", script, ledger)
    with (
        process_lock(place.folder / "payer" / "aihd.lock"),
        pytest.raises(RuntimeError, match=r"TemporaryError: .* at work in process"),
    ):
        await node.call("pay", ERG, "token", place.script)
    assert await node.call("balance", 99 * ERG)
    assert not await node.call("balance", 100 * ERG)
    (place.folder / "input").write_bytes(b"x" * 400)
    with pytest.raises(RuntimeError, match="travel in its escrow"):
        await node.call("pay", ERG, "token", place.script)
    assert place.world.balance(place.payer.tree) == before
    assert len(place.world.chain.pool) == 0


@pytest.mark.asyncio
async def test_validator__when__the_chain_cannot_be_asked_or_the_settings_are_wrong__then__false_and_no_error(
    tmp_path: Path,
) -> None:
    settings = tmp_path / "payment.toml"
    async with nodo(tmp_path, settings) as node:
        assert not await node.call("validate", ERG, "token", "00")
        settings.write_text('config = "relative"\nunknown = 1\nmu_per_nanoerg = 0\n')
        assert not await node.call("validate", ERG, "token", "00")
        with pytest.raises(RuntimeError, match=r"ConfigError: .*config: .*mu_per_nanoerg: .*unknown: "):
            await node.call("pay", ERG, "token", "00")
        assert not await node.call("balance", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("version", sorted(CONTRACTS))
async def test_module__when__nodo_imports_it__then__it_starts_nothing_and_speaks_nodos_messages(
    tmp_path: Path, version: str
) -> None:
    tree = Signer("a key").tree
    config, settings = tmp_path / "aihd.toml", tmp_path / "payment.toml"
    config.write_text("")
    settings.write_text(f'config = "{config}"\npayee = "{address_of(tree)}"\nmu_per_nanoerg = "0.5"\n')
    async with nodo(tmp_path, settings, version) as node:
        assert await node.call("imports") == {"threads": 1, "own": []}
        (contract,) = await node.call("advertised")
        address = {} if version == "VFEB" else {"address": address_of(tree)}
        expected = {"contract_type": CONTRACT, "script": tree.hex(), "token_id": "ERG", "ledger": "ergo"}
        assert contract == {**expected, **address}
        assert await node.call("ledger") == ["ergo"]
        assert await node.call("floors") == [(RECEIPT_VALUE + RATING_VALUE + FEE) // 2, 500_000]


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment as nodo's: with its versions of grpcio and protobuf, and aihd's packages behind them."""
    folder = tmp_path_factory.mktemp("pinned")
    python, ours = folder / "bin" / "python", sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = ["grpcio==1.56.0", "grpcio-tools==1.56.0", "protobuf==4.25.9", "setuptools<80"]
    if subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=False).returncode:
        pytest.skip("nodo's versions cannot be installed here")
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "aihd.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    return str(python)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("version", sorted(CONTRACTS))
async def test_payment__when__in_an_environment_with_nodo_s_own_versions__then__payable_paid_advertised_and_resumed(
    place: Place, pinned: str, version: str
) -> None:
    node = await place.nodo(version, pinned, wait="0.5 s")
    assert await node.call("versions") == {"protobuf": "4.25.9", "grpcio": "1.56.0"}
    assert await node.call("unavailable") is None
    assert await node.call("advertised")
    assert (await node.call("purse"))[0] == address_of(place.payer.tree)
    with pytest.raises(RuntimeError, match="PendingError"):
        await node.call("pay", ERG, "token", place.script)
    told = await place.paid(node.pay(ERG, "another", place.script))
    assert await node.call("validate", ERG, "another", told["script"])
    await node.call("manage")
    assert await node.call("threads") == []
