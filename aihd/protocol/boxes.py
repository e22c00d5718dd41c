"""The typed content of each protocol box: its registers as Python values, and the way there and back.

`On[Bond]` is a bond as it lies on the chain: the box together with its decoded content. Reading is strict (codec.BoxError);
whoever holds a typed box may rely on types, sizes and ranges. Whether a script and tokens are ours is asked of `Deployment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from ergo_lib_python.chain import Constant, ErgoBox, NonMandatoryRegisterId

from aihd.protocol import codec
from aihd.protocol.box import Box
from aihd.protocol.codec import Registers
from aihd.protocol.constants import (
    COMPLETED,
    MAX_ALLOWED,
    MAX_CID,
    MAX_ENDPOINT,
    MAX_LOCATOR,
    MAX_OPEN,
    MAX_PROOF,
    VERSION,
)

RegisterMap = dict[NonMandatoryRegisterId, Constant]


class Content(Protocol):
    """What a protocol box holds."""

    def constants(self) -> tuple[Constant, ...]:
        """The registers from R4 on."""

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        """Decode a box; BoxError when it is malformed."""


T_co = TypeVar("T_co", bound=Content, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class On(Generic[T_co]):
    """A protocol box on the chain or in the mempool."""

    source: ErgoBox | Box
    content: T_co

    def __eq__(self, other: object) -> bool:
        return isinstance(other, On) and (self.id, self.content) == (other.id, other.content)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def box(self) -> ErgoBox:
        """The box as plans and signer want it. Made when asked for: what is only kept and looked at costs a fiftieth of its memory."""
        return self.source.ergo() if isinstance(self.source, Box) else self.source

    @property
    def id(self) -> str:
        return self.source.id if isinstance(self.source, Box) else str(self.source.box_id)

    @property
    def raw_id(self) -> bytes:
        return bytes.fromhex(self.id)

    @property
    def value(self) -> int:
        """nanoERG."""
        return self.source.value

    @property
    def creation_height(self) -> int:
        return self.source.creation_height

    @property
    def tokens(self) -> tuple[tuple[bytes, int], ...]:
        return tokens_of(self.source)

    @property
    def transaction_id(self) -> str:
        return str(self.source.transaction_id)


def tokens_of(box: ErgoBox | Box) -> tuple[tuple[bytes, int], ...]:
    """(token id, amount) pairs of a box, in order."""
    if isinstance(box, Box):
        return box.tokens
    return tuple((bytes(t.token_id), int(t.amount)) for t in box.tokens)


def _asset(box: ErgoBox | Box, *, after: int) -> bytes | None:
    """The token of a payment, which stands after the task token where there is one; how many units is checked by Deployment.read."""
    held = tokens_of(box)
    return held[after][0] if len(held) > after else None


def registers(content: Content) -> RegisterMap:
    """The registers of a content as ergo-lib's box candidate wants them."""
    return dict(zip(codec.REGISTER_IDS, content.constants(), strict=False))


@dataclass(frozen=True, slots=True)
class Minter:
    """Holds (BOND_TOKEN, supply); has no registers."""

    def constants(self) -> tuple[Constant, ...]:
        return ()

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        return cls()


