"""The node as the daemon sees it: facts, the class of each refusal, failover, and what a time-out means."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
import pytest_asyncio
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction
from offchain import ERG, FEE, signer
from onchain import faulty, is_submit

from aihd.chain.http import SourceError
from aihd.chain.node import INDEX_PAGE, Answer, Node, classify
from aihd.chain.submission import GRACE
from aihd.core.life import Sighting
from aihd.devnet import Devnet
from aihd.protocol import plans
from aihd.protocol.box import box_of
from aihd.protocol.funding import Funds, Output
from aihd.protocol.trees import address_of

ME, YOU = signer("node"), signer("client")


@dataclass(frozen=True, slots=True)
class Place:
    """A devnet, a session, a node client and one box of ours."""

    devnet: Devnet
    session: aiohttp.ClientSession
    node: Node
    box: ErgoBox

    def pay(self, *boxes: ErgoBox, value: int = ERG, fee: int = FEE, spoil: bool = False) -> Transaction:
        """A signed payment from the boxes; spoilt, its last proof is another's."""
        chain = self.devnet.chain
        market = plans.Market(None, chain.height + 1)  # type: ignore[arg-type] # a plain payment asks for no scripts
        plan = plans.send(market, (Output(value, YOU.tree),), Funds(boxes, ME.tree, max(fee, 1_000_000)))
        if fee < 1_000_000:
            outputs = tuple(Output(fee, o.tree) if o.value == plan.fee else o for o in plan.outputs[:-1])
            last = Output(plan.outputs[-1].value + plan.fee - fee, ME.tree)
            unsigned = type(plan)(
                plan.kind, plan.inputs, (*outputs, last), 1, fee, plan.creation_height, None
            ).unsigned()
        else:
            unsigned = plan.unsigned()
        signed = ME._wallet.sign_transaction(unsigned, list(plan.inputs), [], chain.context)
        proofs = [b"\x01" * 56 if spoil else bytes(i.spending_proof.proof) for i in signed.inputs]
        return Transaction.from_unsigned_tx(unsigned, proofs)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Place]:
    async with Devnet() as devnet, aiohttp.ClientSession() as session:
        tx_id = devnet.chain.faucet(address_of(ME.tree), 10 * ERG)
        devnet.chain.mine()
        box = devnet.chain.ledger.transactions[tx_id].view.outputs[0].box
        yield Place(devnet, session, Node(session, (devnet.node_url,)), box)


@pytest.mark.asyncio
async def test_submit__when__given_transactions_of_all_kinds__then__each_is_classified(place: Place) -> None:
    node, chain = place.node, place.devnet.chain
    low = await node.submit(place.pay(place.box, fee=999_999))
    assert (low.answer, low.detail) == (Answer.FEE, "Min fee not met: 0.001 ergs required, 9.99999E-4 ergs given")
    spoilt = await node.submit(place.pay(place.box, spoil=True))
    assert spoilt.answer is Answer.REFUSED
    assert spoilt.detail.startswith("Malformed transaction: Scripts of all transaction inputs should pass verification")
    dust = await node.submit(place.pay(place.box, value=20_000))
    assert dust.answer is Answer.REFUSED

    tx = place.pay(place.box)
    assert (await node.submit(tx)).answer is Answer.ACCEPTED
    assert (await node.submit(tx)).answer is Answer.KNOWN
    rival = place.pay(place.box, value=2 * ERG)
    assert (await node.submit(rival)).answer is Answer.DOUBLE_SPEND
    assert await node.in_mempool(str(tx.id))
    assert await node.is_spent_in_mempool(str(place.box.box_id))
    assert await node.placed(str(tx.id)) is None

    (block,) = chain.mine()
    assert (await node.submit(rival)).answer is Answer.MISSING_INPUT
    assert (await node.submit(tx)).answer is Answer.MISSING_INPUT
    assert await node.placed(str(tx.id)) == (block.height, block.block_id)
    assert not await node.in_mempool(str(tx.id))
    assert await node.box(str(place.box.box_id)) is None
    change = tx.outputs[2]
    assert await node.box(str(change.box_id)) == box_of(change)


@pytest.mark.asyncio
async def test_info__when__asked__then__the_tip_and_its_headers_newest_first(place: Place) -> None:
    chain = place.devnet.chain
    info = await place.node.info()
    assert (info.height, info.header_id) == (chain.height, chain.tip.block_id)
    assert info.genesis_id == chain.blocks[0].block_id
    assert info.indexed
    headers = await place.node.last_headers()
    assert [h["height"] for h in headers] == list(range(chain.height, chain.height - 10, -1))
    assert headers[0]["id"] == await place.node.header_at(chain.height) == chain.tip.block_id
    assert await place.node.header_at(chain.height + 1) is None


