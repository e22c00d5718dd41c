"""Whole tasks through the real services, block by block: chain, gateway and service processes are real, only the clock is ours."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import made
import pytest
import pytest_asyncio
from aiohttp import BodyPartReader, ClientSession, web
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE, digest
from onchain import DEPTH, POLL, STAKE, NodeRig, World, followed, market, node_rig, order, until

from aihd.chain.submitter import Intent
from aihd.client.client import Client
from aihd.client.party import Party
from aihd.core.life import Life
from aihd.core.task import Stage, State, Where
from aihd.demo.world import SERVICES, SLOT
from aihd.devnet.gateway import EmbeddedGateway
from aihd.errors import DependencyError, UsageError
from aihd.execution.inputs import data_locator
from aihd.execution.pin import Pinner
from aihd.nodo.database import instances_of
from aihd.nodo.reputation import read_service_reputation
from aihd.ops.web import serve
from aihd.protocol import envelope, guards, plans
from aihd.protocol.constants import MIN_BOX, RECEIPT_RETENTION
from aihd.protocol.hashes import cid_text, input_commitment, receipt_cid
from aihd.services.engine import Offered, Pulse
from aihd.services.execute import Execute
from aihd.services.pin import Pin
from aihd.services.rate import Rate
from aihd.services.reclaim import Reclaim
from aihd.services.reconcile import Reconcile
from aihd.services.settle import Settle, end_intent
from aihd.services.watch import Claim, Watch
from aihd.store.journal import Journal, TxStatus

SALT = digest("salt")


@dataclass(frozen=True, slots=True)
class Place:
    """A market, a gateway with one service, one node, one client."""

    world: World
    gateway: EmbeddedGateway
    service: bytes
    offered: dict[bytes, Offered]
    node: NodeRig
    party: Party
    client: Client
    input: Path

    async def post(self, **changes: object) -> bytes:
        config = changes.pop("config", {})
        assert isinstance(config, dict)
        task_id = await self.client.post(order(self.service, **changes), self.input, config)
        self.world.chain.mine()
        return task_id

    async def post_with_locator(self, locator: str, commitment: bytes) -> bytes:
        """A task that carries its input, or what it says is its input."""
        terms = made.escrow(
            service_hash=self.service,
            input_commitment=commitment,
            payment=ERG // 10,
            claim_deadline=self.world.chain.height + 30,
            exec_window=40,
            client=self.party.signer.public_key,
            locator=locator,
        )
        record = await self.party.submitter.transact(
            Intent("post", commitment), lambda s: plans.post(s.market, terms, s.funds)
        )
        assert record is not None
        self.world.chain.mine()
        return bytes(self.world.chain.ledger.transactions[record.id].view.outputs[0].box.box_id)

    async def claimed(self, **changes: object) -> bytes:
        """A task that the node has claimed, in a block."""
        task_id = await self.post(**changes)
        await self.node.work(lambda: self.state(task_id) is State.AWAITING_INPUT)
        return task_id

    def state(self, task_id: bytes) -> State | None:
        task = self.node.engine.journal.find(task_id)
        return task.state if task else None

    async def life(self, task_id: bytes) -> Life:
        return await self.party.view.life(task_id)

    def claims(self, task_id: bytes) -> int:
        """Transactions on the chain that make boxes with the task's token out of its escrow."""
        return sum(task_id.hex() in row.view.inputs for row in self.world.chain.ledger.transactions.values())


@pytest_asyncio.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world, EmbeddedGateway(tmp_path / "nodo") as gateway:
        service = gateway.install(SERVICES / "text_digest")
        offered = {service: Offered("text-digest", SLOT, "/run")}
        async with node_rig(world, gateway, offered) as node:
            party = await world.party("client")
            source = tmp_path / "input.txt"
            source.write_text("one two\n")
            yield Place(world, gateway, service, offered, node, party, party.client, source)


