"""Attacks on a claimed task before its deadline, in the transaction that publishes the receipt."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec
from aihd.protocol.boxes import Rating, Receipt
from aihd.protocol.constants import (
    FAILED,
    MAX_CID,
    MAX_PROOF,
    MIN_BOX,
    RECEIPT_VALUE,
    SLACK,
    WINDOW_MAX,
    WINDOW_MIN,
)

from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Out
from .shapes import both_keys, named_for
from .world import ERG, IN_TOKEN, OTHER, TASK, TIP, World

NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    yield from _stolen(w)
    yield from _receipt(w)
    yield from _rating(w)
    yield from _fee(w)
    yield from _time(w)
    yield from _beside(w)


def _stolen(w: World) -> Iterator[Case]:
    h = w.release()
    rival = h.instead(1, w.coin(RIVAL)).by(RIVAL, STRANGER)
    receipt, rating = h.outputs[:2]
    attacks = [
        (Line.STOLEN, "by a stranger with a receipt in the node's name", rival),
        (Line.STOLEN, "by a stranger with a receipt in his own name", rival.edit(0, Receipt, node=RIVAL.pk)),
        (Line.STOLEN, "by the client with a receipt in the node's name", rival.by(CLIENT, RIVAL)),
        (Line.STOLEN, "no receipt: the node keeps box and payment", h.out(0, tree=NODE.tree)),
        (Line.STOLEN, "a rating in the place of the receipt", h.out(0, tree=rating.tree)),
        (Line.SECOND, "a second receipt in the place of the rating", h.out(1, tree=receipt.tree, registers=receipt.registers)),
        (Line.SECOND, "two receipts, no rating", h.out(1, value=RECEIPT_VALUE, tree=receipt.tree, registers=receipt.registers)),
        (Line.FOOLED, "receipt and rating trade places", h.flip(0, 1)),
        (Line.FOOLED, "a wallet output slips in before the rating", h.insert(1, Out(ERG, NODE.tree))),
        (Line.FOOLED, "a wallet output slips in before the receipt", h.insert(0, Out(ERG, NODE.tree))),
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
    attacks = [(line, f"receipt with {how}", h.edit(0, Receipt, **change)) for line, how, change in changes]
    attacks += [
        (Line.PADDED, "receipt with a signature too long", h.register(0, 8, codec.coll_byte(NODE.pk + b"s" * (MAX_PROOF - 32)))),
        (Line.PADDED, "receipt with a cid too long", h.register(0, 9, codec.coll_byte(b"c" * (MAX_CID + 1)))),
        (Line.PADDED, "receipt with a foreign token", h.spend(1, spare).out(0, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.DUST, "receipt worth a nanoERG less", h.value(0, -1)),
        (Line.UNITS, "receipt without its unit", h.out(0, tokens=())),
        (Line.UNITS, "receipt with both units", h.out(0, tokens=((TASK, 2),)).out(1, tokens=())),
        (Line.UNITS, "the receipt's unit kept by the node", h.out(0, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.HEIGHT, "receipt declared made long ago, to be reclaimed early", h.out(0, height=NEXT - SLACK - 1)),
        (Line.FORM, "receipt without a cid register", h.out(0, registers=h.outputs[0].registers[:5])),
        (Line.FORM, "receipt with an output hash of another type", h.register(0, 6, codec.int_constant(1))),
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
        (Line.BY_HAND, "of a task that is worth more", {"worth": 20 * ERG}),
        (Line.BY_HAND, "of a task that is worth less, so that capacity stays", {"worth": 1}),
        (Line.LONG, "of a negative worth", {"worth": -1}),
        (Line.BY_HAND, "of a failure beside a receipt", {"outcome": FAILED}),
        (Line.BY_HAND, "of an outcome that counts as neither", {"outcome": 3}),
        (Line.LONG, "of outcome 0", {"outcome": 0}),
        (Line.BY_HAND, "of a failure that may be settled at once", {"outcome": FAILED, "commit_deadline": 0}),
        (Line.HEIGHT, "without a commit window", {"commit_deadline": 0}),
        (Line.HEIGHT, "commit window a block too short", _window(windows[0] - 1, windows[1])),
        (Line.HEIGHT, "commit window a block too long", _window(NEXT + WINDOW_MAX + 1, NEXT + WINDOW_MAX + 1 + WINDOW_MIN)),
        (Line.HEIGHT, "reveal window a block too short", _window(windows[0], windows[0] + WINDOW_MIN - 1)),
        (Line.HEIGHT, "reveal window a block too long", _window(windows[0], windows[0] + WINDOW_MAX + 1)),
        (Line.HEIGHT, "windows long gone", _window(1, 2)),
        (Line.HEIGHT, "windows that never end", _window(NEXT + WINDOW_MIN, 2**31 - 1)),
        (Line.HEIGHT, "windows near 2^31", _window(2**31 - 31, 2**31 - 1)),
    ]  # fmt: skip
    attacks = [(line, f"rating {how}", h.edit(1, Rating, **change)) for line, how, change in changes]
    five = codec.coll_int((*windows, 0, 0, 0))
    attacks += [
        (Line.STOLEN, "rating under the node's key", h.out(1, tree=NODE.tree)),
        (Line.DUST, "rating worth a nanoERG less", h.value(1, -1)),
        (Line.UNITS, "rating without its unit", h.out(1, tokens=())),
        (Line.UNITS, "the rating's unit kept by the node", h.out(1, tokens=()).add(Out(ERG, NODE.tree, ((TASK, 1),)))),
        (Line.PADDED, "rating with a foreign token", h.spend(1, spare).out(1, tokens=((TASK, 1), (OTHER, 5)))),
        (Line.PADDED, "rating with a commitment of 900 bytes", h.register(1, 8, codec.coll_byte(b"x" * 900))),
        (Line.FORM, "rating with four terms", h.register(1, 6, codec.coll_long((ERG, 0, 1, 1)))),
        (Line.FORM, "rating with two terms", h.register(1, 6, codec.coll_long((ERG, 0)))),
        (Line.FORM, "rating with five marks", h.register(1, 7, five)),
        (Line.FORM, "rating with three marks", h.register(1, 7, codec.coll_int((*windows, 0)))),
        (Line.FORM, "rating with a client of two keys", h.register(1, 4, both_keys())),
        (Line.FORM, "no rating", h.without(1)),
    ]  # fmt: skip
    yield from against("release", h, attacks)


def _window(commit: int, reveal: int) -> dict[str, object]:
    return {"commit_deadline": commit, "reveal_deadline": reveal}


def _fee(w: World) -> Iterator[Case]:
    for how, claimed in (("in ERG", w.claimed()), ("in a token", w.claimed(**IN_TOKEN))):
        h = w.release(claimed)
        treasury = h.outputs[2]
        attacks = [
            (Line.FEE, "no fee output", h.without(2)),
            (Line.FEE, "a nanoERG short", h.value(2, -1)),
            (Line.FEE, "to the node", h.out(2, tree=NODE.tree)),
            (Line.FEE, "in the last output only", h.without(2).add(treasury)),
            (Line.TWO_MASTERS, "paid for nothing", h.out(2, registers=())),
            (Line.TWO_MASTERS, "paid for another release", h.out(2, registers=(named_for(OTHER),))),
        ]
        yield from against(f"release {how}, treasury fee", h, attacks)
    for how, least in (
        ("payment", w.release(w.claimed(payment=100 * MIN_BOX))),
        ("token", w.release(w.claimed(**{**IN_TOKEN, "worth": 100 * MIN_BOX}))),
    ):
        yield Case(
            f"release, treasury fee: skipped for the smallest {how} that owes it", Line.FEE, least.without(2), least
        )


def _time(w: World) -> Iterator[Case]:
    last = w.claimed(exec_deadline=NEXT)
    h = w.release(last)
    yield Case("release: a block after the deadline", Line.TOO_LATE, w.release(last, tip=TIP + 1), h)
    yield Case("release: once anybody may time it out", Line.TOO_LATE, w.release(last, tip=TIP + 400), w.timeout(last))
    yield Case("fail: a block after the deadline", Line.TOO_LATE, w.fail(last, tip=TIP + 1), w.fail(last))


def _beside(w: World) -> Iterator[Case]:
    """Other boxes of the market beside the claimed one, or before it: a release touches none of them."""
    h = w.release()
    bond = w.bond(TASK)
    kept = Out(bond.value, bytes(bond.box.ergo_tree), bond.tokens, bond.content.constants())
    second = w.release(w.claimed(OTHER))
    attacks = [
        (Line.PUSHED, "with the bond beside it, as it was once", h.spend(1, bond.box).add(kept)),
        (Line.PUSHED, "with the bond beside it and first among the outputs", h.spend(1, bond.box).insert(0, kept)),
        (Line.PUSHED, "with the bond as the first input", h.spend(0, bond.box).insert(0, kept)),
        (Line.PUSHED, "with another node's bond beside it", h.spend(1, w.bond(OTHER, node=RIVAL.pk).box).by(NODE, RIVAL)),
        (Line.SHARED, "two claimed boxes, one receipt and one rating", h.spend(1, w.claimed(OTHER).box)),
        (Line.SHARED, "two claimed boxes, both receipts and one treasury output", h.spend(1, second.inputs[0]).add(*second.outputs[:2])),
        (Line.SHARED, "a task to refund beside it", h.spend(1, w.task(claim_deadline=TIP, client=NODE.pk).box).by(STRANGER)),
        (Line.SETTLED, "a rating to settle beside it", h.spend(1, w.rated(5, 4, (5, 4), task_id=OTHER).box)),
        (Line.FOOLED, "the claimed box is not the first input", h.spend(0, w.coin(NODE))),
        (Line.NO_MINTER, "the minter beside it", h.spend(1, w.minter().box)),
    ]  # fmt: skip
    yield from against("release", h, attacks)
