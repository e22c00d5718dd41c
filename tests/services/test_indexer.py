"""The history of a market on a real devnet: what the indexer knows is what the chain says, by whatever way and over whatever forks."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made
import pytest
import pytest_asyncio
from offchain import ERG, OUTPUT, digest, signer
from onchain import DEPTH, LIMITS, STAKE, World, faulty, followed, market, order

from aihd.chain.history import HistoryReader, name_of
from aihd.chain.http import SourceError
from aihd.client.party import Party
from aihd.client.ranking import best, funders, known, refresh
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.protocol import guards, plans
from aihd.protocol.boxes import Bond, FailureReceipt, On, TaskEscrow
from aihd.protocol.constants import COOLDOWN
from aihd.protocol.deployment import Guard
from aihd.protocol.funding import Funds, Output, Plan
from aihd.protocol.hashes import receipt_cid
from aihd.protocol.plans import Side
from aihd.protocol.selection import weight
from aihd.protocol.trees import address_of
from aihd.reputation.engine import Engine as Scores
from aihd.reputation.history import Outcome, Role, TaskRecord
from aihd.services.engine import Engine
from aihd.services.indexer import Indexer
from aihd.store.journal import Journal

SERVICE, SALT = digest("service"), digest("salt")
WINDOW = 40


@dataclass(slots=True)
class Place:
    """A market with a client and nodes whose every move the test makes, and an indexer that only looks."""

    world: World
    client: Party
    nodes: dict[str, Party]
    engine: Engine
    indexer: Indexer
    scores: Path
    faucet: bytes
    posted: int = 0

    async def look(self) -> None:
        """What the daemon does at a new tip."""
        self.engine.sighted[:] = [await self.engine.view.sync()]
        await self.indexer.step()

    def records(self) -> dict[bytes, TaskRecord]:
        return {record.task: record for record in self.engine.journal.history.records(public={self.faucet})}

    async def bond(self, node: str = "node") -> On[Bond]:
        key = self.nodes[node].signer.public_key
        return next(bond for bond in await self.client.view.bonds() if bond.content.node == key)

    def terms(self, **changes: Any) -> TaskEscrow:
        """Of a task of this client that anybody may claim, whatever his bond's score."""
        self.posted += 1
        terms = {
            "service_hash": SERVICE,
            "input_commitment": digest("input", self.posted),
            "payment": ERG // 10,
            "min_reputation": -1000,
            "claim_deadline": self.world.chain.height + 30,
            "exec_window": WINDOW,
            "client": self.client.signer.public_key,
        }
        return made.escrow(**{**terms, **changes})

    async def post(self, payment: int = ERG // 10, **changes: Any) -> bytes:
        terms = self.terms(payment=payment, **changes)
        record = await self.world.mined(self.client.do(f"post {self.posted}", lambda m, f: plans.post(m, terms, f)))
        self.world.chain.mine()
        return bytes(self.world.chain.ledger.transactions[record.id].view.outputs[0].box.box_id)

    async def claim(self, task_id: bytes, node: str = "node") -> None:
        box = await self.client.view.node.box(task_id.hex())
        assert box is not None
        task, bond = self.world.deployment.read(TaskEscrow, box), await self.bond(node)
        await self._do(self.nodes[node], f"claim {task_id.hex()}", lambda m, f: plans.claim(m, task, bond, f))

    async def release(self, task_id: bytes, node: str = "node") -> None:
        claimed = (await self.client.view.life(task_id)).claimed
        assert claimed is not None
        receipt = plans.receipt_for(claimed, OUTPUT, digest("params"), b"signature", receipt_cid(b"document"))
        await self._do(self.nodes[node], f"release {task_id.hex()}", lambda m, f: plans.release(m, claimed, receipt, f))

    async def fail(self, task_id: bytes, node: str = "node") -> None:
        """The node admits it, and settles the rating that says so."""
        claimed = (await self.client.view.life(task_id)).claimed
        assert claimed is not None
        why = FailureReceipt(task_id, claimed.content.node, 1, digest("why"), self.world.chain.height, b"signature")
        await self._do(self.nodes[node], f"fail {task_id.hex()}", lambda m, f: plans.fail(m, claimed, why, f))
        await self.settle(task_id, node)

    async def time_out(self, task_id: bytes, node: str = "node") -> None:
        claimed = (await self.client.view.life(task_id)).claimed
        assert claimed is not None
        self.world.chain.mine(max(0, claimed.content.exec_deadline - self.world.chain.height))
        bond = await self.bond(node)
        await self._do(self.client, f"timeout {task_id.hex()}", lambda m, f: plans.timeout(m, claimed, bond, f))

    async def rate(self, task_id: bytes, marks: dict[Side, int], node: str = "node") -> None:
        """Both sides commit, both reveal."""
        who = {Side.CLIENT: self.client, Side.NODE: self.nodes[node]}
        for side, mark in marks.items():
            rating = (await self.client.view.life(task_id)).rating
            assert rating is not None
            commitment = plans.commitment_of(rating, side, mark, SALT)
            verb = f"commit {side} {task_id.hex()}"
            await self._do(who[side], verb, lambda m, f, r=rating, s=side, c=commitment: plans.commit(m, r, s, c, f))
        for side, mark in marks.items():
            rating = (await self.client.view.life(task_id)).rating
            assert rating is not None
            verb = f"reveal {side} {task_id.hex()}"
            await self._do(who[side], verb, lambda m, f, r=rating, s=side, k=mark: plans.reveal(m, r, s, k, SALT, f))

    async def settle(self, task_id: bytes, node: str = "node") -> None:
        rating, bond = (await self.client.view.life(task_id)).rating, await self.bond(node)
        assert rating is not None
        await self._do(self.nodes[node], f"settle {task_id.hex()}", lambda m, f: plans.settle(m, rating, bond, f))

    async def whole(
        self, marks: dict[Side, int], payment: int = ERG // 10, node: str = "node", **changes: Any
    ) -> bytes:
        """A task from its post to its settled rating."""
        task_id = await self.post(payment, **changes)
        await self.claim(task_id, node)
        await self.release(task_id, node)
        await self.rate(task_id, marks, node)
        await self.settle(task_id, node)
        return task_id

    async def _do(self, who: Party, verb: str, plan: object) -> None:
        await self.world.mined(who.do(verb, plan))  # type: ignore[arg-type]


BOTH = {Side.CLIENT: 5, Side.NODE: 4}


def engine_of(world: World, who: Party, folder: Path) -> Engine:
    stores = ContentStore(folder / "content"), InputStore(folder / "inputs", 1000), folder / "receipts"
    parts = who.view, who.signer, who.submitter, who.journal, *stores
    return Engine(*parts, {}, made.limits(), LIMITS, world.genesis_id)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world:
        nodes = {name: await world.party(name) for name in ("node", "rival")}
        for party in nodes.values():
            await world.mined(party.open_bond(STAKE, "http://127.0.0.1:1"))
        world.chain.mine(guards.BIRTH_LEAD + 1)
        client = await world.party("client")
        watcher = followed(await world.party("watcher"))
        engine = engine_of(world, watcher, tmp_path)
        faucet = name_of(bytes.fromhex(world.chain.genesis[0].tree))
        scores = tmp_path / "scores.sqlite"
        yield Place(world, client, nodes, engine, Indexer(engine, scores, {faucet}), scores, faucet)


async def fresh(place: Place) -> dict[bytes, TaskRecord]:
    """What one finds who begins now."""
    with Journal(place.world.folder / f"fresh-{place.world.chain.tip.block_id}.sqlite") as journal:
        reader = HistoryReader(place.engine.view, journal.history)
        assert await reader.take_back() is None
        await reader.extend(())
        await reader.fund()
        return {record.task: record for record in journal.history.records(public={place.faucet})}


def written(place: Place) -> dict[str, tuple[int, int]]:
    with closing(sqlite3.connect(place.scores)) as db:
        return {row[0]: row[1:] for row in db.execute("SELECT key, score_ppb, confidence_ppb FROM scores")}


async def counted(place: Place) -> int:
    """Ended tasks by the counters that the guards keep in the bonds."""
    bonds = [bond.content for bond in await place.client.view.bonds()]
    return sum(bond.completed + bond.failed + bond.timed_out for bond in bonds)


# ---------------------------------------------------------------- what is read


@pytest.mark.asyncio
async def test_step__when__tasks_ended_in_every_way__then__one_record_each_with_what_the_chain_says(
    place: Place,
) -> None:
    rated = await place.whole(BOTH)
    silent, broken = await place.post(2 * ERG), await place.post()
    for task_id in (silent, broken):
        await place.claim(task_id, "rival")
    await place.release(silent, "rival")
    rating = (await place.client.view.life(silent)).rating
    assert rating is not None
    commitment = plans.commitment_of(rating, Side.CLIENT, 1, SALT)
    await place.world.mined(
        place.client.do("a commitment and no more", lambda m, f: plans.commit(m, rating, Side.CLIENT, commitment, f))
    )
    await place.fail(broken, "rival")
    late = await place.post(ERG)
    await place.claim(late)
    await place.time_out(late)
    place.world.chain.mine(max(0, rating.content.reveal_deadline - place.world.chain.height))
    await place.settle(silent, "rival")
    open_still = await place.post()
    await place.claim(open_still, "rival")
    await place.look()

    client, node, rival = (who.signer.public_key for who in (place.client, *place.nodes.values()))
    found = place.records()
    heights = {task_id: record.height for task_id, record in found.items()}
    assert found == {
        rated: TaskRecord(heights[rated], rated, client, node, ERG // 10, Outcome.COMPLETED, 5, 4, True, True),
        silent: TaskRecord(heights[silent], silent, client, rival, 2 * ERG, Outcome.COMPLETED, 0, 0, True, False),
        broken: TaskRecord(heights[broken], broken, client, rival, ERG // 10, Outcome.FAILED),
        late: TaskRecord(heights[late], late, client, node, ERG, Outcome.TIMED_OUT),
    }
    assert await counted(place) == len(found)
    ledger = place.world.chain.ledger
    for task_id, height in heights.items():
        ends = [row for row in ledger.transactions.values() if row.height == height]
        assert any(task_id.hex() in {t for b in row.view.inputs for t, _ in _tokens(place, b)} for row in ends)


def _tokens(place: Place, box_id: str) -> tuple[tuple[str, int], ...]:
    return tuple(place.world.chain.ledger.boxes[box_id].view.tokens)


@pytest.mark.asyncio
async def test_step__when__nothing_moved__then__two_requests_a_tip_and_none_without(place: Place) -> None:
    await place.whole(BOTH)
    async with faulty(place.world.devnet.node_url) as node, faulty(place.world.devnet.explorer_url) as explorer:
        watcher = followed(await place.world.party("another", node_urls=(node.url,), explorer_urls=(explorer.url,)))
        engine = engine_of(place.world, watcher, place.world.folder / "another")
        indexer = Indexer(engine)
        for _ in range(2):
            place.world.chain.mine()
            engine.sighted[:] = [await engine.view.sync()]
            node.seen.clear()
            explorer.seen.clear()
            await indexer.step()
            asked = [path for _, path in node.seen]
            await indexer.step()
            assert [path for _, path in node.seen] == asked
        (minter,) = place.world.boxes(place.world.deployment.trees[Guard.MINTER])
        assert asked == ["/blocks/chainSlice", f"/blockchain/box/byId/{minter.box_id}"]
        assert explorer.seen == []


@pytest.mark.asyncio
async def test_step__when__a_bond_claims_from_itself__then__no_record(place: Place) -> None:
    node, market_ = place.nodes["node"], place.world.deployment
    terms = place.terms(locator="x" * 600)
    record = await place.world.mined(place.client.do("post", lambda m, f: plans.post(m, terms, f)))
    place.world.chain.mine()
    box = place.world.chain.ledger.transactions[record.id].view.outputs[0].box
    task, bond = On(box, terms), await place.bond()
    assert market_.guard_of(box) is not None
    await place.world.mined(node.do("claim", lambda m, f: plans.claim(m, task, bond, f)))
    honest = await place.whole(BOTH, node="rival")
    await place.look()
    assert set(place.records()) == {honest}, "what cannot be read is left out, and keeps nobody from reading on"


@pytest.mark.asyncio
async def test_step__when__a_bond_was_withdrawn__then__what_it_did_stays(place: Place) -> None:
    task_id = await place.whole(BOTH)
    place.world.chain.mine(COOLDOWN + 40)
    bond, node = await place.bond(), place.nodes["node"]
    await place.world.mined(node.do("withdraw", lambda m, f: plans.withdraw(m, bond, f)))
    await place.look()
    assert set(place.records()) == {task_id}
    place.world.chain.mine()
    await place.look()
    assert place.indexer.standing(node.signer.public_key, Role.NODE) > 0


# ---------------------------------------------------------------- forks


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(2))
async def test_step__when__the_chain_does_anything__then__the_same_as_one_who_begins_now(
    place: Place, seed: int
) -> None:
    chance, chain = random.Random(seed), place.world.chain
    for _ in range(6):
        task_id = await place.post(chance.choice((ERG // 200, ERG // 10, ERG)))
        node = chance.choice(list(place.nodes))
        await place.claim(task_id, node)
        if chance.random() < 0.5:
            await place.look()
        if chance.random() < 0.3:
            await place.fail(task_id, node)
        else:
            await place.release(task_id, node)
            await place.rate(task_id, {Side.CLIENT: chance.randint(1, 5), Side.NODE: chance.randint(1, 5)}, node)
            await place.settle(task_id, node)
        if chance.random() < 0.7:
            await place.look()
        if chance.random() < 0.6:
            chain.reorg(chance.randint(1, 7))
            for party in (place.client, *place.nodes.values()):
                await place.world.mined(caught_up(party))
            chain.mine(chance.randint(0, 2))
        await place.look()
        now = await fresh(place)
        assert place.records() == now
        scores = Scores(DEPTH)
        scores.fold(now.values())
        scores.advance(chain.height)
        for party in (place.client, *place.nodes.values()):
            for role in Role:
                key = party.signer.public_key
                assert place.indexer.standing(key, role) == scores.score(key, role).standing
    assert await counted(place) == len(place.records())


async def caught_up(party: Party) -> None:
    """Everything that the party sent is in a block again."""
    while True:
        await party.submitter.follow(await party.view.sync())
        if all(record.height is not None for record in party.journal.live()):
            return
        await asyncio.sleep(0.01)


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [DEPTH, 250])
async def test_step__when__a_settlement_is_lost_in_a_reorg__then__its_record_goes_and_comes_back(
    place: Place, depth: int
) -> None:
    task_id = await place.whole(BOTH)
    place.world.chain.mine(depth)
    await place.look()
    node = place.nodes["node"].signer.public_key
    before = place.indexer.standing(node, Role.NODE)
    assert before > 0
    place.world.chain.reorg(depth + 1, lose=True)
    await place.look()
    assert (place.records(), place.indexer.standing(node, Role.NODE)) == ({}, 0)
    await place.world.mined(caught_up(place.nodes["node"]))  # who settled it
    place.world.chain.mine(DEPTH)
    await place.look()
    assert set(place.records()) == {task_id}
    assert place.indexer.standing(node, Role.NODE) == before


@pytest.mark.asyncio
async def test_step__when__the_node_breaks_off_in_the_middle__then__the_next_look_goes_on(place: Place) -> None:
    first, second = await place.whole(BOTH), await place.whole(BOTH, node="rival")
    left = 9

    def fault(request: object) -> str | None:
        nonlocal left
        if not getattr(request, "path", "").startswith("/blockchain/transaction"):
            return None
        left -= 1
        return "500" if left < 0 else None

    async with faulty(place.world.devnet.node_url, fault) as node:
        watcher = followed(await place.world.party("another", node_urls=(node.url,)))
        engine = engine_of(place.world, watcher, place.world.folder / "another")
        indexer, store = Indexer(engine), watcher.journal.history
        engine.sighted[:] = [await engine.view.sync()]
        with pytest.raises(SourceError, match="answered 500"):
            await indexer.step()
        assert 0 < store.newest() < place.world.chain.height
        left = 1000
        await indexer.step()
        assert {record.task for record in store.records()} == {first, second}


# ---------------------------------------------------------------- funding and scores


@pytest.mark.asyncio
async def test_step__when__the_client_got_its_money_from_the_node__then__that_is_its_funding(place: Place) -> None:
    node, friend = place.nodes["node"], signer("friend")
    await place.world.mined(node.do("a gift", lambda m, f: send(m, f, friend.tree)))
    honest, place.client = place.client, await place.world.party("friend")
    await place.whole(BOTH)
    place.client = honest
    task_id = await place.whole(BOTH, node="rival")
    place.world.chain.mine(DEPTH)
    await place.look()
    bought, fair = place.records().values()
    assert (bought.client_funding, bought.self_dealt) == (node.signer.public_key, True)
    assert (fair.task, fair.client_funding, fair.self_dealt) == (task_id, None, False)
    assert place.indexer.standing(node.signer.public_key, Role.NODE) == 0
    assert place.indexer.standing(place.nodes["rival"].signer.public_key, Role.NODE) > 0


def send(at: plans.Market, funds: Funds, tree: bytes) -> Plan:
    return plans.send(at, (Output(ERG, tree),), funds)


@pytest.mark.asyncio
async def test_step__when__a_record_becomes_final__then__nodo_gets_the_score_and_no_sooner(place: Place) -> None:
    await place.whole(BOTH)
    await place.look()
    assert written(place) == {}
    place.world.chain.mine(DEPTH)
    await place.look()
    key = place.nodes["node"].signer.public_key
    ((address, (score, confidence)),) = written(place).items()
    assert address == place.nodes["node"].signer.tree.hex(), "as nodo names it"
    assert score == 10**9
    assert score * confidence // 10**9 == place.indexer.standing(key, Role.NODE)
    assert guards.weight(ERG // 10) == 4
    # Another start: the same from the store.
    place.indexer = Indexer(place.engine, place.scores, {place.faucet})
    place.scores.unlink()
    await place.look()
    assert written(place) == {address: (score, confidence)}


# ---------------------------------------------------------------- a client


@pytest.mark.asyncio
async def test_post__when__to_the_best_that_the_client_knows__then__the_lottery_is_among_them(place: Place) -> None:
    await place.whole(BOTH)
    await place.whole({Side.CLIENT: 1, Side.NODE: 5}, node="rival")
    place.world.chain.mine(DEPTH)
    assert await refresh(place.client) == place.world.chain.height
    assert await refresh(place.client) == place.world.chain.height, "a second look changes nothing"
    journal = place.client.journal
    await place.look()
    assert journal.history.records() == place.engine.journal.history.records()
    scores = known(journal, DEPTH, funders([address_of(bytes.fromhex(place.world.chain.genesis[0].tree))]))
    bonds = [bond.content for bond in await place.client.view.bonds()]
    chosen = best(bonds, scores, 5, worth=ERG, least=-1000)
    assert chosen == (place.nodes["node"].signer.public_key,)
    source = place.world.folder / "input"
    source.write_text("one two")
    terms = order(SERVICE, allowed=chosen, min_reputation=-1000)
    task_id = await place.world.mined(place.client.client.post(terms, source, {}))
    place.world.chain.mine()
    (escrow,) = [task for task in await place.client.view.escrows() if task.raw_id == task_id]
    (score,) = [bond.score for bond in bonds if bond.node == chosen[0]]
    assert (escrow.content.allowed, escrow.content.selection_difficulty) == (chosen, weight(score))
