"""Proof of a receipt: an honest one holds in every check, and each field that is false is named by the check that is about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import pytest
from made import ASSET
from offchain import COMMITMENT, ERG, SERVICE, Story, digest

from aihd.client.verify import Evidence, Finding, conclusion, verify
from aihd.core.life import Life
from aihd.errors import UsageError
from aihd.protocol import hashes, plans
from aihd.protocol.box import box_of
from aihd.protocol.boxes import ClaimedTask, On, Receipt
from aihd.protocol.deployment import Deployment
from aihd.protocol.envelope import canonical_config
from aihd.protocol.receipt import FullReceipt

GENESIS = digest("genesis")
OUTPUT = digest("output")
CHOSEN = {"A": "1", "AIH_SEED": "5a" * 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task that was run, with everything that a stranger can get hold of."""

    deployment: Deployment
    evidence: Evidence
    full: FullReceipt
    config: Mapping[str, str]

    @property
    def life(self) -> Life:
        return self.evidence.life

    @property
    def receipt(self) -> On[Receipt]:
        assert self.life.receipt is not None
        return self.life.receipt

    @property
    def claimed(self) -> On[ClaimedTask]:
        assert self.life.claimed is not None
        return self.life.claimed

    def findings(self, config: Mapping[str, str] | None = None) -> list[Finding]:
        return verify(self.deployment, GENESIS.hex(), self.evidence, config)

    def published(self, **changes: Any) -> Case:
        """As if the node had published another document, and put the CID of that into its receipt."""
        full = replace(self.full, **changes)
        case = replace(self, full=full, evidence=replace(self.evidence, document=full.document()))
        return case.boxed(receipt_cid=full.cid)

    def boxed(self, **changes: Any) -> Case:
        """As if the receipt's box said something else."""
        content = replace(self.receipt.content, **changes)
        return self.alive(receipt=On(self.receipt.box, content))

    def kept(self, **changes: Any) -> Case:
        """As if the claim had kept other terms."""
        return self.alive(claimed=On(self.claimed.box, replace(self.claimed.content, **changes)))

    def alive(self, **changes: Any) -> Case:
        return self.seen(life=replace(self.life, **changes))

    def seen(self, **changes: Any) -> Case:
        return replace(self, evidence=replace(self.evidence, **changes))


def ran(config: Mapping[str, str], **terms: Any) -> Case:
    """A task from its post to its release, by transactions that every guard took."""
    story = Story()
    task = story.post(**terms)
    claimed = story.claim(task)
    block, task_id = story.life(task.raw_id).claim_block, task.raw_id
    assert block is not None
    seed = hashes.run_seed(config, block, task_id, COMMITMENT)
    params = hashes.exec_params_hash(SERVICE, seed, canonical_config(config))
    message = hashes.receipt_message(GENESIS, task_id, OUTPUT)
    full = FullReceipt(
        task_id=task_id.hex(),
        service_hash=SERVICE.hex(),
        node=story.node.public_key.hex(),
        input_commitment=COMMITMENT.hex(),
        output_hash=OUTPUT.hex(),
        output_size=7,
        claim_block=block.hex(),
        seed=seed.hex(),
        exec_params_hash=params.hex(),
        executed_height=story.tip,
        node_sig=story.node.sign_message(message).hex(),
    )
    receipt = plans.receipt_for(claimed, OUTPUT, params, story.node.sign_message(message), full.cid)
    story.run(plans.release(story.market, claimed, receipt, story.funds(story.node)), story.node)
    evidence = Evidence(
        task_id=task_id,
        life=story.life(task_id),
        escrow=story.known[task.id].shown(story.tip),
        document=full.document(),
        output_hash=OUTPUT,
        output_size=7,
    )
    return Case(deployment=story.deployment, evidence=evidence, full=full, config=config)


@pytest.fixture(scope="module")
def case() -> Case:
    return ran({"A": "1"})


def failing(findings: list[Finding]) -> set[str]:
    return {finding.what for finding in findings if not finding.holds}


