"""Attacks on the share of a payment that waits for the client's mark: at the release that sets it aside, at the settlement that pays it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aihd.protocol.boxes import On, Rating
from aihd.protocol.constants import BURN, FAILED, MIN_BOX, RATING_VALUE
from aihd.protocol.plans import units

from .cases import Case, Line, against
from .chain import CLIENT, NODE, STRANGER, Draft, Out
from .shapes import named_for
from .world import ASSET, ERG, IN_TOKEN, OTHER, TASK, TIP, World

# sigmaProp(false) as another tree: nobody can sign for it either, and it is not the one that the guard names.
_OTHER_FALSE = bytes.fromhex("10010100d17300")


def cases(w: World) -> Iterator[Case]:
    for name, holdback in (("half", 5000), ("all", 10_000)):
        yield from _set_aside(w, f"release, {name} held", w.release(w.claimed(holdback_bps=holdback)))
        yield from _in_token(
            w, f"release in a token, {name} held", w.release(w.claimed(**IN_TOKEN, holdback_bps=holdback))
        )
    for paid in (
        _Paid("ERG", w.rated(5, 4, (5, 4), held=ERG // 2)),
        _Paid("a token", w.rated(5, 4, (5, 4), held=5000, asset=ASSET)),
        _Paid("ERG of a silent client", w.rating(held=ERG // 2)),
        _Paid("ERG to be burned", w.rated(1, 4, (1, 4), held=ERG // 2)),
        _Paid("a token to be burned", w.rated(1, 4, (1, 4), held=5000, asset=ASSET)),
    ):
        yield from _settled(w, f"settle of {paid.name}", w.settle(paid.rating), paid.rating)
        yield from _settled(w, f"settle by the node of {paid.name}", w.settle(paid.rating, by=NODE), paid.rating)
    yield from _twice(w)


@dataclass(frozen=True, slots=True)
class _Paid:
    name: str
    rating: On[Rating]


def _set_aside(w: World, what: str, h: Draft) -> Iterator[Case]:
    rating = Rating.read(h.unsigned().outputs[1])
    plain = h.edit(1, Rating, held=0).value(1, -rating.held)
    attacks = [
        (Line.HELD, "nothing is held", plain),
        (Line.HELD, "nothing is held, all to the node", plain.value(3, rating.held)),
        (Line.HELD, "a nanoERG short", h.edit(1, Rating, held=rating.held - 1).value(1, -1)),
        (Line.HELD, "a nanoERG more, out of the client's sight", h.edit(1, Rating, held=rating.held + 1).value(1, 1)),
        (Line.HELD, "the register says so, the box lacks a nanoERG", h.value(1, -1)),
        (Line.HELD, "the register says so, the box holds nothing", h.value(1, -rating.held)),
        (Line.HELD, "the box holds it, the register lets the settler have it", h.edit(1, Rating, held=0)),
        (Line.HELD, "below nothing", h.edit(1, Rating, held=-rating.held)),
        (Line.HELD, "nothing, as of a failure", h.edit(1, Rating, held=0, outcome=FAILED).value(1, -rating.held)),
        (Line.HELD, "under the node's key", h.out(1, tree=NODE.tree)),
        (Line.HELD, "for a client that the node chose", h.edit(1, Rating, client=NODE.pk)),
        (Line.HELD, "for a node that is another", h.edit(1, Rating, node=STRANGER.pk)),
        (Line.HELD, "with a mark of 5 already", h.edit(1, Rating, client_mark=5)),
    ]
    yield from against(what, h, attacks)


def _in_token(w: World, what: str, h: Draft) -> Iterator[Case]:
    rating = Rating.read(h.unsigned().outputs[1])
    other = w.coin(NODE, tokens=((OTHER, 10**6),))
    more = w.coin(NODE, tokens=((ASSET, 10**6),))
    none, held = h.out(1, tokens=((TASK, 1),)), rating.held
    attacks = [
        (Line.TOKEN, "nothing is held", none.edit(1, Rating, held=0)),
        (Line.TOKEN, "the register says so, the box holds no unit", none.edit(1, Rating, held=held)),
        (Line.TOKEN, "a unit short", _holding(h, held - 1)),
        (Line.TOKEN, "a unit short, which the register tells", _holding(h.edit(1, Rating, held=held - 1), held - 1)),
        (Line.TOKEN, "a unit more", _holding(h.spend(1, more), held + 1)),
        (Line.TOKEN, "in units of another token", h.spend(1, other).out(1, tokens=((TASK, 1), (OTHER, held)))),
        (Line.TOKEN, "in nanoERG", none.edit(1, Rating, held=held).value(1, held)),
        (Line.TOKEN, "beside another token", h.spend(1, other).out(1, tokens=((TASK, 1), (ASSET, held), (OTHER, 1)))),
        (Line.TOKEN, "in two parts", h.out(1, tokens=((TASK, 1), (ASSET, held - 1), (ASSET, 1)))),
        (Line.TOKEN, "before the task token", h.out(1, tokens=((ASSET, held), (TASK, 1)))),
        (Line.TOKEN, "in the receipt", none.edit(1, Rating, held=held).out(0, tokens=((TASK, 1), (ASSET, held)))),
        (Line.TOKEN, "nothing, as of a failure", none.edit(1, Rating, held=0, outcome=FAILED)),
        (Line.HELD, "the rating's own value a nanoERG short", h.value(1, -1)),
    ]  # fmt: skip
    yield from against(what, h, attacks)


def _holding(h: Draft, amount: int) -> Draft:
    return h.out(1, tokens=((TASK, 1), (ASSET, amount)))


def _settled(w: World, what: str, h: Draft, rating: On[Rating]) -> Iterator[Case]:
    terms, paid = rating.content, h.outputs[1]
    burned = paid.tree == BURN
    wrong = NODE.tree if burned else BURN
    settler = h.signers[0]
    attacks = [
        (Line.HELD, "no payout", h.without(1)),
        (Line.HELD, "a nanoERG short", h.value(1, -1)),
        (Line.HELD, "to the settler", h.out(1, tree=STRANGER.tree)),
        (Line.HELD, "to the client", h.out(1, tree=CLIENT.tree)),
        (Line.HELD, "paid for the worst mark" if burned else "burned for no reason", h.out(1, tree=wrong)),
        (Line.HELD, "under another tree that nobody can sign for", h.out(1, tree=_OTHER_FALSE)),
        (Line.HELD, "in the second output after the bond", h.insert(1, Out(MIN_BOX, settler.tree))),
        (Line.HELD, "back into the rating", h.add(Out(ERG, bytes(rating.box.ergo_tree), (), terms.constants())).without(1)),
        (Line.TWO_MASTERS, "the payout is for nothing", h.out(1, registers=(named_for(bytes(32)),))),
        (Line.TWO_MASTERS, "the payout is for another rating", h.out(1, registers=(named_for(OTHER),))),
        (Line.UNITS, "the task's unit in the payout", h.out(1, tokens=(*paid.tokens, (TASK, 1)))),
    ]  # fmt: skip
    if terms.asset:
        held = terms.held
        none = h.out(1, tokens=())
        more = h.spend(2, w.coin(settler, tokens=((ASSET, 9),)))
        foreign = h.spend(2, w.coin(settler, tokens=((OTHER, held),)))
        attacks += [
            (Line.TOKEN, "no unit, all to the settler", none.add(Out(MIN_BOX, settler.tree, units(ASSET, held)))),
            (Line.TOKEN, "no unit, all burned", none),
            (Line.TOKEN, "a unit short", h.out(1, tokens=((ASSET, held - 1),))),
            (Line.TOKEN, "a unit more", more.out(1, tokens=((ASSET, held + 1),))),
            (Line.TOKEN, "units of another token", foreign.out(1, tokens=((OTHER, held),))),
            (Line.TOKEN, "another token beside it", foreign.out(1, tokens=((ASSET, held), (OTHER, 1)))),
            (Line.TOKEN, "all in the bond", none.out(0, tokens=(*h.outputs[0].tokens, (ASSET, held)))),
        ]
    yield from against(what, h, attacks)


def _twice(w: World) -> Iterator[Case]:
    """One payout for two ratings of a bond."""
    first = w.rated(5, 4, (5, 4), held=ERG // 2)
    second = w.rated(5, 4, (5, 4), task_id=OTHER, held=ERG // 2)
    h = w.settle(first, w.bond(TASK, OTHER), TIP + 200)
    yield Case("settle: one payout for two ratings", Line.SHARED, h.spend(2, second.box), h)
    late = w.claimed(OTHER, payment=ERG // 2 - RATING_VALUE, node=NODE.pk, client=NODE.pk)
    yield Case("settle: the payout is a refund of a timeout too", Line.SHARED, h.spend(2, late.box), h)
