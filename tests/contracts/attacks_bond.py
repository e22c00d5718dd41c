"""Attacks on the bond: its successor in every transaction, its stake, its counters, and other bonds beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ergo_lib_python.chain import ErgoBox

from aihd.protocol import codec
from aihd.protocol.boxes import Bond, ClaimedTask, On
from aihd.protocol.constants import COOLDOWN, MAX_ENDPOINT, MAX_PAYMENT, SLACK
from aihd.protocol.guards import escrow_value

from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .world import BOND_TOKEN, ERG, OTHER, TASK, TIP, World


def cases(w: World) -> Iterator[Case]:
    yield from _manage(w)
    yield from _withdraw(w)
    yield from _claim(w)
    yield from _amounts(w)
    yield from _no_claim(w)
    yield from _foreign(w)
    yield from _eaten(w)
    for kind in (
        Kind("claim", w.claim(None, w.bond(OTHER)), True),
        Kind("timeout", w.timeout(None, w.bond(OTHER, TASK)), False),
        Kind("settle", w.settle(None, w.bond(OTHER, TASK)), False),
        Kind("settle by the node", w.settle(w.rated(2, 4, (2, 4)), w.bond(OTHER, TASK), by=NODE), False),
        Kind("settle of a failure", w.settle(w.failed(), w.bond(OTHER, TASK), by=NODE), False),
    ):
        yield from _successor(w, kind)


@dataclass(frozen=True, slots=True)
class Kind:
    """A transaction that moves the bond from INPUTS(1) to OUTPUTS(0); `by_node`: the bond's guard asks for its key."""

    name: str
    honest: Draft
    by_node: bool


def _successor(w: World, kind: Kind) -> Iterator[Case]:
    """What the bond may not become, whatever moves it."""
    h, height = kind.honest, kind.honest.tip + 1
    after = Bond.read(h.unsigned().outputs[0])
    line = Line.BY_HAND if kind.by_node else Line.SETTLER
    spare = w.coin(STRANGER, tokens=((OTHER, 5),))
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.DRAINED, "stake register lowered", {"amount": after.amount - 1}),
        (Line.DRAINED, "stake register raised", {"amount": after.amount + 1}),
        (Line.BY_HAND, "committed lowered", {"committed": after.committed - 1}),
        (Line.BY_HAND, "score raised", {"score": after.score + 1}),
        (Line.BY_HAND, "completed raised", {"completed": after.completed + 1}),
        (Line.BY_HAND, "failed lowered", {"failed": after.failed - 1}),
        (Line.BY_HAND, "missed deadlines lowered", {"timed_out": after.timed_out - 1}),
        (Line.BY_HAND, "failed raised", {"failed": after.failed + 1}),
        (Line.BY_HAND, "born earlier", {"born": after.born - 1}),
        (Line.NO_TASK, "committed raised", {"committed": after.committed + 1}),
        (Line.NO_TASK, "a running task forgotten", {"active": after.active - 1}),
        (Line.NO_TASK, "an open id forgotten", {"open_ids": after.open_ids[1:]}),
        (Line.SELF_MADE, "an open id invented", {"open_ids": (*after.open_ids, b"x" * 32)}),
        (Line.SETTLER, "endpoint rewritten", {"endpoint": "http://elsewhere.example"}),
        (line, "the bond given to another key", {"node": RIVAL.pk}),
    ]
    if kind.by_node:
        changes += [
            (Line.HEIGHT, "active a block before now", {"last_activity": height - 1}),
            (Line.HEIGHT, "active too far in the future", {"last_activity": height + SLACK + 1}),
        ]
    else:
        changes += [
            (Line.SETTLER, "cool-down begun anew", {"last_activity": height}),
            (Line.SETTLER, "bond padded by a long endpoint", {"endpoint": "x" * MAX_ENDPOINT}),
        ]
    attacks = [(line, how, h.edit(0, Bond, **change)) for line, how, change in changes]
    attacks += [
        (Line.DRAINED, "a nanoERG of the stake is taken", h.value(0, -1)),
        (Line.DRAINED, "the bond leaves its guard", h.out(0, tree=NODE.tree)),
        (Line.NO_MINTER, "the bond token leaves the bond", h.out(0, tokens=()).add(Out(ERG, NODE.tree, ((BOND_TOKEN, 1),)))),
        (Line.PADDED, "a foreign token is put into the bond",
         h.spend(2, spare).out(0, tokens=((BOND_TOKEN, 1), (OTHER, 5)))),
        (Line.FORM, "eight counters", h.register(0, 5, codec.coll_long((*after.counters(), 0)))),
        (Line.FORM, "six counters", h.register(0, 5, codec.coll_long(after.counters()[:6]))),
    ]  # fmt: skip
    if kind.by_node:
        attacks.append((Line.UNSIGNED, "by a stranger", _by_stranger(w, h)))
    yield from against(f"{kind.name}, bond", h, attacks)


