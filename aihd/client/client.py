"""A client of the market: post a task, bring its input, take its output, verify, rate, and get the money back when nobody delivers.

Everything that must not be forgotten (salts, marks, signed transactions) is in the journal before it is used, so each verb can be
repeated after a crash and goes on where it was.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import structlog

from aihd.chain.http import SourceError
from aihd.chain.signer import Signer
from aihd.chain.submitter import DroppedError, Intent, Submitter
from aihd.chain.view import ChainView, Situation
from aihd.client.download import MAX_OUTPUT, LocalError, hash_of, take, target_for
from aihd.client.node_door import NodeDoor, NotYetError, node_door
from aihd.client.upload import check_unchanged, commitment_of, upload
from aihd.client.verify import Evidence, Finding, verify
from aihd.core.life import Life, Sighting
from aihd.core.rating import COMPLAIN_BEFORE, may_commit, may_reveal
from aihd.core.task import State, Where
from aihd.errors import AihdError, DependencyError, TemporaryError, UsageError, one_line
from aihd.execution import seal
from aihd.execution.auth import SIGNATURE_HEADER, upload_message
from aihd.protocol import hashes, plans
from aihd.protocol.boxes import Bond, On, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.constants import MAX_PAYMENT, USELESS, WHOLE_BPS
from aihd.protocol.funding import Funds, Plan, TxKind
from aihd.protocol.plans import Market, Side
from aihd.protocol.selection import weight
from aihd.store.journal import Journal, TxRecord

log = structlog.get_logger()

PATIENCE: Final = 30.0  # seconds that a node may be behind us

UNKNOWN_AFTER: Final = 3  # looks in a row that show nothing of a task that was not posted from here
MIN_WINDOW: Final = 20
MAX_WINDOW: Final = 5040  # a week


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client wants.

    `payment` is nanoERG, or smallest units of the token `asset`; `worth` is nanoERG, and the payment itself where that is in ERG.
    `holdback_bps` is the share that waits for the client's mark, in basis points. The windows are blocks, `allowed` are node keys (33
    bytes; empty = any).
    """

    service_hash: bytes
    payment: int
    worth: int
    asset: bytes | None = None
    holdback_bps: int
    claim_window: int
    exec_window: int
    selection_window: int = 0
    min_reputation: int = 0
    allowed: tuple[bytes, ...] = ()


def _check_order(order: Order) -> None:
    """No guard bounds what a client asks for: a huge window would let a node sit on the money for ever."""
    for name, value in (("claim_window", order.claim_window), ("exec_window", order.exec_window)):
        if not MIN_WINDOW <= value <= MAX_WINDOW:
            raise UsageError(f"{name} is {value} blocks, expected {MIN_WINDOW} to {MAX_WINDOW}")
    for name, amount in (("payment", order.payment), ("worth", order.worth)):
        if not 0 < amount <= MAX_PAYMENT:
            raise UsageError(f"{name} is {amount}, expected 1 to {MAX_PAYMENT}")
    if order.asset is None and order.worth != order.payment:
        raise UsageError(f"worth is {order.worth} nanoERG, a payment in ERG is worth itself: {order.payment}")
    if not 0 <= order.holdback_bps <= WHOLE_BPS:
        raise UsageError(f"holdback is {order.holdback_bps} basis points, expected 0 to {WHOLE_BPS}")
    if not 0 <= order.selection_window <= order.claim_window:
        raise UsageError(f"selection_window is {order.selection_window} blocks, expected 0 to the claim window")


@dataclass(frozen=True, slots=True)
class Post:
    """What is kept of a task that was posted; salts in hex."""

    input_path: str
    config: dict[str, str]
    salt: str
    mark: int | None = None
    mark_salt: str | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a task stands now, `height` being the tip's."""

    where: Where
    height: int
    life: Life
    claim_deadline: int | None = None  # while nobody has claimed it

    @property
    def expired(self) -> bool:
        """Nobody claimed it, and nobody may any more."""
        return self.where is Where.OPEN and self.claim_deadline is not None and self.height >= self.claim_deadline


def _missed(now: Progress) -> bool:
    """Whether the time to commit to a mark has passed, and no commitment of ours is in the rating."""
    rating = now.life.rating
    return now.where is Where.RELEASED and rating is not None and now.height >= rating.content.commit_deadline