@pytest.mark.parametrize(
    ("config", "terms"),
    [
        ({}, {}),
        (CHOSEN, {}),
        ({"A": "1"}, {"holdback_bps": 5_000}),
        (CHOSEN, {"asset": "the story's", "payment": 500, "worth": ERG, "holdback_bps": 10_000}),
    ],
)
def test_verify__when__all_is_as_promised__then__every_check_holds(
    config: Mapping[str, str], terms: dict[str, Any]
) -> None:
    if "asset" in terms:
        terms = {**terms, "asset": Story().asset}
    found = ran(config, **terms).findings(config)
    assert failing(found) == set()
    assert conclusion(found) == (
        f"All {len(found)} checks hold: the node of the receipt vouches for this output of this task."
    )
    # Each check has a name of its own, so that a failing one says which.
    assert len({finding.what for finding in found}) == len(found)


# What a document says falsely, with the checks that name it when its CID is the receipt's all the same.
FALSE: dict[str, tuple[Any, set[str]]] = {
    "task_id": (digest("other").hex(), {"receipt's task"}),
    "service_hash": (digest("other").hex(), {"service"}),
    "node": ("02" * 33, {"receipt's node"}),
    "input_commitment": (digest("other").hex(), {"receipt's input"}),
    "output_hash": (digest("other").hex(), {"receipt's output"}),
    "output_size": (8, {"output size"}),
    "claim_block": (digest("other").hex(), {"claim block"}),
    "seed": (digest("other").hex(), {"seed", "parameters"}),
    "exec_params_hash": (digest("other").hex(), {"receipt's parameters"}),
    "executed_height": (1, {"height"}),
    "node_sig": ("00" * 56, {"receipt's signature"}),
}


def test_verify__when__fields_of_the_document_are_counted__then__each_has_its_lie() -> None:
    assert FALSE.keys() == {field.name for field in fields(FullReceipt)}


@pytest.mark.parametrize("field", FALSE)
def test_verify__when__a_field_of_the_document_is_false__then__the_check_that_is_about_it_fails(
    case: Case, field: str
) -> None:
    value, named = FALSE[field]
    assert failing(case.published(**{field: value}).findings(case.config)) == named
    # And when only the document is another, its CID says so as well.
    other = replace(case.full, **{field: value}).document()
    assert failing(case.seen(document=other).findings(case.config)) == named | {"full receipt"}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("task_id", digest("other"), {"receipt of this task"}),
        ("input_commitment", digest("other"), {"input", "receipt's input"}),
        ("output_hash", digest("other"), {"receipt's output", "output hash", "node signature", "receipt's signature"}),
        ("exec_params_hash", digest("other"), {"receipt's parameters", "parameters"}),
        ("node_sig", b"\1" * 56, {"node signature"}),
        ("receipt_cid", hashes.receipt_cid(b"another"), {"full receipt"}),
    ],
)
def test_verify__when__a_field_of_the_receipts_box_is_false__then__named(
    case: Case, field: str, value: bytes, named: set[str]
) -> None:
    assert failing(case.boxed(**{field: value}).findings(case.config)) == named


def test_verify__when__another_node_signed__then__it_is_not_the_one_that_claimed(case: Case) -> None:
    found = failing(case.boxed(node=b"\2" * 33).findings(case.config))
    assert found == {"receipt by the claimer", "receipt's node", "node signature", "receipt's signature"}


@pytest.mark.parametrize(
    "change",
    [
        {"worth": ERG + 1},
        {"payment": ERG - 1},
        {"asset": ASSET},
        {"holdback_bps": 1},
        {"client": b"\2" * 33},
    ],
)
def test_verify__when__the_claim_changed_a_term__then__said(case: Case, change: dict[str, Any]) -> None:
    assert failing(case.kept(**change).findings(case.config)) == {"terms kept"}


def test_verify__when__the_claim_took_another_service_or_input__then__said_and_what_follows_from_it(case: Case) -> None:
    assert failing(case.kept(service_hash=digest("x")).findings(case.config)) == {"terms kept", "service", "parameters"}
    assert failing(case.kept(input_commitment=digest("x")).findings(case.config)) == {"terms kept", "seed"}


