"""The node's opinions on a real devnet: minted, kept up to date, and left alone where the operator's rules say so."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import made
import pytest
import pytest_asyncio
from onchain import LIMITS, World, market

from aihd.client.party import Party
from aihd.devnet.nodo_schema import NodoVersion, create_database
from aihd.errors import ConfigError, UsageError
from aihd.execution.content import ContentStore
from aihd.execution.inputs import InputStore
from aihd.protocol.boxes import tokens_of
from aihd.protocol.funding import Funds, Output, Plan, TxKind, balance
from aihd.protocol.opinion import (
    CELAUT_NODE_TYPE,
    MAX_OPINIONS,
    OPINION_VALUE,
    REPUTATION_TREE,
    SUPPLY,
    TYPE_TREE,
    Opinion,
    OpinionBox,
)
from aihd.protocol.plans import Market
from aihd.services.engine import Engine
from aihd.services.opinion import OpinionRules, Opinions, nodo_opinions, strongest

MAX_SPEND = 50_000_000


@dataclass(slots=True)
class Place:
    """A node's engine on a market, a type NFT on the chain, and what the node thinks at the moment."""

    world: World
    party: Party
    engine: Engine
    node_type: bytes
    thoughts: list[Opinion] = field(default_factory=list)

    def service(self, threshold: int = 1, max_spend: int = MAX_SPEND, node_type: bytes | None = None) -> Opinions:
        rules = OpinionRules(threshold, max_spend, node_type or self.node_type)
        return Opinions(self.engine, lambda: self.thoughts, rules)

    def think(self, **weights: int) -> None:
        self.thoughts = [Opinion(self.node_type, name.encode() * 32, weight) for name, weight in weights.items()]

    async def settled(self, service: Opinions) -> None:
        """A step, a block, and the submitter's look at it."""
        await service.step()
        self.world.chain.mine()
        await self.engine.submitter.follow(await self.engine.view.tip())

    def proof(self) -> dict[bytes, int]:
        """Signed units by subject, as they lie on the chain."""
        found = {}
        for box in self.world.boxes(REPUTATION_TREE):
            content = OpinionBox.read(box)
            found[content.subject] = tokens_of(box)[0][1] * (1 if content.positive else -1)
        return found


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world:
        author, who = await world.party("author"), await world.party("node")
        minted: list[bytes] = []

        def mint(at: Market, funds: Funds) -> Plan:
            minted.append(bytes(funds.boxes[0].box_id))
            held = (Output(OPINION_VALUE, TYPE_TREE, ((minted[-1], 1),)),)
            return balance(TxKind.SEND, funds.boxes[:1], held, funds, at.height, signer=author.signer.public_key)

        await world.mined(author.do("mint", mint))
        stores = ContentStore(tmp_path / "content"), InputStore(tmp_path / "inputs", 1000), tmp_path / "receipts"
        parts = who.view, who.signer, who.submitter, who.journal, *stores
        engine = Engine(*parts, {}, made.limits(), LIMITS, world.genesis_id)
        yield Place(world, who, engine, minted[-1])


@pytest.mark.asyncio
async def test_step__when__opinions_come_and_change__then__the_chain_says_them(place: Place) -> None:
    service, me = place.service(), place.engine.signer.public_key
    place.think(a=30, b=-10)
    await place.settled(service)
    first = place.proof()
    assert first == {me: 1, b"a" * 32: 750_000_000 - 1, b"b" * 32: -250_000_000}
    place.think(a=30, b=10, c=-40)
    await place.settled(service)
    second = place.proof()
    assert set(second) == {me, b"a" * 32, b"b" * 32, b"c" * 32}
    assert second[b"b" * 32] > 0 > second[b"c" * 32]
    assert sum(map(abs, second.values())) == SUPPLY
    place.think()
    await place.settled(service)
    assert place.proof() == {me: SUPPLY}
    assert [box.value for box in place.world.boxes(REPUTATION_TREE)] == [4 * OPINION_VALUE]