def _by_stranger(w: World, h: Draft) -> Draft:
    """The same transaction, paid for and signed by somebody else."""
    return h.instead(len(h.inputs) - 1, w.coin(STRANGER)).by(STRANGER, RIVAL, CLIENT)


def _manage(w: World) -> Iterator[Case]:
    bond = w.bond(TASK)
    h = w.manage(bond, add=ERG)
    b = Bond.read(h.unsigned().outputs[0])
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.DRAINED, "stake register lowered", {"amount": bond.content.amount - 1}),
        (Line.DRAINED, "stake register over what the box holds", {"amount": b.amount + 1}),
        (Line.LONG, "stake near 2^63", {"amount": 2**63 - 1}),
        (Line.NO_TASK, "committed lowered", {"committed": 0}),
        (Line.BY_HAND, "score raised", {"score": b.score + 1}),
        (Line.BY_HAND, "completed raised", {"completed": b.completed + 1}),
        (Line.BY_HAND, "failed lowered", {"failed": 0}),
        (Line.BY_HAND, "missed deadlines lowered", {"timed_out": 0}),
        (Line.CREDIT, "raised, as old as before", {"born": bond.content.born}),
        (Line.CREDIT, "raised, born a block before now", {"born": TIP}),
        (Line.CREDIT, "raised, born too far in the future", {"born": TIP + 1 + SLACK + 1}),
        (Line.CREDIT, "raised, born at height 0", {"born": 0}),
        (Line.LONG, "raised, born near 2^63", {"born": 2**63 - 1}),
        (Line.NO_TASK, "running tasks lowered", {"active": 0}),
        (Line.NO_TASK, "open ids forgotten", {"open_ids": ()}),
        (Line.HEIGHT, "last activity put back", {"last_activity": 1}),
        (Line.PADDED, "endpoint a byte too long", {"endpoint": "x" * (MAX_ENDPOINT + 1)}),
        (Line.UNSIGNED, "the bond given to another key", {"node": RIVAL.pk}),
    ]
    attacks = [(line, how, h.edit(0, Bond, **change)) for line, how, change in changes]
    plain = w.manage(bond)
    least = w.manage(bond, add=1)
    attacks += [
        (Line.CREDIT, "raised by a nanoERG, as old as before", least.edit(0, Bond, born=bond.content.born)),
        (Line.DRAINED, "a nanoERG is taken", plain.value(0, -1)),
        (Line.DRAINED, "a nanoERG beyond the stake is taken", w.manage(w.bond(value=105 * ERG)).value(0, -1)),
        (Line.DRAINED, "the bond leaves its guard", h.out(0, tree=NODE.tree)),
        (Line.PADDED, "a foreign token is put into the bond", h.spend(1, spare).out(0, tokens=((BOND_TOKEN, 1), (OTHER, 5)))),
        (Line.NO_MINTER, "the bond token leaves", h.out(0, tokens=()).add(Out(ERG, NODE.tree, ((BOND_TOKEN, 1),)))),
        (Line.FORM, "eight counters", h.register(0, 5, codec.coll_long((*b.counters(), 0)))),
        (Line.FORM, "six counters", h.register(0, 5, codec.coll_long(b.counters()[:6]))),
        (Line.UNSIGNED, "by a stranger", _by_stranger(w, h)),
        (Line.TWO_BONDS, "two bonds, one successor", h.spend(1, w.bond(TASK).box)),
        (Line.FOOLED, "the bond is the second input, behind a wallet box", h.spend(0, w.coin(NODE))),
        (Line.FOOLED, "the bond is the third input", h.spend(0, w.coin(NODE)).spend(0, w.coin(NODE))),
    ]  # fmt: skip
    yield from against("manage", h, attacks)
    changes = [
        (Line.CREDIT, "born earlier", {"born": bond.content.born - 1}),
        (Line.CREDIT, "born at height 0", {"born": 0}),
        (Line.BY_HAND, "born anew", {"born": TIP + 1}),
    ]
    attacks = [(line, how, plain.edit(0, Bond, **change)) for line, how, change in changes]
    yield from against("manage without a raise", plain, attacks)
    first = w.release(None)
    beside = first.spend(1, bond.box).add(h.outputs[0])
    yield Case("manage: behind a release", Line.FOOLED, beside, first)


