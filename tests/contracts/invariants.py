"""What must hold of every transaction that a chain accepts, whoever made it.

Stated over inputs and outputs, without a word of how the guards or the plans say it: money that is owed arrives, a bond's successor
differs from it by exactly what happened in the transaction, tokens lie where they belong. What happened is read off the outputs: a claimed
box that is gone was released if its receipt is there, failed if its failure receipt is there, else timed out.

Two things are no promise of the protocol and so not asked for: what a client who signs does with his own unclaimed task, and tokens that
no bond ever listed as an open task (anybody can mint one and lay it under any script).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from aihd.protocol.constants import (
    BOND_MULTIPLIER,
    BOND_RESERVE,
    COOLDOWN,
    FEE_BPS,
    MAX_CID,
    MAX_ENDPOINT,
    MAX_FAILURE_TYPE,
    MAX_MINER_FEE,
    MAX_OPEN,
    MAX_PROOF,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    RECEIPT_VALUE,
    SLACK,
    SLASH_BPS,
    WINDOW_MAX,
    WINDOW_MIN,
)
from aihd.protocol.deployment import Deployment, Guard

from .fuzz_tx import Seen

ERG: Final = 10**9
UNITS: Final[Mapping[Guard, int]] = {Guard.CLAIMED: 2, Guard.FAILURE: 2, Guard.RECEIPT: 1, Guard.RATING: 1}


@dataclass(frozen=True)
class Accepted:
    """A transaction as the next block would hold it: `height` is that block's, `signers` the keys (33 bytes) its maker holds.

    `headers` are (height, id) of the blocks before, `variables` the context variables of each input, serialized.
    """

    deployment: Deployment
    inputs: Sequence[Seen]
    outputs: Sequence[Seen]
    height: int
    signers: frozenset[bytes]
    headers: Sequence[tuple[int, bytes]]
    variables: Mapping[int, Mapping[int, bytes]]

    def under(self, guard: Guard, boxes: Sequence[Seen]) -> list[Seen]:
        return [box for box in boxes if box.tree == self.deployment.trees[guard]]

    @cached_property
    def bonds(self) -> list[Seen]:
        return [box for box in self.under(Guard.BOND, self.inputs) if box.holds(self.deployment.bond_token)]

    @cached_property
    def open_ids(self) -> set[bytes]:
        """Ids that a bond answered for before this transaction."""
        return {task_id for bond in self.bonds for task_id in bond.strings(8)}

    @cached_property
    def heirs(self) -> list[Seen]:
        return [box for box in self.outputs if box.holds(self.deployment.bond_token) == 1]

    @cached_property
    def minted(self) -> set[bytes]:
        """The id of a new task: what a bond's successor answers for besides."""
        first = self.inputs[0].id
        return {first} if self.bonds and any(first in heir.strings(8) for heir in self.heirs) else set()

    @cached_property
    def started(self) -> list[Seen]:
        """Claimed boxes that this transaction made with a bond behind them."""
        claimed = self.under(Guard.CLAIMED, self.outputs)
        return [box for box in claimed if any(box.holds(task_id) for task_id in self.minted)]

    @cached_property
    def ended(self) -> list[tuple[Seen, Guard | None]]:
        """Claimed boxes spent, with the guard of what they left behind: receipt, failure receipt, or nothing."""
        return [(box, self._left_by(box.tokens[0][0])) for box in self.under(Guard.CLAIMED, self.inputs)]

    @cached_property
    def settled(self) -> list[Seen]:
        """Ratings spent without a successor."""
        heirs = {token for box in self.under(Guard.RATING, self.outputs) for token, _ in box.tokens}
        return [box for box in self.under(Guard.RATING, self.inputs) if box.tokens[0][0] not in heirs]

    def _left_by(self, task_id: bytes) -> Guard | None:
        found = (g for g in (Guard.RECEIPT, Guard.FAILURE) for b in self.under(g, self.outputs) if b.holds(task_id))
        return next(found, None)

    def paid(self, tree: bytes) -> int:
        return sum(box.value for box in self.outputs if box.tree == tree)


