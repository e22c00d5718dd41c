"""The way out for a transaction: on the disk before it leaves, resent until mined, ended only by a fact."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE, FREE, permit, sign, signer
from onchain import DEPTH, PURSE, World, faulty, is_submit, market

from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.signer import SigningError
from aihd.chain.submitter import PATIENCE, DroppedError, Intent, Submitter
from aihd.chain.view import ChainView, Situation
from aihd.client.party import MAX_FEE, Party
from aihd.errors import AihdError, InvariantError
from aihd.protocol import plans
from aihd.protocol.funding import Funds, InsufficientFundsError, Output, Plan
from aihd.store.journal import Journal, TxRecord, TxStatus

ME, YOU = signer("node"), signer("client")


@dataclass(frozen=True, slots=True)
class Place:
    """A party with a purse of 100 ERG on a devnet."""

    world: World
    me: Party

    async def pay(self, verb: str, value: int = ERG) -> TxRecord | None:
        return await self.me.submitter.transact(Intent(verb), lambda situation: payment(situation, value))

    async def follow(self) -> None:
        await self.me.submitter.follow(await self.me.view.tip())

    def states(self) -> list[tuple[str, TxStatus]]:
        return [(tx.intent, tx.status) for tx in self.me.journal.transactions()]

    def pool(self) -> list[str]:
        return [entry.view.tx_id for entry in self.world.chain.pool]


def paying(value: int) -> Callable[[Situation], Plan]:
    return lambda situation: payment(situation, value)


def payment(situation: Situation, value: int = ERG) -> Plan:
    return plans.send(situation.market, (Output(value, YOU.tree),), situation.funds)


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world:
        yield Place(world, await world.party("node"))


@pytest.mark.asyncio
async def test_transact__when__two_in_one_block__then__the_second_is_chained_on_the_first(place: Place) -> None:
    first, second = await place.pay("one"), await place.pay("two", 2 * ERG)
    assert first is not None and second is not None
    change = Transaction.from_bytes(first.body).outputs[-1]
    assert [str(i.box_id) for i in Transaction.from_bytes(second.body).inputs] == [str(change.box_id)]
    assert place.pool() == [first.id, second.id]
    place.world.chain.mine()
    await place.follow()
    assert place.states() == [("one", TxStatus.MINED), ("two", TxStatus.MINED)]
    assert place.world.balance(ME.tree) == PURSE - 3 * ERG - 2 * FEE
    situation = await place.me.submitter.situation()
    assert sum(box.value for box in situation.funds.boxes) == place.world.balance(ME.tree)
    assert [record.spent for record in (first, second)] == [ERG + FEE, 2 * ERG + FEE]


@pytest.mark.asyncio
async def test_transact__when__the_intent_is_live__then__nothing_is_built_in_any_state(place: Place) -> None:
    assert await place.pay("one")
    built: list[Situation] = []

    def build(situation: Situation) -> Plan:
        built.append(situation)
        return payment(situation)

    for _ in range(DEPTH + 2):
        assert await place.me.submitter.transact(Intent("one"), build) is None
        place.world.chain.mine()
        await place.follow()
    assert built == []
    assert place.states() == [("one", TxStatus.FINAL)]


@pytest.mark.asyncio
async def test_transact__when__there_is_nothing_to_do_or_no_money__then__nothing_is_left_behind(place: Place) -> None:
    assert await place.me.submitter.transact(Intent("one"), lambda _: None) is None
    with pytest.raises(InsufficientFundsError, match="short of"):
        await place.pay("one", PURSE)
    assert place.states() == []
    assert place.pool() == []


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["500", "html", "close", "lost"])
async def test_transact__when__the_node_gives_no_verdict__then__on_the_disk_before_it_leaves_and_resent_the_same(
    place: Place, tmp_path: Path, fault: str
) -> None:
    on_disk: list[int] = []

    def broken(request: object) -> str | None:
        assert isinstance(request, aiohttp.web.BaseRequest)
        if request.method != "POST" or request.path != "/transactions":
            return None
        with Journal(tmp_path / "stranger.sqlite", read_only=True) as journal:
            on_disk.append(len(journal.transactions()))
        return fault

    def no_relay(request: object) -> str | None:
        assert isinstance(request, aiohttp.web.BaseRequest)
        return "500" if request.method == "POST" else None

    async with (
        faulty(place.world.devnet.node_url, broken) as proxy,
        faulty(place.world.devnet.explorer_url, no_relay) as explorer,
    ):
        other = await place.world.party("stranger", node_urls=(proxy.url,), explorer_urls=(explorer.url,))
        record = await other.submitter.transact(Intent("one"), payment)
        assert record is not None
        assert on_disk == [1]
        assert other.journal.transactions()[0].status is TxStatus.PENDING
        assert place.pool() == ([record.id] if fault == "lost" else [])
        proxy.fault = lambda _: None
        await other.submitter.follow(await other.view.tip())
        assert place.pool() == [record.id]
        assert other.journal.transactions()[0].sent == (1 if fault == "lost" else 2)
        place.world.chain.mine()
        await other.submitter.follow(await other.view.tip())
        assert [(tx.id, tx.status) for tx in other.journal.transactions()] == [(record.id, TxStatus.MINED)]
    assert place.world.balance(signer("stranger").tree) == PURSE - ERG - FEE


@pytest.mark.asyncio
async def test_follow__when__the_mempool_forgets__then__sent_again_until_mined(place: Place) -> None:
    record = await place.pay("one")
    assert record is not None
    for _ in range(3):
        place.world.chain.pool.clear()
        await place.follow()
        assert place.pool() == [record.id]
    place.world.chain.mine()
    await place.follow()
    assert place.states() == [("one", TxStatus.MINED)]
    assert place.me.journal.transactions()[0].sent == 4


@pytest.mark.asyncio
async def test_follow__when__an_input_goes_elsewhere__then__dropped_with_all_that_was_built_on_it(place: Place) -> None:
    chain = place.world.chain
    situation = await place.me.submitter.situation()
    rival = sign(ME, place.world.deployment, payment(situation, 7 * ERG), situation.tip.headers)
    for verb in ("one", "two", "three"):
        assert await place.pay(verb)
    chain.pool.clear()
    chain.submit(rival)
    await place.follow()  # the rival only waits: nothing is decided yet
    assert [status for _, status in place.states()] == [TxStatus.PENDING] * 3
    chain.mine()
    await place.follow()
    assert [status for _, status in place.states()] == [TxStatus.DROPPED] * 3
    records = place.me.journal.transactions()
    assert records[0].note == f"input {rival.inputs[0].box_id} is spent by another transaction, {rival.id}"
    assert records[1].note == f"its parent {records[0].id} was dropped"
    again = await place.pay("one")  # the intent is free again, and is built on what is there now
    assert again is not None
    assert [str(i.box_id) for i in Transaction.from_bytes(again.body).inputs] == [str(rival.outputs[-1].box_id)]


@pytest.mark.asyncio
async def test_follow__when__mined_while_it_is_looked_for__then__not_taken_for_lost(place: Place) -> None:
    def mine_first(request: object) -> None:
        assert isinstance(request, aiohttp.web.BaseRequest)
        if "/unconfirmed/byTransactionId/" in request.path:
            place.world.chain.mine()

    async with faulty(place.world.devnet.node_url, mine_first) as proxy:
        other = await place.world.party("stranger", node_urls=(proxy.url,))
        record = await other.submitter.transact(Intent("one"), payment)
        assert record is not None
        tip = await other.view.tip()
        await other.submitter.follow(tip)  # not mined when asked, not waiting when asked, refused when sent again
        assert other.journal.transactions()[0].status is TxStatus.PENDING
        assert await other.submitter.transact(Intent("one"), payment) is None
        await other.submitter.follow(await other.view.tip())
        assert other.journal.transactions()[0].status is TxStatus.MINED
    assert place.world.balance(signer("stranger").tree) == PURSE - ERG - FEE


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [1, 3])
async def test_follow__when__a_reorg_takes_the_block__then__pending_again_and_mined_again(
    place: Place, depth: int
) -> None:
    chain = place.world.chain
    record = await place.pay("one")
    assert record is not None
    chain.mine(depth)
    await place.follow()
    assert place.states() == [("one", TxStatus.MINED)]
    chain.reorg(depth)
    chain.pool.clear()  # this node has lost it, too
    await place.follow()
    assert place.states() == [("one", TxStatus.PENDING)]
    assert place.pool() == [record.id]
    (block,) = chain.mine()
    await place.follow()
    after = place.me.journal.transactions()[0]
    assert (after.status, after.height, after.id) == (TxStatus.MINED, block.height, record.id)


@pytest.mark.asyncio
async def test_follow__when__blocks_bury_it__then__final_at_the_depth_and_not_before(place: Place) -> None:
    await place.pay("one")
    seen = []
    for _ in range(DEPTH + 1):
        place.world.chain.mine()
        await place.follow()
        seen.append(place.states()[0][1])
    # A reorg of DEPTH blocks takes back a transaction that has DEPTH confirmations.
    assert seen == [TxStatus.MINED] * DEPTH + [TxStatus.FINAL]
    assert place.me.journal.live() == []


@pytest.mark.asyncio
async def test_transact__when__the_node_refuses_for_good__then__an_error_and_the_intent_is_free(place: Place) -> None:
    def overtaken(situation: Situation) -> Plan:
        # The miners vote the price of a byte up between our look at the node and our submission.
        place.world.chain.parameters["minValuePerByte"] *= 1000
        return payment(situation)

    with pytest.raises(
        DroppedError, match=r"send: [0-9a-f]{64}: every node refuses it: Malformed transaction: Every output"
    ):
        await place.me.submitter.transact(Intent("one"), overtaken)
    assert place.states() == [("one", TxStatus.DROPPED)]
    assert place.pool() == []
    place.world.chain.parameters["minValuePerByte"] //= 1000
    assert await place.pay("one")


@pytest.mark.asyncio
async def test_confirmed__when__mined_or_dropped__then__the_height_or_an_error(place: Place) -> None:
    chain = place.world.chain
    record = await place.pay("one")
    assert record is not None
    height = await place.world.mined(place.me.submitter.confirmed(record, 0.01))
    assert height == chain.height
    box = (await place.me.submitter.situation()).funds.boxes[0]
    second = await place.pay("two")
    assert second is not None
    chain.pool.clear()
    chain.submit(spend(place, box))
    chain.mine()
    with pytest.raises(DroppedError, match=r"send: input [0-9a-f]{64} is spent by another"):
        await place.me.submitter.confirmed(second, 0.01)


def spend(place: Place, box: ErgoBox) -> Transaction:
    chain = place.world.chain
    market = plans.Market(place.world.deployment, chain.height + 1)
    plan = plans.send(market, (Output(3 * ERG, YOU.tree),), Funds((box,), ME.tree, FEE))
    return sign(ME, place.world.deployment, plan, [b.header for b in reversed(chain.blocks[-10:])])


# ---------------------------------------------------------------- budget


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("limits", "paid", "says"),
    [
        ({"per_tx": ERG + FEE}, [ERG], None),
        ({"per_tx": ERG + FEE - 1}, [ERG], "per_tx leaves 1.001099999 ERG"),
        ({"per_hour": 2 * (ERG + FEE)}, [ERG, ERG], None),
        ({"per_hour": 2 * (ERG + FEE) - 1}, [ERG, ERG], "per_hour leaves 1.001099999 ERG"),
        ({"per_day": 3 * (ERG + FEE) - 1}, [ERG, ERG, ERG], "per_day leaves"),
    ],
)
async def test_transact__when__a_limit_would_be_passed__then__refused_and_nothing_recorded(
    place: Place, tmp_path: Path, limits: dict[str, int], paid: list[int], says: str | None
) -> None:
    async with aiohttp.ClientSession() as session:
        urls = place.world.devnet
        view = ChainView(
            Node(session, (urls.node_url,)), Explorer(session, (urls.explorer_url,)), place.world.deployment
        )
        with Journal(tmp_path / "limited.sqlite") as journal:
            allowed = permit(ME, place.world.deployment, spending=replace(FREE, **limits))
            submitter = Submitter(view, ME, journal, fee=FEE, final_depth=DEPTH, permit=allowed)
            for number, value in enumerate(paid[:-1]):
                assert await submitter.transact(Intent(str(number)), paying(value))
            if says is None:
                assert await submitter.transact(Intent("last"), paying(paid[-1]))
                return
            before = journal.transactions()
            with pytest.raises(SigningError, match=f"send: not signed: it takes 1.0011 ERG .*wallet.max_spend_{says}"):
                await submitter.transact(Intent("last"), paying(paid[-1]))
            assert journal.transactions() == before
            assert len(place.pool()) == len(before)


@pytest.mark.asyncio
async def test_transact__when__the_chain_source_is_silent__then__an_error_and_nothing_recorded(place: Place) -> None:
    async with faulty(place.world.devnet.node_url) as proxy:
        other = await place.world.party("stranger", node_urls=(proxy.url,))
        proxy.fault = lambda request: None if is_submit(request) else "close"
        with pytest.raises(AihdError, match="gave no answer"):
            await other.submitter.transact(Intent("one"), payment)
        assert other.journal.transactions() == []


# ---------------------------------------------------------------- replacement

TASK = b"\x07" * 32


async def pay_for(place: Place, verb: str = "claim", value: int = ERG) -> TxRecord | None:
    return await place.me.submitter.transact(Intent(verb, TASK), paying(value))


async def passed_over(place: Place, blocks: int) -> None:
    """Blocks whose miner takes nothing from the mempool."""
    for _ in range(blocks):
        place.world.chain.mine(transactions=())
        await place.follow()


@pytest.mark.asyncio
async def test_transact__when__a_task_transaction_waits_too_long__then__replaced_for_a_higher_fee(
    place: Place,
) -> None:
    first = await pay_for(place)
    assert first is not None
    child = await place.pay("child")
    assert child is not None
    await passed_over(place, PATIENCE)
    assert place.me.submitter.busy(Intent("claim", TASK))
    assert await pay_for(place) is None
    await passed_over(place, 1)
    assert not place.me.submitter.busy(Intent("claim", TASK))
    assert not place.me.submitter.busy(Intent("child")), "whatever waits too long may be replaced"
    second = await pay_for(place)
    assert second is not None
    assert (second.fee, first.fee, child.fee) == (3 * FEE, FEE, FEE), "a node counts the child's fee for its parent"
    assert inputs_of(first) & inputs_of(second)
    assert [tx.status for tx in place.me.journal.transactions()] == [
        TxStatus.REPLACED,
        TxStatus.REPLACED,
        TxStatus.PENDING,
    ]
    assert second.id in place.pool() and first.id not in place.pool()
    place.world.chain.mine()
    await place.follow()
    assert place.world.balance(YOU.tree) == ERG
    assert place.world.balance(ME.tree) == PURSE - ERG - 3 * FEE
    # The child's intent is free: it can be paid anew, from what is there now.
    assert await place.pay("child") is not None


@pytest.mark.asyncio
async def test_follow__when__the_replaced_one_is_mined_after_all__then__it_takes_the_place_back(place: Place) -> None:
    first = await pay_for(place)
    assert first is not None
    await passed_over(place, PATIENCE + 1)
    second = await pay_for(place)
    assert second is not None
    place.world.chain.mine(transactions=(Transaction.from_bytes(first.body),))
    await place.follow()
    await place.follow()
    assert [tx.status for tx in place.me.journal.transactions()] == [TxStatus.MINED, TxStatus.REPLACED]
    assert place.me.submitter.busy(Intent("claim", TASK))
    assert place.world.balance(YOU.tree) == ERG
    # A reorg gives it back to the mempool, and it is ours to bring home again.
    place.world.chain.reorg(1, lose=True)
    await place.follow()
    assert [tx.status for tx in place.me.journal.transactions()] == [TxStatus.PENDING, TxStatus.REPLACED]
    assert place.pool() == [first.id]
    place.world.chain.mine(DEPTH + 1)
    await place.follow()
    assert [tx.status for tx in place.me.journal.transactions()] == [TxStatus.FINAL, TxStatus.REPLACED]
    assert place.me.journal.replaced() == []


@pytest.mark.asyncio
async def test_transact__when__outdated__then__replaced_at_once_and_never_over_the_fee_limit(place: Place) -> None:
    fees = []
    for _ in range(6):
        place.me.submitter.outdate(Intent("claim", TASK))
        record = await pay_for(place)
        if record is not None:
            fees.append(record.fee)
    assert fees == [FEE, 2 * FEE, 4 * FEE, 8 * FEE, 16 * FEE]
    assert 32 * FEE > MAX_FEE >= 16 * FEE
    assert len(place.pool()) == 1


@pytest.mark.asyncio
async def test_transact__when__the_new_one_shares_no_input__then__refused_and_nothing_is_journaled(
    place: Place,
) -> None:
    place.world.fund(ME, PURSE)
    first = await pay_for(place)
    assert first is not None
    place.me.submitter.outdate(Intent("claim", TASK))

    def elsewhere(situation: Situation) -> Plan:
        others = [box for box in situation.funds.boxes if str(box.box_id) not in inputs_of(first)]
        assert others
        return payment(replace(situation, funds=replace(situation.funds, boxes=tuple(others), first=())))

    before = place.me.journal.transactions()
    with pytest.raises(InvariantError, match="shares no input"):
        await place.me.submitter.transact(Intent("claim", TASK), elsewhere)
    assert place.me.journal.transactions() == before


@pytest.mark.asyncio
async def test_contested__when__a_box_is_spent_in_the_mempool__then__by_us_is_no_contest(place: Place) -> None:
    situation = await place.me.submitter.situation()
    box_id = str(situation.funds.boxes[0].box_id)
    rival = sign(ME, place.world.deployment, payment(situation, 7 * ERG), situation.tip.headers)
    assert not await place.me.submitter.contested(box_id)
    assert await place.pay("one")
    assert not await place.me.submitter.contested(box_id)
    place.world.chain.pool.clear()
    place.world.chain.submit(rival)
    assert await place.me.submitter.contested(box_id)


@pytest.mark.asyncio
async def test_transact__when__no_node_answers__then__the_explorer_takes_it(place: Place) -> None:
    async with faulty(place.world.devnet.node_url, lambda r: "500" if is_submit(r) else None) as proxy:
        other = await place.world.party("stranger", node_urls=(proxy.url,))
        record = await other.submitter.transact(Intent("one"), payment)
        assert record is not None
        assert place.pool() == [record.id]


def inputs_of(record: TxRecord) -> set[str]:
    return {str(i.box_id) for i in Transaction.from_bytes(record.body).inputs}