@pytest.mark.asyncio
async def test_task__when__the_client_uploads__then__paid_verified_rated_bridged_and_closed(stage: Place) -> None:
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.COMMITTED)
    output = stage.world.folder / "output"
    assert await stage.client.fetch(task_id, output) == stage.node.task(task_id).output_hash
    assert b'"words":2' in output.read_bytes()
    findings = await stage.client.verify(task_id, output, {})
    assert [finding for finding in findings if not finding.holds] == []
    rated = asyncio.ensure_future(stage.client.rate(task_id, 4))
    await stage.node.work(lambda: stage.state(task_id) is State.SETTLED)
    await rated
    stage.world.chain.mine(10)
    await stage.node.work(lambda: stage.state(task_id) is State.PAID)
    assert read_service_reputation(stage.gateway.database, stage.service.hex()) == (8, 1)
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.score, bond.content.completed, bond.content.open_ids) == (8, 1, ())
    assert stage.node.engine.inputs.get(task_id) is None
    kinds = [tx.kind for tx in stage.node.engine.journal.transactions(task_id)]
    assert kinds == ["claim", "release", "commit", "reveal", "settle"]
    assert stage.node.engine.health == {}


@pytest.mark.asyncio
async def test_task__when__its_deadline_is_missed_and_nobody_takes_the_money_back__then__the_daemon_returns_it(
    stage: Place,
) -> None:
    client, node = (party.signer.tree for party in (stage.party, stage.node.party))
    before, ours = stage.world.balance(client), stage.world.balance(node)
    task_id = await stage.claimed()
    claimed = stage.node.task(task_id)
    assert claimed.exec_deadline is not None
    stage.world.chain.mine(claimed.exec_deadline - stage.world.chain.height + DEPTH - 1)
    await stage.node.turn()
    assert stage.state(task_id) is State.FAILING
    assert [tx.kind for tx in stage.node.engine.journal.transactions(task_id)] == ["claim"]  # its time may come back
    stage.world.chain.mine()
    await stage.node.work(lambda: stage.state(task_id) is State.SLASHED)
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.open_ids, bond.content.timed_out, bond.content.committed) == ((), 1, 0)
    slash = guards.slash(STAKE, claimed.payment)
    assert stage.world.balance(client) == before - FEE + slash - FEE  # of the post, and of the time-out
    assert stage.world.balance(node) == ours - FEE
    stage.world.chain.mine(DEPTH)
    await stage.node.turn()
    assert stage.state(task_id) is State.TIMED_OUT
    assert stage.node.engine.health == {}


@pytest.mark.asyncio
async def test_time_out__when__a_release_still_waits_somewhere__then__both_spend_the_claimed_box(stage: Place) -> None:
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.EXECUTED)
    await stage.node.turn()
    journal, deadline = stage.node.engine.journal, stage.node.task(task_id).exec_deadline
    release = journal.pending(end_intent(task_id).key)
    assert release is not None and release.kind == "release" and deadline is not None
    stage.world.chain.pool.clear()
    stage.world.chain.mine(deadline - stage.world.chain.height)
    await stage.node.look()  # not accepted any more, and not dropped: a node whose chain is shorter would take it
    stage.world.chain.mine(DEPTH)
    await stage.node.work(lambda: stage.state(task_id) is State.SLASHED)
    kinds = {tx.kind: tx for tx in journal.transactions(task_id)}
    spent = {kind: {str(i.box_id) for i in Transaction.from_bytes(tx.body).inputs} for kind, tx in kinds.items()}
    assert spent["release"] & spent["timeout"]
    assert kinds["timeout"].status is TxStatus.MINED


@pytest.mark.asyncio
async def test_task__when__it_carries_its_input__then__paid_without_an_upload(stage: Place) -> None:
    body = b"".join(envelope.encode({"DIGEST_ALGORITHM": "sha256"}, [b"input"]))
    task_id = await stage.post_with_locator(data_locator(SALT + body), input_commitment(SALT, [body]))
    await stage.node.work(lambda: stage.state(task_id) is State.RELEASED)
    receipt = (await stage.life(task_id)).receipt
    assert receipt is not None
    assert receipt.content.output_hash == stage.node.task(task_id).output_hash


@pytest.mark.asyncio
async def test_task__when__others_are_poisoned__then__they_are_never_claimed_and_it_is_paid(stage: Place) -> None:
    poisons = [b'{"a":"\\ud800"}', b"[" * 300, b'{"a":1}', b'{"":"x"}']
    bad = []
    for number, config in enumerate(poisons):
        body = len(config).to_bytes(4, "big") + config + bytes([number])
        bad.append(await stage.post_with_locator(data_locator(SALT + body), input_commitment(SALT, [body])))
    await stage.node.work(lambda: all(stage.state(task_id) is State.LOST for task_id in bad))
    stage.world.chain.mine(4)
    body = b"".join(envelope.encode({}, [b"good"]))
    good = await stage.post_with_locator(data_locator(SALT + body), input_commitment(SALT, [body]))
    await stage.node.work(lambda: stage.state(good) is State.RELEASED)
    assert all("config" in stage.node.task(task_id).note for task_id in bad)
    assert not any(stage.node.engine.journal.transactions(task_id) for task_id in bad)
    assert stage.node.engine.journal.declines()["input"][0] == len(bad)
    assert stage.node.engine.health == {}