def test_verify__when__the_escrow_is_not_what_the_claim_spent__then__named(case: Case) -> None:
    escrow = case.evidence.escrow
    assert escrow is not None
    for spent_by in (None, "ab" * 32):
        assert failing(case.seen(escrow=replace(escrow, spent_by=spent_by)).findings(case.config)) == {"claim spent it"}
    another = ran({"A": "1"}, payment=2 * ERG)
    assert "task posted" in failing(case.seen(escrow=another.evidence.escrow).findings(case.config))
    foreign = replace(escrow, box=box_of(case.receipt.box))  # no escrow of this market at all
    assert failing(case.seen(escrow=foreign).findings(case.config)) == {"task posted"}


@pytest.mark.parametrize("missing", ["receipt", "claimed"])
def test_verify__when__the_chain_shows_less__then__there_is_nothing_to_prove(case: Case, missing: str) -> None:
    found = case.alive(**{missing: None}).findings(case.config)
    assert [finding.what for finding in found] == ["receipt on chain"]
    assert failing(found) == {"receipt on chain"}
    assert failing(case.seen(escrow=None).findings(case.config)) == {"receipt on chain"}


@pytest.mark.parametrize(
    ("change", "named"),
    [({"output_hash": digest("x")}, {"output hash"}), ({"output_size": 6}, {"output size"})],
)
def test_verify__when__another_output_was_given__then__its_hash_or_its_size_says_so(
    case: Case, change: dict[str, Any], named: set[str]
) -> None:
    assert failing(case.seen(**change).findings(case.config)) == named


def test_verify__when__it_ran_before_the_claim_or_after_the_receipt__then__the_height_is_false(case: Case) -> None:
    first, last = case.life.claim_height, case.life.receipt_height
    assert first is not None and last is not None
    for height, holds in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        assert ("height" not in failing(case.published(executed_height=height).findings(case.config))) is holds
    # A receipt that is in no block yet bounds nothing.
    pending = case.published(executed_height=last + 1).alive(receipt_height=None)
    assert failing(pending.findings(case.config)) == set()


# ---------------------------------------------------------------- the seed


def test_verify__when__the_configuration_is_not_known__then__seed_of_the_block_or_said_that_it_may_be_chosen() -> None:
    derived, chosen = ran({"A": "1"}), ran(CHOSEN)
    assert failing(derived.findings(None)) == set()
    assert "parameters" not in {finding.what for finding in derived.findings(None)}
    (unknown,) = [finding for finding in chosen.findings(None) if not finding.holds]
    assert unknown.what == "seed"
    assert "one that the client chose is known with the configuration only" in unknown.detail


def test_verify__when__the_client_chose_a_seed__then__that_one_and_no_other() -> None:
    chosen = ran(CHOSEN)
    assert failing(chosen.findings(CHOSEN)) == set()
    other = {**CHOSEN, "AIH_SEED": "5b" * 32}
    assert failing(chosen.findings(other)) == {"seed", "parameters"}
    assert failing(chosen.findings({"A": "1"})) == {"seed", "parameters"}
    assert failing(ran({"A": "1"}).findings(CHOSEN)) == {"seed", "parameters"}
    with pytest.raises(UsageError, match="AIH_SEED is 'x', expected 64 hexadecimal digits, lower case"):
        chosen.findings({"AIH_SEED": "x"})


def test_verify__when__the_same_work_is_ordered_twice__then__the_chosen_seed_makes_the_parameters_equal() -> None:
    first, second = ran(CHOSEN), ran(CHOSEN, payment=2 * ERG)
    assert first.evidence.task_id != second.evidence.task_id
    assert first.full.exec_params_hash == second.full.exec_params_hash
    assert asdict(ran({}).full)["seed"] != asdict(ran({}, payment=2 * ERG).full)["seed"]


def test_conclusion__when__some_checks_fail__then__the_first_is_named_and_the_others_counted(case: Case) -> None:
    one = case.seen(output_size=6).findings(case.config)
    assert conclusion(one) == (
        f"{len(one) - 1} of {len(one)} checks hold; output size does not: bytes: expected 7, found 6."
    )
    two = case.seen(output_size=6, output_hash=digest("x")).findings(case.config)
    assert conclusion(two).startswith(f"{len(two) - 2} of {len(two)} checks hold; output hash does not: sha3-256: ")
    assert conclusion(two).endswith(", and 1 more.")
