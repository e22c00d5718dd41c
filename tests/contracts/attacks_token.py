"""Attacks on a payment in a token, on each path that carries it but for the settlement, and on claims of boxes that are no task of ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ergo_lib_python.chain import Constant

from aihd.protocol import codec
from aihd.protocol.boxes import ClaimedTask, On, TaskEscrow
from aihd.protocol.constants import MAX_EXEC, MAX_MINER_FEE, MAX_PAYMENT, MIN_BOX, RATING_VALUE, RECEIPT_VALUE
from aihd.protocol.deployment import Guard

from .cases import Case, Line, against
from .chain import CLIENT, NODE, STRANGER, Draft, Out, Party, Tokens
from .shapes import both_keys, not_a_key
from .world import ASSET, ERG, IN_TOKEN, OTHER, TASK, TIP, World

AMOUNT = IN_TOKEN["payment"]
NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    task = w.task(**IN_TOKEN)
    yield from _carried(w, "claim in a token", w.claim(task), 1, ((task.raw_id, 2),), NODE)
    yield from _carried(w, "fail in a token", w.fail(w.claimed(**IN_TOKEN)), 2, (), NODE)
    yield from _carried(w, "timeout in a token", w.timeout(w.claimed(**IN_TOKEN)), 1, (), STRANGER)
    yield from _carried(w, "refund in a token", w.refund(task), 0, (), STRANGER)
    yield from _escrow(w)
    yield from _self_made(w)
    yield from _promised(w)


def _carried(w: World, what: str, h: Draft, at: int, own: Tokens, who: Party) -> Iterator[Case]:
    """The output at this index holds the `own` tokens of the path, then the payment, all of it and nothing else."""
    last = len(h.inputs) - 1
    more = h.instead(last, w.coin(who, tokens=((ASSET, 9),)))
    foreign = h.instead(last, w.coin(who, tokens=((OTHER, AMOUNT),)))
    none = h.out(at, tokens=own)
    attacks = [
        (Line.TOKEN, "all its units burned", none),
        (Line.TOKEN, "all its units kept", none.add(Out(MIN_BOX, who.tree, ((ASSET, AMOUNT),)))),
        (Line.TOKEN, "a unit burned", h.out(at, tokens=(*own, (ASSET, AMOUNT - 1)))),
        (Line.TOKEN, "a unit added", more.out(at, tokens=(*own, (ASSET, AMOUNT + 1)))),
        (Line.TOKEN, "exchanged for another token", foreign.out(at, tokens=(*own, (OTHER, AMOUNT)))),
        (Line.TOKEN, "another token beside it", foreign.out(at, tokens=(*own, (ASSET, AMOUNT), (OTHER, 1)))),
        (Line.TOKEN, "another token before it", foreign.out(at, tokens=((OTHER, 1), *own, (ASSET, AMOUNT)))),
        (Line.TOKEN, "in two parts", h.out(at, tokens=(*own, (ASSET, AMOUNT - 1), (ASSET, 1)))),
    ]
    yield from against(what, h, attacks)


def _escrow(w: World) -> Iterator[Case]:
    """Escrows that hold something else than what they say to pay."""
    h = w.claim(w.task(**IN_TOKEN))
    locked = ERG // 100 + MAX_MINER_FEE + RECEIPT_VALUE + RATING_VALUE
    spoken = w.task(**IN_TOKEN).content
    for how, value, tokens in (
        ("no unit of it", locked, ()),
        ("a unit less", locked, ((ASSET, AMOUNT - 1),)),
        ("a unit more", locked, ((ASSET, AMOUNT + 1),)),
        ("another token beside it", locked, ((ASSET, AMOUNT), (OTHER, 1))),
        ("two tokens, each as much", locked, ((ASSET, AMOUNT), (OTHER, AMOUNT))),
        ("a nanoERG less than the treasury's share and a fee", locked - 1, ((ASSET, AMOUNT),)),
    ):
        tree = w.deployment.trees[Guard.TASK]
        box = w.place(Out(value, tree, tokens, spoken.constants()))
        yield Case(f"claim in a token: a task that holds {how}", Line.TOKEN, w.claim(On(box, spoken)), h)
    paid = w.claim()
    for worth in (1, 10 * ERG):
        task = w.task(10 * ERG, payment=ERG, worth=worth)
        yield Case(f"claim: a task that pays 1 ERG and says to be worth {worth}", Line.TOKEN, w.claim(task), paid)


def own_box(w: World, value: int, tokens: Tokens, terms: Constant) -> On[TaskEscrow]:
    """A box of the node's own with terms where the bond's guard looks for them."""
    content = w.task().content
    registers = (*content.constants()[:2], terms, *content.constants()[3:])
    return On(w.place(Out(value, NODE.tree, tokens, registers)), content)


def claim_of(w: World, box: On[TaskEscrow], **changes: object) -> Draft:
    """The claim of such a box as if it were a task of 1 ERG; `changes` are made to the claimed box."""
    h = w.claim(box)
    return h.edit(1, ClaimedTask, **changes) if changes else h


def _terms(*numbers: int) -> Constant:
    return codec.coll_long(numbers)


def _self_made(w: World) -> Iterator[Case]:
    """INPUTS(0) of every shape: the task's guard runs for none of them."""
    h = claim_of(w, own_box(w, 10 * ERG, (), _terms(ERG, ERG)))
    shapes: dict[str, tuple[Tokens, Constant]] = {
        "without terms": ((), _terms()),
        "with a worth and no payment": ((), _terms(ERG)),
        "with terms of another type": ((), codec.coll_int((1, 1))),
        "with one number for terms": ((), codec.long_constant(ERG)),
        "worth more than it pays": ((), _terms(2 * ERG, ERG)),
        "worth less than it pays": ((), _terms(1, ERG)),
        "worth a nanoERG less than it pays": ((), _terms(ERG - 1, ERG)),
    }
    for how, (tokens, terms) in shapes.items():
        attack = claim_of(w, own_box(w, 10 * ERG, tokens, terms))
        yield Case(f"claim of an own box: {how}", Line.SELF_CLAIM, attack, h)
    yield from _amounts(w, h)
    token = claim_of(w, own_box(w, 10 * ERG, ((ASSET, 7),), _terms(ERG, 7)), payment=7)
    for how, tokens, payment in (
        ("two tokens", ((ASSET, 7), (OTHER, 7)), 7),
        ("two tokens, one of which is paid", ((ASSET, 7), (OTHER, 5)), 7),
        ("a unit more than it pays", ((ASSET, 8),), 7),
        ("a unit less than it pays", ((ASSET, 6),), 7),
        ("a token, and pays in ERG", ((ASSET, 7),), ERG),
        ("the largest amount of a token and a unit", ((ASSET, MAX_PAYMENT + 1),), MAX_PAYMENT + 1),
    ):
        attack = claim_of(w, own_box(w, 10 * ERG, tokens, _terms(ERG, payment)), payment=payment)
        yield Case(f"claim of an own box: with {how}", Line.SELF_CLAIM, attack, token)
    even = own_box(w, 10 * ERG, ((ASSET, 7), (OTHER, 7)), _terms(7, 7))
    attack = w.claim(On(even.box, replace(even.content, worth=7, payment=7)))
    yield Case("claim of an own box: with two tokens, each worth what it pays", Line.SELF_CLAIM, attack, token)
    free = own_box(w, 10 * ERG, ((TASK, 2),), _terms(ERG, 2))
    posing = claim_of(w, free, payment=2).out(1, tokens=((TASK, 2),))
    yield Case("claim of an own box: the token it holds in the place of the task's", Line.SELF_CLAIM, posing, token)
    swapped = claim_of(w, free, payment=2).out(1, tokens=((TASK, 2), (free.raw_id, 2)))
    yield Case("claim of an own box: the token it holds before the task's", Line.SELF_CLAIM, swapped, token)


