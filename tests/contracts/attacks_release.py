"""Attacks on a claimed task before its deadline, in the transaction that publishes the receipt."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec
from aihd.protocol.boxes import Rating, Receipt
from aihd.protocol.constants import (
    MAX_CID,
    MAX_PROOF,
    MIN_BOX,
    RECEIPT_VALUE,
    SLACK,
    WINDOW_MAX,
    WINDOW_MIN,
)

from .attacks_minter import both_keys
from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .world import ERG, OTHER, TASK, TIP, World

NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    yield from _stolen(w)
    yield from _receipt(w)
    yield from _rating(w)
    yield from _fee(w)
    yield from _time(w)
    yield from _bond(w)


def _stolen(w: World) -> Iterator[Case]:
    h = w.release()
    rival = h.instead(2, w.coin(RIVAL)).by(RIVAL, STRANGER)
    without_bond = h.instead(1, w.coin(STRANGER)).without(0)
    attacks = [
        (Line.STOLEN, "by a stranger with a receipt in the node's name", rival),
        (Line.STOLEN, "by a stranger with a receipt in his own name", rival.edit(1, Receipt, node=RIVAL.pk)),
        (Line.STOLEN, "without the bond", without_bond),
        (Line.STOLEN, "without the bond, the outputs where they belong", h.instead(1, w.coin(NODE)).out(0, tokens=())),
        (Line.STOLEN, "no receipt: the node keeps box and payment", h.out(1, tree=NODE.tree)),
        (Line.STOLEN, "a rating in the place of the receipt", h.out(1, tree=h.outputs[2].tree)),
        (Line.SECOND, "a second receipt in the place of the rating", h.out(2, tree=h.outputs[1].tree, registers=h.outputs[1].registers)),
        (Line.SECOND, "two receipts, no rating", h.out(2, value=RECEIPT_VALUE, tree=h.outputs[1].tree, registers=h.outputs[1].registers)),
        (Line.FOOLED, "receipt and rating trade places", h.flip(1, 2)),
        (Line.FOOLED, "a wallet output slips in before the rating", h.insert(2, Out(ERG, NODE.tree))),
        (Line.FOOLED, "a wallet output slips in before the receipt", h.insert(1, Out(ERG, NODE.tree))),
    ]  # fmt: skip
    yield from against("release", h, attacks)


def _receipt(w: World) -> Iterator[Case]:
    h = w.release()
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.WRONG_KEY, "another node's key", {"node": RIVAL.pk}),
        (Line.WRONG_KEY, "the client's key", {"node": CLIENT.pk}),
        (Line.SECOND, "another task's id", {"task_id": OTHER}),
        (Line.FORM, "another input", {"input_commitment": OTHER}),
        (Line.FORM, "output hash of 31 bytes", {"output_hash": b"o" * 31}),
        (Line.FORM, "output hash of no bytes", {"output_hash": b""}),
        (Line.FORM, "parameters hash of 33 bytes", {"exec_params_hash": b"p" * 33}),
    ]
    attacks = [(line, f"receipt with {how}", h.edit(1, Receipt, **change)) for line, how, change in changes]
    attacks += [
        (Line.PADDED, "receipt with a signature too long", h.register(1, 8, codec.coll_byte(NODE.pk + b"s" * (MAX_PROOF - 32)))),
        (Line.PADDED, "receipt with a cid too long", h.register(1, 9, codec.coll_byte(b"c" * (MAX_CID + 1)))),
        (Line.PADDED, "receipt with a foreign token", h.spend(2, spare).out(1, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.DUST, "receipt worth a nanoERG less", h.value(1, -1)),
        (Line.UNITS, "receipt without its unit", h.out(1, tokens=())),
        (Line.UNITS, "receipt with both units", h.out(1, tokens=((TASK, 2),)).out(2, tokens=())),
        (Line.UNITS, "the receipt's unit kept by the node", h.out(1, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.HEIGHT, "receipt declared made long ago, to be reclaimed early", h.out(1, height=NEXT - SLACK - 1)),
        (Line.FORM, "receipt without a cid register", h.out(1, registers=h.outputs[1].registers[:5])),
        (Line.FORM, "receipt with an output hash of another type", h.register(1, 6, codec.int_constant(1))),
    ]  # fmt: skip
    yield from against("release", h, attacks)


def _rating(w: World) -> Iterator[Case]:
    h = w.release()
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    windows = (NEXT + WINDOW_MIN, NEXT + 2 * WINDOW_MIN)
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.BY_HAND, "marked by the node in the client's name", {"client_mark": 5}),
        (Line.BY_HAND, "marked by the node in its own", {"node_mark": 5}),
        (Line.COPIED, "committed in the client's name", {"client_commitment": OTHER}),
        (Line.COPIED, "committed in the node's own", {"node_commitment": OTHER}),
        (Line.REVEAL, "to be marked by the node as the client", {"client": NODE.pk}),
        (Line.REVEAL, "of another node", {"node": RIVAL.pk}),
        (Line.BY_HAND, "of a heavier payment", {"payment": 20 * ERG}),
        (Line.LONG, "of a negative payment", {"payment": -1}),
        (Line.HEIGHT, "commit window a block too short", _window(windows[0] - 1, windows[1])),
        (
            Line.HEIGHT,
            "commit window a block too long",
            _window(NEXT + WINDOW_MAX + 1, NEXT + WINDOW_MAX + 1 + WINDOW_MIN),
        ),
        (Line.HEIGHT, "reveal window a block too short", _window(windows[0], windows[0] + WINDOW_MIN - 1)),
        (Line.HEIGHT, "reveal window a block too long", _window(windows[0], windows[0] + WINDOW_MAX + 1)),
        (Line.HEIGHT, "windows long gone", _window(1, 2)),
        (Line.HEIGHT, "windows that never end", _window(NEXT + WINDOW_MIN, 2**31 - 1)),
    ]
    attacks = [(line, f"rating {how}", h.edit(2, Rating, **change)) for line, how, change in changes]
    two = codec.coll_long((ERG, ERG))
    five = codec.coll_int((*windows, 0, 0, 0))
    attacks += [
        (Line.STOLEN, "rating under the node's key", h.out(2, tree=NODE.tree)),
        (Line.DUST, "rating worth a nanoERG less", h.value(2, -1)),
        (Line.UNITS, "rating without its unit", h.out(2, tokens=())),
        (Line.UNITS, "the rating's unit kept by the node", h.out(2, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.PADDED, "rating with a foreign token", h.spend(2, spare).out(2, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.PADDED, "rating with a commitment of 900 bytes", h.register(2, 8, codec.coll_byte(b"x" * 900))),
        (Line.FORM, "rating of two payments", h.register(2, 6, two)),
        (Line.FORM, "rating with five marks", h.register(2, 7, five)),
        (Line.FORM, "rating with three marks", h.register(2, 7, codec.coll_int((*windows, 0)))),
        (Line.FORM, "rating with a client of two keys", h.register(2, 4, both_keys())),
        (Line.FORM, "no rating", h.without(2)),
    ]  # fmt: skip
    yield from against("release", h, attacks)


def _window(commit: int, reveal: int) -> dict[str, object]:
    return {"commit_deadline": commit, "reveal_deadline": reveal}


def _fee(w: World) -> Iterator[Case]:
    h = w.release()
    least = w.release(w.claimed(payment=100 * MIN_BOX))
    attacks = [
        (Line.FEE, "no fee output", h.without(3)),
        (Line.FEE, "a nanoERG short", h.value(3, -1)),
        (Line.FEE, "to the node", h.out(3, tree=NODE.tree)),
        (Line.FEE, "in the last output only", h.without(3).add(h.outputs[3])),
    ]
    yield from against("release, treasury fee", h, attacks)
    yield Case(
        "release, treasury fee: skipped for the smallest payment that owes it", Line.FEE, least.without(3), least
    )


def _time(w: World) -> Iterator[Case]:
    last = w.claimed(exec_deadline=NEXT)
    h = w.release(last)
    yield Case("release: a block after the deadline", Line.TOO_LATE, w.release(last, tip=TIP + 1), h)
    yield Case("release: once anybody may time it out", Line.TOO_LATE, w.release(last, tip=TIP + 400), w.timeout(last))
    yield Case("fail: a block after the deadline", Line.TOO_LATE, w.fail(last, tip=TIP + 1), w.fail(last))


def _bond(w: World) -> Iterator[Case]:
    """Other boxes in the place of the bond, other boxes of the market beside it."""
    h = w.release()
    claimed = w.claimed()
    bond = w.bond(TASK)
    tree, constants = bytes(bond.box.ergo_tree), bond.content.constants()
    own = w.place(Out(bond.value, NODE.tree, ((OTHER, 1),), constants))
    bare = w.place(Out(bond.value, tree, (), constants))
    shown = h.instead(1, w.coin(NODE)).out(0, tree=NODE.tree, tokens=()).read(bond.box)
    by_own = h.instead(1, own).out(0, tree=NODE.tree, tokens=((OTHER, 1),))
    attacks = [
        (Line.SELF_MADE, "a wallet box in the place of the bond", by_own),
        (Line.NO_MINTER, "a bond without the minter's token", h.instead(1, bare).out(0, tokens=())),
        (Line.FOOLED, "the bond as a data input", shown),
        (Line.FOOLED, "a variable in the place of the bond's ids", by_own.with_variables(0, {0: codec.coll_coll_byte([TASK])})),
        (Line.TWO_BONDS, "two equal bonds, one successor", h.spend(2, w.bond(TASK).box)),
        (Line.TWO_BONDS, "the bond of another node beside it", h.spend(2, w.bond(node=RIVAL.pk).box).by(NODE, RIVAL)),
        (Line.SETTLED, "into the bond of another node", _other_bond(w)),
        (Line.SHARED, "two claimed boxes, one receipt", h.spend(2, w.claimed(OTHER).box).out(0, registers=h.outputs[0].registers)),
        (Line.SHARED, "a task to cancel beside it", h.spend(2, w.task(client=NODE.pk).box)),
        (Line.FOOLED, "the claimed box is not the first input", h.spend(0, w.coin(NODE))),
        (Line.FOOLED, "the bond is the first input", h.instead(0, bond.box).instead(1, claimed.box)),
    ]  # fmt: skip
    yield from against("release", h, attacks)


def _other_bond(w: World) -> Draft:
    return w.release(None, w.bond(node=RIVAL.pk, active=1, committed=ERG)).by(NODE, RIVAL)
