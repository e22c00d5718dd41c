"""What must hold of every transaction that a chain accepts, whoever made it.

Stated over inputs and outputs, without a word of how the guards or the plans say it: money that is owed arrives, in ERG and in tokens; held
money goes to the node or is burned; a bond's successor differs from it by exactly what happened in the transaction, so that counters move
once for a task; tokens lie where they belong; a claimed box moves by its node alone until its deadline.

Two things are no promise of the protocol and so not asked for: what a client who signs does with his own unclaimed task, and tokens that
no bond ever listed as an open task (anybody can mint one and lay it under any script).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from aihd.protocol.constants import (
    BURN,
    MAX_CID,
    MAX_EXEC,
    MAX_FAILURE_TYPE,
    MAX_MINER_FEE,
    MAX_PAYMENT,
    MAX_PROOF,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    RECEIPT_VALUE,
    SETTLE_GRACE,
    SLACK,
    USELESS,
    WINDOW_MAX,
    WINDOW_MIN,
)
from aihd.protocol.deployment import Guard

from .accepted import Accepted, fee_of, held_of, p2pk, slash_of
from .fuzz_tx import Seen
from .invariants_bond import bond_tokens_kept, bonds_accounted, task_tokens_kept


def broken(tx: Accepted) -> list[str]:
    """Every invariant that the transaction breaks; none for an honest one."""
    found = []
    for check in CHECKS:
        try:
            found += [f"{check.__name__}: {text}" for text in check(tx)]
        except (ValueError, IndexError) as error:
            found.append(f"{check.__name__}: a box that nobody can read: {error}")
    return found


# Money


def dues_paid(tx: Accepted) -> Iterator[str]:
    """Whoever is owed something has it, each due on top of the others: clients, the treasury, nodes of settled ratings, and the fire."""
    due: dict[bytes, Counter[bytes]] = {}

    def owe(tree: bytes, value: int, units: tuple[tuple[bytes, int], ...] = ()) -> None:
        due.setdefault(tree, Counter()).update(Counter({b"": value}) + Counter(dict(units)))

    for task in tx.under(Guard.TASK, tx.inputs):
        if task.key(7) in tx.signers or any(_carries(tx, task, claimed) for claimed in tx.started):
            continue
        if tx.height <= task.longs(6)[3]:
            yield "a task is taken back while it may be claimed"
        owe(p2pk(task.key(7)), task.value - MAX_MINER_FEE, task.tokens)
    for claimed, left in tx.ended:
        if left is Guard.RECEIPT:
            owe(tx.deployment.treasury, fee_of(claimed.longs(6)[0]))
        else:
            owe(p2pk(claimed.key(7)), _returned(tx, claimed, left), claimed.tokens[1:])
    for rating in tx.settled:
        if held := rating.longs(6)[1]:
            in_token = len(rating.tokens) > 1
            owe(_beneficiary(rating), MIN_BOX if in_token else held, rating.tokens[1:])
    for tree, least in due.items():
        paid = tx.paid(tree)
        if any(paid[token] < amount for token, amount in least.items()):
            yield f"{tree.hex()[:12]} gets {sorted(paid.values())} of {sorted(least.values())}, in nanoERG and units"


def _carries(tx: Accepted, task: Seen, claimed: Seen) -> bool:
    return claimed.holds(task.id) == 2 and claimed.value >= task.value and not list(_terms_changed(task, claimed))


def _terms_changed(task: Seen, claimed: Seen) -> Iterator[str]:
    same = ((4, 4), (5, 5), (7, 7), (8, 9))
    yield from (f"R{a}" for a, b in same if task.registers[a - 4] != claimed.registers[b - 4])
    worth, payment, *_, share, _ = task.longs(6)
    if (*claimed.longs(6)[:2], claimed.longs(6)[4]) != (worth, payment, share):
        yield "worth, payment or holdback"
    if claimed.tokens[1:] != task.tokens:
        yield "the token that is paid"


def _returned(tx: Accepted, claimed: Seen, left: Guard | None) -> int:
    """The nanoERG that the client of a claimed box gets out of a failure or a timeout."""
    if left is Guard.FAILURE:
        return claimed.value - MIN_BOX
    task_id, worth = claimed.tokens[0][0], claimed.longs(6)[0]
    return claimed.value - MAX_MINER_FEE + sum(slash_of(b, worth) for b in tx.bonds if task_id in b.strings(8))


def _beneficiary(rating: Seen) -> bytes:
    return BURN if rating.ints(7)[2] == USELESS else p2pk(rating.key(5))


def payouts_named(tx: Accepted) -> Iterator[str]:
    """Each payout names the one box that it is paid for, and holds the tokens of it and no other."""
    owed = [(claimed, p2pk(claimed.key(7))) for claimed, left in tx.ended if left is not Guard.RECEIPT]
    owed += [(rating, _beneficiary(rating)) for rating in tx.settled if rating.longs(6)[1]]
    for box, tree in owed:
        name = b"\x0e\x20" + box.id
        mine = [out for out in tx.outputs if out.registers[:1] == (name,) and out.tree == tree]
        if not any(out.tokens == box.tokens[1:] for out in mine):
            yield "a payout that does not say what for"


# Tasks


def claims_allowed(tx: Accepted) -> Iterator[str]:
    """A task goes to a bond that its client asked for, and what a bond answers for can come to an end."""
    for claimed in tx.started:
        yield from _bearable(tx, claimed)
    for task in tx.under(Guard.TASK, tx.inputs):
        for claimed in tx.started:
            if task.key(7) not in tx.signers and claimed.holds(task.id):
                for bond in tx.bonds:
                    yield from _claim(tx, task, claimed, bond)


def _bearable(tx: Accepted, claimed: Seen) -> Iterator[str]:
    """Of every claimed box with a bond behind it, whether its task was ours or made by the node for itself."""
    worth, payment, deadline, _, share = claimed.longs(6)
    asset = claimed.tokens[1:]
    locked = fee_of(worth) + MAX_MINER_FEE if asset else payment
    rules = (
        (0 < worth <= MAX_PAYMENT and 0 < payment <= MAX_PAYMENT, "an amount that is none"),
        (len(asset) <= 1 and all(amount == payment for _, amount in asset), "a payment that is not there"),
        (bool(asset) or worth == payment, "a payment in ERG of another worth"),
        (claimed.value >= locked + RECEIPT_VALUE + RATING_VALUE, "a claimed box that cannot pay for its end"),
        (0 <= share <= 10_000, "a share that is none"),
        (deadline <= tx.height + MAX_EXEC, "a deadline after the end of the market"),
        (bool(claimed.key(7)) and any(claimed.key(8) == bond.key(4) for bond in tx.bonds), "client or node"),
    )
    yield from (text for held, text in rules if not held)


def _claim(tx: Accepted, task: Seen, claimed: Seen, bond: Seen) -> Iterator[str]:
    _, _, least, deadline, window, selection, difficulty, _, _ = task.longs(6)
    node, score, born = bond.key(4), bond.longs(5)[2], bond.longs(5)[6]
    _, _, exec_deadline, claim_height, _ = claimed.longs(6)
    allowed = task.strings(9)
    drawn = any(
        height > max(task.height, born) and _ticket(header, task.id, node) * difficulty < (1 + max(0, score)) << 63
        for height, header in tx.headers
    )
    rules = (
        (not list(_terms_changed(task, claimed)), "the terms change"),
        (claimed.value >= task.value, "the claimed box is worth less than the task"),
        (claimed.key(8) == node, "the claimed box names another node than the bond"),
        (tx.height <= min(deadline, tx.deployment.expiry), "after the claim deadline, or the end of the market"),
        (score >= least, "too low a score"),
        (not allowed or node in allowed, "a node that is not on the list"),
        (drawn or tx.height > task.height + selection, "a node that was not drawn"),
        (tx.height + window // 2 < exec_deadline <= tx.height + window, "another time than was given"),
        (tx.height - SLACK <= claim_height <= tx.height, "a claim height far from the true one"),
    )
    yield from (text for held, text in rules if not held)


def _ticket(header: bytes, task_id: bytes, node: bytes) -> int:
    digest = hashlib.blake2b(header + task_id + p2pk(node), digest_size=32).digest()
    raw = int.from_bytes(digest[:8], "big", signed=True)
    return raw if raw >= 0 else -1 - raw


def ends_allowed(tx: Accepted) -> Iterator[str]:
    """Up to the deadline a claimed task is its node's, afterwards anybody's; what it leaves behind is complete."""
    for claimed, left in tx.ended:
        in_time = tx.height <= claimed.longs(6)[2]
        if in_time and claimed.key(8) not in tx.signers:
            yield "ended in time without its node"
        if in_time != (left is not None):
            yield f"{left} at height {tx.height}, deadline {claimed.longs(6)[2]}"
        if left is None and not any(claimed.tokens[0][0] in bond.strings(8) for bond in tx.bonds):
            yield "timed out without the bond that answers for it"
        if left is not None:
            yield from _left_behind(tx, claimed, left)


def _left_behind(tx: Accepted, claimed: Seen, left: Guard) -> Iterator[str]:
    """A proof and a rating, one of each, with everything in them that the next steps need."""
    task_id = claimed.tokens[0][0]
    proofs, ratings = (
        [box for box in tx.under(guard, tx.outputs) if box.holds(task_id)] for guard in (left, Guard.RATING)
    )
    if len(proofs) != 1 or len(ratings) != 1:
        yield f"{len(proofs)} receipts and {len(ratings)} ratings"
        return
    ((proof,), (rating,)) = proofs, ratings
    held = held_of(claimed) if left is Guard.RECEIPT else 0
    asset = claimed.tokens[1][0] if len(claimed.tokens) > 1 else None
    units = ((asset, held),) if asset and held else ()
    marks = rating.ints(7)
    rules = (
        (rating.value >= RATING_VALUE + (0 if asset else held), "a rating that is worth too little"),
        (rating.tokens == ((task_id, 1), *units), "a rating that does not hold the share"),
        (rating.registers[:2] == claimed.registers[3:5], "a rating between others"),
        (
            rating.longs(6) == (claimed.longs(6)[0], held, 1 if left is Guard.RECEIPT else 2),
            "a rating of something else",
        ),
        (marks[2:] == (0, 0) and rating.bytes_(8) == rating.bytes_(9) == b"", "a rating that is not empty"),
        (proof.bytes_(4) == task_id, "a receipt of another task"),
        (proof.height >= tx.height - SLACK, "a receipt that pretends to be old"),
    )
    yield from (text for kept, text in rules if not kept)
    check = _released if left is Guard.RECEIPT else _failed
    yield from check(tx, claimed, proof, marks)


def _released(tx: Accepted, claimed: Seen, receipt: Seen, marks: tuple[int, ...]) -> Iterator[str]:
    commit, reveal, *_ = marks
    rules = (
        (receipt.value >= RECEIPT_VALUE, "a receipt that is worth too little"),
        (receipt.registers[1] == claimed.registers[1], "a receipt of another input"),
        (len(receipt.bytes_(6)) == len(receipt.bytes_(7)) == 32, "hashes of a receipt"),
        (receipt.bytes_(8)[:33] == claimed.key(8), "a receipt of another node"),
        (len(receipt.bytes_(8)) <= MAX_PROOF and len(receipt.bytes_(9)) <= MAX_CID, "a padded receipt"),
        (WINDOW_MIN <= commit - tx.height <= WINDOW_MAX, "commit window"),
        (WINDOW_MIN <= reveal - commit <= WINDOW_MAX, "reveal window"),
    )
    yield from (text for held, text in rules if not held)


def _failed(tx: Accepted, claimed: Seen, failure: Seen, marks: tuple[int, ...]) -> Iterator[str]:
    commit, reveal, *_ = marks
    rules = (
        (failure.value >= MIN_BOX and failure.bytes_(5) == claimed.key(8), "a failure of another"),
        (1 <= failure.int_(6) <= MAX_FAILURE_TYPE, "an unknown failure"),
        (len(failure.bytes_(7)) == 32 and len(failure.bytes_(9)) <= MAX_PROOF, "a padded failure receipt"),
        (tx.height - SLACK <= failure.long(8) <= tx.height, "a failure dated elsewhere"),
        (commit == 0 and tx.height <= reveal <= tx.height + SLACK, "a failure that may be marked, or settled too late"),
    )
    yield from (text for held, text in rules if not held)


# Ratings and receipts


def ratings_kept(tx: Accepted) -> Iterator[str]:
    """A side changes its own half, in its time, once; the box ends when it is final, in the bond that holds its task open."""
    for place, rating in enumerate(tx.inputs):
        if rating.tree != tx.deployment.trees[Guard.RATING]:
            continue
        task_id = rating.tokens[0][0]
        heirs = [box for box in tx.under(Guard.RATING, tx.outputs) if box.holds(task_id)]
        if len(heirs) > 1:
            yield "a rating with two successors"
        elif heirs:
            yield from _rated(tx, rating, heirs[0], tx.variables.get(place, {}))
        else:
            yield from _folded(tx, rating)


def _folded(tx: Accepted, rating: Seen) -> Iterator[str]:
    commit, reveal, client, node = rating.ints(7)
    final = bool(client and node) or tx.height > reveal
    silent = tx.height > commit and not rating.bytes_(8)
    by_node = rating.key(5) in tx.signers and (final or silent)
    if not by_node and tx.height <= reveal + SETTLE_GRACE:
        yield "settled too early, or by somebody who may not yet"
    if not any(rating.tokens[0][0] in bond.strings(8) for bond in tx.bonds):
        yield "settled without the bond that holds its task open"


def _rated(tx: Accepted, old: Seen, new: Seen, variables: Mapping[int, bytes]) -> Iterator[str]:
    frozen = (
        (new.tokens == old.tokens and new.value >= old.value, "value or tokens of a rating"),
        (new.registers[:3] == old.registers[:3], "sides, worth, share or outcome of a rating"),
        (new.ints(7)[:2] == old.ints(7)[:2] and len(new.ints(7)) == 4, "deadlines of a rating"),
    )
    yield from (text for held, text in frozen if not held)
    changed = [side for side in (0, 1) if _half(old, side) != _half(new, side)]
    if len(changed) > 1:
        yield "both halves of a rating change"
    for side in changed:
        if old.key(4 + side) not in tx.signers:
            yield "a half of a rating changes without its owner"
        yield from _move(tx, old, new, side, variables)


def _half(rating: Seen, side: int) -> tuple[bytes, int]:
    return rating.bytes_(8 + side), rating.ints(7)[2 + side]


def _move(tx: Accepted, old: Seen, new: Seen, side: int, variables: Mapping[int, bytes]) -> Iterator[str]:
    (before, mark), (after, given) = _half(old, side), _half(new, side)
    commit, reveal, *_ = old.ints(7)
    if not before:
        if len(after) != 32 or given or tx.height > commit:
            yield "no commitment, or a late one"
        return
    both = bool(old.bytes_(8) and old.bytes_(9))
    salt = variables.get(0, b"")[2:]
    preimage = bytes([given & 0xFF]) + salt + old.tokens[0][0] + p2pk(old.key(4 + side))
    rules = (
        (after == before and not mark and 1 <= given <= 5, f"a commitment or a mark changes, to {given}"),
        (len(salt) == 32 and hashlib.blake2b(preimage, digest_size=32).digest() == before, "not what was committed to"),
        (tx.height <= reveal and (both or tx.height > commit), "a mark at the wrong time"),
    )
    yield from (text for held, text in rules if not held)


def receipts_kept(tx: Accepted) -> Iterator[str]:
    """A receipt stays for its time, then it is its node's; its tokens end with it."""
    receipts = [(box, box.bytes_(8)[:33]) for box in tx.under(Guard.RECEIPT, tx.inputs)]
    for box, owner in receipts + [(box, box.bytes_(5)) for box in tx.under(Guard.FAILURE, tx.inputs)]:
        if tx.height <= box.height + RECEIPT_RETENTION or owner not in tx.signers:
            yield "a receipt goes early, or without its node"
        if any(out.holds(box.tokens[0][0]) for out in tx.outputs):
            yield "the token of a receipt outlives it"


CHECKS: Final = (
    dues_paid,
    payouts_named,
    claims_allowed,
    ends_allowed,
    bonds_accounted,
    bond_tokens_kept,
    task_tokens_kept,
    ratings_kept,
    receipts_kept,
)
