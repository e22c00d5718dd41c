"""A client on its own: posting without forgetting, getting money back in each way there is, and what a lying node gets it to believe."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from offchain import ERG, FEE, OUTPUT, digest, signer
from onchain import STAKE, World, market, order

from aihd.client.client import Client
from aihd.client.party import Party
from aihd.client.upload import commitment_of, upload
from aihd.client.verify import Evidence, Finding, verify
from aihd.core.task import Where
from aihd.errors import ConfigError, DependencyError, TemporaryError, UsageError
from aihd.execution import seal
from aihd.execution.exchange import PREFIX
from aihd.ops.web import serve
from aihd.protocol import envelope, hashes, plans
from aihd.protocol.boxes import Bond, ClaimedTask, On, TaskEscrow
from aihd.protocol.constants import RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.guards import BIRTH_LEAD, slash
from aihd.protocol.receipt import FullReceipt
from aihd.store.journal import Journal

SERVICE = digest("service")
CLIENT = signer("client")


@dataclass(frozen=True, slots=True)
class Place:
    """A market with a client and a bonded node whose every move the test makes. `door` is what the node serves."""

    world: World
    party: Party
    client: Client
    node: Party
    input: Path
    door: dict[str, tuple[int, bytes]]

    async def post(self, **changes: object) -> bytes:
        task_id = await self.client.post(order(SERVICE, **changes), self.input, {})
        self.world.chain.mine()
        return task_id

    async def bond(self) -> On[Bond]:
        (bond,) = await self.node.view.bonds()
        return bond

    async def claim(self, task_id: bytes) -> On[ClaimedTask]:
        box = await self.node.view.node.box(task_id.hex())
        assert box is not None
        task, bond = self.world.deployment.read(TaskEscrow, box), await self.bond()
        self.world.chain.mine()
        await self.world.mined(self.node.do(f"claim {task_id.hex()}", lambda m, f: plans.claim(m, task, bond, f)))
        claimed = (await self.node.view.life(task_id)).claimed
        assert claimed is not None
        return claimed

    async def release(self, task_id: bytes, document: bytes, output_hash: bytes, signature: bytes) -> None:
        claimed = await self.claim(task_id)
        receipt = plans.receipt_for(claimed, output_hash, digest("params"), signature, hashes.receipt_cid(document))
        await self.world.mined(
            self.node.do(f"release {task_id.hex()}", lambda m, f: plans.release(m, claimed, receipt, f))
        )
        self.door[f"receipts/{hashes.receipt_cid(document).hex()}"] = (200, document)

    def balance(self) -> int:
        return self.world.balance(CLIENT.tree)


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[str, dict[str, tuple[int, bytes]]]]:
    """A node's door that gives what the test put there."""
    answers: dict[str, tuple[int, bytes]] = {}

    async def answer(request: web.Request) -> web.Response:
        status, body = answers.get(request.path.removeprefix(f"{PREFIX}/"), (404, b"{}"))
        return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app, "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", answers


@pytest_asyncio.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with market(tmp_path) as world, scripted() as (url, door):
        node, party = await world.party("node"), await world.party("client")
        await world.mined(node.open_bond(STAKE, url))
        world.chain.mine(BIRTH_LEAD + 1)
        source = tmp_path / "input.txt"
        source.write_text("one two\n")
        yield Place(world, party, party.client, node, source, door)


# ---------------------------------------------------------------- posting


@pytest.mark.asyncio
async def test_post__when__sent__then__the_escrow_holds_the_terms_and_the_salt_is_kept(place: Place) -> None:
    before = place.balance()
    task_id = await place.post(allowed=(place.node.signer.public_key,))
    box = await place.party.view.node.box(task_id.hex())
    assert box is not None
    task = place.world.deployment.read(TaskEscrow, box)
    post = place.party.journal.post(task_id)
    assert post is not None
    assert task.content.input_commitment == commitment_of(bytes.fromhex(post["salt"]), {}, place.input)
    assert (task.content.payment, task.content.client) == (ERG, CLIENT.public_key)
    assert task.content.allowed == (place.node.signer.public_key,)
    assert task.content.selection_difficulty == 1
    assert before - place.balance() == ERG + RECEIPT_VALUE + RATING_VALUE + FEE
    progress = await place.client.progress(task_id)
    assert progress is not None
    assert progress.where is Where.OPEN


@pytest.mark.asyncio
async def test_post__when__the_input_cannot_be_read__then__nothing_is_spent(place: Place) -> None:
    with pytest.raises(UsageError, match=r"input .*missing: No such file"):
        await place.client.post(order(SERVICE), place.input.with_name("missing"), {})
    assert place.party.journal.transactions() == []
    assert place.party.journal.posts() == []


@pytest.mark.asyncio
async def test_party__when__the_journal_is_another_wallets__then__refused(place: Place, tmp_path: Path) -> None:
    with Journal(tmp_path / "stranger.sqlite") as journal:
        journal.bind(wallet=CLIENT.public_key.hex())
    with pytest.raises(ConfigError, match=f"belongs to wallet {CLIENT.public_key.hex()}"):
        await place.world.party("stranger")


