"""What must hold after every step, whatever happened: read from the chain itself, from the journal, and from what nodo started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ergo_lib_python.transaction import Transaction

from aihd.core.task import State, Task, Where
from aihd.devnet.ledger import By
from aihd.devnet.views import TxView
from aihd.protocol import hashes, plans
from aihd.protocol.boxes import ClaimedTask, Rating
from aihd.protocol.deployment import Guard
from aihd.protocol.plans import Side
from aihd.store.journal import Journal, TxRecord

from .people import EXEC_WINDOW, Ground, Job

STREAK: Final = (
    12  # blocks without any disturbance in which a task that has something due must get on; a fee is raised after 5
)
INPUT_TIME: Final = EXEC_WINDOW // 2
# What the note of a failed task says, and the events of which one must have happened then.
CAUSES: Final[Mapping[str, frozenset[str]]] = {
    "no input: none came": frozenset({"late input", "absent"}),
    "no input: the input is gone": frozenset({"disk full"}),
    "too slow": frozenset({"slow", "absent"}),
    "bad input": frozenset({"bad input"}),
    "unreachable": frozenset({"refuses", "silent", "absent", "slow", "broken"}),
    "StartService": frozenset({"refuses", "silent", "disk full"}),
    "the service at": frozenset({"broken", "slow", "disk full"}),
    "the service answered": frozenset({"broken"}),
}


class BrokenPromise(AssertionError):  # noqa: N818 - the name of what happened
    """The daemon did what it must never do."""


@dataclass(slots=True)
class Promises:
    """What was seen in one sequence. `key` is the daemon's (33 bytes), `depth` its final depth."""

    ground: Ground
    key: bytes
    depth: int
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of every transaction that was seen, by id
    makers: dict[str, str] = field(default_factory=dict)  # id of the transaction that made a box
    intents: dict[str, list[str]] = field(default_factory=dict)  # ids of our transactions by intent
    ended: dict[bytes, State] = field(default_factory=dict)
    streaks: dict[bytes, tuple[Where, int]] = field(default_factory=dict)
    done: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)  # seed and starts of what was executed, by task
    old: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.old = frozenset(self.ground.chain.ledger.transactions)

    @property
    def sent(self) -> set[str]:
        """Ids of all transactions that the journal ever held."""
        return {tx_id for ids in self.intents.values() for tx_id in ids}

    # -- after each step

    def check(self, journal: Journal, seeds: Mapping[str, int], excuses: int) -> None:
        """BrokenPromise names the first promise that does not hold now.

        `seeds` counts the starts of each run, `excuses` the crashes and failed starts so far.
        """
        self._observe()
        self._one_of_an_intent(journal.transactions())
        self._disjoint(journal.live())
        self._claims_are_known(journal)
        for task in journal.tasks():
            self._salt_is_kept(task)
            self._final_is_final(task)
            self._run_once(task, seeds, excuses)

    def _observe(self) -> None:
        chain = self.ground.chain
        views: Iterable[TxView] = (
            row.view for row in chain.ledger.transactions.values() if row.view.tx_id not in self.old
        )
        for view in (*views, *(entry.view for entry in chain.pool)):
            self._remember(view.tx_id, view.inputs, (box.box_id for box in view.outputs))

    def _remember(self, tx_id: str, inputs: tuple[str, ...], outputs: Iterable[str]) -> None:
        if tx_id not in self.inputs:
            self.inputs[tx_id] = inputs
            self.makers.update((box_id, tx_id) for box_id in outputs)

    def _one_of_an_intent(self, records: list[TxRecord]) -> None:
        for record in records:
            mine = self.intents.setdefault(record.intent, [])
            if record.id in mine:
                continue
            tx = Transaction.from_bytes(record.body)
            self._remember(record.id, tuple(str(i.box_id) for i in tx.inputs), (str(box.box_id) for box in tx.outputs))
            for other in mine:
                if not self._exclude(record.id, other):
                    raise BrokenPromise(f"{record.intent}: {record.id} and {other} could both be mined")
            mine.append(record.id)
            if record.kind == "reveal":
                self._may_reveal(record)

    def _exclude(self, one: str, other: str) -> bool:
        """Whether at most one of the two can ever be in a chain: they, or what they are built on, spend a box twice."""
        spenders: dict[str, str] = {}
        for tx_id in self._with_ancestors(one) | self._with_ancestors(other):
            if any(spenders.setdefault(box_id, tx_id) != tx_id for box_id in self.inputs[tx_id]):
                return True
        return False

    def _with_ancestors(self, tx_id: str) -> set[str]:
        found, waiting = set(), [tx_id]
        while waiting:
            found.add(last := waiting.pop())
            makers = {self.makers[box_id] for box_id in self.inputs[last] if box_id in self.makers}
            waiting += makers - found
        return found

    def _may_reveal(self, record: TxRecord) -> None:
        rating = self._rating(self.inputs[record.id][0])
        both = rating is not None and rating.client_commitment and rating.node_commitment
        if rating is not None and not both and self.ground.chain.height + 1 <= rating.commit_deadline:
            raise BrokenPromise(f"{record.intent}: our mark was opened before the other side had to commit")

    def _rating(self, box_id: str) -> Rating | None:
        ledger, pool = self.ground.chain.ledger, self.ground.chain.pool
        known = ledger.boxes.get(box_id) or ledger.orphans.get(box_id)
        view = known.view if known else pool.output(box_id)
        return None if view is None else self.ground.read(Rating, view).content

    def _disjoint(self, live: list[TxRecord]) -> None:
        """No coin is promised twice, so what is reserved cannot be more than there is."""
        taken: dict[str, str] = {}
        for record in live:
            for box_id in self.inputs[record.id]:
                if box_id in taken:
                    raise BrokenPromise(f"box {box_id} is spent by {record.intent} and {taken[box_id]}, both under way")
                taken[box_id] = record.intent

    def _claims_are_known(self, journal: Journal) -> None:
        tree = self.ground.deployment.trees[Guard.CLAIMED].hex()
        for box in self.ground.boxes(By.TREE, tree, unspent=False):
            claimed = self.ground.read(ClaimedTask, box.view)
            if claimed.content.node != self.key:
                continue
            task_id = plans.task_id_of(claimed)
            if box.view.tx_id not in self.intents.get(f"claim:{task_id.hex()}", ()) or journal.find(task_id) is None:
                raise BrokenPromise(f"our claim {box.view.tx_id} is on the chain and not in the journal")

    def _salt_is_kept(self, task: Task) -> None:
        rating = self.ground.life(task.id).rating
        if rating is None or rating.content.node != self.key or not rating.content.node_commitment:
            return
        if task.salt is None or task.mark is None:
            raise BrokenPromise(f"task {task.id.hex()}: our commitment is on the chain, its salt is lost")
        if plans.commitment_of(rating, Side.NODE, task.mark, task.salt) != rating.content.node_commitment:
            raise BrokenPromise(f"task {task.id.hex()}: our commitment on the chain is not that of our salt")

    def _final_is_final(self, task: Task) -> None:
        """A task is closed only when its end is deep enough on the real chain, and stays what the chain says."""
        if not task.final:
            if task.id in self.ended:
                raise BrokenPromise(f"task {task.id.hex()} was {self.ended[task.id]} for good, and is open again")
            return
        fresh = task.id not in self.ended
        self.ended[task.id] = task.state
        truth = self.truth(task.id)
        gone = truth is None and task.where is Where.LOST  # a reorg took its post away
        declined = task.where is Where.LOST and _declined(task)
        if truth is not task.where and not gone and not (declined and truth is Where.OPEN):
            raise BrokenPromise(f"task {task.id.hex()} is closed as {task.state}, on the chain it is {truth}")
        since = self._ended_at(task)
        if fresh and not declined and since is not None and (deep := self.ground.chain.height - since + 1) < self.depth:
            raise BrokenPromise(f"task {task.id.hex()} is {task.state} {deep} blocks deep, {self.depth} make it final")

    def truth(self, task_id: bytes) -> Where | None:
        """Where a task stands for our node on the main chain; None when nothing of it is there."""
        life = self.ground.life(task_id)
        if life.claimed is not None:
            ours = life.claimed.content.node == self.key
            return life.where(self.ground.chain.height + 1) if ours else Where.LOST
        box = self.ground.chain.ledger.boxes.get(task_id.hex())
        if box is None:
            return None
        spent = self.ground.chain.ledger.spender(task_id.hex()) is not None
        return Where.LOST if spent or self._too_late(task_id) else Where.OPEN

    def _too_late(self, task_id: bytes) -> bool:
        escrow = self.ground.escrow(task_id)
        return escrow is not None and self.ground.chain.height >= escrow.content.claim_deadline

    def _ended_at(self, task: Task) -> int | None:
        """Height of the block that ended a task as its state says; None where it ended by time."""
        life, ledger = self.ground.life(task.id), self.ground.chain.ledger
        if task.where is Where.LOST:
            spender = ledger.spender(task.id.hex())
        elif task.where in (Where.SETTLED, Where.FAILURE_SETTLED):
            spender = ledger.spender(life.rating.id) if life.rating else None
        else:
            spender = ledger.spender(life.claimed.id) if life.claimed else None
        return None if spender is None else ledger.transactions[spender].height

    def _run_once(self, task: Task, seeds: Mapping[str, int], excuses: int) -> None:
        """One start per claim and excuse; none once its output was kept."""
        if task.claim_block is None:
            return
        seed = hashes.seed(task.claim_block, task.id, task.input_commitment)
        starts = seeds.get(seed.hex(), 0)
        if starts > 1 + excuses:
            raise BrokenPromise(f"task {task.id.hex()} was started {starts} times for one claim, {excuses} excuses")
        if task.output_hash is not None:
            known, before = self.done.setdefault(task.id, (seed, starts))
            if known == seed and starts > before:
                raise BrokenPromise(f"task {task.id.hex()} was run again after its output was kept")
            if known != seed:
                self.done[task.id] = (seed, starts)

    # -- time

    def disturbed(self) -> None:
        """Something happened that may cost a deadline: from here every task has its blocks again."""
        self.streaks.clear()

    def calm_block(self, journal: Journal, jobs: Iterable[Job]) -> None:
        """A block before which the daemon was well. A task that has something due and does not get on misses what it could meet."""
        for job in jobs:
            where = self.truth(job.id)
            if where is None or not self.due(job):
                self.streaks.pop(job.id, None)
                continue
            before, count = self.streaks.get(job.id, (where, 0))
            self.streaks[job.id] = (where, count + 1 if before is where else 1)
            if before is where and count >= STREAK:
                task = journal.find(job.id)
                state = "unknown to it" if task is None else f"{task.state} to it ({task.note})"
                raise BrokenPromise(f"task {job.id.hex()} is {where}, {state}, and stays so for {count} calm blocks")

    def due(self, job: Job) -> bool:
        """Whether our node has something to do about a task, and time to do it."""
        where = self.truth(job.id)
        height, life = self.ground.chain.height, self.ground.life(job.id)
        if where is Where.OPEN:
            if job.bad:
                return False  # one that carries its input is not claimed when that is wrong
            escrow, bond = self.ground.escrow(job.id), self.ground.bond(self.key)
            if escrow is None or bond is None or bond.content.score < escrow.content.min_reputation:
                return False  # a deadline that was missed costs points, and some tasks with them
            return height + 5 < escrow.content.claim_deadline
        if where is Where.CLAIMED and life.claimed is not None and life.claim_height is not None:
            has_input = job.inline or job.delivered is not None or height > life.claim_height + INPUT_TIME
            deadline = life.claimed.content.exec_deadline
            return (has_input and height < deadline) or height > deadline + self.depth
        if life.rating is None:
            return False
        rating = life.rating.content
        if where is Where.RELEASED:
            return height < rating.commit_deadline
        ripe = bool(rating.client_commitment) or height > rating.commit_deadline
        return where in (Where.RATED, Where.FAILED) or (
            where is Where.COMMITTED and ripe and height < rating.reveal_deadline
        )

    # -- at the end

    def explained(self, task: Task, job: Job, met: set[str]) -> None:
        """A failure that the daemon admits has a cause among what happened."""
        if task.where not in (Where.FAILED, Where.FAILURE_SETTLED):
            return
        causes = next((causes for text, causes in CAUSES.items() if text in task.note), frozenset())
        happened = met | ({"bad input"} if job.bad else set()) | (set() if job.in_time else {"late input"})
        if not causes & happened:
            raise BrokenPromise(
                f"task {task.id.hex()} failed with {task.note!r}, all that happened is {sorted(happened)}"
            )


def _declined(task: Task) -> bool:
    """Whether its input turned out wrong before it was claimed: then it is over for us, whoever has it."""
    return task.claim_height is None and task.note.startswith("input:")
