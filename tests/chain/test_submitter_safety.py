"""Never paid twice and never given up too early: nodes that disagree, forget, lie behind or lose answers, and what is built in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE, FREE, permit, sign, signer
from onchain import DEPTH, PURSE, World, faulty, followed, is_submit, market

from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.signer import SigningError
from aihd.chain.submitter import DAY, HOUR, PATIENCE, DroppedError, Funding, Intent, Submitter
from aihd.chain.view import ChainView, Situation
from aihd.client.party import Party
from aihd.core.sending import Origin
from aihd.ops.web import serve
from aihd.protocol import plans
from aihd.protocol.boxes import Bond, On
from aihd.protocol.funding import Output, Plan
from aihd.protocol.trees import address_of
from aihd.store.journal import Journal, TxRecord, TxStatus

ME, YOU = signer("node"), signer("client")
TASK = b"\7" * 32


@dataclass(frozen=True, slots=True)
class Place:
    """A party that follows the chain as a daemon does, with a purse of 100 ERG."""

    world: World
    me: Party

    async def look(self) -> None:
        await self.me.submitter.follow(await self.me.view.sync())

    async def passed_over(self, blocks: int) -> None:
        """Blocks whose miner takes nothing from the mempool."""
        for _ in range(blocks):
            self.world.chain.mine(transactions=())
            await self.look()

    async def pay(self, intent: Intent | str, value: int = ERG) -> TxRecord | None:
        intent = Intent(intent) if isinstance(intent, str) else intent
        return await self.me.submitter.transact(intent, paying(value))

    def statuses(self, intent: str) -> list[TxStatus]:
        return [tx.status for tx in self.me.journal.transactions() if tx.intent == intent]

    def paid(self) -> int:
        return self.world.balance(YOU.tree)


def paying(value: int) -> Callable[[Situation], Plan]:
    return lambda now: plans.send(now.market, (Output(value, YOU.tree),), now.funds)


def inputs_of(record: TxRecord) -> set[str]:
    return {str(i.box_id) for i in Transaction.from_bytes(record.body).inputs}


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world:
        made = Place(world, followed(await world.party("node")))
        await made.look()
        yield made


@asynccontextmanager
async def refusing(answer: web.Response | tuple[int, str], target: str) -> AsyncIterator[str]:
    """A node that refuses what it is given, in these words, and is right about everything else."""
    status, detail = answer if isinstance(answer, tuple) else (400, "")
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def forward(request: web.Request) -> web.Response:
            if is_submit(request):
                return web.json_response({"error": status, "reason": "bad.request", "detail": detail}, status=status)
            async with session.request(request.method, target + request.path_qs, data=await request.read()) as found:
                return web.Response(body=await found.read(), status=found.status, content_type=found.content_type)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", forward)
        port = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        yield f"http://127.0.0.1:{port}"


# ---------------------------------------------------------------- one node's word

REFUSALS = {
    "behind": (400, "Malformed transaction: Transaction outputs should have creationHeight not exceeding block height.  25 <= >23"),
    "missing": (400, "Malformed transaction: Every input of the transaction should be in UTXO. ab: 0 == 1. Missing inputs: 0"),
    "dust": (400, "Malformed transaction: Every output of the transaction should contain at least <minValuePerByte * outputSize>"),
    "script": (400, "Scripts of all transaction inputs should pass verification. ab: #0 => Success((false,403))"),
    "size": (400, "Transaction ab has too large size 99999, max 98304"),
    "spoilt": (400, "Pool can not accept transaction ab, it is invalidated earlier or the pool is full"),
    "double": (400, "Double spending attempt"),
    "fee": (400, "Min fee not met: 0.1 ergs required, 0.0011 given"),
    "key": (403, "The supplied authentication is invalid"),
    "new words": (400, "something that no version said before"),
    "broken": (500, "internal"),
}  # fmt: skip


@pytest.mark.asyncio
@pytest.mark.parametrize("lost", [True, False], ids=["answer lost", "taken"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_transact__when__one_node_has_it_and_another_refuses__then__it_waits_and_is_paid_once(
    tmp_path: Path, refusal: str, lost: bool
) -> None:
    async with (
        market(tmp_path) as world,
        faulty(world.devnet.node_url, lambda r: "lost" if lost and is_submit(r) else None) as first,
        refusing(REFUSALS[refusal], world.devnet.node_url) as second,
    ):
        for urls in ((first.url, second), (second, first.url)):
            name = f"payer {urls[0] == second}"
            me = await world.party(name, node_urls=urls)
            before = world.balance(YOU.tree)
            record = await me.submitter.transact(Intent("pay"), paying(ERG))
            assert record is not None and len(world.chain.pool) == 1
            assert [tx.status for tx in me.journal.transactions()] == [TxStatus.PENDING]
            again = await me.submitter.transact(Intent("pay"), paying(ERG))  # whoever asked tries again
            if again is not None:
                assert inputs_of(again) & inputs_of(record)
            world.chain.mine()
            await me.submitter.follow(await me.view.tip())
            await me.submitter.transact(Intent("pay"), paying(ERG))
            world.chain.mine()
            assert world.balance(YOU.tree) - before == ERG


@pytest.mark.asyncio
@pytest.mark.parametrize(("refusal", "ends"), [(key, key in ("dust", "script", "size")) for key in REFUSALS])
async def test_transact__when__every_node_refuses__then__it_ends_only_for_what_no_time_mends(
    place: Place, refusal: str, ends: bool
) -> None:
    async with (
        refusing(REFUSALS[refusal], place.world.devnet.node_url) as one,
        refusing(REFUSALS["dust"], place.world.devnet.node_url) as two,
        faulty(place.world.devnet.explorer_url, lambda r: "500" if r.method == "POST" else None) as explorer,
    ):
        me = await place.world.party("payer", node_urls=(one, two), explorer_urls=(explorer.url,))
        if ends:
            with pytest.raises(DroppedError, match="every node refuses it"):
                await me.submitter.transact(Intent("pay"), paying(ERG))
        else:
            assert await me.submitter.transact(Intent("pay"), paying(ERG))
        assert [tx.status for tx in me.journal.transactions()] == [TxStatus.DROPPED if ends else TxStatus.PENDING]


@pytest.mark.asyncio
async def test_transact__when__it_was_refused_for_good_and_is_ordered_again__then__both_share_an_input(
    place: Place,
) -> None:
    place.world.fund(ME, PURSE)
    await place.look()

    def overtaken(now: Situation) -> Plan:
        place.world.chain.parameters["minValuePerByte"] *= 1000
        return paying(ERG)(now)

    with pytest.raises(DroppedError):
        await place.me.submitter.transact(Intent("pay"), overtaken)
    place.world.chain.parameters["minValuePerByte"] //= 1000
    (first,) = place.me.journal.transactions()
    for _ in range(2):  # boxes that would be preferred now: the payment is made with the first one's all the same
        place.world.fund(ME, 3 * PURSE)
    await place.look()
    second = await place.pay("pay", 2 * ERG)
    assert second is not None and inputs_of(first) & inputs_of(second)
    with pytest.raises(Exception, match=r"should be in UTXO|Double"):
        place.world.chain.submit(Transaction.from_bytes(first.body))
        place.world.chain.mine()
        place.world.chain.submit(Transaction.from_bytes(second.body))


# ---------------------------------------------------------------- what no node takes


@pytest.mark.asyncio
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("children", [1, 3])
async def test_follow__when__a_node_never_takes_ids_again__then__each_is_paid_once_by_others(
    place: Place, depth: int, children: int
) -> None:
    chain = place.world.chain
    intents = {f"bond:{number}": ERG * (number + 1) for number in range(children)}
    await place.pay("first")
    chain.mine(depth)
    await place.look()
    for intent, value in intents.items():
        await place.pay(intent, value)
    chain.reorg(depth, lose=True)  # the parent is lost, and what was built on it is remembered as invalid
    chain.mine()
    for _ in range(4 * PATIENCE):
        await place.look()
        for intent, value in intents.items():
            await place.pay(intent, value)
        await place.pay(Intent("release", TASK), 50 * ERG)
        chain.mine()
    await place.look()
    assert place.paid() == ERG + sum(intents.values()) + 50 * ERG
    for intent in ("first", *intents):
        assert [s for s in place.statuses(intent) if s in (TxStatus.MINED, TxStatus.FINAL)], intent


@pytest.mark.asyncio
@pytest.mark.parametrize("links", [1, 2])
async def test_transact__when__no_node_takes_what_waits__then__nothing_new_is_built_on_it(
    place: Place, links: int
) -> None:
    """Whose purpose nobody pursues any more stands in nobody's way."""
    chain = place.world.chain
    await place.pay("first")
    chain.mine()
    await place.look()
    stuck = [await place.pay(f"left alone {number}") for number in range(links)]
    chain.reorg(1, lose=True)
    chain.mine()
    for _ in range(2):
        await place.look()
        chain.mine()
    assert [place.statuses(f"left alone {number}") for number in range(links)] == [[TxStatus.PENDING]] * links
    release = await place.pay(Intent("release", TASK), 2 * ERG)
    assert release is not None
    made = {str(box.box_id) for record in stuck if record for box in Transaction.from_bytes(record.body).outputs}
    assert not inputs_of(release) & made
    chain.mine()
    await place.look()
    assert place.statuses(f"release:{TASK.hex()}") == [TxStatus.MINED]
    assert place.paid() == 3 * ERG


