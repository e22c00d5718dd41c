"""A mutant before both interpreters, with every proof that the colluders could make for it.

For the JVM each input carries a signature of the key that its box names, where a colluder holds it. sigma-rust says of each script which
signature it comes to; where the colluders have them all, the JVM sees those too. So "refused" means that no proof of theirs helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from ergo_lib_python.exceptions import WalletException
from ergo_lib_python.transaction import ReducedTransaction

from aihd.chain.appkit import Appkit, ScriptError
from aihd.devnet.sigma import TRUE, Proposition, Reader, parse_proposition
from aihd.errors import one_line
from aihd.protocol.context import next_header
from aihd.protocol.deployment import Deployment, Guard
from aihd.protocol.panics import PanicError, contained
from aihd.protocol.rules import MAX_BOX_SIZE

from .accepted import Accepted
from .chain import PARAMETERS, STRANGER, Draft, context, header, header_id, headers
from .fuzz_tx import MIN_PER_BYTE, Seen, box_size, digest, known, outputs_of, seen, transaction_bytes

HEADERS: Final = 10


@dataclass(frozen=True)
class Mutant:
    """A transaction to be judged."""

    deployment: Deployment
    draft: Draft

    @cached_property
    def outputs(self) -> tuple[Seen, ...]:
        return tuple(Seen.made(out, self.draft.height) for out in outputs_of(self.draft))

    @cached_property
    def message(self) -> bytes:
        return transaction_bytes(self.draft, self.outputs, [b""] * len(self.draft.inputs))

    @property
    def id(self) -> bytes:
        return digest(self.message)

    @property
    def key(self) -> tuple[bytes, int]:
        """What tells it from another: a transaction is another one in another block."""
        return self.message, self.draft.tip

    @cached_property
    def proofs(self) -> tuple[list[bytes], ...]:
        """A proof for each input; two such lists where it is open whose move a rating is."""
        named = [self._owners(seen(box)) for box in self.draft.inputs]
        sides = range(max(map(len, named)))
        return tuple([self._signature(keys[min(side, len(keys) - 1)]) for keys in named] for side in sides)

    def _signature(self, key: bytes) -> bytes:
        """The signature of a key over this transaction, where a colluder has the key; else the stranger's."""
        party = next((party for party in self.draft.signers if party.pk == key), STRANGER)
        if party.pk not in self._signatures:
            self._signatures[party.pk] = party.proof(self.message)
        return self._signatures[party.pk]

    @cached_property
    def _signatures(self) -> dict[bytes, bytes]:
        return {}

    def _owners(self, box: Seen) -> tuple[bytes, ...]:
        """The keys (33 bytes) that a box of ours names; for a coin its own."""
        guard = next((guard for guard, tree in self.deployment.trees.items() if tree == box.tree), None)
        match guard:
            case None:
                return (box.tree[3:],)
            case Guard.MINTER:
                return (STRANGER.pk,)
            case Guard.BOND:
                return (box.key(4),)
            case Guard.CLAIMED:
                return (box.key(8),)
            case Guard.TASK:
                return (box.key(7),)
            case Guard.RATING:
                return (box.key(4), box.key(5))
            case Guard.RECEIPT:
                return (box.bytes_(8)[:33],)
            case Guard.FAILURE:
                return (box.bytes_(5),)

    def passes_jvm(self, appkit: Appkit, proofs: Sequence[Sequence[bytes]]) -> bool:
        """Whether the reference interpreter accepts with one of these lists of proofs."""
        return any(self._verify(appkit, some) for some in proofs)

    def _verify(self, appkit: Appkit, proofs: Sequence[bytes]) -> bool:
        tip, draft = self.draft.tip, self.draft
        boxes, data = ([known(box)[1] for box in some] for some in (draft.inputs, draft.data_inputs))
        tx = transaction_bytes(draft, self.outputs, proofs)
        try:
            return appkit.verify(tx, boxes, data, headers(tip), next_header(header(tip)), PARAMETERS).ok
        except ScriptError as error:
            if "does not parse" not in str(error):
                raise
            return False

    def passes_rust(self) -> tuple[list[bytes], str]:
        """A proof for each proposition that sigma-rust arrives at, or why the colluders have none.

        Our scripts reduce to true, false or one signature.
        """
        keys = {party.pk for party in self.draft.signers}
        try:
            propositions = [*self._reduced()]
        except (WalletException, PanicError, ValueError) as error:
            return [], one_line(error)
        proofs = []
        for index, proposition in enumerate(propositions):
            needed = b"".join(proposition.points)
            if proposition.op != TRUE and needed not in keys:
                return [], f"input {index} comes to {proposition.op:#x} {needed.hex()}"
            proofs.append(self._signature(needed) if needed else b"")
        return proofs, ""

    def _reduced(self) -> Iterator[Proposition]:
        draft = self.draft
        boxes, read = list(draft.inputs), list(draft.data_inputs)
        unsigned = contained(draft.unsigned)
        reader = Reader(
            contained(lambda: bytes(ReducedTransaction.from_unsigned_tx(unsigned, boxes, read, context(draft.tip))))
        )
        reader.take(reader.vlq())  # the message
        for _ in boxes:
            yield parse_proposition(reader)
            reader.vlq()  # the cost

    def unlawful(self) -> str:
        """The rule of a block that the mutant breaks, if one: what scripts do not look at. Rule numbers are the node's."""
        oldest, newest = max(seen(box).height for box in self.draft.inputs), self.draft.tip + 1
        sizes = [box_size(out) for out in self.outputs]
        rules = (
            (self._sums(), "sums (106, 116, 117)"),
            (all(oldest <= out.height <= newest for out in self.outputs), "creation height (112, 124)"),
            (all(size <= MAX_BOX_SIZE for size in sizes), "box size (120)"),
            (all(o.value >= MIN_PER_BYTE * size for o, size in zip(self.outputs, sizes, strict=True)), "dust (111)"),
            (all(amount > 0 for out in self.outputs for _, amount in out.tokens), "token amounts (108)"),
        )
        return next((rule for kept, rule in rules if not kept), "")

    def _sums(self) -> bool:
        spent, made = Counter[bytes](), Counter[bytes]()
        for boxes, totals in ((map(seen, self.draft.inputs), spent), (self.outputs, made)):
            for box in boxes:
                totals[b""] += box.value
                for token, amount in box.tokens:
                    totals[token] += amount
        mintable = seen(self.draft.inputs[0]).id
        return spent[b""] == made[b""] and all(n <= spent[t] for t, n in made.items() if t != mintable)

    def accepted(self) -> Accepted:
        draft = self.draft
        return Accepted(
            self.deployment,
            [seen(box) for box in draft.inputs],
            self.outputs,
            draft.tip + 1,
            frozenset(party.pk for party in draft.signers),
            [(height, bytes.fromhex(header_id(height))) for height in range(draft.tip, draft.tip - HEADERS, -1)],
            {index: {k: bytes(v) for k, v in found.items()} for index, found in draft.variables.items()},
        )
