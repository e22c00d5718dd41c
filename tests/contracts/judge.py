"""Two interpreters look at a draft, with every proof its maker could put together.

A script sees the message and never the proofs, so inputs are independent of each other: a draft is accepted when each of its inputs
accepts one of the proofs tried. Tried for every input that no key of the maker opens by itself: no proof, a signature by each of the
maker's keys (the same bytes as the proof of one of his wallet inputs), and a signature that the node or the client gave to the honest twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aihd.chain.appkit import Appkit
from aihd.devnet.sigma import verify_transaction
from aihd.protocol.context import next_header
from aihd.protocol.deployment import Deployment
from aihd.protocol.rules import Violation, violations
from .chain import CLIENT, NODE, PARAMETERS, Draft, context, header, headers


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether each interpreter accepts; which guards refuse (as the JVM sees it, or sigma-rust where it was not asked).

    `cost` is the JVM's, in block cost units; `size` is in bytes; `rules` are broken chain rules, which need no script.
    """

    rust: bool
    jvm: bool
    guards: tuple[str, ...]
    cost: int
    size: int
    rules: tuple[Violation, ...]

    @property
    def accepted(self) -> bool:
        return self.rust and self.jvm

    @property
    def agreed(self) -> bool:
        return self.rust == self.jvm


@dataclass(frozen=True, slots=True)
class Judge:
    """Without `appkit` the verdict of sigma-rust stands for both."""

    deployment: Deployment
    appkit: Appkit | None

    def __call__(self, draft: Draft, twin: Draft | None = None) -> Verdict:
        rust, jvm = set[int](), set[int]()
        cost = 0
        variants = list(_variants(draft, twin))
        for proofs in variants:
            rust |= self._rust(draft, proofs)
            if self.appkit:
                held, cost = self._jvm(self.appkit, draft, proofs)
                jvm |= held
        every = set(range(len(draft.inputs)))
        seen = jvm if self.appkit else rust
        refusing = tuple(self._guard(draft, index) for index in sorted(every - seen))
        signed = draft.signed(variants[-1])
        broken = violations(
            signed, draft.inputs, height=draft.tip + 1, parameters=PARAMETERS, data_inputs=draft.data_inputs
        )
        return Verdict(rust == every, seen == every, refusing, cost, len(bytes(signed)), broken)

    def _rust(self, draft: Draft, proofs: list[bytes]) -> set[int]:
        results = verify_transaction(draft.signed(proofs), draft.inputs, draft.data_inputs, context(draft.tip))
        return {result.index for result in results if result.ok}

    def _jvm(self, appkit: Appkit, draft: Draft, proofs: list[bytes]) -> tuple[set[int], int]:
        verdict = appkit.verify(
            draft.signed(proofs),
            draft.inputs,
            draft.data_inputs,
            headers(draft.tip),
            next_header(header(draft.tip)),
            PARAMETERS,
        )
        return {index for index, result in enumerate(verdict.inputs) if result.ok}, verdict.cost

    def _guard(self, draft: Draft, index: int) -> str:
        guard = self.deployment.guard_of(draft.inputs[index])
        return str(guard) if guard else f"input {index}"


def _variants(draft: Draft, twin: Draft | None) -> Iterator[list[bytes]]:
    """Proofs for all inputs, once for each way to fill those that no signer opens by itself."""
    message = draft.message()
    signatures = {party.tree: party.proof(message) for party in draft.signers}
    tried = [b"", *signatures.values()]
    if twin is not None:
        tried += [party.proof(twin.message()) for party in (NODE, CLIENT) if party in twin.signers]
    for proof in tried:
        yield [signatures.get(bytes(box.ergo_tree), proof) for box in draft.inputs]