def _amounts(w: World, h: Draft) -> Iterator[Case]:
    """Each with a bond so rich and a claimed box so full that nothing but the amount is wrong."""
    rich = w.bond(amount=MAX_PAYMENT)
    for worth in (0, -1, -ERG, MAX_PAYMENT + 1):
        full = max(worth, 0) + 10 * ERG
        for what, tokens, paid in (("worth", (), worth), ("7 units that are worth", ((ASSET, 7),), 7)):
            box = own_box(w, full, tokens, _terms(worth, paid))
            spoken = replace(box.content, worth=worth, payment=paid, asset=ASSET if tokens else None)
            attack = w.claim(On(box.box, spoken), rich)
            yield Case(f"claim of an own box: {what} {worth}", Line.SELF_CLAIM, attack, h)


def _promised(w: World) -> Iterator[Case]:
    """The claimed box of an own box, which only the bond's guard looks at."""
    box = own_box(w, 10 * ERG, (), _terms(ERG, ERG))
    h = claim_of(w, box)
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.SELF_CLAIM, "worth less", {"worth": 1}),
        (Line.SELF_CLAIM, "worth more", {"worth": 2 * ERG}),
        (Line.SELF_CLAIM, "paying less", {"payment": 1}),
        (Line.SELF_CLAIM, "paying more", {"payment": 2 * ERG}),
        (Line.SELF_CLAIM, "holding back less than nothing", {"holdback_bps": -1}),
        (Line.SELF_CLAIM, "holding back more than all", {"holdback_bps": 10_001}),
        (Line.LONG, "holding back 2^63 - 1", {"holdback_bps": 2**63 - 1}),
        (Line.RENT, "that outlives the market", {"exec_deadline": NEXT + MAX_EXEC + 1}),
        (Line.LONG, "with a deadline near 2^63", {"exec_deadline": 2**63 - 1}),
        (Line.SELF_CLAIM, "of another node", {"node": STRANGER.pk}),
    ]
    attacks = [(line, how, h.edit(1, ClaimedTask, **change)) for line, how, change in changes]
    attacks += [
        (Line.SELF_CLAIM, "with four terms", h.register(1, 6, _terms(ERG, ERG, NEXT + 50, NEXT))),
        (Line.SELF_CLAIM, "with six terms", h.register(1, 6, _terms(ERG, ERG, NEXT + 50, NEXT, 0, 0))),
        (Line.SELF_CLAIM, "of a client of two keys", h.register(1, 7, both_keys())),
        (Line.SELF_CLAIM, "of a node of two keys", h.register(1, 8, both_keys())),
        (Line.SELF_CLAIM, "with the client's key as bytes", h.register(1, 7, codec.coll_byte(CLIENT.pk))),
        (Line.SELF_CLAIM, "under a key", h.out(1, tree=NODE.tree)),
        (Line.SELF_CLAIM, "under another guard", h.out(1, tree=h.outputs[0].tree)),
        (Line.SELF_CLAIM, "that cannot pay", h.out(1, value=ERG)),
        *(
            (Line.NO_KEY, f"of a client whose key is {what}", h.register(1, 7, key))
            for what, key in not_a_key().items()
            if "infinity" not in what  # the client's own loss: he signs for nothing but his own money and mark
        ),
    ]
    yield from against("claim of an own box, claimed box", h, attacks)
