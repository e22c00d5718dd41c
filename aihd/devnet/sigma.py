"""Scripts and proofs of a signed transaction, checked in full without a JVM.

ergo-lib reduces every input's script to a sigma proposition in a given context; this module checks the proof that the
input carries for it: a signature, or a tree of AND, OR, thresholds, discrete logarithms and Diffie-Hellman tuples.
Not covered: cost limits, storage rent, trees of version 3 (`aihd.protocol.rules` refuses them beforehand).
A proof with bytes after its end passes, as it does in a node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ergo_lib_python.chain import Address, EcPoint, ErgoBox, ErgoStateContext
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.transaction import ReducedTransaction, Transaction, UnsignedInput, UnsignedTransaction
from ergo_lib_python.verifier import verify_signature

from aihd.devnet import curve
from aihd.errors import one_line
from aihd.protocol.panics import contained

CHALLENGE = 24  # bytes
RESPONSE = 32  # bytes
FALSE, TRUE, DLOG, DHT, AND, OR, THRESHOLD = 0xD2, 0xD3, 0xCD, 0xCE, 0x96, 0x97, 0x98


@dataclass(frozen=True, slots=True)
class InputResult:
    """The verdict on one input, with the text a node prints for it."""

    index: int
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Proposition:
    """A sigma proposition: op code, points of a leaf (33 bytes each), children of a node, and the k of "k of n"."""

    op: int
    points: tuple[bytes, ...] = ()
    children: tuple[Proposition, ...] = ()
    threshold: int = 0


def verify_transaction(
    tx: Transaction, boxes: Sequence[ErgoBox], data_boxes: Sequence[ErgoBox], context: ErgoStateContext
) -> tuple[InputResult, ...]:
    """One result per input. Where a script throws, only the result of that input: the others are not reached.

    `boxes` and `data_boxes` are what the transaction names, in its order.
    """
    unsigned = UnsignedTransaction(
        [UnsignedInput(i.box_id, i.spending_proof.extension) for i in tx.inputs], tx.data_inputs, tx.output_candidates
    )
    try:
        reduced = contained(
            lambda: bytes(ReducedTransaction.from_unsigned_tx(unsigned, list(boxes), list(data_boxes), context))
        )
        message, propositions = _parse_reduced(reduced, len(boxes))
    except Exception as error:  # noqa: BLE001 - a script may fail in any way, and every way is the same verdict
        text = str(error)
        return (InputResult(_failing_index(text), False, f"Failure({one_line(error)})"),)
    if hashlib.blake2b(message, digest_size=32).digest() != bytes(tx.id):
        return (InputResult(0, False, "Failure(the transaction's bytes are not canonical: its id is another)"),)
    proofs = [bytes(i.spending_proof.proof) for i in tx.inputs]
    verdicts = [proves(p, message, proof) for p, proof in zip(propositions, proofs, strict=True)]
    return tuple(InputResult(i, ok, f"Success(({str(ok).lower()},0))") for i, ok in enumerate(verdicts))


def proves(proposition: Proposition, message: bytes, proof: bytes) -> bool:
    """Whether `proof` (as in an input's proofBytes) proves the proposition for this message."""
    if proposition.op in (TRUE, FALSE):
        return proposition.op == TRUE
    try:
        if proposition.op == DLOG:
            return _signed(proposition.points[0], message, proof)
        reader = Reader(proof)
        challenge = reader.take(CHALLENGE)
        commitments = _commitments(proposition, challenge, reader)
    except ValueError:
        return False
    return hashlib.blake2b(commitments + message, digest_size=32).digest()[:CHALLENGE] == challenge


class Reader:
    """Takes numbers and runs of bytes off a buffer; ValueError past its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise ValueError(f"{count} bytes wanted at {self._position} of {len(self._data)}")
        taken, self._position = self._data[self._position : end], end
        return taken

    def vlq(self) -> int:
        """The next unsigned number, 7 bits a byte, lowest first."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def parse_proposition(reader: Reader) -> Proposition:
    """The serialized SigmaBoolean at the reader's position; ValueError for an unknown op code."""
    op = reader.take(1)[0]
    if op in (TRUE, FALSE):
        return Proposition(op)
    if op in (DLOG, DHT):
        return Proposition(op, tuple(reader.take(33) for _ in range(1 if op == DLOG else 4)))
    if op not in (AND, OR, THRESHOLD):
        raise ValueError(f"unknown sigma proposition {op:#x}")
    threshold = reader.vlq() if op == THRESHOLD else 0
    return Proposition(op, (), tuple(parse_proposition(reader) for _ in range(reader.vlq())), threshold)


def _parse_reduced(reduced: bytes, inputs: int) -> tuple[bytes, list[Proposition]]:
    reader = Reader(reduced)
    message = reader.take(reader.vlq())
    propositions = []
    for _ in range(inputs):
        propositions.append(parse_proposition(reader))
        reader.vlq()  # the cost, which ergo-lib 0.28 always gives as 0
    return message, propositions


def _failing_index(text: str) -> int:
    """ergo-lib names the input in the text only: "Prover error (tx input index 1): ..."."""
    _, found, rest = text.partition("tx input index ")
    return int(rest.partition(")")[0]) if found else 0


def _signed(public_key: bytes, message: bytes, proof: bytes) -> bool:
    return bool(proof) and contained(
        lambda: verify_signature(Address.p2pk(ProveDlog(EcPoint(public_key))), message, proof)
    )


def _commitments(proposition: Proposition, challenge: bytes, reader: Reader) -> bytes:
    """Fiat-Shamir bytes of a proof tree: recomputes each leaf's commitment from its challenge and response."""
    if proposition.op in (DLOG, DHT):
        return _leaf(proposition, int.from_bytes(challenge, "big"), int.from_bytes(reader.take(RESPONSE), "big"))
    if proposition.op not in (AND, OR, THRESHOLD):
        raise ValueError("a trivial proposition cannot be part of a proof tree")
    children = proposition.children
    challenges = _child_challenges(proposition, challenge, reader)
    head = {AND: b"\x00", OR: b"\x01", THRESHOLD: bytes([2, proposition.threshold])}[proposition.op]
    parts = (_commitments(child, next(challenges), reader) for child in children)
    return b"\x00" + head + len(children).to_bytes(2, "big") + b"".join(parts)


def _child_challenges(proposition: Proposition, challenge: bytes, reader: Reader) -> Iterator[bytes]:
    """The challenge of each child in turn; reads the proof as it goes, so a child is to be read before the next."""
    count = len(proposition.children)
    if proposition.op == AND:
        yield from [challenge] * count
    elif proposition.op == OR:
        rest = int.from_bytes(challenge, "big")
        for _ in range(count - 1):
            taken = reader.take(CHALLENGE)
            rest ^= int.from_bytes(taken, "big")
            yield taken
        yield rest.to_bytes(CHALLENGE, "big")
    else:  # a polynomial over GF(2^192) through the root challenge at 0; coefficients are little-endian
        coefficients = [challenge] + [reader.take(CHALLENGE) for _ in range(count - proposition.threshold)]
        numbers = [int.from_bytes(coefficient, "little") for coefficient in coefficients]
        for x in range(1, count + 1):
            value = 0
            for number in reversed(numbers):
                value = _gf_multiply(value, x) ^ number
            yield value.to_bytes(CHALLENGE, "little")


def _gf_multiply(a: int, b: int) -> int:
    """Product in GF(2^192) modulo x^192 + x^7 + x^2 + x + 1."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> 192:
            a ^= (1 << 192) | 0x87
        b >>= 1
    return product


def _leaf(proposition: Proposition, challenge: int, response: int) -> bytes:
    """Tag, proposition as a tree, and the commitment g^z * u^-e (for a tuple: of both pairs)."""
    if proposition.op == DLOG:
        pairs = [(curve.GENERATOR, curve.decode(proposition.points[0]))]
    else:
        g, h, u, v = map(curve.decode, proposition.points)
        pairs = [(g, u), (h, v)]
    commitment = b"".join(
        curve.encode(curve.add(curve.multiply(base, response), curve.multiply(image, -challenge)))
        for base, image in pairs
    )
    tree = b"\x10\x01\x08" + bytes([proposition.op]) + b"".join(proposition.points) + b"\x73\x00"
    return b"\x01" + len(tree).to_bytes(2, "big") + tree + len(commitment).to_bytes(2, "big") + commitment
