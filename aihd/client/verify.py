"""Proof of a receipt, as a stranger would ask for it: from the chain, the published receipt and the output alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aihd.core.life import Life, Sighting
from aihd.execution.auth import signed
from aihd.protocol import hashes
from aihd.protocol.boxes import ClaimedTask, On, Receipt, TaskEscrow
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import Deployment
from aihd.protocol.envelope import canonical_config
from aihd.protocol.receipt import FullReceipt


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    what: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a stranger can get hold of: boxes of the task's token, the escrow, the full receipt, hash and size (bytes) of the output."""

    task_id: bytes
    life: Life
    escrow: Sighting | None
    document: bytes
    output_hash: bytes
    output_size: int


def verify(
    deployment: Deployment, genesis_id: str, evidence: Evidence, config: Mapping[str, str] | None
) -> list[Finding]:
    """Every check with its result; `config` is known to the client only, without it the parameters are not recomputed.

    A receipt proves something only together with its claim, and the claim only if it spent a task escrow of this market; so every field
    of the published receipt is held against one of the three boxes, or against what was handed over.
    """
    receipt, claimed, escrow = evidence.life.receipt, evidence.life.claimed, evidence.escrow
    if receipt is None or claimed is None or escrow is None:
        return [Finding("receipt on chain", False, "the chain shows no receipt of this task")]
    full = FullReceipt.parse(evidence.document)
    try:
        posted = deployment.read(TaskEscrow, escrow.box)
    except BoxError as error:
        return [Finding("task posted", False, str(error))]
    return [
        *_chain(evidence, posted, claimed, receipt),
        *_signed(genesis_id, evidence.task_id, receipt.content, full),
        *_document(full, evidence, receipt.content),
        *_parameters(full, evidence, claimed.content, receipt.content, config),
    ]


def _chain(
    evidence: Evidence, posted: On[TaskEscrow], claimed: On[ClaimedTask], receipt: On[Receipt]
) -> Iterator[Finding]:
    """That escrow, claim and receipt belong together, and that the claim changed no term."""
    spent_by = evidence.escrow.spent_by if evidence.escrow else None
    terms, kept, box = posted.content, claimed.content, receipt.content
    yield _same("task posted", evidence.task_id.hex(), posted.id, "escrow of this market")
    yield _same("claim spent it", claimed.transaction_id, spent_by or "no transaction", "claim")
    yield _same("terms kept", _terms(terms), _terms(kept), "service, input, client, payment, holdback")
    yield _same("receipt of this task", evidence.task_id.hex(), box.task_id.hex(), "task")
    yield _same("receipt by the claimer", kept.node.hex(), box.node.hex(), "node")
    yield _same("input", terms.input_commitment.hex(), box.input_commitment.hex(), "commitment")


def _terms(content: TaskEscrow | ClaimedTask) -> str:
    parts = (content.service_hash.hex(), content.input_commitment.hex(), content.client.hex())
    asset = content.asset.hex() if content.asset else "ERG"
    return " ".join((*parts, str(content.worth), str(content.payment), asset, str(content.holdback_bps)))


def _signed(genesis_id: str, task_id: bytes, box: Receipt, full: FullReceipt) -> Iterator[Finding]:
    """A signature can be made again with other bytes, so each is verified by itself."""
    message = hashes.receipt_message(bytes.fromhex(genesis_id), task_id, box.output_hash)
    what = "over chain, task and output hash"
    yield Finding("node signature", signed(box.node, message, box.node_sig), what)
    yield Finding("receipt's signature", signed(box.node, message, bytes.fromhex(full.node_sig)), what)


def _document(full: FullReceipt, evidence: Evidence, box: Receipt) -> Iterator[Finding]:
    """That the published receipt is the one whose CID the box carries, and says what the boxes say."""
    yield _same("full receipt", hashes.cid_text(box.receipt_cid), hashes.cid_text(full.cid), "CID")
    yield _same("receipt's task", evidence.task_id.hex(), full.task_id, "task")
    yield _same("receipt's node", box.node.hex(), full.node, "node")
    yield _same("receipt's input", box.input_commitment.hex(), full.input_commitment, "commitment")
    yield _same("receipt's output", box.output_hash.hex(), full.output_hash, "sha3-256")
    yield _same("receipt's parameters", box.exec_params_hash.hex(), full.exec_params_hash, "sha3-256")
    yield _same("output hash", box.output_hash.hex(), evidence.output_hash.hex(), "sha3-256")
    yield _same("output size", str(full.output_size), str(evidence.output_size), "bytes")
    first, last = evidence.life.claim_height, evidence.life.receipt_height
    in_time = first is not None and first <= full.executed_height and (last is None or full.executed_height <= last)
    yield Finding("height", in_time, f"run at {full.executed_height}, claimed at {first}, receipt at {last}")


def _parameters(
    full: FullReceipt, evidence: Evidence, claimed: ClaimedTask, box: Receipt, config: Mapping[str, str] | None
) -> Iterator[Finding]:
    """That the service ran with the right seed and configuration, as far as it can be known."""
    yield _same("service", claimed.service_hash.hex(), full.service_hash, "service")
    block = evidence.life.claim_block
    yield _same("claim block", block.hex() if block else "in no block", full.claim_block, "block")
    derived = hashes.seed(block or b"", evidence.task_id, claimed.input_commitment).hex()
    if config is None:
        found = "of the block that holds the claim"
        if full.seed != derived:
            found = (
                "not of the block that holds the claim; one that the client chose is known with the configuration only"
            )
        yield Finding("seed", full.seed == derived, found)
        return
    chosen = hashes.chosen_seed(config)
    yield _same("seed", derived if chosen is None else chosen.hex(), full.seed, "seed")
    params = hashes.exec_params_hash(claimed.service_hash, bytes.fromhex(full.seed), canonical_config(config))
    yield _same("parameters", box.exec_params_hash.hex(), params.hex(), "service, seed and configuration")


def _same(what: str, expected: str, found: str, name: str) -> Finding:
    if expected == found:
        return Finding(what, True, f"{name} {_short(found)}")
    return Finding(what, False, f"{name}: expected {_short(expected)}, found {_short(found)}")


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:24]}…"


def conclusion(findings: Sequence[Finding]) -> str:
    """Returns all checks in one sentence."""
    wrong = [finding for finding in findings if not finding.holds]
    if not wrong:
        return f"All {len(findings)} checks hold: the node of the receipt vouches for this output of this task."
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{len(findings) - len(wrong)} of {len(findings)} checks hold; {wrong[0].what} does not: {wrong[0].detail}{more}."