class Client:
    """One client wallet on one market."""

    def __init__(
        self,
        view: ChainView,
        signer: Signer,
        submitter: Submitter,
        journal: Journal,
        *,
        genesis_id: str,
        poll: float,
        private: bool = False,
    ) -> None:
        self.view = view
        self.signer = signer
        self._submitter = submitter
        self._journal = journal
        self._private = private or view.deployment.network == "devnet"  # nodes there live on one machine
        self._genesis_id = genesis_id
        self._poll = poll
        self._followed = ""

    # -- verbs

    async def post(self, order: Order, input_path: Path, config: Mapping[str, str]) -> bytes:
        """Lock the payment for one run; the task id. The salt of the input is on the disk before anything is sent."""
        _check_order(order)
        hashes.chosen_seed(config)
        salt = secrets.token_bytes(32)
        commitment = commitment_of(salt, config, input_path)
        post = Post(str(input_path.resolve()), dict(config), salt.hex())
        bonds = [bond.content for bond in await self.view.bonds()]
        able = [b for b in bonds if b.score >= order.min_reputation and (not order.allowed or b.node in order.allowed)]
        difficulty = sum(weight(bond.score) for bond in able)
        posted: list[bytes] = []

        def build(situation: Situation) -> Plan:
            terms = self._terms(order, commitment, situation.market.height, max(1, difficulty))
            plan = plans.post(situation.market, terms, situation.funds)
            posted.append(bytes(plans.boxes_of(plan)[0].box_id))
            self._journal.save_post(posted[0], asdict(post))
            return plan

        await self._submitter.transact(Intent("post", commitment), build)
        return posted[0]

    async def progress(self, task_id: bytes) -> Progress | None:
        """Where the task stands; None while the chain source shows nothing of it."""
        tip = await self.view.tip()
        if tip.info.header_id != self._followed:
            await self._submitter.follow(tip)
            self._followed = tip.info.header_id
        life, escrow = await self.view.standing(task_id)
        where = life.where(tip.next_height, Side.CLIENT)
        if where is None:
            if escrow is None:
                return None
            where = Where.OPEN if escrow.spent_by is None else Where.LOST
        return Progress(where, tip.height, life, self._claim_deadline(escrow))

    def _claim_deadline(self, escrow: Sighting | None) -> int | None:
        if escrow is None:
            return None
        try:
            return self.view.deployment.read(TaskEscrow, escrow.box).content.claim_deadline
        except BoxError:
            raise UsageError(f"box {escrow.box.id} is no task of this market") from None

    async def watch(self, task_id: bytes) -> AsyncIterator[Progress]:
        """Each new standing of the task, as it comes, until it is over, or nobody may claim it any more.

        UsageError for a task that was not posted from here and that no source knows.
        """
        last: Where | None = None
        expired, unseen, posted = False, 0, self._journal.post(task_id) is not None
        while last is None or not (last.is_end or last.is_undelivered or expired):
            try:
                now = await self.progress(task_id)
            except SourceError as error:
                # It waits as long as the task lives: sources come back.
                log.warning("no source answers", task=task_id.hex(), error=one_line(error))
                now = None
            else:
                unseen = unseen + 1 if now is None else 0
                if unseen > UNKNOWN_AFTER and not posted:
                    raise UsageError(f"task {task_id.hex()}: no source knows such a task on this chain")
            if now is not None and (now.where, now.expired) != (last, expired):
                last, expired = now.where, now.expired
                yield now
            else:
                await asyncio.sleep(self._poll)

    async def wait_for(self, task_id: bytes, reached: Callable[[Progress], bool]) -> Progress:
        """The first standing for which `reached` is true; DependencyError when the task ends otherwise."""
        async for now in self.watch(task_id):
            if reached(now):
                return now
            if now.expired:
                raise DependencyError(f"task {task_id.hex()}: nobody claimed it by height {now.claim_deadline}")
            if now.where.is_undelivered:
                raise DependencyError(f"task {task_id.hex()} ended: {now.where}{await self._reason(task_id)}")
        raise DependencyError(f"task {task_id.hex()} is over")

    async def _reason(self, task_id: bytes) -> str:
        """What the node says of it, if it says anything."""
        try:
            async with self._door(task_id) as door:
                word = await door.says(task_id)
            note = await self._note(task_id, word.note) or word.code
        except AihdError:
            return ""
        return f" (the node says: {note})" if note else ""

    async def _note(self, task_id: bytes, sealed: bytes) -> str:
        """What a node wrote for this wallet alone."""

        async def pieces() -> AsyncIterator[bytes]:
            yield sealed

        context = seal.note_context(task_id)
        opened = seal.unseal(self.signer.agree, self.signer.public_key, context, pieces()) if sealed else pieces()
        return b"".join([part async for part in opened]).rstrip(b"\0").decode("utf-8", "replace")

    async def bring(self, task_id: bytes, told: Callable[[str], None]) -> None:
        """Bring the input however long its node, or the sources, take to answer, as long as the task waits for it.

        `told` hears why it is not there yet. UsageError when it can never be right, as when its file has changed.
        """
        while True:
            try:
                await self.deliver(task_id)
                return
            except (DependencyError, TemporaryError) as error:
                told(f"the input is not brought yet: {one_line(error)}")
            await asyncio.sleep(self._poll)
            with suppress(SourceError):
                now = await self.progress(task_id)
                if now is not None and now.where is not Where.CLAIMED:
                    return

    async def deliver(self, task_id: bytes) -> None:
        """Bring the input to the node that claimed the task; waits until the node has seen its own claim on the chain."""
        post = self._post(task_id)
        salt, path = bytes.fromhex(post.salt), Path(post.input_path)
        claimed = (await self.view.life(task_id)).claimed
        if claimed is None:
            raise TemporaryError(f"task {task_id.hex()} is not claimed yet")
        promised, until = claimed.content.input_commitment, claimed.content.exec_deadline
        await asyncio.to_thread(check_unchanged, salt, post.config, path, promised, until)
        async with self._door(task_id) as door:
            while (await door.says(task_id)).state == State.CLAIMING:
                await asyncio.sleep(self._poll)
            body = seal.seal(claimed.content.node, seal.input_context(task_id), upload(salt, post.config, path))
            signature = self.signer.sign_message(upload_message(bytes.fromhex(self._genesis_id), task_id))
            headers = {"Content-Type": seal.CONTENT_TYPE, SIGNATURE_HEADER: signature.hex()}
            try:
                await door.bring(task_id, body, headers)
            except UsageError as error:  # it was edited on the way, or the node is wrong
                await asyncio.to_thread(check_unchanged, salt, post.config, path, promised, until)
                raise TemporaryError(str(error)) from None

    async def fetch(
        self, task_id: bytes, target: Path, max_output: int = MAX_OUTPUT, *, patience: float = PATIENCE
    ) -> bytes:
        """Write the output to `target`; its SHA3-256, which is that of the receipt. Nothing is kept if it differs.

        A node that has not yet seen what we have seen is asked again for `patience` seconds.
        """
        end = time.monotonic() + patience
        while True:
            try:
                return await self._fetch(task_id, target, max_output)
            except NotYetError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(self._poll)

    async def _fetch(self, task_id: bytes, target: Path, max_output: int) -> bytes:
        receipt = (await self.view.life(task_id)).receipt
        if receipt is None:
            raise TemporaryError(f"task {task_id.hex()} has no receipt yet")
        expected = receipt.content.output_hash
        with target_for(target) as place:
            async with self._door(task_id) as door, door.output(expected, task_id, max_output) as pieces:
                digest = await take(self._opened(task_id, expected, pieces), place)
            if digest != expected:
                raise DependencyError(
                    f"the node gave an output of hash {digest.hex()}, its receipt says {expected.hex()}"
                )
            place.keep()
        return expected

    async def verify(self, task_id: bytes, output: Path, config: Mapping[str, str] | None = None) -> list[Finding]:
        """Every check that a stranger can make of the task's receipt and of an output that he was given."""
        life = await self.view.life(task_id)
        if life.receipt is None:
            raise TemporaryError(f"task {task_id.hex()} has no receipt yet")
        output_hash, output_size = await asyncio.to_thread(hash_of, output)
        async with self._door(task_id) as door:
            document = await door.receipt(life.receipt.content.receipt_cid)
        evidence = Evidence(
            task_id=task_id,
            life=life,
            escrow=await self.view.escrow(task_id),
            document=document,
            output_hash=output_hash,
            output_size=output_size,
        )
        return verify(self.view.deployment, self._genesis_id, evidence, config)

    async def take_or_complain(self, task_id: bytes, target: Path) -> int | None:
        """Fetch the output to `target` once the node gives it; None when it is there.

        When no output with the receipt's hash has come COMPLAIN_BEFORE blocks before the time to commit to a mark is over, it is given the
        mark 1 (which burns what was held back), and that is returned. DependencyError when the task ends without a receipt.
        """
        now = await self.wait_for(task_id, lambda progress: progress.life.receipt is not None)
        while now.life.rating is not None and now.height < now.life.rating.content.commit_deadline - COMPLAIN_BEFORE:
            try:
                await self.fetch(task_id, target, patience=0)
                return None
            except (LocalError, UsageError):
                raise  # our own disk says nothing of the node
            except AihdError as error:  # a node that is away, or gives something else, may yet do better
                log.info("no output yet", task=task_id.hex(), reason=one_line(error))
            await asyncio.sleep(self._poll)
            now = await self.progress(task_id) or now
        return await self.rate(task_id, USELESS)

    async def rate(self, task_id: bytes, mark: int) -> int:
        """Commit to a mark (1 to 5) and reveal it once the node has committed too, or may no more.

        The mark that is on the chain then: one that was chosen before stands. DependencyError when the task ended without a receipt, so
        that there is nothing to rate, or when it is too late for the mark.
        """
        if mark not in range(1, 6):
            raise UsageError(f"mark {mark}: expected 1 (useless) to 5 (as promised)")
        post = self._post(task_id)
        if post.mark is None:
            post = replace(post, mark=mark, mark_salt=secrets.token_hex(32))
            self._journal.save_post(task_id, asdict(post))
        while True:
            now = await self.progress(task_id)
            if now is not None:
                if now.life.rating is not None and (known := now.life.rating.content.client_mark):
                    return known
                if now.where.is_undelivered:
                    raise DependencyError(f"task {task_id.hex()} ended: {now.where}")
                if now.where in (Where.RATED, Where.SETTLED) or _missed(now):
                    raise DependencyError(
                        f"task {task_id.hex()}: the time to rate it is over, and no mark of ours is in"
                    )
                # The node moves on the same box, and only one of two moves in a block gets through: the next look shows whose.
                with suppress(DroppedError):
                    await self._rate(task_id, now, post)
            await asyncio.sleep(self._poll)

    async def _rate(self, task_id: bytes, now: Progress, post: Post) -> None:
        rating = now.life.rating
        if rating is None or post.mark is None or post.mark_salt is None:
            return
        mark, salt, content, height = post.mark, bytes.fromhex(post.mark_salt), rating.content, now.height + 1
        commits, reveals = may_commit(content, Side.CLIENT, height), may_reveal(content, Side.CLIENT, height)
        if not (commits or reveals) or await self.view.node.box(rating.id) is None:
            return
        if await self._submitter.contested(rating.id):
            return
        if commits:
            commitment = plans.commitment_of(rating, Side.CLIENT, mark, salt)
            await self._do("commit", task_id, lambda m, f: plans.commit(m, rating, Side.CLIENT, commitment, f))
        else:
            await self._do("reveal", task_id, lambda m, f: plans.reveal(m, rating, Side.CLIENT, mark, salt, f))

    async def refund(self, task_id: bytes) -> str:
        """Take the money back: cancel or refund an unclaimed task, or time out a claimed one. What was done, in a word."""
        now = await self.progress(task_id)
        if now is None:
            raise TemporaryError(f"task {task_id.hex()} is not on the chain")
        if now.where is Where.OPEN:
            box = await self.view.node.box(task_id.hex())
            if box is None:
                raise TemporaryError(f"task {task_id.hex()} is just being claimed")
            task = self.view.deployment.read(TaskEscrow, box)
            if task.content.client == self.signer.public_key:
                await self._finish("cancel", task_id, lambda m, f: plans.cancel(m, task, f))
                return "cancelled"
            if now.height < task.content.claim_deadline:
                raise TemporaryError(
                    f"task {task_id.hex()} is another client's, who alone may cancel it until height {task.content.claim_deadline}; "
                    f"the chain is at {now.height}"
                )
            await self._finish("refund", task_id, lambda m, f: plans.refund(m, task, f))
            return "refunded to its client"
        if now.where is Where.CLAIMED:
            return await self.timeout(task_id)
        if (done := await self._taken_back(task_id)) is not None:
            return done
        raise UsageError(f"task {task_id.hex()} is {now.where}: there is nothing to get back")

    async def _taken_back(self, task_id: bytes) -> str | None:
        """What an earlier call of `refund` has done, which may have been cut off before it could say so."""
        spending = await self.view.sources.spending(task_id.hex())
        ours = {record.id: record.kind for record in self._journal.transactions(task_id)}
        kind = ours.get(spending.tx.id) if spending is not None else None
        words: dict[str | None, str] = {TxKind.CANCEL: "cancelled", TxKind.REFUND: "refunded"}
        return words.get(kind)

    async def timeout(self, task_id: bytes) -> str:
        """Return a claimed task whose deadline is over to its client, with a slice of the bond: anybody may. What was done, in a word."""
        now = await self.progress(task_id)
        claimed = now.life.claimed if now else None
        if now is None or now.where is not Where.CLAIMED or claimed is None:
            raise UsageError(
                f"task {task_id.hex()} is {now.where if now else 'not on the chain'}: no deadline of it can be over"
            )
        if now.height < claimed.content.exec_deadline:
            raise TemporaryError(
                f"task {task_id.hex()} may be delivered until height {claimed.content.exec_deadline}, the chain is at {now.height}"
            )
        bond = await self._bond_of(task_id)
        await self._finish("timeout", task_id, lambda m, f: plans.timeout(m, claimed, bond, f))
        return "timed out"

    # -- parts

    def _terms(self, order: Order, commitment: bytes, height: int, difficulty: int) -> TaskEscrow:
        return TaskEscrow(
            service_hash=order.service_hash,
            input_commitment=commitment,
            worth=order.worth,
            payment=order.payment,
            asset=order.asset,
            min_reputation=order.min_reputation,
            claim_deadline=height + order.claim_window,
            exec_window=order.exec_window,
            selection_window=order.selection_window,
            selection_difficulty=difficulty,
            holdback_bps=order.holdback_bps,
            client=self.signer.public_key,
            allowed=order.allowed,
        )

    async def _do(self, verb: str, task_id: bytes, plan: Callable[[Market, Funds], Plan]) -> TxRecord | None:
        return await self._submitter.transact(Intent(verb, task_id), lambda s: plan(s.market, s.funds))

    async def _finish(self, verb: str, task_id: bytes, plan: Callable[[Market, Funds], Plan]) -> None:
        """As `_do`, and wait for the block."""
        record = await self._do(verb, task_id, plan)
        if record is None:
            raise TemporaryError(f"task {task_id.hex()}: an earlier {verb} is still under way")
        await self._submitter.confirmed(record, self._poll)

    def _post(self, task_id: bytes) -> Post:
        data = self._journal.post(task_id)
        if data is None:
            raise UsageError(f"task {task_id.hex()} was not posted from this wallet's data folder")
        return Post.read(data)

    def _opened(self, task_id: bytes, output_hash: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The output's bytes, of which whoever relays them could read none. SealError when it is not sealed for this wallet."""
        context = seal.output_context(task_id, output_hash)
        return seal.unseal(self.signer.agree, self.signer.public_key, context, pieces)

    async def _node_of(self, task_id: bytes) -> bytes:
        claimed = (await self.view.life(task_id)).claimed
        if claimed is None:
            raise TemporaryError(f"task {task_id.hex()} is not claimed yet")
        return claimed.content.node

    async def _bond_of(self, task_id: bytes) -> On[Bond]:
        node = await self._node_of(task_id)
        bonds = [bond for bond in await self.view.bonds() if task_id in bond.content.open_ids]
        bonds = bonds or [bond for bond in await self.view.bonds() if bond.content.node == node]
        if not bonds:
            raise DependencyError(f"the node {node.hex()} has no bond any more")
        return bonds[0]

    @asynccontextmanager
    async def _door(self, task_id: bytes) -> AsyncIterator[NodeDoor]:
        """The door of the node that claimed a task."""
        endpoint = (await self._bond_of(task_id)).content.endpoint
        async with node_door(endpoint, private=self._private) as door:
            yield door
