"""What must hold of bonds, and of the tokens that bonds and tasks are known by, in every transaction that a chain accepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aihd.protocol.constants import (
    BOND_MULTIPLIER,
    BOND_RESERVE,
    COOLDOWN,
    MAX_ENDPOINT,
    MAX_OPEN,
    SLACK,
)
from aihd.protocol.deployment import Guard

from .accepted import UNITS, Accepted, slash_of, weight_of
from .fuzz_tx import Seen


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
    moved = bool(tx.started or tx.late or tx.settled)
    grown = 0 if moved else heir.longs(5)[0] - bond.longs(5)[0]
    lost = sum(slash_of(bond, claimed.longs(6)[0]) for claimed in tx.late)
    born = tx.height <= heir.longs(5)[6] <= tx.height + SLACK if grown else heir.longs(5)[6] == bond.longs(5)[6]
    rules = (
        (heir.tree == bond.tree and heir.tokens == bond.tokens, "the successor is no bond"),
        (heir.registers[0] == bond.registers[0], "the owner changes"),
        (heir.longs(5)[:-1] == _counters(tx, bond, grown, lost), f"counters {bond.longs(5)} -> {heir.longs(5)}"),
        (born and len(heir.longs(5)) == 7, "born at another time"),
        (heir.int_(6) == bond.int_(6) + len(tx.started) - len(tx.late) - len(tx.settled), "active tasks"),
        (list(heir.strings(8)) == _ids(tx, bond), "open ids"),
        (grown >= 0 and heir.longs(5)[0] + BOND_RESERVE <= heir.value, "the stake is not there"),
        (heir.value == bond.value - lost if moved else heir.value >= bond.value, "value"),
        ((moved and not tx.started) or bond.key(4) in tx.signers, "moved by a stranger"),
        (_activity_kept(tx, bond, heir), "last activity"),
        (not moved or heir.registers[5] == bond.registers[5], "the endpoint changes"),
        (len(heir.bytes_(9)) <= MAX_ENDPOINT and len(heir.strings(8)) <= MAX_OPEN, "a padded bond"),
        (not tx.started or heir.longs(5)[1] <= BOND_MULTIPLIER * heir.longs(5)[0], "over its capacity"),
        (not any(left for _, left in tx.ended), "a release or a failure that needs a bond"),
    )
    yield from (text for held, text in rules if not held)


def _counters(tx: Accepted, bond: Seen, grown: int, lost: int) -> tuple[int, ...]:
    """All but `born`: each task is counted once, when it is settled or timed out."""
    amount, committed, score, completed, failed, timed_out, _ = bond.longs(5)
    late = [claimed.longs(6)[0] for claimed in tx.late]
    settled = [rating.longs(6) for rating in tx.settled]
    return (
        amount + grown - lost,
        committed + sum(box.longs(6)[0] for box in tx.started) - sum(late) - sum(worth for worth, _, _ in settled),
        score - 10 * sum(map(weight_of, late)) + sum(map(_points, tx.settled)),
        completed + sum(outcome == 1 for _, _, outcome in settled),
        failed + sum(outcome == 2 for _, _, outcome in settled),
        timed_out + len(late),
    )


def _points(rating: Seen) -> int:
    """A mark of 3 is nothing, a missing one too; who breaks his word alone pays for it, if he is the node."""
    w, marks = weight_of(rating.longs(6)[0]), rating.ints(7)[2:]
    said = (marks[0] - 3) * w if marks[0] else 0
    client_broke, node_broke = (bool(rating.bytes_(8 + i)) and not marks[i] for i in (0, 1))
    return said - w if node_broke and not client_broke else said


def _ids(tx: Accepted, bond: Seen) -> list[bytes]:
    gone = {box.tokens[0][0] for box in (*tx.late, *tx.settled)}
    return [task_id for task_id in bond.strings(8) if task_id not in gone] + [tx.inputs[0].id for _ in tx.started]


def _activity_kept(tx: Accepted, bond: Seen, heir: Seen) -> bool:
    if tx.started:
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
        (tx.height <= tx.deployment.expiry, "a bond after the end of the market"),
        (bonds[0].holds(token) == 1, "a bond with more than one token"),
        (not any(zeros) and bonds[0].int_(6) == 0 and bonds[0].strings(8) == (), "a bond with a history"),
        (0 < amount <= bonds[0].value - BOND_RESERVE, "the stake is not there"),
        (tx.height <= born <= tx.height + SLACK, "a bond born at another time"),
        (tx.height <= bonds[0].int_(7) <= tx.height + SLACK, "last activity"),
        (len(bonds[0].bytes_(9)) <= MAX_ENDPOINT and any(bonds[0].key(4)), "a padded bond, or one without a key"),
    )
    yield from (text for held_, text in rules if not held_)


def task_tokens_kept(tx: Accepted) -> Iterator[str]:
    """Units of a task: two in a claimed box, or one in a receipt or failure receipt and one in a rating; none elsewhere."""
    trees = [tx.deployment.trees[guard] for guard in (Guard.CLAIMED, Guard.RATING)]
    known = {box.tokens[0][0] for box in tx.inputs if box.tree in trees}
    for task_id in tx.open_ids | tx.minted | known:
        before = sum(box.holds(task_id) for box in tx.inputs)
        places = [box for box in tx.outputs if box.holds(task_id)]
        units = sum(box.holds(task_id) for box in places)
        if units > (2 if task_id in tx.minted else before) or units > 2:
            yield f"{units} units of a task token, {before} before"
        guards = [(tx.deployment.trees[guard], amount) for guard, amount in UNITS.items()]
        if any((box.tree, box.holds(task_id)) not in guards or box.tokens[0][0] != task_id for box in places):
            yield "a task token where none belongs"
        if any(len(box.tokens) > (2 if box.tree in trees else 1) for box in places):
            yield "a token where none belongs"
        if task_id in tx.minted and not tx.started:
            yield "a task token without a claimed box"
    gone = {box.tokens[0][0] for box in (*tx.late, *tx.settled)}
    if any(box.holds(task_id) for task_id in gone for box in tx.outputs):
        yield "a task token that outlives its task"
