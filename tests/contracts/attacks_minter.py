"""Attacks on the minter: bonds that were not born at zero, and a minter that is more than it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aihd.protocol import codec
from aihd.protocol.boxes import Bond, Minter, On
from aihd.protocol.constants import BOND_RESERVE, MAX_ENDPOINT, SLACK
from aihd.protocol.deployment import Guard

from .cases import Case, Line, against
from .chain import NODE, STRANGER, Out
from .shapes import both_keys, not_a_key
from .world import BOND_TOKEN, ERG, EXPIRY, OTHER, TASK, TIP, World

NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    yield from _minter(w)
    yield from _born(w)
    yield from _beside_others(w)


def _minter(w: World) -> Iterator[Case]:
    h = w.open_bond()
    supply = h.outputs[0].tokens[0][1]
    fewer = h.out(0, tokens=((BOND_TOKEN, supply - 1),))
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    own = Out(ERG, NODE.tree, ((BOND_TOKEN, 1),))
    ids = (codec.coll_byte(b""),) * 4 + (codec.coll_coll_byte([TASK]),)
    attacks = [
        (Line.NO_MINTER, "the supply moves under the attacker's key", h.out(0, tree=NODE.tree)),
        (Line.NO_MINTER, "a second bond token goes to the attacker", fewer.add(own)),
        (Line.NO_MINTER, "bond tokens are burned", fewer),
        (Line.LEAK, "a nanoERG of the minter is taken", h.value(0, -1)),
        (
            Line.PADDED,
            "the minter is given a foreign token",
            h.spend(2, spare).out(0, tokens=(*h.outputs[0].tokens, (OTHER, 5))),
        ),
        (Line.PADDED, "the minter is padded by registers", h.out(0, registers=(codec.coll_byte(b"x" * 3000),))),
        (Line.FOOLED, "the minter is given open ids as if it were a bond", h.out(0, registers=ids)),
        (Line.FOOLED, "the minter is given an Int register", h.out(0, registers=(codec.int_constant(1),))),
    ]
    yield from against("open bond", h, attacks)


def _born(w: World) -> Iterator[Case]:
    h = w.open_bond()
    spare = w.coin(NODE, tokens=((OTHER, 5),))
    eight = codec.coll_long((50 * ERG, 0, 0, 0, 0, 0, NEXT, 0))
    most = h.outputs[1].value - BOND_RESERVE
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.BY_HAND, "born with a score", {"score": 1}),
        (Line.BY_HAND, "born with completed tasks", {"completed": 1}),
        (Line.BY_HAND, "born with failed tasks", {"failed": -1}),
        (Line.BY_HAND, "born with missed deadlines", {"timed_out": -1}),
        (Line.BY_HAND, "born with room for more than the stake", {"committed": -ERG}),
        (Line.DRAINED, "the register claims a nanoERG more than the box holds", {"amount": most + 1}),
        (Line.LONG, "a stake of zero", {"amount": 0}),
        (Line.LONG, "a negative stake", {"amount": -1}),
        (Line.LONG, "a stake near 2^63", {"amount": 2**63 - 1}),
        (Line.HEIGHT, "born a block before now, to win by a known header", {"born": NEXT - 1}),
        (Line.HEIGHT, "born at height 0", {"born": 0}),
        (Line.HEIGHT, "born too far in the future", {"born": NEXT + SLACK + 1}),
        (Line.HEIGHT, "active a block before now", {"last_activity": NEXT - 1}),
        (Line.HEIGHT, "active too far in the future", {"last_activity": NEXT + SLACK + 1}),
        (Line.BY_HAND, "born with a negative number of running tasks", {"active": -1}),
        (Line.SELF_MADE, "born with an open id", {"open_ids": (TASK,)}),
        (Line.PADDED, "endpoint a byte too long", {"endpoint": "x" * (MAX_ENDPOINT + 1)}),
    ]
    yield from against("open bond", h, [(line, how, h.edit(1, Bond, **change)) for line, how, change in changes])
    attacks = [
        (Line.NO_MINTER, "the bond token goes to a key with forged counters", h.out(1, tree=NODE.tree)),
        (Line.NO_MINTER, "a bond under another guard", h.out(1, tree=h.outputs[0].tree)),
        (Line.NO_MINTER, "a bond without its token", h.out(1, tokens=())),
        (Line.PADDED, "a bond with a foreign token", h.spend(2, spare).out(1, tokens=(*h.outputs[1].tokens, (OTHER, 5)))),
        (Line.PADDED, "a node key that is a large proposition", h.register(1, 4, both_keys())),
        (Line.FORM, "eight counters", h.register(1, 5, eight)),
        (Line.FORM, "the node key as bytes", h.register(1, 4, codec.coll_byte(NODE.pk))),
        (Line.FORM, "open ids of another type", h.register(1, 8, codec.coll_byte(b""))),
        (Line.FORM, "no endpoint register", h.out(1, registers=h.outputs[1].registers[:5])),
        (Line.NO_MINTER, "minter and bond trade places", h.flip(0, 1)),
        *((Line.NO_KEY, f"a node key that is {what}", h.register(1, 4, key)) for what, key in not_a_key().items()),
    ]  # fmt: skip
    yield from against("open bond", h, attacks)
    late, last = w.open_bond(EXPIRY), w.open_bond(EXPIRY - 1)
    yield Case("open bond: a block after the end of the market", Line.RENT, late, last)


def _beside_others(w: World) -> Iterator[Case]:
    """The minter holds the bond token too: a guard that asks only for the token takes it for a bond."""
    settle = w.settle()
    ids = (codec.coll_byte(b""),) * 4 + (codec.coll_coll_byte([TASK]),)
    plain = w.minter()
    marked = On(w.place(Out(plain.value, w.deployment.trees[Guard.MINTER], plain.tokens, ids)), Minter())
    for how, minter in (("the minter", plain), ("a minter that names the task", marked)):
        opened = w.open_bond(minter=minter, tip=settle.tip)
        opened = replace(opened.out(0, registers=opened.outputs[0].registers), signers=(NODE, STRANGER))
        yield Case(f"settle: a rating is eaten beside {how}", Line.SETTLED, opened.spend(0, settle.inputs[0]), settle)
    manage = w.manage(add=ERG)
    opened = w.open_bond()
    yield Case(
        "manage: a bond is spent beside the minter, one successor for both",
        Line.TWO_BONDS,
        replace(manage, inputs=(*manage.inputs, opened.inputs[0])),
        manage,
    )