@pytest.mark.asyncio
async def test_open_bond__when__there_is_one__then__refused(place: Place) -> None:
    with pytest.raises(UsageError, match="this wallet has a bond already"):
        await place.node.open_bond(STAKE, "http://x")


@pytest.mark.asyncio
async def test_upload__when__streamed__then__the_preimage_of_the_commitment(tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(range(256)) * 10_000)
    sent = b"".join([chunk async for chunk in upload(digest("salt"), {"A": "1"}, source)])
    expected = digest("salt") + b"".join(envelope.encode({"A": "1"}, [source.read_bytes()]))
    assert sent == expected
    assert hashlib.blake2b(b"aih:input:1" + sent, digest_size=32).digest() == commitment_of(
        digest("salt"), {"A": "1"}, source
    )


# ---------------------------------------------------------------- the money back


@pytest.mark.asyncio
async def test_refund__when__nobody_has_claimed__then__cancelled_at_once(place: Place) -> None:
    before = place.balance()
    task_id = await place.post()
    assert await place.world.mined(place.client.refund(task_id)) == "cancelled"
    assert place.balance() == before - 2 * FEE
    assert await place.client.refund(task_id) == "cancelled", "asked again, it says what it has done"
    assert place.balance() == before - 2 * FEE


@pytest.mark.asyncio
async def test_refund__when__a_node_has_claimed__then__only_after_its_deadline_and_with_the_slash(place: Place) -> None:
    before = place.balance()
    task_id = await place.post()
    claimed = await place.claim(task_id)
    deadline, chain = claimed.content.exec_deadline, place.world.chain
    with pytest.raises(
        TemporaryError, match=f"may be delivered until height {deadline}, the chain is at {chain.height}"
    ):
        await place.client.refund(task_id)
    chain.mine(deadline - chain.height)
    assert await place.world.mined(place.client.refund(task_id)) == "timed out"
    assert place.balance() == before + slash(STAKE, ERG) - 2 * FEE  # the timeout's fee comes out of what it returns
    bond = (await place.bond()).content
    assert (bond.amount, bond.timed_out, bond.score) == (STAKE - ERG // 10, 1, -80)
    progress = await place.client.progress(task_id)
    assert progress is not None
    assert progress.where is Where.TIMED_OUT
    with pytest.raises(UsageError, match="is timed_out: there is nothing to get back"):
        await place.client.refund(task_id)


@pytest.mark.asyncio
async def test_refund__when__the_task_is_unknown__then__told(place: Place) -> None:
    with pytest.raises(TemporaryError, match="is not on the chain"):
        await place.client.refund(digest("unknown"))


# ---------------------------------------------------------------- rating


@pytest.mark.asyncio
@pytest.mark.parametrize("mark", [0, 6, -1])
async def test_rate__when__no_mark__then__refused(place: Place, mark: int) -> None:
    with pytest.raises(UsageError, match=f"mark {mark}: expected 1"):
        await place.client.rate(digest("x"), mark)


@pytest.mark.asyncio
async def test_rate__when__the_task_is_not_ours__then__refused(place: Place) -> None:
    with pytest.raises(UsageError, match="was not posted from this wallet's data folder"):
        await place.client.rate(digest("x"), 5)


@pytest.mark.asyncio
async def test_rate__when__the_task_failed__then__an_error_and_not_for_ever(place: Place) -> None:
    task_id = await place.post()
    await place.world.mined(place.client.refund(task_id))
    with pytest.raises(DependencyError, match="ended: lost"):
        await asyncio.wait_for(place.client.rate(task_id, 5), 5)


@pytest.mark.asyncio
async def test_rate__when__the_node_never_commits__then__revealed_after_the_commit_deadline(place: Place) -> None:
    task_id = await place.post()
    await place.release(task_id, b"{}", OUTPUT, b"sig")
    chain = place.world.chain
    rating = asyncio.ensure_future(place.client.rate(task_id, 2))
    for _ in range(200):
        if rating.done():
            break
        await asyncio.sleep(0.03)
        chain.mine()
    await rating
    life = await place.party.view.life(task_id)
    assert life.rating is not None
    assert (life.rating.content.client_mark, life.rating.content.node_mark) == (2, 0)
    assert [tx.kind for tx in place.party.journal.transactions(task_id)] == ["commit", "reveal"]


# ---------------------------------------------------------------- what a node says


def full_receipt(place: Place, task_id: bytes, **changes: object) -> bytes:
    receipt = FullReceipt(
        task_id.hex(),
        SERVICE.hex(),
        place.node.signer.public_key.hex(),
        "00" * 32,
        OUTPUT.hex(),
        1,
        "00" * 32,
        "00" * 32,
        "00" * 32,
        1,
        "00",
    )
    return replace(receipt, **changes).document()  # type: ignore[arg-type]


def failing(findings: list[Finding]) -> set[str]:
    return {finding.what for finding in findings if not finding.holds}


@pytest.mark.asyncio
async def test_verify__when__the_node_lies__then__each_lie_is_found(place: Place) -> None:
    task_id = await place.post()
    document = full_receipt(place, task_id, service_hash=digest("another service").hex())
    await place.release(task_id, document, OUTPUT, b"\1" * 56)
    output = place.world.folder / "output"
    output.write_bytes(b"not the output")
    findings = await place.client.verify(task_id, output, {})
    assert failing(findings) == {
        "node signature",
        "output hash",
        "output size",
        "service",
        "claim block",
        "seed",
        "parameters",
        "height",
        *(f"receipt's {what}" for what in ("signature", "input", "parameters")),
    }
    assert {f.what for f in findings if f.holds} == {
        "task posted",
        "claim spent it",
        "terms kept",
        "input",
        "receipt of this task",
        "receipt by the claimer",
        "full receipt",
        *(f"receipt's {what}" for what in ("task", "node", "output")),
    }


@pytest.mark.asyncio
async def test_verify__when__another_document_is_served__then__its_cid_does_not_match(place: Place) -> None:
    task_id = await place.post()
    document = full_receipt(place, task_id)
    message = hashes.receipt_message(bytes.fromhex(place.world.genesis_id), task_id, OUTPUT)
    await place.release(task_id, document, OUTPUT, place.node.signer.sign_message(message))
    path = f"receipts/{hashes.receipt_cid(document).hex()}"
    place.door[path] = (200, full_receipt(place, task_id, output_size=2))
    output = place.world.folder / "output"
    output.write_bytes(b"x")
    findings = await place.client.verify(task_id, output)
    assert "full receipt" in failing(findings)
    assert "node signature" not in failing(findings)
    for wrong in (b"[" * 100_000, b'{"seed":1}', json.dumps({}).encode()):
        place.door[path] = (200, wrong)
        with pytest.raises(UsageError, match="receipt: "):
            await place.client.verify(task_id, output)
    place.door[path] = (404, b"gone")
    with pytest.raises(TemporaryError, match="the node does not give the receipt"):
        await place.client.verify(task_id, output)


@pytest.mark.asyncio
async def test_verify__when__there_is_no_receipt_yet__then__temporary(place: Place) -> None:
    task_id = await place.post()
    with pytest.raises(TemporaryError, match="has no receipt yet"):
        await place.client.verify(task_id, place.input)
    life = await place.party.view.life(task_id)
    escrow = await place.party.view.escrow(task_id)
    evidence = Evidence(task_id=task_id, life=life, escrow=escrow, document=b"", output_hash=b"", output_size=0)
    assert [f.holds for f in verify(place.world.deployment, place.world.genesis_id, evidence, None)] == [False]


@pytest.mark.asyncio
async def test_fetch__when__the_output_is_another__then__nothing_is_kept(place: Place) -> None:
    task_id = await place.post()
    content = b"the output"
    await place.release(task_id, b"{}", hashlib.sha3_256(content).digest(), b"sig")
    path, target = f"outputs/{hashlib.sha3_256(content).hexdigest()}", place.world.folder / "output"

    async def sealed(plain: bytes) -> bytes:
        async def pieces() -> AsyncIterator[bytes]:
            yield plain

        context = seal.output_context(task_id, hashlib.sha3_256(content).digest())
        return b"".join([part async for part in seal.seal(place.party.signer.public_key, context, pieces())])

    for answer, error in (
        ((200, await sealed(b"forged")), DependencyError),
        ((200, (await sealed(content))[:-1]), DependencyError),
        ((200, content), DependencyError),
        ((404, b"gone"), TemporaryError),
    ):
        place.door[path] = answer
        with pytest.raises(error):
            await place.client.fetch(task_id, target)
        assert not list(place.world.folder.glob("output*"))
    place.door[path] = (200, await sealed(content))
    assert await place.client.fetch(task_id, target) == hashlib.sha3_256(content).digest()
    assert target.read_bytes() == content


@pytest.mark.asyncio
async def test_deliver__when__the_node_is_away__then__temporary_and_its_address_is_named(place: Place) -> None:
    task_id = await place.post()
    with pytest.raises(TemporaryError, match="is not claimed yet"):
        await place.client.deliver(task_id)
    await place.claim(task_id)
    place.door[f"tasks/{task_id.hex()}"] = (200, b"<html>")
    with pytest.raises(TemporaryError, match=r"http://127.0.0.1:\d+/aih/1/tasks/[0-9a-f]{64} answered 200"):
        await place.client.deliver(task_id)
    place.door[f"tasks/{task_id.hex()}"] = (200, json.dumps({"state": "awaiting input", "note": ""}).encode())
    with pytest.raises(TemporaryError, match="the node did not take the input"):
        await place.client.deliver(task_id)
