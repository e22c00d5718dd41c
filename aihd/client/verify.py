"""Proof of a receipt, as a stranger would ask for it: from the chain, the published receipt and the output alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aihd.core.life import Life, Sighting
from aihd.execution.auth import signed
from aihd.protocol import hashes
from aihd.protocol.boxes import TaskEscrow
from aihd.protocol.deployment import Deployment
from aihd.protocol.envelope import canonical_config
from aihd.protocol.receipt import FullReceipt


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a stranger can get hold of: boxes of the task's token, the escrow, the full receipt, the hash of the output."""

    task_id: bytes
    life: Life
    escrow: Sighting | None
    document: bytes
    output_hash: bytes


def verify(
    deployment: Deployment, genesis_id: str, evidence: Evidence, config: Mapping[str, str] | None
) -> list[Finding]:
    """Every check with its result; `config` is known to the client only, without it the parameters are not recomputed."""
    receipt_box, claimed, escrow = evidence.life.receipt, evidence.life.claimed, evidence.escrow
    if receipt_box is None or claimed is None or escrow is None:
        return [Finding("receipt on chain", False, "the chain shows no receipt of this task")]
    box = receipt_box.content
    full = FullReceipt.parse(evidence.document)
    task = deployment.read(TaskEscrow, escrow.box).content
    message = hashes.receipt_message(bytes.fromhex(genesis_id), evidence.task_id, box.output_hash)
    findings = [
        Finding("task posted", escrow.box.id is not None, f"escrow {escrow.box.id[:16]}… of this market"),
        Finding("claim spent it", escrow.spent_by == claimed.transaction_id, f"claim {claimed.transaction_id[:16]}…"),
        Finding("receipt of this task", box.task_id == evidence.task_id, f"receipt box {receipt_box.id[:16]}…"),
        Finding("receipt by the claimer", box.node == claimed.content.node, f"node {box.node.hex()[:16]}…"),
        Finding("node signature", signed(box.node, message, box.node_sig), "over chain, task and output hash"),
        Finding("full receipt", full.cid == box.receipt_cid, f"CID {hashes.cid_text(box.receipt_cid)[:24]}…"),
        Finding("output hash", evidence.output_hash == box.output_hash, f"sha3-256 {box.output_hash.hex()[:16]}…"),
        Finding("service", full.service_hash == task.service_hash.hex(), f"service {full.service_hash[:16]}…"),
        Finding("seed", _seed_holds(full, evidence, box.input_commitment), "of the block that holds the claim"),
    ]
    if config is not None:
        params = hashes.exec_params_hash(task.service_hash, bytes.fromhex(full.seed), canonical_config(config))
        findings.append(Finding("parameters", params == box.exec_params_hash, "service, seed and configuration"))
    return findings


def _seed_holds(full: FullReceipt, evidence: Evidence, commitment: bytes) -> bool:
    block = evidence.life.claim_block
    if block is None or full.claim_block != block.hex():
        return False
    return full.seed == hashes.seed(block, evidence.task_id, commitment).hex()
