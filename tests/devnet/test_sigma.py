from __future__ import annotations

import json

import pytest
from devnet_wallet import DEADLINE_TREE, ERG, FEE, Key, funded, key, out, pay, sign, unsigned
from ergo_lib_python.chain import ErgoBox
from ergo_lib_python.transaction import Transaction, TxId
from ergo_lib_python.wallet import SecretKey, Wallet

from aihd.devnet.chain import Chain
from aihd.devnet.sigma import InputResult, Reader, verify_transaction
from aihd.protocol.trees import FEE_TREE

A, B, C = key(1), key(2), key(3)


def leaf(owner: Key) -> bytes:
    return b"\xcd" + owner.public


def both(*parts: bytes) -> bytes:
    return b"\x96" + bytes([len(parts)]) + b"".join(parts)


def either(*parts: bytes) -> bytes:
    return b"\x97" + bytes([len(parts)]) + b"".join(parts)


def at_least(count: int, *parts: bytes) -> bytes:
    return b"\x98" + bytes([count, len(parts)]) + b"".join(parts)


def guarded(chain: Chain, proposition: bytes) -> ErgoBox:
    """A box under a sigma proposition."""
    candidate = out(ERG, b"\x00\x08" + proposition, chain.height)
    return ErgoBox.from_box_candidate(candidate, TxId("ab" * 32), 0)


def spent(chain: Chain, box: ErgoBox, secrets: list[SecretKey]) -> Transaction:
    outputs = [out(ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    return Wallet(secrets).sign_transaction(unsigned([box], outputs), [box], [], chain.context)


def with_proof(tx: Transaction, change: bytes | int) -> Transaction:
    """The transaction with another proof on input 0: other bytes, or one bit of this byte turned."""
    body = json.loads(tx.json())
    proof = bytearray.fromhex(body["inputs"][0]["spendingProof"]["proofBytes"])
    if isinstance(change, int):
        proof[change] ^= 1
    else:
        proof = bytearray(change)
    body["inputs"][0]["spendingProof"]["proofBytes"] = proof.hex()
    return Transaction.from_json(body)


def holds(chain: Chain, tx: Transaction, box: ErgoBox) -> bool:
    return all(result.ok for result in verify_transaction(tx, [box], [], chain.context))


@pytest.fixture(scope="module")
def chain() -> Chain:
    return Chain()


PROPOSITIONS = {
    "and": (both(leaf(A), leaf(B)), [A, B]),
    "or_first": (either(leaf(A), leaf(B)), [A]),
    "or_last": (either(leaf(A), leaf(B)), [B]),
    "2_of_3": (at_least(2, leaf(A), leaf(B), leaf(C)), [A, C]),
    "nested": (either(both(leaf(A), leaf(B)), at_least(1, leaf(B), leaf(C))), [C]),
}


@pytest.mark.parametrize("name", PROPOSITIONS)
def test_verify__when__compound_proof_is_right__then__accepted_and_every_change_refused(
    name: str, chain: Chain
) -> None:
    proposition, owners = PROPOSITIONS[name]
    box = guarded(chain, proposition)
    tx = spent(chain, box, [owner.secret for owner in owners])
    size = len(bytes(tx.inputs[0].spending_proof.proof))
    assert holds(chain, tx, box)
    for position in (0, size // 2, size - 1):
        assert not holds(chain, with_proof(tx, position), box), position
    assert not holds(chain, with_proof(tx, b""), box)


def test_verify__when__dh_tuple__then__accepted_and_tampered_refused(chain: Chain) -> None:
    secret = SecretKey.random_dht()
    points = json.loads(secret.json())
    tuple_leaf = b"\xce" + b"".join(bytes.fromhex(points[name]) for name in ("g", "h", "u", "v"))
    box = guarded(chain, tuple_leaf)
    tx = spent(chain, box, [secret])
    assert holds(chain, tx, box)
    assert not holds(chain, with_proof(tx, 30), box)


def test_verify__when__single_signature_is_tampered__then__that_input_alone_fails(chain: Chain) -> None:
    mine, other = guarded(chain, leaf(A)), funded(chain, B)
    outputs = [out(ERG + other.value - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    tx = sign(chain, [A, B], [mine, other], outputs)
    results = verify_transaction(with_proof(tx, 40), [mine, other], [], chain.context)
    assert results == (InputResult(0, False, "Success((false,0))"), InputResult(1, True, "Success((true,0))"))


def test_verify__when__proof_of_another_transaction__then__refused(chain: Chain) -> None:
    box = guarded(chain, leaf(A))
    tx = pay(chain, A, box, B.tree, ERG // 2)
    foreign = bytes(pay(chain, A, box, B.tree, ERG // 3).inputs[0].spending_proof.proof)
    assert holds(chain, tx, box)
    assert not holds(chain, with_proof(tx, foreign), box)


def test_verify__when__script_reduces_to_a_truth_value__then__no_proof_is_needed_and_none_helps(chain: Chain) -> None:
    comparison = "91c1b2a57300007301"  # OUTPUTS(0).value > constant 1
    for limit, expected in (("c801", True), ("80a8d6b907", False)):  # 100 and 1 ERG, as zigzag numbers
        tree = bytes.fromhex(f"1002040005{limit}d1ed{comparison}{comparison}")
        box = ErgoBox.from_box_candidate(out(ERG, tree, chain.height), TxId("ab" * 32), 0)
        outputs = [out(ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
        tx = Transaction.from_unsigned_tx(unsigned([box], outputs), [b""])
        assert holds(chain, tx, box) is expected
        assert verify_transaction(tx, [box], [], chain.context)[0].text == f"Success(({str(expected).lower()},0))"


def test_verify__when__script_throws__then__only_the_result_of_that_input(chain: Chain) -> None:
    fund = funded(chain, A)
    broken = ErgoBox.from_box_candidate(out(ERG, DEADLINE_TREE, chain.height), TxId("ab" * 32), 0)  # has no R4
    outputs = [out(fund.value + ERG - FEE, A.tree, chain.height), out(FEE, FEE_TREE, chain.height)]
    tx = Transaction.from_unsigned_tx(unsigned([fund, broken], outputs), [b"", b""])
    (result,) = verify_transaction(tx, [fund, broken], [], chain.context)
    assert (result.index, result.ok) == (1, False)
    assert result.text.startswith("Failure(") and len(result.text) < 400


def test_reader__when__number_runs_past_the_end__then__value_error() -> None:
    with pytest.raises(ValueError, match="1 bytes wanted at 1 of 1"):
        Reader(b"\x80").vlq()