def _withdraw(w: World) -> Iterator[Case]:
    h = w.withdraw()
    cool = w.bond(last_activity=TIP)
    attacks = [
        (Line.WITHDRAWN, "with a task running", w.withdraw(w.bond(TASK))),
        (Line.WITHDRAWN, "with a rating to settle", w.withdraw(w.bond(TASK, active=0, committed=0))),
        (Line.WITHDRAWN, "with a task counted but not listed", w.withdraw(w.bond(active=1))),
        (Line.WITHDRAWN, "in the last block of the cool-down", w.withdraw(cool, TIP + COOLDOWN - 1)),
        (Line.WITHDRAWN, "by a stranger", _by_stranger(w, h).out(0, tree=STRANGER.tree)),
        (Line.NO_MINTER, "the bond token is kept", h.add(Out(ERG, NODE.tree, ((BOND_TOKEN, 1),)))),
        (Line.NO_MINTER, "the bond token goes to the first output", h.out(0, tokens=((BOND_TOKEN, 1),))),
        (Line.TWO_BONDS, "a second bond, with a task open, beside it", h.spend(1, w.bond(TASK).box)),
        (Line.FOOLED, "as the second input, behind a wallet box", h.spend(0, w.coin(NODE))),
        (Line.FOOLED, "behind a wallet box with a payment in R6", h.spend(0, _own_terms(w, 1))),
    ]
    yield from against("withdraw", h, attacks)
    yield Case(
        "withdraw: a block too early",
        Line.WITHDRAWN,
        w.withdraw(cool, TIP + COOLDOWN - 1),
        w.withdraw(cool, TIP + COOLDOWN),
    )


def _own_terms(w: World, payment: int) -> ErgoBox:
    return w.place(Out(ERG, NODE.tree, (), w.task(payment=payment).content.constants()))


def _claim(w: World) -> Iterator[Case]:
    """What the bond's guard asks of the claimed box, whoever funded the task."""
    task = w.task()
    h = w.claim(task)
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    poor = w.task(escrow_value(ERG, ERG, in_token=False) - 1)
    unit = Out(ERG, NODE.tree, ((task.raw_id, 1),))
    attacks = [
        (Line.STOLEN, "the payment goes to the node at once", h.out(1, tree=NODE.tree)),
        (Line.STOLEN, "the payment goes under another guard", h.out(1, tree=h.outputs[0].tree)),
        (Line.LEAK, "the claimed box cannot pay for receipt and rating", w.claim(poor)),
        (Line.UNITS, "one unit minted", h.out(1, tokens=((task.raw_id, 1),))),
        (Line.UNITS, "three units minted into the claimed box", h.out(1, tokens=((task.raw_id, 3),))),
        (Line.UNITS, "a third unit minted for the attacker", h.add(unit)),
        (Line.UNITS, "many units in the last output", h.add(Out(ERG, NODE.tree)).add(Out(ERG, NODE.tree, ((task.raw_id, 2**40),)))),
        (Line.UNITS, "no unit minted", h.out(1, tokens=())),
        (Line.UNITS, "the units in two outputs", h.out(1, tokens=((task.raw_id, 1),)).add(unit)),
        (Line.UNITS, "a unit hidden in the bond", h.out(0, tokens=((BOND_TOKEN, 1), (task.raw_id, 1)))),
        (Line.PADDED, "a foreign token in the claimed box", h.spend(2, spare).out(1, tokens=((task.raw_id, 2), (OTHER, 5)))),
        (Line.TWO_BONDS, "two equal bonds, one successor", h.spend(2, w.bond().box)),
        (Line.TWO_BONDS, "the bond is the third input, behind a wallet box", h.spend(1, w.coin(NODE))),
        (Line.FOOLED, "bond and claimed box trade places", h.flip(0, 1)),
        (Line.FOOLED, "the bond is the first input and the task the second", _bond_first(h)),
    ]  # fmt: skip
    yield from against("claim", h, attacks)
    # Where a rating has its outcome, a task has the least score that it asks for.
    for least, how, change in ((1, "completed", {"completed": 4}), (2, "failed", {"failed": 3})):
        asked = w.claim(w.task(min_reputation=least))
        attack = asked.edit(0, Bond, **change)
        yield Case(f"claim: of a task that asks for a score of {least}, counted as {how}", Line.BY_HAND, attack, asked)


