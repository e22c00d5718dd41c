"""Two interpreters look at a draft, with every proof its maker could put together.

A script sees the message and never the proofs, so inputs are independent of each other: a draft is accepted when each of its inputs
accepts one of the proofs tried. Tried for every input that no key of the maker opens by itself: no proof, a signature by each of the
maker's keys (the same bytes as the proof of one of his wallet inputs), and a signature that the node or the client gave to the honest twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ergo_lib_python.transaction import Transaction, UnsignedTransaction

from aihd.chain.appkit import Appkit
from aihd.devnet.sigma import verify_transaction
from aihd.protocol.context import next_header
from aihd.protocol.deployment import Deployment
from aihd.protocol.rules import Violation, violations

from .chain import CLIENT, NODE, PARAMETERS, Draft, context, header, headers, message_of


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
    """Without `appkit` a quick look: the verdict of sigma-rust stands for both, and only the makers' own signatures are tried."""

    deployment: Deployment
    appkit: Appkit | None

    def __call__(self, draft: Draft, twin: Draft | None = None) -> Verdict:
        unsigned = draft.unsigned()
        rust, jvm = set[int](), set[int]()
        cost = size = 0
        for proofs in _variants(draft, unsigned, twin, quick=self.appkit is None):
            tx = Transaction.from_unsigned_tx(unsigned, proofs)
            size = len(bytes(tx))
            results = verify_transaction(tx, draft.inputs, draft.data_inputs, context(draft.tip))
            rust |= {result.index for result in results if result.ok}
            if self.appkit:
                held, cost = self._jvm(self.appkit, draft, tx)
                jvm |= held
        every = set(range(len(draft.inputs)))
        seen = jvm if self.appkit else rust
        refusing = tuple(self._guard(draft, index) for index in sorted(every - seen))
        broken = violations(
            unsigned, draft.inputs, height=draft.tip + 1, parameters=PARAMETERS, data_inputs=draft.data_inputs
        )
        return Verdict(rust == every, seen == every, refusing, cost, size, broken)

    def _jvm(self, appkit: Appkit, draft: Draft, tx: Transaction) -> tuple[set[int], int]:
        verdict = appkit.verify(
            tx, draft.inputs, draft.data_inputs, headers(draft.tip), next_header(header(draft.tip)), PARAMETERS
        )
        return {index for index, result in enumerate(verdict.inputs) if result.ok}, verdict.cost

    def _guard(self, draft: Draft, index: int) -> str:
        guard = self.deployment.guard_of(draft.inputs[index])
        return str(guard) if guard else f"input {index}"


def _variants(draft: Draft, unsigned: UnsignedTransaction, twin: Draft | None, *, quick: bool) -> Iterator[list[bytes]]:
    """Proofs for all inputs, once for each way to fill those that no signer opens by itself."""
    message = message_of(unsigned)
    signatures = {party.tree: party.proof(message) for party in draft.signers}
    tried = [*signatures.values()] if quick else [b"", *signatures.values()]
    if twin is not None and not quick:
        signed_before = message_of(twin.unsigned())
        tried += [party.proof(signed_before) for party in (NODE, CLIENT) if party in twin.signers]
    for proof in tried:
        yield [signatures.get(bytes(box.ergo_tree), proof) for box in draft.inputs]