@pytest.mark.parametrize(
    ("detail", "answer"),
    [
        ("Missing inputs: 1", Answer.MISSING_INPUT),
        ("not all utxos in place yet", Answer.MISSING_INPUT),
        ("Every input of the transaction should be in UTXO. Missing inputs: 0", Answer.MISSING_INPUT),
        ("the mempool is full", Answer.FEE),
        ("it is invalidated earlier or the pool is full", Answer.SPOILT),
        ("Transaction cost exceeds limit", Answer.REFUSED),
        ("outputs should have creationHeight not exceeding block height.  25 <= >23 is not true", Answer.EARLY),
        ("Creation height of any output should be not less than max creation height in inputs (30)", Answer.REFUSED),
        ("Amount of Ergs in inputs should be equal to amount of Erg in outputs. ab: Success(1)", Answer.REFUSED),
        ("For every token, its amount in outputs should not exceed its amount in inputs. ab", Answer.REFUSED),
        ("Erg amount for a transaction output should not be negative. ab", Answer.REFUSED),
        ("There should be no duplicate inputs. ab: 1 == 2", Answer.REFUSED),
        ("The request content was malformed:\nAttempt to decode value on failed cursor", Answer.REFUSED),
        ("something new", Answer.UNKNOWN),
        ("", Answer.UNKNOWN),
    ],
)
def test_classify__when__a_node_speaks__then__known_words_have_a_class_and_others_none(
    detail: str, answer: Answer
) -> None:
    assert classify(detail) is answer


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["500", "html", "close"])
async def test_submit__when__no_verdict_comes__then__unknown_and_sent_once(place: Place, fault: str) -> None:
    async with faulty(place.devnet.node_url, lambda _: fault) as proxy:
        result = await Node(place.session, (proxy.url,)).submit(place.pay(place.box))
    assert result.answer is Answer.UNKNOWN
    assert proxy.seen == [("POST", "/transactions")]
    assert len(place.devnet.chain.pool) == 0


@pytest.mark.asyncio
async def test_submit__when__only_the_answer_is_lost__then__unknown_though_it_arrived(place: Place) -> None:
    async with faulty(place.devnet.node_url, lambda request: "lost" if is_submit(request) else None) as proxy:
        node = Node(place.session, (proxy.url,))
        tx = place.pay(place.box)
        assert (await node.submit(tx)).answer is Answer.UNKNOWN
        assert await node.in_mempool(str(tx.id))
        proxy.fault = lambda _: None
        assert (await node.submit(tx)).answer is Answer.KNOWN


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["500", "html", "close"])
async def test_read__when__the_first_server_fails__then__the_second_answers(place: Place, fault: str) -> None:
    async with faulty(place.devnet.node_url, lambda _: fault) as proxy:
        node = Node(place.session, (proxy.url, place.devnet.node_url))
        assert (await node.info()).height == place.devnet.chain.height
        assert (await node.submit(place.pay(place.box))).answer is Answer.ACCEPTED
        assert ("GET", "/info") in proxy.seen
        assert [server.rests for server in node.servers] == [True, False]


@pytest.mark.asyncio
async def test_read__when__a_server_recovers__then__the_read_is_repeated(place: Place) -> None:
    async with faulty(place.devnet.node_url) as proxy:
        proxy.fault = lambda _: "500" if len(proxy.seen) < 3 else None
        assert (await Node(place.session, (proxy.url,)).info()).height == place.devnet.chain.height
        assert [path for _, path in proxy.seen] == ["/info", "/info", "/info", "/blocks/lastHeaders/10"]


@pytest.mark.asyncio
async def test_read__when__every_server_fails__then__one_error_names_it(place: Place) -> None:
    async with faulty(place.devnet.node_url, lambda _: "close") as proxy:
        with pytest.raises(SourceError, match=f"{proxy.url} gave no answer") as caught:
            await Node(place.session, (proxy.url, proxy.url)).info()
        assert caught.value.passing
        assert caught.value.exit_code == 75