def _amounts(w: World) -> Iterator[Case]:
    """Payments that are no amounts of money."""
    h = w.claim()
    for payment in (0, -ERG):
        attack = w.claim(w.task(10 * ERG, payment=payment))
        yield Case(f"claim: a task that pays {payment} nanoERG", Line.LONG, attack, h)
    for payment in (-(2**63), 2**63 - 1):
        yield Case(f"claim: a task that says to pay {payment}", Line.LONG, _with_payment(w, payment), h)
    rich = w.bond(amount=MAX_PAYMENT)
    largest, larger = (w.claim(w.task(payment=MAX_PAYMENT + more), rich) for more in (0, 1))
    yield Case("claim: a payment whose share could leave a Long", Line.LONG, larger, largest)


def _bond_first(h: Draft) -> Draft:
    bond, task = h.inputs[1], h.inputs[0]
    return h.instead(0, bond).instead(1, task).out(1, tokens=((bytes(bond.box_id), 2),))


def _with_payment(w: World, payment: int) -> Draft:
    """A claim of a box with any payment in R6; committed cannot follow it, so it is left as a Long can hold it."""
    h = w.claim(w.task(10 * ERG))
    task = w.task(10 * ERG, payment=payment)
    carried = h.instead(0, task.box).out(1, tokens=((task.raw_id, 2),))
    return carried.edit(1, ClaimedTask, worth=payment, payment=payment)


def _no_claim(w: World) -> Iterator[Case]:
    """Other boxes of the market in the place of a task: none has a payment where the bond looks for it."""
    h = w.claim()
    others = {
        "a receipt": w.receipt().box,
        "a failure receipt": w.failure().box,
        "another bond": w.bond().box,
        "the minter": w.minter().box,
        "a wallet box without terms": w.coin(NODE),
    }
    for what, box in others.items():
        attack = h.instead(0, box).out(1, tokens=((bytes(box.box_id), 2),))
        yield Case(f"claim: {what} in the place of the task", Line.FOOLED, attack, h)
    old = w.reclaim()
    late = w.claim(w.task(claim_deadline=10**6), tip=old.tip)
    box = w.receipt().box
    attack = late.instead(0, box).out(1, tokens=((bytes(box.box_id), 2),))
    yield Case("claim: a receipt that may be reclaimed in the place of the task", Line.FOOLED, attack, old)


def _foreign(w: World) -> Iterator[Case]:
    """Ends of tasks that are not this bond's."""
    fake = w.claimed(OTHER)
    bond = w.bond(TASK)
    yield Case("timeout: of a self-made claimed box", Line.SELF_MADE, w.timeout(fake, bond), w.timeout())
    claimed = w.claimed()
    own = w.place(Out(claimed.value, NODE.tree, claimed.tokens, claimed.content.constants()))
    yield Case(
        "timeout: of a wallet box that looks like a claimed one",
        Line.SELF_MADE,
        w.timeout(claimed).instead(0, own),
        w.timeout(claimed),
    )
    rating = w.rating()
    mine = w.place(Out(rating.value, NODE.tree, rating.tokens, rating.content.constants()))
    yield Case(
        "settle: of a wallet box that looks like a rating",
        Line.SELF_MADE,
        w.settle(rating).instead(0, mine),
        w.settle(rating),
    )
    bare = w.place(Out(claimed.value, bytes(claimed.box.ergo_tree), (), claimed.content.constants()))
    yield Case(
        "timeout: of a claimed box without its token",
        Line.SELF_MADE,
        w.timeout(claimed).instead(0, bare),
        w.timeout(claimed),
    )


def _eaten(w: World) -> Iterator[Case]:
    """Ratings and claimed boxes that end in a bond they do not belong to."""
    rival = w.bond(node=RIVAL.pk)
    h = w.settle()
    attacks = [
        (Line.SETTLED, "into another node's bond", w.settle(None, rival).by(STRANGER, RIVAL, NODE, CLIENT)),
        (Line.SETTLED, "a second time", w.settle(None, w.bond(OTHER))),
        (Line.SETTLED, "eaten as the first input of a foreign bond's claim", _eat(w, w.rating().box, rival)),
        (
            Line.SETTLED,
            "a claimed box eaten as the first input of a foreign bond's claim",
            _eat(w, w.claimed().box, rival),
        ),
    ]
    yield from against("settle", h, attacks)


def _eat(w: World, box: ErgoBox, rival: On[Bond]) -> Draft:
    h = w.claim(None, rival, tip=TIP + 60)
    eaten = h.instead(0, box).edit(0, Bond, open_ids=(TASK,))
    return eaten.out(1, tokens=((TASK, 1),)).by(RIVAL, NODE)