@dataclass(frozen=True, slots=True)
class Bond:
    """A node's stake and counters; `amount` and `committed` are nanoERG, `born` and `last_activity` are heights."""

    node: bytes
    amount: int
    committed: int = 0
    score: int = 0
    completed: int = 0
    failed: int = 0
    timed_out: int = 0
    born: int = 0
    active: int = 0
    last_activity: int = 0
    open_ids: tuple[bytes, ...] = ()
    endpoint: str = ""

    def counters(self) -> tuple[int, ...]:
        return (self.amount, self.committed, self.score, self.completed, self.failed, self.timed_out, self.born)

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.sigma_prop(self.node),
            codec.coll_long(self.counters()),
            codec.int_constant(self.active),
            codec.int_constant(self.last_activity),
            codec.coll_coll_byte(self.open_ids),
            codec.coll_byte(self.endpoint.encode(errors="surrogateescape")),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("Bond", box)
        amount, committed, score, completed, failed, timed_out, born = r.longs("R5", 7)
        return cls(
            r.public_key("R4"),
            amount,
            committed,
            score,
            completed,
            failed,
            timed_out,
            born,
            active=r.int_value("R6"),
            last_activity=r.int_value("R7"),
            open_ids=r.byte_strings("R8", size=32, most=MAX_OPEN),
            # Never refused: timeout and settle have to copy it, and a node must not escape them by an odd endpoint.
            endpoint=r.any_text("R9", most=MAX_ENDPOINT),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEscrow:
    """A posted task.

    `payment` is nanoERG, or units of the token `asset`; `worth` is nanoERG, and the same as the payment where that is in ERG.
    `holdback_bps` is the share of the payment that waits for the client's mark, in basis points. Windows are blocks, `claim_deadline` is
    a height.
    """

    service_hash: bytes
    input_commitment: bytes
    worth: int
    payment: int
    asset: bytes | None = None
    min_reputation: int
    claim_deadline: int
    exec_window: int
    selection_window: int
    selection_difficulty: int
    holdback_bps: int = 0
    version: int = VERSION
    client: bytes
    locator: str = ""
    allowed: tuple[bytes, ...] = ()

    def constants(self) -> tuple[Constant, ...]:
        terms = (
            self.worth,
            self.payment,
            self.min_reputation,
            self.claim_deadline,
            self.exec_window,
            self.selection_window,
            self.selection_difficulty,
            self.holdback_bps,
            self.version,
        )
        return (
            codec.coll_byte(self.service_hash),
            codec.coll_byte(self.input_commitment),
            codec.coll_long(terms),
            codec.sigma_prop(self.client),
            codec.coll_byte(self.locator.encode()),
            codec.coll_coll_byte(self.allowed),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("TaskEscrow", box)
        worth, payment, min_reputation, claim_deadline, exec_window, window, difficulty, holdback, version = r.longs(
            "R6", 9
        )
        return cls(
            service_hash=r.coll_byte("R4", size=32),
            input_commitment=r.coll_byte("R5", size=32),
            worth=worth,
            payment=payment,
            asset=_asset(box, after=0),
            min_reputation=min_reputation,
            claim_deadline=claim_deadline,
            exec_window=exec_window,
            selection_window=window,
            selection_difficulty=difficulty,
            holdback_bps=holdback,
            version=version,
            client=r.public_key("R7"),
            locator=r.text("R8", most=MAX_LOCATOR),
            allowed=r.byte_strings("R9", size=33, most=MAX_ALLOWED),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedTask:
    """A task promised to one node until `exec_deadline` (height); amounts as in its TaskEscrow."""

    service_hash: bytes
    input_commitment: bytes
    worth: int
    payment: int
    asset: bytes | None = None
    exec_deadline: int
    claim_height: int
    holdback_bps: int = 0
    client: bytes
    node: bytes
    locator: str = ""

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.coll_byte(self.service_hash),
            codec.coll_byte(self.input_commitment),
            codec.coll_long((self.worth, self.payment, self.exec_deadline, self.claim_height, self.holdback_bps)),
            codec.sigma_prop(self.client),
            codec.sigma_prop(self.node),
            codec.coll_byte(self.locator.encode()),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("ClaimedTask", box)
        worth, payment, exec_deadline, claim_height, holdback = r.longs("R6", 5)
        return cls(
            service_hash=r.coll_byte("R4", size=32),
            input_commitment=r.coll_byte("R5", size=32),
            worth=worth,
            payment=payment,
            asset=_asset(box, after=1),
            exec_deadline=exec_deadline,
            claim_height=claim_height,
            holdback_bps=holdback,
            client=r.public_key("R7"),
            node=r.public_key("R8"),
            locator=r.text("R9", most=MAX_LOCATOR),
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof that a task was run."""

    task_id: bytes
    input_commitment: bytes
    output_hash: bytes
    exec_params_hash: bytes
    node: bytes
    node_sig: bytes
    receipt_cid: bytes

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.coll_byte(self.task_id),
            codec.coll_byte(self.input_commitment),
            codec.coll_byte(self.output_hash),
            codec.coll_byte(self.exec_params_hash),
            codec.coll_byte(self.node + self.node_sig),
            codec.coll_byte(self.receipt_cid),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("Receipt", box)
        proof = r.coll_byte("R8", most=MAX_PROOF)
        if len(proof) < 33:
            raise r.error("R8", proof, "a node key of 33 bytes and a signature")
        task_id, commitment, output_hash, params_hash = (r.coll_byte(f"R{n}", size=32) for n in range(4, 8))
        return cls(
            task_id, commitment, output_hash, params_hash, proof[:33], proof[33:], r.coll_byte("R9", most=MAX_CID)
        )


@dataclass(frozen=True, slots=True)
class FailureReceipt:
    """A node's admission that it could not run a task."""

    task_id: bytes
    node: bytes
    failure_type: int
    evidence: bytes
    height: int
    node_sig: bytes

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.coll_byte(self.task_id),
            codec.coll_byte(self.node),
            codec.int_constant(self.failure_type),
            codec.coll_byte(self.evidence),
            codec.long_constant(self.height),
            codec.coll_byte(self.node_sig),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("FailureReceipt", box)
        return cls(
            r.coll_byte("R4", size=32),
            r.coll_byte("R5", size=33),
            r.int_value("R6"),
            r.coll_byte("R7", size=32),
            r.long_value("R8"),
            r.coll_byte("R9", most=MAX_PROOF),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """The marks that both sides give each other; a mark is 1 to 5, 0 = none; a commitment is 32 bytes or empty.

    `worth` is that of the task, in nanoERG; `held` is the share of the payment that the box keeps until it is settled, in nanoERG or in
    units of the token `asset`; `outcome` is COMPLETED or FAILED.
    """

    client: bytes
    node: bytes
    worth: int
    held: int = 0
    asset: bytes | None = None
    outcome: int = COMPLETED
    commit_deadline: int
    reveal_deadline: int
    client_mark: int = 0
    node_mark: int = 0
    client_commitment: bytes = b""
    node_commitment: bytes = b""

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.sigma_prop(self.client),
            codec.sigma_prop(self.node),
            codec.coll_long((self.worth, self.held, self.outcome)),
            codec.coll_int((self.commit_deadline, self.reveal_deadline, self.client_mark, self.node_mark)),
            codec.coll_byte(self.client_commitment),
            codec.coll_byte(self.node_commitment),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        r = Registers("Rating", box)
        worth, held, outcome = r.longs("R6", 3)
        commit_deadline, reveal_deadline, client_mark, node_mark = r.ints("R7", 4)
        commitments = {register: r.coll_byte(register, most=32) for register in ("R8", "R9")}
        for register, commitment in commitments.items():
            if len(commitment) not in (0, 32):
                raise r.error(register, commitment, "a commitment of 0 or 32 bytes")
        return cls(
            client=r.public_key("R4"),
            node=r.public_key("R5"),
            worth=worth,
            held=held,
            asset=_asset(box, after=1),
            outcome=outcome,
            commit_deadline=commit_deadline,
            reveal_deadline=reveal_deadline,
            client_mark=client_mark,
            node_mark=node_mark,
            client_commitment=commitments["R8"],
            node_commitment=commitments["R9"],
        )