@pytest.mark.asyncio
async def test_task__when__the_file_changed_since_the_post__then__nothing_is_sent_and_the_true_one_taken(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    stage.input.write_text("something else\n")
    with pytest.raises(
        UsageError, match=r"was changed since the task was posted. Put the file back .* after height \d+"
    ):
        await stage.client.deliver(task_id)
    stage.input.unlink()
    with pytest.raises(UsageError, match=r"No such file or directory. Put the file back"):
        await stage.client.deliver(task_id)
    assert stage.state(task_id) is State.AWAITING_INPUT
    stage.input.write_text("one two\n")
    await stage.client.deliver(task_id)
    assert stage.state(task_id) is State.READY


@pytest.mark.asyncio
async def test_task__when__no_input_comes__then__refunded_before_the_deadline(stage: Place) -> None:
    before, ours = (stage.world.balance(party.signer.tree) for party in (stage.party, stage.node.party))
    task_id = await stage.claimed()
    half = stage.node.task(task_id).claim_height
    assert half is not None
    stage.world.chain.mine(20)
    await stage.node.work(lambda: stage.state(task_id) is State.REFUNDED)
    task, life = stage.node.task(task_id), await stage.life(task_id)
    assert (task.where, task.note) == (Where.FAILED, "no input: none came in time")
    assert task.since is not None and task.exec_deadline is not None
    assert task.since <= task.exec_deadline - 10
    assert life.failure is not None
    assert stage.world.balance(stage.party.signer.tree) == before - FEE - MIN_BOX
    (bond,) = await stage.party.view.bonds()
    # The bond counts it when its rating is settled, and holds its place until then.
    assert (bond.content.failed, bond.content.committed, bond.content.open_ids) == (0, ERG, (task_id,))
    with pytest.raises(DependencyError, match=r"ended: failed \(the node says: no input: none came in time"):
        await stage.client.wait_for(task_id, lambda _: False)
    await stage.node.work(lambda: stage.state(task_id) is State.ADMITTED)
    (bond,) = await stage.party.view.bonds()
    assert (bond.content.failed, bond.content.timed_out, bond.content.committed) == (1, 0, 0)
    assert (bond.content.score, bond.content.active, bond.content.open_ids) == (0, 0, ())
    # Claim, fail and settle took their fees; reserve and rating are back, the receipt's value comes when it is old.
    assert stage.world.balance(stage.node.party.signer.tree) == ours - 3 * FEE


@pytest.mark.asyncio
async def test_task__when__the_service_fails__then__failed_with_its_words(stage: Place) -> None:
    task_id = await stage.claimed(config={"DIGEST_ALGORITHM": "md5"})
    await stage.client.deliver(task_id)
    await stage.node.work(lambda: stage.state(task_id) is State.REFUNDED)
    assert "DIGEST_ALGORITHM='md5'" in stage.node.task(task_id).note
    assert stage.node.task(task_id).stage is Stage.BROKEN
    assert (
        list((stage.gateway.storage / "__cache__" / "microvm" / "runtime").iterdir()) == []
    )  # nothing is left running
    await stage.node.work(lambda: stage.state(task_id) is State.ADMITTED)
    stage.world.chain.mine(DEPTH)
    await stage.node.work(lambda: stage.state(task_id) is State.FAILED)
    assert [tx.kind for tx in stage.node.engine.journal.transactions(task_id)] == ["claim", "fail", "settle"]


@pytest.mark.asyncio
async def test_claim__when__two_nodes_race__then__one_claim_and_the_other_has_lost(stage: Place) -> None:
    async with node_rig(stage.world, stage.gateway, stage.offered, "rival") as rival:
        task_id = await stage.post()
        rigs = (stage.node, rival)
        for rig in rigs:
            await rig.look()
            await rig.services[0].step()  # both accept it
        await asyncio.gather(*(rig.services[1].step() for rig in rigs))  # and both claim it
        assert all(rig.engine.journal.has_live(f"claim:{task_id.hex()}") for rig in rigs)
        stage.world.chain.mine()
        for _ in range(3):
            for rig in rigs:
                await rig.turn()
            stage.world.chain.mine()
        assert stage.claims(task_id) == 1
        assert sorted(rig.task(task_id).where for rig in rigs) == [Where.CLAIMED, Where.LOST]
        loser = next(rig for rig in rigs if rig.task(task_id).where is Where.LOST)
        (claim,) = loser.engine.journal.transactions(task_id)
        assert (claim.status, "is spent by another" in claim.note) == ("dropped", True)
        stage.world.chain.mine(4)
        await loser.turn()
        assert loser.task(task_id).state is State.LOST


@pytest.mark.asyncio
async def test_claim__when__a_reorg_takes_it_away__then__claimed_again_by_the_same_bytes(stage: Place) -> None:
    task_id = await stage.claimed()
    (first,) = stage.node.engine.journal.transactions(task_id)
    stage.world.chain.reorg(1)
    stage.world.chain.pool.clear()
    await stage.node.turn()
    assert stage.state(task_id) is State.CLAIMING
    await stage.node.work(lambda: stage.state(task_id) is State.AWAITING_INPUT)
    assert [tx.id for tx in stage.node.engine.journal.transactions(task_id)] == [first.id]


@pytest.mark.asyncio
async def test_claim__when__it_is_still_on_its_way_after_the_margin__then__not_given_up(stage: Place) -> None:
    task_id = await stage.post(claim_window=20)
    chain = stage.world.chain
    chain.mine(9)
    await stage.node.turn()
    assert len(chain.pool) == 1
    chain.pool.clear()
    chain.mine(8)  # within the margin now; the node's resend brings it back, and it is mined in the last moment
    await stage.node.turn()
    assert stage.state(task_id) is State.CLAIMING
    await stage.node.work(lambda: stage.state(task_id) is State.AWAITING_INPUT)


@pytest.mark.asyncio
async def test_watch__when__a_task_is_not_for_us__then__declined_once_with_a_reason(stage: Place) -> None:
    await stage.post(payment=ERG // 1000)
    await stage.post(allowed=(stage.party.signer.public_key,))
    for _ in range(3):
        await stage.node.turn()
        stage.world.chain.mine()
    counts = {code: count for code, (count, _) in stage.node.engine.journal.declines().items()}
    assert counts == {"price": 1, "allow_list": 1}
    assert stage.node.engine.journal.tasks() == []


@pytest.mark.asyncio
async def test_task__when__a_reorg_moves_the_claim_while_it_runs__then__run_again_with_the_seed_of_its_block(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    node, chain = stage.node, stage.world.chain
    await node.turn()  # it is started now
    await node.execute.drained()
    assert stage.state(task_id) is State.EXECUTED
    before = node.task(task_id)
    chain.reorg(1)
    await node.look()
    await node.work(lambda: stage.state(task_id) is State.RELEASED)
    after = node.task(task_id)
    assert after.claim_block != before.claim_block
    assert after.params_hash != before.params_hash
    output = stage.world.folder / "output"
    await stage.client.fetch(task_id, output)
    assert [f for f in await stage.client.verify(task_id, output, {}) if not f.holds] == []


@pytest.mark.asyncio
async def test_release__when__a_reorg_moves_the_claim_under_it__then__replaced_by_one_with_the_new_seed(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    node, chain = stage.node, stage.world.chain
    await node.turn()
    await node.execute.drained()
    await node.turn()  # the release waits in the mempool
    (first,) = [tx for tx in node.engine.journal.transactions(task_id) if tx.kind == "release"]
    assert [entry.view.tx_id for entry in chain.pool] == [first.id]
    (claim,) = [tx for tx in node.engine.journal.transactions(task_id) if tx.kind == "claim"]
    chain.reorg(1, transactions=(Transaction.from_bytes(claim.body),))
    await node.look()
    assert stage.state(task_id) is State.READY
    await node.turn()
    await node.execute.drained()
    await node.turn()
    first, second = (tx for tx in node.engine.journal.transactions(task_id) if tx.kind == "release")
    assert (first.status, second.status, second.replaces) == (TxStatus.REPLACED, TxStatus.PENDING, first.id)
    await node.work(lambda: stage.state(task_id) is State.RELEASED)
    output = stage.world.folder / "output"
    await stage.client.fetch(task_id, output)
    assert [f for f in await stage.client.verify(task_id, output, {}) if not f.holds] == []


@pytest.mark.asyncio
async def test_look__when__the_journal_is_an_older_one__then__claimed_tasks_are_taken_up_and_paid(stage: Place) -> None:
    backup = stage.world.folder / "backup.sqlite"
    stage.node.engine.journal.backup(backup)
    body = b"".join(envelope.encode({}, [b"one two two"]))
    task_id = await stage.post_with_locator(data_locator(SALT + body), input_commitment(SALT, [body]))
    await stage.node.work(lambda: stage.claims(task_id) == 1)
    with Journal(backup) as old:
        assert old.find(task_id) is None
        rig = restored(stage.node, old)
        await rig.look()
        task = old.task(task_id)
        assert (task.state, task.payment, task.note) == (State.AWAITING_INPUT, ERG // 10, "found on the chain")
        await rig.work(lambda: old.task(task_id).state is State.RELEASED)
        assert [tx.kind for tx in old.transactions(task_id)][:1] == ["release"], "nothing is claimed or paid twice"
        assert old.audit() == []
        await rig.execute.cancel()
    assert stage.claims(task_id) == 1


def restored(node: NodeRig, journal: Journal) -> NodeRig:
    """The same daemon on another journal."""
    who = followed(replace(node.party, journal=journal))
    engine = replace(
        node.engine, view=who.view, submitter=who.submitter, journal=journal, health={}, sighted=[], pulse=Pulse()
    )
    execute, reconcile = Execute(engine, node.execute._runtime, node.execute._group), Reconcile(engine, POLL)
    services = (Watch(engine), Claim(engine), execute, Settle(engine, None), Rate(engine))
    return NodeRig(node.world, who, engine, reconcile, execute, services)


@pytest.mark.asyncio
async def test_pin__when__the_receipt_is_on_the_chain__then__the_same_document_is_pinned_once(stage: Place) -> None:
    pinned: list[bytes] = []

    async def block_put(request: web.Request) -> web.Response:
        part = await (await request.multipart()).next()
        assert isinstance(part, BodyPartReader)
        pinned.append(bytes(await part.read()))
        return web.json_response({"Key": cid_text(receipt_cid(pinned[-1]))})

    app = web.Application()
    app.router.add_post("/api/v0/block/put", block_put)
    async with serve(app, "127.0.0.1", 0) as port, ClientSession() as session:
        pin = Pin(stage.node.engine, Pinner(session, f"http://127.0.0.1:{port}"))
        task_id = await stage.claimed()
        await stage.client.deliver(task_id)
        await pin.step()
        assert pinned == []
        await stage.node.work(lambda: stage.state(task_id) is State.RELEASED)
        await pin.step()
        await pin.step()
    receipt = (await stage.life(task_id)).receipt
    assert receipt is not None
    assert [receipt_cid(document) for document in pinned] == [receipt.content.receipt_cid]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_reclaim__when__the_retention_is_over__then__the_value_of_the_receipt_comes_back_once(
    stage: Place,
) -> None:
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    node, chain = stage.node, stage.world.chain
    await node.work(lambda: stage.state(task_id) is State.RELEASED)
    receipt = (await stage.life(task_id)).receipt
    assert receipt is not None
    chain.mine(100)  # the client does not rate: its deadlines pass
    await node.work(lambda: stage.state(task_id) is State.SETTLED)
    chain.mine(10)
    await node.work(lambda: stage.state(task_id) is State.PAID)
    reclaim = Reclaim(node.engine)
    chain.mine(RECEIPT_RETENTION - 200)
    await node.look()
    await reclaim.step()
    assert node.engine.journal.transactions(task_id)[-1].kind == "settle", "too early"
    chain.mine(300)
    before = stage.world.balance(node.engine.signer.tree)
    for _ in range(3):
        await node.look()
        await reclaim.step()
        chain.mine(40)
    assert [tx.kind for tx in node.engine.journal.transactions(task_id)].count("reclaim") == 1
    assert stage.world.balance(node.engine.signer.tree) == before + receipt.value - FEE


@pytest.mark.asyncio
async def test_reclaim__when__the_task_failed__then__its_receipt_that_is_worth_less_than_a_fee_is_left_alone(
    stage: Place,
) -> None:
    task_id, node, chain = await stage.claimed(config={"DIGEST_ALGORITHM": "md5"}), stage.node, stage.world.chain
    await stage.client.deliver(task_id)
    await node.work(lambda: stage.state(task_id) is State.ADMITTED)
    chain.mine(DEPTH)
    await node.work(lambda: stage.state(task_id) is State.FAILED)
    chain.mine(RECEIPT_RETENTION + 100)
    before = stage.world.balance(node.engine.signer.tree)
    reclaim = Reclaim(node.engine)
    for _ in range(2):
        await node.look()
        await reclaim.step()
        chain.mine(40)
    assert [tx.kind for tx in node.engine.journal.transactions(task_id)] == ["claim", "fail", "settle"]
    assert stage.world.balance(node.engine.signer.tree) == before


@pytest.mark.asyncio
async def test_start__when__nodo_answers_too_late__then__its_instance_is_stopped_and_the_task_paid_by_another(
    stage: Place,
) -> None:
    execute = stage.node.execute
    execute._runtime = replace(execute._runtime, start_timeout=0.3, retry_after=0.0)
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    stage.gateway.faults.switch("slow-start", True)
    await stage.node.turn()
    await execute.drained()
    assert stage.state(task_id) is State.READY
    assert "no answer within" in stage.node.engine.health["execution"]
    stage.gateway.faults.switch("slow-start", False)
    execute._runtime = replace(execute._runtime, start_timeout=20.0)
    execute._strays_until = asyncio.get_running_loop().time() + 20.0
    await until(lambda: len(instances_of(stage.gateway.database, execute._runtime.client_id)) == 1)
    await stage.node.work(lambda: stage.state(task_id) is State.RELEASED)
    await until(lambda: not instances_of(stage.gateway.database, execute._runtime.client_id))
    assert "execution" not in stage.node.engine.health


@pytest.mark.asyncio
async def test_stop__when__nodo_refuses_it__then__told_and_tried_until_the_instance_is_gone(stage: Place) -> None:
    """A trigger keeps nodo from taking the row out of its database, as a full disk would."""
    execute, health = stage.node.execute, stage.node.engine.health
    execute._runtime = replace(execute._runtime, retry_after=0.0)
    task_id = await stage.claimed()
    await stage.client.deliver(task_id)
    database = stage.gateway.database
    with closing(sqlite3.connect(database, isolation_level=None)) as busy:
        await until(lambda: stage.state(task_id) is State.READY)
        await stage.node.turn()
        await until(lambda: len(instances_of(database, execute._runtime.client_id)) == 1)
        busy.execute("CREATE TRIGGER stays BEFORE DELETE ON local_instances BEGIN SELECT RAISE(ABORT, 'stays'); END")
        await execute.drained()
        assert stage.state(task_id) is State.EXECUTED
        assert "an instance may still run" in health["instances"]
        await stage.node.turn()
        await until(lambda: execute._stopping is not None and execute._stopping.done())
        assert "an instance may still run" in health["instances"]
        busy.execute("DROP TRIGGER stays")
    await stage.node.turn()
    await until(lambda: "instances" not in health)
    assert not instances_of(database, execute._runtime.client_id)


@pytest.mark.asyncio
async def test_task__when__its_post_goes_with_a_reorg__then__given_up_at_its_deadline_and_taken_again_if_it_comes_back(
    stage: Place,
) -> None:
    chain = stage.world.chain
    chain.mine(3)
    task_id = await stage.post(claim_window=25)
    post = chain.ledger.transactions[chain.ledger.boxes[task_id.hex()].view.tx_id].view.tx
    await stage.node.turn()
    chain.mine()
    await stage.node.look()
    assert stage.state(task_id) is State.AWAITING_INPUT
    chain.reorg(2, lose=True)
    await stage.node.work(lambda: stage.state(task_id) is State.CLAIMING)
    chain.submit(post)
    chain.mine()
    await stage.node.work(lambda: stage.state(task_id) is State.AWAITING_INPUT)
    chain.reorg(2 + chain.height - stage.node.task(task_id).claim_height, lose=True)  # type: ignore[operator]
    await stage.node.look()
    chain.mine(40)
    await stage.node.work(lambda: stage.state(task_id) is State.LOST)
