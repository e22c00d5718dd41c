"""One task from post to rating, told step by step, and what it did to everybody's balance."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aihd.client.client import Order
from aihd.client.verify import Finding
from aihd.core.task import Where
from aihd.demo.story import Step, steps
from aihd.demo.world import POLL, World
from aihd.errors import DependencyError
from aihd.nodo.reputation import read_service_reputation
from aihd.protocol.trees import FEE_TREE, tree_of
from aihd.protocol.units import NANO_PER_ERG, format_erg

PAYMENT: Final = NANO_PER_ERG
MARK: Final = 5
CLAIM_WINDOW: Final = 60
EXEC_WINDOW: Final = 240
SELECTION_WINDOW: Final = 8

Tell = Callable[[Step], None]


@dataclass(slots=True)
class Ending:
    """How the demo ended. Balances are nanoERG by wallet; `receipt_box` is what the node may reclaim later."""

    task_id: bytes
    node: str
    before: dict[str, int]
    after: dict[str, int]
    fees: int
    receipt_box: int
    findings: list[Finding]
    output: Path
    reputation: tuple[int, int]
    steps: list[Step] = field(default_factory=list)

    @property
    def changes(self) -> dict[str, int]:
        return {name: self.after[name] - self.before[name] for name in self.before}

    @property
    def balanced(self) -> bool:
        """Whether every nanoERG that somebody lost is where somebody else, the miners, or the receipt box has it."""
        return sum(self.changes.values()) + self.fees + self.receipt_box == 0


async def play(world: World, input_path: Path, service: str, output: Path, tell: Tell) -> Ending:
    """Play one task; DependencyError when it does not end in a settled rating."""
    client = world.client.client
    before, fees_before = await _balances(world), _fees(world)
    story = _Story(world, tell)
    order = Order(world.services[service], PAYMENT, CLAIM_WINDOW, EXEC_WINDOW, SELECTION_WINDOW)
    task_id = await client.post(order, input_path, {})
    told = asyncio.create_task(story.follow(task_id))
    try:
        claimed = await client.wait_for(task_id, lambda now: now.where is not Where.OPEN)
        await client.deliver(task_id)
        await client.wait_for(task_id, lambda now: now.life.receipt is not None)
        started = time.monotonic()
        await client.fetch(task_id, output)
        findings = await client.verify(task_id, output, {})
        await story.look(task_id)
        story.say("fetch", f"{output.stat().st_size} bytes, verified in {time.monotonic() - started:.1f} s")
        await client.rate(task_id, MARK)
        await client.wait_for(task_id, lambda now: now.where is Where.SETTLED)
        await story.look(task_id)
        await story.settled(task_id)
        reputation = await _bridged(world, world.services[service])
    finally:
        told.cancel()
    terms = claimed.life.claimed
    assert terms is not None
    keys = {daemon.name: node.signer.public_key for daemon, node in zip(world.daemons, world.nodes, strict=True)}
    node = next(name for name, key in keys.items() if key == terms.content.node)
    after = await _balances(world)
    receipt = (await world.client.view.life(task_id)).receipt
    return Ending(
        task_id,
        node,
        before,
        after,
        _fees(world) - fees_before,
        receipt.value if receipt else 0,
        findings,
        output,
        reputation,
        story.told,
    )


class _Story:
    """Tells each step once, as soon as the chain shows it."""

    def __init__(self, world: World, tell: Tell) -> None:
        self._world = world
        self._tell = tell
        self.told: list[Step] = []

    async def follow(self, task_id: bytes) -> None:
        while True:
            await self.look(task_id)
            await asyncio.sleep(POLL)

    async def look(self, task_id: bytes) -> None:
        """Tell what is new."""
        view = self._world.client.view
        escrow = await view.escrow(task_id)
        if escrow is not None and escrow.height is not None:
            detail = f"{format_erg(escrow.box.value)} locked: payment, receipt and rating"
            self._add(Step("post", escrow.height, str(escrow.box.transaction_id), detail))
        for step in steps(view.deployment, await view.sources.life(task_id)):
            self._add(step)

    def say(self, name: str, detail: str) -> None:
        """A step that is not a transaction."""
        self._add(Step(name, self._world.devnet.chain.height, "", detail))

    async def settled(self, task_id: bytes) -> None:
        view = self._world.client.view
        life = await view.life(task_id)
        if life.rating_spent_by is None:
            raise DependencyError(f"task {task_id.hex()}: its rating is not settled")
        height = await view.mined_at(life.rating_spent_by) or self._world.devnet.chain.height
        bonds = {bond.content.node: bond.content for bond in await view.bonds()}
        assert life.claimed is not None
        bond = bonds[life.claimed.content.node]
        self._add(
            Step(
                "RATED",
                height,
                life.rating_spent_by,
                f"folded into the bond: score {bond.score}, completed {bond.completed}",
            )
        )

    def _add(self, step: Step) -> None:
        if all((step.name, step.tx_id) != (known.name, known.tx_id) for known in self.told):
            self.told.append(step)
            self._tell(step)


async def _bridged(world: World, service: bytes) -> tuple[int, int]:
    """(score, index) of the service in nodo's database, once a daemon has written it."""
    async with asyncio.timeout(60):
        while True:
            row = await asyncio.to_thread(read_service_reputation, world.gateway.database, service.hex())
            if row is not None:
                return row
            await asyncio.sleep(POLL)


async def _balances(world: World) -> dict[str, int]:
    view = world.client.view
    return {
        name: sum(box.value for box in await view.unspent(tree_of(address, view.prefix)))
        for name, address in world.wallets.items()
    }


def _fees(world: World) -> int:
    """All fees that were ever paid on the chain."""
    fee_tree = FEE_TREE.hex()
    blocks = world.devnet.chain.blocks
    return sum(box.value for block in blocks for tx in block.transactions for box in tx.outputs if box.tree == fee_tree)