@pytest.mark.asyncio
async def test_step__when__fewer_changed_than_the_threshold__then__nothing_is_sent(place: Place) -> None:
    service = place.service(threshold=2)
    place.think(a=1)
    await place.settled(service)
    assert place.proof() == {}
    place.think(a=1, b=1)
    await place.settled(service)
    before = place.proof()
    assert len(before) == 3
    place.think(a=1, b=-1)
    await place.settled(service)
    assert place.proof() == before


@pytest.mark.asyncio
async def test_step__when__repeated_before_and_after_the_block__then__one_proof(place: Place) -> None:
    service = place.service()
    place.think(a=1)
    await service.step()
    await place.service().step()  # a daemon that was started again
    assert len(place.world.chain.pool) == 1
    await place.settled(service)
    await place.settled(place.service())
    assert len(place.engine.journal.transactions()) == 1
    assert len(place.proof()) == 2


@pytest.mark.asyncio
async def test_step__when__dearer_than_allowed__then__config_error_names_the_limit(place: Place) -> None:
    place.think(a=1, b=1)
    with pytest.raises(ConfigError, match=r"opinion\.max_spend is 0\.003 ERG, stating 2 opinions takes 0\.0041 ERG"):
        await place.service(max_spend=3_000_000).step()
    assert place.engine.journal.transactions() == []


@pytest.mark.asyncio
async def test_step__when__type_has_no_nft__then__usage_error_and_nothing_is_sent(place: Place) -> None:
    place.think(a=1)
    with pytest.raises(UsageError, match="no box shows type"):
        await place.service(node_type=CELAUT_NODE_TYPE).step()
    assert place.engine.journal.transactions() == []


@pytest.mark.asyncio
async def test_step__when__a_reorg_undoes_the_mint__then__the_same_proof_comes_back(place: Place) -> None:
    service = place.service()
    place.think(a=1)
    await place.settled(service)
    before = place.proof()
    place.world.chain.reorg(1, lose=True)
    assert place.proof() == {}
    place.think(a=-1)
    await place.settled(service)  # the proof is not on the chain: nothing can be said, and its mint is sent again
    assert place.proof() == {}
    place.world.chain.mine()
    assert place.proof() == before
    await place.settled(service)
    assert place.proof()[b"a" * 32] < 0


def test_strongest__when__there_are_too_many__then__the_heaviest_in_a_fixed_order() -> None:
    every = [Opinion(CELAUT_NODE_TYPE, bytes([n]) * 32, (-1) ** n * n) for n in range(2 * MAX_OPINIONS)]
    found = strongest(reversed(every))
    assert found == every[-MAX_OPINIONS:]
    assert strongest([replace(every[1], weight=0)]) == []


@pytest.mark.parametrize("version", NodoVersion)
def test_nodo_opinions__when__peers_and_services_have_points__then__those_with_a_key(
    tmp_path: Path, version: NodoVersion
) -> None:
    path = create_database(tmp_path, version)
    rated = version is not NodoVersion.V24
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for name, score in (("a" * 64, 5), ("02" * 33, -7), ("b" * 64, 0), ("c" * 64, None), ("not-a-key", 3)):
            connection.execute("INSERT INTO peer (id) VALUES (?)", (name,))
            if rated:
                connection.execute("UPDATE peer SET reputation_score = ? WHERE id = ?", (score, name))
        if version is NodoVersion.VNEW:
            connection.execute("INSERT INTO service_reputation VALUES (?, 9, 1)", ("d" * 64,))
    peers = {Opinion(b"n" * 32, b"\xaa" * 32, 5), Opinion(b"n" * 32, b"\x02" * 33, -7)} if rated else set()
    services = {Opinion(b"s" * 32, b"\xdd" * 32, 9)} if version is NodoVersion.VNEW else set()
    assert set(nodo_opinions(path, b"n" * 32)) == peers
    assert set(nodo_opinions(path, b"n" * 32, b"s" * 32)) == peers | services