@pytest.mark.asyncio
async def test_transact__when__a_parent_is_replaced__then__its_child_is_built_anew_and_never_paid_twice(
    place: Place,
) -> None:
    place.world.fund(ME, PURSE)
    await place.look()
    first, child = await place.pay("first", 99 * ERG), await place.pay("child", 150 * ERG // 100)
    child = child or None
    assert first is not None and child is not None
    await place.passed_over(PATIENCE + 1)
    second = await place.pay("first", 99 * ERG)
    assert second is not None and inputs_of(first) & inputs_of(second)
    again = await place.pay("child", 150 * ERG // 100)
    assert again is not None
    old = [Transaction.from_bytes(record.body) for record in (first, child)]
    place.world.chain.mine(transactions=old)  # a miner had kept the first ones
    for _ in range(3):
        await place.look()
        await place.pay("child", 150 * ERG // 100)
        await place.pay("first", 99 * ERG)
        place.world.chain.mine()
    await place.look()
    assert place.paid() == 99 * ERG + 150 * ERG // 100


@pytest.mark.asyncio
async def test_transact__when__a_plain_payment_waits_too_long__then__replaced_even_by_another_process(
    place: Place,
) -> None:
    place.world.fund(ME, PURSE)
    await place.look()
    first = await place.pay("pay")
    assert first is not None
    await place.passed_over(PATIENCE)
    restarted = followed(place.me)  # what it knew of ages is gone, but for the journal
    place = Place(place.world, restarted)
    assert place.me.submitter.busy(Intent("pay"))
    await place.look()
    await place.passed_over(1)
    assert not place.me.submitter.busy(Intent("pay"))
    second = await place.pay("pay")
    assert second is not None and inputs_of(first) & inputs_of(second) and second.fee == 2 * FEE
    place.world.chain.mine()
    await place.look()
    assert place.statuses("pay") == [TxStatus.REPLACED, TxStatus.MINED]
    assert place.paid() == ERG


@pytest.mark.asyncio
async def test_confirmed__when__it_waits_too_long__then__replaced_on_the_way_and_the_height_is_of_the_one_that_counts(
    place: Place,
) -> None:
    intent = Intent("pay")
    record = await place.me.submitter.transact(intent, paying(ERG))
    assert record is not None
    waiting = asyncio.ensure_future(place.me.submitter.confirmed(record, 0.01, (intent, paying(ERG))))
    for _ in range(PATIENCE + 3):
        place.world.chain.mine(transactions=())
        await asyncio.sleep(0.1)
    (entry,) = place.world.chain.pool
    assert entry.view.fee == 2 * FEE
    (block,) = place.world.chain.mine()
    assert await asyncio.wait_for(waiting, 5) == block.height
    assert place.paid() == ERG


@pytest.mark.asyncio
async def test_confirmed__when__no_source_answers_for_a_while__then__it_waits_for_what_it_has_sent(
    place: Place,
) -> None:
    async with faulty(place.world.devnet.node_url) as proxy:
        me = await place.world.party("payer", node_urls=(proxy.url,))
        record = await me.submitter.transact(Intent("pay"), paying(ERG))
        assert record is not None
        proxy.fault = lambda _: "500"
        waiting = asyncio.ensure_future(me.submitter.confirmed(record, 0.01))
        await asyncio.sleep(0.5)
        place.world.chain.mine()
        proxy.fault = lambda _: None
        assert await asyncio.wait_for(waiting, 30) == place.world.chain.height


@pytest.mark.asyncio
async def test_follow__when__an_input_vanishes_with_its_branch__then__it_waits_and_is_mined_when_it_comes_back(
    place: Place,
) -> None:
    chain = place.world.chain
    gift = chain.faucet(address_of(ME.tree), 500 * ERG)
    chain.mine()
    await place.look()
    paid = chain.ledger.transactions[gift].view.tx
    record = await place.pay("pay", 400 * ERG)
    assert record is not None
    chain.reorg(1, lose=True)
    chain.mine(3)
    for _ in range(3):
        await place.look()
        chain.mine()
    assert place.statuses("pay") == [TxStatus.PENDING]
    assert await place.pay("other", ERG), "what is there can be spent meanwhile"
    chain.mine(transactions=(paid,))
    await place.look()
    chain.mine()
    for _ in range(2):
        await place.look()
        if not place.me.submitter.busy(Intent("pay")):
            await place.pay("pay", 400 * ERG)
        chain.mine()
    await place.look()
    assert place.paid() == 401 * ERG


# ---------------------------------------------------------------- limits


@pytest.mark.asyncio
async def test_transact__when__a_person_orders__then__the_daemon_s_allowance_is_untouched_and_returns_with_blocks(
    place: Place, tmp_path: Path
) -> None:
    async with aiohttp.ClientSession() as session:
        urls, deployment = place.world.devnet, place.world.deployment
        view = ChainView(Node(session, (urls.node_url,)), Explorer(session, (urls.explorer_url,)), deployment)
        with Journal(tmp_path / "limited.sqlite") as journal:
            limits = replace(FREE, per_hour=ERG + FEE, per_day=2 * (ERG + FEE))
            allowed = permit(ME, deployment, spending=limits)
            daemon = Submitter(view, ME, journal, fee=FEE, final_depth=DEPTH, permit=allowed)
            for number in range(3):
                ordered = Intent(f"bond {number}", origin=Origin.OPERATOR)
                assert await daemon.transact(ordered, paying(5 * ERG)), "what a person orders is not held back"
            assert [tx.origin for tx in journal.transactions()] == [Origin.OPERATOR] * 3
            assert await daemon.transact(Intent("a"), paying(ERG))
            with pytest.raises(SigningError, match="max_spend_per_hour leaves 0 ERG"):
                await daemon.transact(Intent("b"), paying(ERG))
            place.world.chain.mine(HOUR - 1)
            with pytest.raises(SigningError, match="max_spend_per_hour"):
                await daemon.transact(Intent("b"), paying(ERG))
            place.world.chain.mine()
            assert await daemon.transact(Intent("b"), paying(ERG))
            place.world.chain.mine(HOUR)
            with pytest.raises(SigningError, match="max_spend_per_day leaves 0 ERG"):
                await daemon.transact(Intent("c"), paying(ERG))
            place.world.chain.mine(DAY - 2 * HOUR)
            assert await daemon.transact(Intent("c"), paying(ERG))


# ---------------------------------------------------------------- what others cannot undo


@pytest.mark.asyncio
async def test_transact__when__only_final_boxes_may_be_spent__then__no_change_no_gift_and_nothing_young(
    place: Place,
) -> None:
    chain = place.world.chain
    release = Intent("release", TASK, Funding.FINAL)
    for _ in range(DEPTH):
        await place.look()
        with pytest.raises(Exception, match="short of"):
            await place.pay(release)
        chain.mine()
    await place.look()
    place.world.fund(ME, 10 * ERG)  # seen, and not final
    await place.look()
    seen: list[Situation] = []

    def build(now: Situation) -> Plan:
        seen.append(now)
        return paying(ERG)(now)

    assert await place.me.submitter.transact(release, build)
    assert [box.value for box in seen[0].funds.boxes] == [PURSE]
    with pytest.raises(Exception, match="short of"):  # the only final box is spent by what waits
        await place.pay(Intent("fail", b"\x08" * 32, Funding.FINAL))
    assert await place.pay("any", 10 * ERG), "others build on its change"
    with pytest.raises(Exception, match="short of"):
        await place.pay(Intent("none", TASK, Funding.NONE))


@pytest.mark.asyncio
async def test_transact__when__a_node_is_silent__then__nothing_else_waits_for_it(place: Place) -> None:
    chain = place.world.chain
    for _ in range(6):
        place.world.fund(signer("payer"), ERG)
    held = asyncio.Event()
    async with faulty(place.world.devnet.node_url) as proxy:
        me = followed(await place.world.party("payer", purse=0, node_urls=(proxy.url,)))
        chain.mine(DEPTH + 1)
        await me.submitter.follow(await me.view.sync())
        proxy.fault = lambda r: "hang" if is_submit(r) and not held.is_set() else None
        slow = asyncio.ensure_future(me.submitter.transact(Intent("slow"), paying(ERG // 2)))
        await asyncio.sleep(0.2)
        held.set()
        others = [Intent("release", bytes([n]) * 32, Funding.FINAL) for n in range(3)]
        done = await asyncio.wait_for(
            asyncio.gather(*(me.submitter.transact(intent, paying(ERG // 4)) for intent in others)), 3
        )
        assert all(done) and not slow.done()
        spent = [inputs_of(record) for record in done if record is not None]
        assert len(set().union(*spent)) == len(spent), "each has a box of its own"
        assert len(chain.pool) == 3
        slow.cancel()


# ---------------------------------------------------------------- a bond that others spend


@pytest.mark.asyncio
@pytest.mark.parametrize("links", [1, 3])
async def test_transact__when__others_spend_the_bond_in_the_mempool__then__built_on_what_they_leave_of_it(
    place: Place, links: int
) -> None:
    chain, me = place.world.chain, place.me
    for _ in range(links + 1):
        place.world.fund(ME, PURSE)
    await place.look()
    await place.world.mined(me.open_bond(5 * ERG, "http://127.0.0.1:1"))
    await place.look()
    for number in range(links):  # not in our journal: as if strangers had settled
        now = await me.submitter.situation()
        assert now.bond is not None and now.bond.content.amount == 5 * ERG + number * ERG
        purse = [box for box in now.funds.boxes if box.value == PURSE][number]
        plan = plans.manage(now.market, now.bond, replace(now.funds, boxes=(purse,)), add=ERG)
        chain.submit(sign(ME, place.world.deployment, plan, now.tip.headers))
    record = await me.submitter.transact(Intent("topup"), topped_up(purse.value - ERG))
    assert record is not None and len(chain.pool) == links + 1
    chain.mine()
    await place.look()
    assert place.statuses("topup") == [TxStatus.MINED]
    now = await me.submitter.situation()
    assert now.bond is not None and now.bond.content.amount == 5 * ERG + links * ERG + 2 * ERG


def topped_up(largest: int) -> Callable[[Situation], Plan]:
    """Two ERG more for the bond, from a box that none of the strangers spends."""

    def build(now: Situation) -> Plan:
        assert now.bond is not None
        fresh = tuple(box for box in now.funds.boxes if box.value < largest)
        return plans.manage(now.market, now.bond, replace(now.funds, boxes=fresh), add=2 * ERG)

    return build


@pytest.mark.asyncio
async def test_transact__when__our_own_waiting_one_spends_the_bond__then__it_is_followed_once(place: Place) -> None:
    me = place.me
    await place.world.mined(me.open_bond(5 * ERG, "http://127.0.0.1:1"))
    await place.look()
    for number in range(3):
        assert await me.submitter.transact(
            Intent(f"topup {number}"), lambda now: plans.manage(now.market, bond_of(now), now.funds, add=ERG)
        )
    place.world.chain.mine()
    await place.look()
    assert bond_of(await me.submitter.situation()).content.amount == 8 * ERG


def bond_of(now: Situation) -> On[Bond]:
    assert now.bond is not None
    return now.bond


@pytest.mark.asyncio
async def test_situation__when__the_mempool_cannot_be_read__then__the_bond_that_is_in_a_block(place: Place) -> None:
    await place.world.mined(place.me.open_bond(5 * ERG, "http://127.0.0.1:1"))
    async with faulty(place.world.devnet.node_url) as proxy:
        me = followed(await place.world.party("node", purse=0, node_urls=(proxy.url,)))
        await me.view.sync()
        for answer in (
            {"error": 400},
            {"detail": 1},
            [{"id": 1}, 7, None, {"id": "x", "inputs": [{}], "outputs": [{}]}],
        ):
            proxy.lies["/transactions/unconfirmed/byErgoTree"] = answer
            assert bond_of(await me.submitter.situation()).content.amount == 5 * ERG
