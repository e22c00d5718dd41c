"""What the chain proves of a payment: which transaction claimed a task, which one released it, and how deep.

The explorer finds, the node confirms: both transactions are read from the node, and each has to spend the box that it is said to spend.
Only the claimed box's guard lets a receipt out, and only for the signature of the node that claimed; so a release that spends the claimed
box of a task paid that node.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from aihd.chain.contracts import load_deployment
from aihd.chain.explorer import Explorer
from aihd.chain.node import Node
from aihd.chain.view import ChainView
from aihd.config import Settings, required
from aihd.core.life import Life
from aihd.execution.auth import signed
from aihd.nodo.payment.deposit import pays_for
from aihd.nodo.payment.settings import TREE_SIZE, is_payee, key_of
from aihd.protocol.boxes import On, Receipt, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.hashes import receipt_message
from aihd.protocol.plans import value_of

LONGEST_TOKEN = 200
"""Bytes of a deposit token; nodo's have 36."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One market, and the chain that it is on."""

    view: ChainView
    genesis_id: str


@asynccontextmanager
async def sight(settings: Settings) -> AsyncIterator[Sight]:
    """The market of a configuration, looked at without a wallet; ConfigError when the node follows another chain."""
    deployment, record = load_deployment(required(settings.chain.deployment, "chain.deployment"))
    async with aiohttp.ClientSession() as session:
        node, explorer = Node(session, settings.chain.node_urls), Explorer(session, settings.chain.explorer_urls)
        view = ChainView(node, explorer, deployment)
        await view.check(record.genesis_id)
        yield Sight(view, record.genesis_id)


@dataclass(frozen=True, slots=True)
class Proof:
    """What the chain holds of a task that one node claimed; None for what it does not. `depth` is that of the release, 1 in the tip."""

    claim: str | None = None
    receipt: On[Receipt] | None = None
    release: str | None = None
    depth: int = 0


async def prove(view: ChainView, task_id: bytes, node: bytes, life: Life | None = None) -> Proof:
    """What is in blocks of the life of a task under the claim of a node (33-byte key)."""
    life = life or await view.life(task_id)
    claimed, receipt = life.claimed, life.receipt
    if claimed is None or claimed.content.node != node:
        return Proof()
    claim = claimed.transaction_id
    if await _mined(view, claim, task_id.hex()) is None:
        return Proof()
    if receipt is None or receipt.content.node != node or receipt.content.task_id != task_id:
        return Proof(claim)
    height = await _mined(view, receipt.transaction_id, claimed.id)
    if height is None:
        return Proof(claim)
    depth = (await view.node.info()).height - height + 1
    return Proof(claim, receipt, receipt.transaction_id, max(1, depth))


async def _mined(view: ChainView, tx_id: str, first_input: str) -> int | None:
    """The height of a transaction whose first input is that box; None when the node has no such one in a block."""
    raw = await view.node.get(f"/blockchain/transaction/byId/{tx_id}")
    if raw is None or raw["inputs"][0]["boxId"] != first_input:
        return None
    return int(raw["inclusionHeight"])


@dataclass(frozen=True, slots=True)
class Claim:
    """What a payer says that it has paid: `amount` nanoERG to the payee's tree, by a task.

    `token` is the one that the task pays for: the deposit token, or one that nodo gave before for the same payment.
    """

    token: str
    amount: int
    payee: bytes
    task_id: bytes

    @classmethod
    def read(cls, token: str, amount: int, payee: bytes, script: bytes) -> Claim | str:
        """From the `script` that a payment brings (tree ‖ task id, and the task's token where it is another than the deposit's); a sentence
        when it names no task, or another payee.
        """
        if not TREE_SIZE + 32 <= len(script) <= TREE_SIZE + 32 + LONGEST_TOKEN or not is_payee(script[:TREE_SIZE]):
            return f"the script names no task: {len(script)} bytes, expected the payee's tree and a task id, {TREE_SIZE + 32}"
        if script[:TREE_SIZE] != payee:
            return "the script names another payee"
        if amount <= 0:
            return f"the amount is {amount} nanoERG: nothing to be paid"
        first = script[TREE_SIZE + 32 :].decode("utf-8", "replace")
        return cls(first or token, amount, payee, script[TREE_SIZE : TREE_SIZE + 32])


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the payment is proved; `final` is False while it may still come to be."""

    paid: bool
    reason: str
    final: bool = True


async def judge(seen: Sight, claim: Claim, confirmations: int) -> Verdict:
    """Hold a payer's word against the chain: this task, of this amount, for this token, claimed and delivered by this payee."""
    escrow = await seen.view.escrow(claim.task_id)
    if escrow is None:
        return Verdict(False, "the chain shows no such task", final=False)
    try:
        task = seen.view.deployment.read(TaskEscrow, escrow.box)
    except BoxError as error:
        return Verdict(False, str(error))
    if (wrong := _mismatch(task, claim)) is not None:
        return Verdict(False, wrong)
    return await _delivered(seen, claim, confirmations)


def _mismatch(task: On[TaskEscrow], claim: Claim) -> str | None:
    """What of a posted task is not as the payer says."""
    if task.raw_id != claim.task_id:
        return "the box is not that task"
    if not pays_for(task.content, claim.token):
        return "the task pays for another deposit token"
    terms = task.content
    if terms.asset is not None or terms.payment != claim.amount:
        return f"the task pays {terms.payment} of {terms.asset.hex() if terms.asset else 'nanoERG'}, expected {claim.amount} nanoERG"
    if terms.holdback_bps:
        return f"the task holds {terms.holdback_bps / 100:g} % of its payment back"
    if task.value < value_of(terms):
        return f"the task locks {task.value} nanoERG, less than it promises"
    return None


async def _delivered(seen: Sight, claim: Claim, confirmations: int) -> Verdict:
    node = key_of(claim.payee)
    life = await seen.view.life(claim.task_id)
    if life.claimed is not None and life.claimed.content.node != node:
        return Verdict(False, "another node claimed the task")
    if life.failure is not None or (life.claimed_spent_by is not None and life.receipt is None):
        return Verdict(False, "the task ended without a receipt")
    found = await prove(seen.view, claim.task_id, node, life)
    if found.receipt is None:
        return Verdict(False, "the chain holds no receipt of the task", final=False)
    message = receipt_message(bytes.fromhex(seen.genesis_id), claim.task_id, found.receipt.content.output_hash)
    if not signed(node, message, found.receipt.content.node_sig):
        return Verdict(False, "the receipt is not signed by this node")
    if found.depth < confirmations:
        return Verdict(False, f"the receipt is {found.depth} deep, expected {confirmations}", final=False)
    return Verdict(True, f"released by {found.release}")
