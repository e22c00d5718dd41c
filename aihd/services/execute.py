"""Runs a claimed task: input in, service started on nodo, output hashed into the content store, instance stopped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from aihd.core.task import Command, Stage, State, Task
from aihd.errors import AihdError, TemporaryError, UsageError, one_line
from aihd.execution.adapters import Adapter, HttpAdapter, Job
from aihd.execution.errors import ExecutionError
from aihd.execution.failures import Failure, note_of
from aihd.execution.files import DiskError, save
from aihd.execution.inputs import StoredInput
from aihd.execution.template import Template, resources_of
from aihd.nodo.database import instances_of
from aihd.nodo.failures import NoCredit, Quarantined, Refused, TooSlow, Unreachable
from aihd.nodo.gateway import SEED, GatewayClient, ServiceInstance, StillThere
from aihd.ops.failpoints import reach
from aihd.protocol import hashes
from aihd.protocol.envelope import canonical_config
from aihd.protocol.receipt import FullReceipt
from aihd.services.engine import Engine, Service, guarded

log = structlog.get_logger()

DISK_PAUSE: Final = 15.0  # seconds until a task is run again that a full disk stopped: each run costs
TRIES: Final = 3  # runs of a task, if each of them breaks off
# Where the status shows what ails the attempts, instances that could not be stopped, and those that could not be looked for.
ATTEMPT: Final = "execution"
INSTANCES: Final = "instances"
LEFT: Final = "instances left"


@dataclass(frozen=True, slots=True)
class Runtime:
    """How services are run: the gateway with our client id there, and the limits. Times are seconds, sizes bytes.

    `adapters` by the name in a template; http is always there. `still_there` asks nodo's Docker engine for an instance's container, where
    one is configured.
    """

    gateway: GatewayClient
    session: aiohttp.ClientSession
    client_id: str
    nodo_database: Path
    start_timeout: float
    connect_for: float
    max_output: int
    seconds_per_block: float
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    retry_after: float = 5.0  # until a nodo that is away is asked again
    still_there: StillThere | None = None


class NodoAwayError(TemporaryError):
    """nodo cannot start anything now; `seconds` until it is asked again."""

    def __init__(self, cause: Exception, seconds: float) -> None:
        super().__init__(one_line(cause))
        self.seconds = seconds


class Execute(Service):
    """Each task runs in an asyncio task of its own, so that a slow one keeps nobody waiting."""

    name = "execute"
    commands = frozenset({Command.FETCH_INPUT, Command.EXECUTE})

    def __init__(self, engine: Engine, runtime: Runtime, group: asyncio.TaskGroup) -> None:
        super().__init__(engine)
        self._runtime = runtime
        self._group = group
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._fetching: dict[bytes, asyncio.Task[None]] = {}
        self._tried: dict[bytes, int] = {}  # at which height the input of a task that is not claimed was last fetched
        self._unfit: dict[bytes, AihdError] = {}
        self._not_before: dict[bytes, float] = {}  # loop time until which nodo is left alone with a task
        self._broken_off: Counter[bytes] = Counter()  # runs of a task that the connection to nodo did not survive
        self._starting = self._starts = 0  # how many are under way, and how many there were
        self._strays_until = 0.0  # loop time until which an instance may come up that nobody waits for
        self._unstopped: set[str] = set()  # tokens of instances that may still run, since their stop failed
        self._stop_again = 0.0  # loop time from which on that is tried again
        self._stopping: asyncio.Task[bool] | None = None

    @property
    def running(self) -> int:
        return len(self._running)

    async def drained(self) -> None:
        """Wait until nothing runs."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def cancel(self) -> None:
        """Stop what runs; its tasks are taken up again at the next start."""
        for running in (*self._running.values(), *self._fetching.values()):
            running.cancel()
        if self._stopping is not None:
            self._stopping.cancel()
        await self.drained()

    async def recover(self) -> None:
        """After a restart: stop the instances that the last run left behind, and run their tasks again.

        nodo is asked too: a crash may have come between the start of an instance and our note of it. The client id is ours alone.
        """
        for token in await self._left_behind():
            await self._stop(token)
        for task in self.engine.journal.open_tasks():
            if task.stage is Stage.WANTED and self.engine.inputs.get(task.id) is not None:
                # The crash came after the input was on the disk and before our note of it.
                self.engine.journal.update(task.id, "input stored", stage=Stage.INPUT)
            if task.state is State.RUNNING or task.instance is not None:
                stage = Stage.INPUT if task.stage is Stage.RUNNING else task.stage
                self.engine.journal.update(task.id, "taken up again", stage=stage, instance=None)

    async def _left_behind(self) -> set[str]:
        tokens = {task.instance for task in self.engine.journal.open_tasks() if task.instance is not None}
        return tokens | await self._running_at_nodo()

    async def _running_at_nodo(self) -> set[str]:
        """Tokens of our instances by nodo's own account; none, and a word in the status, when it cannot be read."""
        runtime = self._runtime
        try:
            return set(await asyncio.to_thread(instances_of, runtime.nodo_database, runtime.client_id))
        except AihdError as error:
            # Not a reason to stay down: what we owe on the chain does not wait for nodo.
            self.engine.health[LEFT] = f"instances that may be left cannot be looked for: {one_line(error)}"
            return set()

    async def step(self) -> None:
        self._cancel_ended()
        self._pick_up()
        await self._stop_strays()
        self._stop_unstopped()
        await super().step()

    def _pick_up(self) -> None:
        """An execution that ended by a defect, or while the disk was full, is begun again."""
        tasks = [task for task in self.engine.journal.open_tasks() if task.state in (State.READY, State.RUNNING)]
        if not tasks:
            self.engine.health.pop(ATTEMPT, None)
        for task in tasks:
            if task.state is State.RUNNING and task.id not in self._running:
                self.engine.journal.update(task.id, "taken up again", stage=Stage.INPUT, instance=None)

    async def _stop_strays(self) -> None:
        """A start that we gave up waiting for may yet have happened at nodo: what it brought up is stopped."""
        if not self._strays_until:
            return
        last, begun = asyncio.get_running_loop().time() > self._strays_until, self._starts
        tokens = await self._running_at_nodo()
        if self._starting or self._starts != begun:
            return  # what was found may be what is being started now
        known = {task.instance for task in self.engine.journal.open_tasks()}
        for token in tokens - known:
            log.warning("an instance nobody waits for is stopped", token=token)
            await self._stop(token)
        if last:
            self._strays_until = 0.0

    def _stop_unstopped(self) -> None:
        """What could not be stopped is tried again now and then, beside everything else: it goes on costing."""
        busy = self._stopping is not None and not self._stopping.done()
        if self._unstopped and not busy and asyncio.get_running_loop().time() >= self._stop_again:
            again = guarded(self.engine, "stopping", self._stop_all(sorted(self._unstopped)))
            self._stopping = self._group.create_task(again, name="stop instances")

    async def _stop_all(self, tokens: Iterable[str]) -> None:
        for token in tokens:
            await self._stop(token)

    def _cancel_ended(self) -> None:
        """An execution whose task is over (deadline passed, claim reorganised away to a rival) is stopped."""
        for task_id, running in self._running.items():
            task = self.engine.journal.task(task_id)
            if task.stage is not Stage.RUNNING and not running.done():
                running.cancel()

    async def handle(self, task: Task, command: Command) -> None:
        if command is Command.FETCH_INPUT:
            await self._fetch(task)
        elif task.id not in self._running and asyncio.get_running_loop().time() >= self._not_before.get(task.id, 0.0):
            running = self._group.create_task(self._run(task), name=f"execute {task.id.hex()[:16]}")
            self._running[task.id] = running
            running.add_done_callback(lambda _: self._running.pop(task.id, None))

    async def _fetch(self, task: Task) -> None:
        engine = self.engine
        try:
            await self.engine.fetcher.obtain(engine.inputs, task.id, task.input_commitment, task.locator)
        except UsageError as error:
            self._break(task, Failure.BAD_INPUT, error)
            return
        engine.journal.update(task.id, "input stored", stage=Stage.INPUT)
        engine.pulse.beat()

    def ready(self, task: Task) -> bool:
        """Whether a task may be claimed as far as its input is known: one with a locator waits here until the input lies on the disk,
        matches its commitment and fits the service's schema. UsageError or BadInput when it never will.

        Fetching goes on by itself, at most once a block, so that a slow server keeps no other claim waiting.
        """
        if not task.locator:
            return True
        if task.id in self._unfit:
            raise self._unfit.pop(task.id)
        stored = self.engine.inputs.get(task.id)
        if stored is not None:
            self._template(task).check_input(stored.path)
            return True
        if task.id not in self._fetching and self._tried.get(task.id) != self.engine.tip.height:
            self._tried[task.id] = self.engine.tip.height
            fetching = self._group.create_task(self._prefetch(task), name=f"fetch {task.id.hex()[:16]}")
            self._fetching[task.id] = fetching
            fetching.add_done_callback(lambda _: self._fetching.pop(task.id, None))
        return False

    async def _prefetch(self, task: Task) -> None:
        try:
            await self.engine.fetcher.obtain(self.engine.inputs, task.id, task.input_commitment, task.locator)
        except UsageError as error:
            self._unfit[task.id] = error
        except AihdError as error:
            log.info("input not fetched yet", task=task.id.hex(), error=one_line(error))
            return
        self.engine.pulse.beat()

    async def _run(self, task: Task) -> None:
        """One attempt. Whatever goes wrong in it, the daemon goes on: an attempt that left the task as it was is made again."""
        await guarded(self.engine, ATTEMPT, self._attempt(task))
        self.engine.pulse.beat()

    async def _attempt(self, task: Task) -> None:
        stored = self.engine.inputs.get(task.id)
        if stored is None:
            self._break(task, Failure.NO_INPUT, UsageError("the input is gone from the disk"))
            return
        self.engine.journal.update(task.id, "execution started", stage=Stage.RUNNING, note="")
        try:
            await self._execute(task, stored)
        except NodoAwayError as error:
            self._put_off(task, error)
            raise
        except DiskError as error:
            # Ours, and no fault of the task: it is run again when there is room.
            self._put_off(task, NodoAwayError(error, DISK_PAUSE))
            raise
        except Unreachable as error:
            # The connection broke in the middle of a run. Another one may do better, but not for ever: each costs an instance.
            self._broken_off[task.id] += 1
            if self._broken_off[task.id] >= TRIES:
                self._break(task, Failure.UNREACHABLE, error)
            else:
                self._put_off(task, NodoAwayError(error, self._runtime.retry_after))
        except AihdError as error:
            log.warning("execution failed", task=task.id.hex(), error=one_line(error))
            self._break(task, failure_of(error), error)

    def _put_off(self, task: Task, error: NodoAwayError) -> None:
        """No fault of the task: it is tried again later, and its deadline says how long that may go on."""
        self._not_before[task.id] = asyncio.get_running_loop().time() + error.seconds
        self.engine.journal.update(task.id, "put off", stage=Stage.INPUT, instance=None, note=one_line(error))

    def _break(self, task: Task, failure: Failure, error: AihdError) -> None:
        note = note_of(failure, one_line(error))
        self.engine.journal.update(task.id, "cannot be delivered", stage=Stage.BROKEN, note=note)

    async def _execute(self, task: Task, stored: StoredInput) -> None:
        """One run; whatever happens, the instance is stopped afterwards."""
        engine = self.engine
        if task.claim_block is None or task.exec_deadline is None:
            raise UsageError(f"task {task.id.hex()} was started before its claim was in a block")
        template = self._template(task)
        await asyncio.to_thread(template.check_input, stored.path)
        adapter = self._adapter(template)
        seed = hashes.run_seed(stored.config, task.claim_block, task.id, task.input_commitment)
        environment = {name: value.encode() for name, value in stored.config.items()}
        instance = await self._start(task, {**environment, SEED: seed.hex().encode()})
        engine.journal.update(task.id, "instance started", instance=instance.token)
        try:
            job = self._job(task, template, instance, stored)
            async with engine.content.receive(job.limit) as sink:
                reach("run: before")
                await adapter.run(job, sink)
                reach("run: after")
                output_hash, size = await sink.commit()
                reach("output stored")
        finally:
            await asyncio.shield(self._stop(instance.token))
        self._write_receipt(task, stored, seed, output_hash, size, adapter.warning)

    async def _start(self, task: Task, environment: Mapping[str, bytes]) -> ServiceInstance:
        """A new instance; NodoAwayError when nodo cannot be asked now."""
        runtime = self._runtime
        self._starting += 1
        self._starts += 1
        try:
            reach("start service: before")
            instance = await runtime.gateway.start_service(
                task.service_hash,
                client_id=runtime.client_id,
                environment=environment,
                timeout=runtime.start_timeout,
                resources=resources_of(self._template(task)),
            )
            reach("start service: after")
            return instance
        except BaseException as error:
            # It may come up all the same, and nobody would know its token.
            self._strays_until = asyncio.get_running_loop().time() + runtime.start_timeout
            if isinstance(error, Quarantined):
                raise NodoAwayError(error, error.seconds) from error
            if isinstance(error, Refused) and (why := await self._want_of_credit(task, error)) is not None:
                raise NodoAwayError(why, runtime.retry_after) from error
            if isinstance(error, Unreachable | TooSlow):
                raise NodoAwayError(error, runtime.retry_after) from error
            raise
        finally:
            self._starting -= 1

    async def _want_of_credit(self, task: Task, refusal: Refused) -> NoCredit | None:
        """Whether a start was refused for want of credit, which is no fault of the task: by the node's words, or where those say nothing by
        our balance. Nothing more is claimed then until there is enough.
        """
        known, runtime = self.engine.credit.get(task.service_hash), self._runtime
        if known is None:
            return refusal if isinstance(refusal, NoCredit) else None
        try:
            balance = await runtime.gateway.get_metrics(runtime.client_id)
        except AihdError:
            return refusal if isinstance(refusal, NoCredit) else None
        now = self.engine.credit[task.service_hash] = replace(known, balance=balance)
        if now.runs < 1 or isinstance(refusal, NoCredit):
            return NoCredit(now.objection() or one_line(refusal))
        return None

    def _template(self, task: Task) -> Template:
        offered, connect_for = self.engine.services[task.service_hash], f"{self._runtime.connect_for} s"
        if offered.template is not None:
            return offered.template
        fields = {"slot": offered.slot, "path": offered.path, "connect_for": connect_for}
        return Template.model_validate({"hash": task.service_hash.hex(), **fields})

    def _adapter(self, template: Template) -> Adapter:
        known = self._runtime.adapters.get(template.adapter)
        if known is not None:
            return known
        if template.adapter != "http":
            raise ExecutionError(f"adapter {template.adapter!r} is not configured on this node")
        return HttpAdapter(self._runtime.session)

    def _job(self, task: Task, template: Template, instance: ServiceInstance, stored: StoredInput) -> Job:
        """The run, with the time that the deadline leaves."""
        runtime = self._runtime
        left = (task.exec_deadline or 0) - self.engine.tip.next_height - self.engine.limits.release_margin
        seconds = min(left * runtime.seconds_per_block, template.max_duration or float("inf"))
        limit = min(runtime.max_output, template.max_output or runtime.max_output)
        return Job(instance.token, instance.slots, template, stored, max(1.0, seconds), limit)

    async def _stop(self, token: str) -> None:
        """Stop an instance for sure. If that fails, status says so, and it is tried again."""
        health = self.engine.health
        try:
            reach("stop service: before")
            await self._runtime.gateway.stop_service_confirmed(
                token, database=self._runtime.nodo_database, still_there=self._runtime.still_there
            )
            reach("stop service: after")
        except AihdError as error:
            log.error("an instance may still run", error=one_line(error))
            health[INSTANCES] = f"an instance may still run: {one_line(error)}"
            self._unstopped.add(token)
            self._stop_again = asyncio.get_running_loop().time() + self._runtime.retry_after
            return
        if token in self._unstopped:
            self._unstopped.discard(token)
            log.info("an instance that went on is stopped", token=token)
        if not self._unstopped:
            health.pop(INSTANCES, None)

    def _write_receipt(
        self, task: Task, stored: StoredInput, seed: bytes, output_hash: bytes, size: int, warning: str
    ) -> None:
        """Sign the output, keep the full receipt under its CID, and only then call the task done."""
        engine = self.engine
        if engine.journal.task(task.id).claim_block != task.claim_block:
            return  # a reorg moved the claim while the service ran: this output has the wrong seed, it is run again
        params_hash = hashes.exec_params_hash(task.service_hash, seed, canonical_config(stored.config))
        message = hashes.receipt_message(bytes.fromhex(engine.genesis_id), task.id, output_hash)
        receipt = FullReceipt(
            task_id=task.id.hex(),
            service_hash=task.service_hash.hex(),
            node=engine.signer.public_key.hex(),
            input_commitment=task.input_commitment.hex(),
            output_hash=output_hash.hex(),
            output_size=size,
            claim_block=(task.claim_block or b"").hex(),
            seed=seed.hex(),
            exec_params_hash=params_hash.hex(),
            executed_height=engine.tip.height,
            node_sig=engine.signer.sign_message(message).hex(),
        )
        save(engine.receipts / receipt.cid.hex(), receipt.document())
        reach("receipt stored")
        engine.journal.update(
            task.id,
            "executed",
            stage=Stage.DONE,
            instance=None,
            output_hash=output_hash,
            params_hash=params_hash,
            receipt_cid=receipt.cid,
            note=warning,
        )
        log.info("executed", task=task.id.hex(), output=output_hash.hex(), size=size)


def failure_of(error: AihdError) -> Failure:
    """What a failure receipt calls an error of a run."""
    if isinstance(error, ExecutionError):
        return error.kind
    return Failure.UNREACHABLE if isinstance(error, Unreachable | TooSlow) else Failure.UNABLE