def broken(tx: Accepted) -> list[str]:
    """Every invariant that the transaction breaks; none for an honest one."""
    found = []
    for check in CHECKS:
        try:
            found += [f"{check.__name__}: {text}" for text in check(tx)]
        except (ValueError, IndexError) as error:
            found.append(f"{check.__name__}: a box that nobody can read: {error}")
    return found


def p2pk(key: bytes) -> bytes:
    return b"\x00\x08\xcd" + key


def slash_of(bond: Seen, payment: int) -> int:
    return min(bond.longs(5)[0], payment * SLASH_BPS // 10_000)


def weight_of(payment: int) -> int:
    return 1 + sum((1, 2, 4, 8)[i] for i in range(4) if payment >= ERG * 10**i // 100)


# Money


def clients_whole(tx: Accepted) -> Iterator[str]:
    """Whoever waits for a task has it, or its money; each due comes on top of the others."""
    due = Counter[bytes]()
    for task in tx.under(Guard.TASK, tx.inputs):
        if task.key(7) in tx.signers or any(_carries(tx, task, claimed) for claimed in tx.started):
            continue
        if tx.height <= task.longs(6)[2]:
            yield "a task is taken back while it may be claimed"
        due[task.key(7)] += task.value - MAX_MINER_FEE
    for claimed, left in tx.ended:
        due[claimed.key(7)] += _due(tx, claimed, left)
    for key, least in due.items():
        if tx.paid(p2pk(key)) < least:
            yield f"a client gets {tx.paid(p2pk(key))} of {least} nanoERG"


def _carries(tx: Accepted, task: Seen, claimed: Seen) -> bool:
    return claimed.holds(task.id) == 2 and claimed.value >= task.value and not list(_terms_changed(task, claimed))


def _terms_changed(task: Seen, claimed: Seen) -> Iterator[str]:
    same = ((4, 4), (5, 5), (7, 7), (8, 9))
    yield from (f"R{a}" for a, b in same if task.registers[a - 4] != claimed.registers[b - 4])
    if claimed.longs(6)[0] != task.longs(6)[0]:
        yield "payment"


def _due(tx: Accepted, claimed: Seen, left: Guard | None) -> int:
    """What the client of a claimed box gets out of its end."""
    task_id, payment = claimed.tokens[0][0], claimed.longs(6)[0]
    if left is Guard.RECEIPT:
        return 0
    if left is Guard.FAILURE:
        return claimed.value - sum(b.value for b in tx.under(Guard.FAILURE, tx.outputs) if b.holds(task_id))
    slashed = [slash_of(bond, payment) for bond in tx.bonds if task_id in bond.strings(8)]
    return claimed.value - MAX_MINER_FEE + sum(slashed)


def treasury_paid(tx: Accepted) -> Iterator[str]:
    fees = [claimed.longs(6)[0] * FEE_BPS // 10_000 for claimed, left in tx.ended if left is Guard.RECEIPT]
    due, paid = sum(fee for fee in fees if fee >= MIN_BOX), tx.paid(tx.deployment.treasury)
    if paid < due:
        yield f"the treasury gets {paid} of {due} nanoERG"


# Tasks


def claims_allowed(tx: Accepted) -> Iterator[str]:
    """A task goes to a bond that its client asked for."""
    for task in tx.under(Guard.TASK, tx.inputs):
        for claimed in tx.started:
            if task.key(7) not in tx.signers and claimed.holds(task.id):
                for bond in tx.bonds:
                    yield from _claim(tx, task, claimed, bond)


def _claim(tx: Accepted, task: Seen, claimed: Seen, bond: Seen) -> Iterator[str]:
    _, least, deadline, window, selection, difficulty, _ = task.longs(6)
    node, score, born = bond.key(4), bond.longs(5)[2], bond.longs(5)[6]
    _, exec_deadline, claim_height = claimed.longs(6)
    allowed = task.strings(9)
    drawn = any(
        height > max(task.height, born) and _ticket(header, task.id, node) * difficulty < (1 + max(0, score)) << 63
        for height, header in tx.headers
    )
    rules = (
        (not list(_terms_changed(task, claimed)), "the terms change"),
        (claimed.value >= task.value, "the claimed box is worth less than the task"),
        (claimed.key(8) == node, "the claimed box names another node than the bond"),
        (tx.height <= deadline, "after the claim deadline"),
        (score >= least, "too low a score"),
        (not allowed or node in allowed, "a node that is not on the list"),
        (drawn or tx.height > task.height + selection, "a node that was not drawn"),
        (exec_deadline <= tx.height + window, "more time than was given"),
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
        in_time = tx.height <= claimed.longs(6)[1]
        if in_time and claimed.key(8) not in tx.signers:
            yield "ended in time without its node"
        if in_time != (left is not None):
            yield f"{left} at height {tx.height}, deadline {claimed.longs(6)[1]}"
        if not any(claimed.tokens[0][0] in bond.strings(8) for bond in tx.bonds):
            yield "ended without the bond that answers for it"
        if left is Guard.RECEIPT:
            yield from _released(tx, claimed)
        if left is Guard.FAILURE:
            yield from _failed(tx, claimed)


def _released(tx: Accepted, claimed: Seen) -> Iterator[str]:
    task_id, payment = claimed.tokens[0][0], claimed.longs(6)[0]
    receipts, ratings = (
        [box for box in tx.under(guard, tx.outputs) if box.holds(task_id)] for guard in (Guard.RECEIPT, Guard.RATING)
    )
    if len(receipts) != 1 or len(ratings) != 1:
        yield f"{len(receipts)} receipts and {len(ratings)} ratings"
        return
    ((receipt,), (rating,)) = receipts, ratings
    commit, reveal, *marks = rating.ints(7)
    rules = (
        (receipt.value >= RECEIPT_VALUE and rating.value >= RATING_VALUE, "receipt or rating is worth too little"),
        (receipt.bytes_(4) == task_id, "a receipt of another task"),
        (receipt.registers[1] == claimed.registers[1], "a receipt of another input"),
        (len(receipt.bytes_(6)) == len(receipt.bytes_(7)) == 32, "hashes of a receipt"),
        (receipt.bytes_(8)[:33] == claimed.key(8), "a receipt of another node"),
        (len(receipt.bytes_(8)) <= MAX_PROOF and len(receipt.bytes_(9)) <= MAX_CID, "a padded receipt"),
        (receipt.height >= tx.height - SLACK, "a receipt that pretends to be old"),
        (rating.registers[:2] == claimed.registers[3:5], "a rating between others"),
        (rating.longs(6) == (payment,), "a rating of another payment"),
        (WINDOW_MIN <= commit - tx.height <= WINDOW_MAX, "commit window"),
        (WINDOW_MIN <= reveal - commit <= WINDOW_MAX, "reveal window"),
        (marks == [0, 0] and rating.bytes_(8) == rating.bytes_(9) == b"", "a rating that is not empty"),
    )
    yield from (text for held, text in rules if not held)


def _failed(tx: Accepted, claimed: Seen) -> Iterator[str]:
    task_id = claimed.tokens[0][0]
    for failure in (box for box in tx.under(Guard.FAILURE, tx.outputs) if box.holds(task_id)):
        rules = (
            (MIN_BOX <= failure.value <= RECEIPT_VALUE, "a failure receipt keeps the payment"),
            (failure.bytes_(4) == task_id and failure.bytes_(5) == claimed.key(8), "a failure of another"),
            (1 <= failure.int_(6) <= MAX_FAILURE_TYPE, "an unknown failure"),
            (len(failure.bytes_(7)) == 32 and len(failure.bytes_(9)) <= MAX_PROOF, "a padded failure receipt"),
            (tx.height - SLACK <= failure.long(8) <= tx.height, "a failure dated elsewhere"),
            (failure.height >= tx.height - SLACK, "a failure receipt that pretends to be old"),
        )
        yield from (text for held, text in rules if not held)


# Bonds


def bonds_accounted(tx: Accepted) -> Iterator[str]:
    """One bond a transaction; its successor is what the transaction made of it; it ends only by a withdrawal."""
    if not tx.bonds:
        return
    if len(tx.bonds) > 1 or len(tx.heirs) > 1:
        yield f"{len(tx.bonds)} bonds, {len(tx.heirs)} successors"
        return
    (bond,) = tx.bonds
    if tx.heirs:
        yield from _inherited(tx, bond, tx.heirs[0])
    else:
        yield from _withdrawn(tx, bond)


def _withdrawn(tx: Accepted, bond: Seen) -> Iterator[str]:
    if bond.strings(8) or bond.int_(6):
        yield "withdrawn with a task open"
    if tx.height <= bond.int_(7) + COOLDOWN:
        yield "withdrawn before the cool-down"
    if bond.key(4) not in tx.signers:
        yield "withdrawn by a stranger"


def _inherited(tx: Accepted, bond: Seen, heir: Seen) -> Iterator[str]:
    moved = bool(tx.started or tx.ended or tx.settled)
    acted = not moved or bool(tx.started) or any(left for _, left in tx.ended)
    grown = 0 if moved else heir.longs(5)[0] - bond.longs(5)[0]
    lost = sum(slash_of(bond, claimed.longs(6)[0]) for claimed, left in tx.ended if left is None)
    rules = (
        (heir.tree == bond.tree and heir.tokens == bond.tokens, "the successor is no bond"),
        (heir.registers[0] == bond.registers[0], "the owner changes"),
        (heir.longs(5) == _counters(tx, bond, grown, lost), f"counters {bond.longs(5)} -> {heir.longs(5)}"),
        (heir.int_(6) == bond.int_(6) + len(tx.started) - len(tx.ended), "active tasks"),
        (list(heir.strings(8)) == _ids(tx, bond), "open ids"),
        (grown >= 0 and heir.longs(5)[0] + BOND_RESERVE <= heir.value, "the stake is not there"),
        (heir.value == bond.value - lost if moved else heir.value >= bond.value, "value"),
        (not acted or bond.key(4) in tx.signers, "moved by a stranger"),
        (_activity_kept(tx, bond, heir, moved=moved, acted=acted), "last activity"),
        (not moved or heir.registers[5] == bond.registers[5], "the endpoint changes"),
        (len(heir.bytes_(9)) <= MAX_ENDPOINT and len(heir.strings(8)) <= MAX_OPEN, "a padded bond"),
        (not tx.started or heir.longs(5)[1] <= BOND_MULTIPLIER * heir.longs(5)[0], "over its capacity"),
    )
    yield from (text for held, text in rules if not held)


def _counters(tx: Accepted, bond: Seen, grown: int, lost: int) -> tuple[int, ...]:
    amount, committed, score, completed, failed, timed_out, born = bond.longs(5)
    ended = [(claimed.longs(6)[0], left) for claimed, left in tx.ended]
    late = [payment for payment, left in ended if left is None]
    return (
        amount + grown - lost,
        committed + sum(box.longs(6)[0] for box in tx.started) - sum(payment for payment, _ in ended),
        score - 10 * sum(map(weight_of, late)) + sum(map(_points, tx.settled)),
        completed + sum(left is Guard.RECEIPT for _, left in ended),
        failed + sum(left is Guard.FAILURE for _, left in ended),
        timed_out + len(late),
        born,
    )


def _points(rating: Seen) -> int:
    """A mark of 3 is nothing, a missing one too; who breaks his word alone pays for it, if he is the node."""
    w, marks = weight_of(rating.longs(6)[0]), rating.ints(7)[2:]
    said = (marks[0] - 3) * w if marks[0] else 0
    client_broke, node_broke = (bool(rating.bytes_(8 + i)) and not marks[i] for i in (0, 1))
    return said - w if node_broke and not client_broke else said


def _ids(tx: Accepted, bond: Seen) -> list[bytes]:
    gone = {claimed.tokens[0][0] for claimed, left in tx.ended if left is not Guard.RECEIPT}
    gone |= {rating.tokens[0][0] for rating in tx.settled}
    return [task_id for task_id in bond.strings(8) if task_id not in gone] + [tx.inputs[0].id for _ in tx.started]


def _activity_kept(tx: Accepted, bond: Seen, heir: Seen, *, moved: bool, acted: bool) -> bool:
    if moved and acted:
        return tx.height <= heir.int_(7) <= tx.height + SLACK
    return heir.int_(7) == bond.int_(7)


# Tokens


def bond_tokens_kept(tx: Accepted) -> Iterator[str]:
    """Bond tokens lie singly in bonds, or in the minter; their sum does not grow, and a new one is in a blank bond."""
    token = tx.deployment.bond_token
    held = [box for box in tx.outputs if box.holds(token)]
    if sum(box.holds(token) for box in held) > sum(box.holds(token) for box in tx.inputs):
        yield "bond tokens from nowhere"
    places = (tx.deployment.trees[Guard.BOND], tx.deployment.trees[Guard.MINTER])
    if any(box.tree not in places or len(box.tokens) != 1 for box in held):
        yield "a bond token outside bonds and minter"
    for minter in tx.under(Guard.MINTER, tx.inputs):
        yield from _born(tx, minter, held)


def _born(tx: Accepted, minter: Seen, held: Sequence[Seen]) -> Iterator[str]:
    token, minters = tx.deployment.bond_token, tx.under(Guard.MINTER, held)
    if [box.holds(token) for box in minters] != [minter.holds(token) - 1] or minters[0].value < minter.value:
        yield "the minter is not what it was, less one token"
    bonds = [box for box in held if box not in minters]
    if len(bonds) != 1:
        yield f"{len(bonds)} bonds beside a minter"
        return
    amount, *zeros, born = bonds[0].longs(5)
    rules = (
        (bonds[0].holds(token) == 1, "a bond with more than one token"),
        (not any(zeros) and bonds[0].int_(6) == 0 and bonds[0].strings(8) == (), "a bond with a history"),
        (0 < amount <= bonds[0].value - BOND_RESERVE, "the stake is not there"),
        (tx.height <= born <= tx.height + SLACK, "a bond born at another time"),
        (tx.height <= bonds[0].int_(7) <= tx.height + SLACK, "last activity"),
        (len(bonds[0].bytes_(9)) <= MAX_ENDPOINT and bool(bonds[0].key(4)), "a padded bond"),
    )
    yield from (text for held_, text in rules if not held_)


def task_tokens_kept(tx: Accepted) -> Iterator[str]:
    """Units of an open task: two in a claimed box or in a failure receipt, or one in a receipt and one in a rating; none elsewhere."""
    for task_id in tx.open_ids | tx.minted:
        before = sum(box.holds(task_id) for box in tx.inputs)
        places = [box for box in tx.outputs if box.holds(task_id)]
        units = sum(box.holds(task_id) for box in places)
        if units > (2 if task_id in tx.minted else before) or units > 2:
            yield f"{units} units of a task token, {before} before"
        guards = [(tx.deployment.trees[guard], amount) for guard, amount in UNITS.items()]
        if any((box.tree, box.holds(task_id)) not in guards or len(box.tokens) != 1 for box in places):
            yield "a task token where none belongs"
        if task_id in tx.minted and not tx.started:
            yield "a task token without a claimed box"
    gone = {claimed.tokens[0][0] for claimed, left in tx.ended if left is None} | {r.tokens[0][0] for r in tx.settled}
    if any(box.holds(task_id) for task_id in gone for box in tx.outputs):
        yield "a task token that outlives its task"


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
    _, deadline, client, node = rating.ints(7)
    if not (client and node) and tx.height <= deadline:
        yield "settled before it was final"
    if not any(rating.tokens[0][0] in bond.strings(8) for bond in tx.bonds):
        yield "settled without the bond that holds its task open"


def _rated(tx: Accepted, old: Seen, new: Seen, variables: Mapping[int, bytes]) -> Iterator[str]:
    frozen = (
        (new.tokens == old.tokens and new.value >= old.value, "value or tokens of a rating"),
        (new.registers[:3] == old.registers[:3], "sides or payment of a rating"),
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
    clients_whole,
    treasury_paid,
    claims_allowed,
    ends_allowed,
    bonds_accounted,
    bond_tokens_kept,
    task_tokens_kept,
    ratings_kept,
    receipts_kept,
)