@pytest.mark.asyncio
async def test_read__when__the_request_is_wrong__then__neither_repeated_nor_tried_elsewhere(place: Place) -> None:
    async with faulty(place.devnet.node_url) as proxy:
        node = Node(place.session, (proxy.url, place.devnet.node_url))
        with pytest.raises(SourceError) as caught:
            await node.get("/blocks/at/zz")
        assert caught.value.status == 400
        assert not caught.value.passing
        assert proxy.seen == [("GET", "/blocks/at/zz")]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("first", "answers"),
    [
        (None, [Answer.ACCEPTED, Answer.KNOWN]),
        ("500", [Answer.UNKNOWN, Answer.ACCEPTED]),
        ("html", [Answer.UNKNOWN, Answer.ACCEPTED]),
        ("lost", [Answer.UNKNOWN, Answer.KNOWN]),
        ("hang", [Answer.UNKNOWN, Answer.ACCEPTED]),
    ],
)
async def test_submit__when__there_are_several_nodes__then__each_is_handed_it_and_none_waits_for_a_silent_one(
    place: Place, first: str | None, answers: list[Answer]
) -> None:
    async with (
        faulty(place.devnet.node_url, lambda r: first if is_submit(r) else None) as one,
        faulty(place.devnet.node_url) as two,
    ):
        result = await asyncio.wait_for(Node(place.session, (one.url, two.url)).submit(place.pay(place.box)), GRACE + 2)
        assert [proxy.seen for proxy in (one, two)] == [[("POST", "/transactions")]] * 2
    assert {verdict.answer for verdict in result.verdicts} == set(answers)
    assert [verdict.url for verdict in result.verdicts] == [one.url, two.url]
    assert result.answer in (Answer.ACCEPTED, Answer.KNOWN)
    assert len(place.devnet.chain.pool) == 1


@pytest.mark.asyncio
async def test_submit__when__again__then__only_to_nodes_that_do_not_have_it(place: Place) -> None:
    tx = place.pay(place.box)
    async with faulty(place.devnet.node_url) as proxy:
        node = Node(place.session, (proxy.url,))
        assert (await node.submit(tx, again=True)).sent
        assert not (await node.submit(tx, again=True)).sent
        assert [path for method, path in proxy.seen if method == "POST"] == ["/transactions"]


@pytest.mark.asyncio
async def test_submit__when__nobody_listens__then__not_reached_and_not_sent(place: Place) -> None:
    result = await Node(place.session, ("http://127.0.0.1:1",)).submit(place.pay(place.box))
    assert (result.answer, result.sent) == (Answer.UNREACHED, False)


@pytest.mark.asyncio
@pytest.mark.parametrize(("behind", "answer"), [(0, Answer.REFUSED), (1, Answer.EARLY), (5, Answer.EARLY)])
async def test_submit__when__a_node_that_is_behind_refuses_a_script__then__it_is_no_verdict(
    place: Place, behind: int, answer: Answer
) -> None:
    height = place.devnet.chain.height
    async with faulty(place.devnet.node_url) as proxy:
        proxy.lies["/info"] = {"fullHeight": height - behind}
        result = await Node(place.session, (proxy.url,)).submit(place.pay(place.box, spoil=True))
    assert result.answer is answer


@pytest.mark.asyncio
@pytest.mark.slow
async def test_submit__when__the_node_hangs__then__unknown_after_the_time_limit(place: Place) -> None:
    async with faulty(place.devnet.node_url, lambda request: "hang") as proxy:
        result = await Node(place.session, (proxy.url,)).submit(place.pay(place.box))
    assert result.answer is Answer.UNKNOWN
    assert "gave no answer" in result.detail
    assert json.dumps(result.detail)


@pytest.mark.asyncio
async def test_unspent_by_tree__when__there_are_several_pages__then__every_box_once(place: Place) -> None:
    chain = place.devnet.chain
    for count in (INDEX_PAGE // 2, INDEX_PAGE // 2 + 3):
        for _ in range(count):
            chain.faucet(address_of(YOU.tree), ERG)
        chain.mine()
    found = {s.box.id: s for s in await place.node.unspent_by_tree(YOU.tree)}
    assert len(found) == INDEX_PAGE + 3
    assert {(s.height, s.spent_by) for s in found.values()} == {(chain.height - 1, None), (chain.height, None)}
    assert await place.node.indexed_height(place.node.servers[0]) == chain.height


@pytest.mark.asyncio
async def test_found__when__a_box_is_forged__then__a_lie_that_is_counted(place: Place) -> None:
    box_id = str(place.box.box_id)
    told = await place.node.get(f"/blockchain/box/byId/{box_id}")
    sighting = await place.node.found(box_id)
    assert isinstance(sighting, Sighting) and sighting.box == box_of(place.box)
    async with faulty(place.devnet.node_url) as liar:
        liar.lies[f"/blockchain/box/byId/{box_id}"] = {**told, "value": told["value"] + 1}
        node = Node(place.session, (liar.url,))
        with pytest.raises(SourceError, match="shows a box that is not what it says"):
            await node.found(box_id)
        assert node.servers[0].lies
