"""Attacks on a rating: commits, reveals and settlements, and on receipts, which are reclaimed."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec, hashes
from aihd.protocol.boxes import Bond, On, Rating
from aihd.protocol.constants import RECEIPT_RETENTION
from aihd.protocol.deployment import Guard
from aihd.protocol.plans import Side, commitment_of

from .attacks_minter import both_keys
from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .world import BOND_TOKEN, ERG, OTHER, SALT, TASK, TIP, World, party_of

COMMIT, REVEAL = TIP + 20, TIP + 50  # the default rating's deadlines


def cases(w: World) -> Iterator[Case]:
    for side in Side:
        yield from _commit(w, side)
        yield from _reveal(w, side)
        yield from _marks(w, side)
        yield from _successor(w, f"commit by the {side}", w.commit(side))
        yield from _successor(w, f"reveal by the {side}", w.reveal(side))
    yield from _settle(w)
    yield from _final(w)
    yield from _reclaim(w)


def other(side: Side) -> Side:
    return Side.NODE if side is Side.CLIENT else Side.CLIENT


def _commit(w: World, side: Side) -> Iterator[Case]:
    rating = w.rating()
    h = w.commit(side, rating)
    own, their = _commitment(rating, side), f"{other(side)}_commitment"
    theirs = w.committed(rating, client=4 if side is Side.NODE else 0, node=4 if side is Side.CLIENT else 0)
    again = w.committed(rating)
    copied = w.commit(side, theirs).edit(0, Rating, **{f"{side}_commitment": getattr(theirs.content, their)})
    attacks = [
        (Line.REVEAL, "by the other side", h.instead(1, w.coin(party_of(other(side)))).by(party_of(other(side)), STRANGER)),
        (Line.UNSIGNED, "by a stranger", h.instead(1, w.coin(STRANGER)).by(STRANGER, RIVAL)),
        (Line.REVEAL, "in the other's name", h.edit(0, Rating, **{f"{side}_commitment": b"", their: own})),
        (Line.REVEAL, "in both names", h.edit(0, Rating, **{their: OTHER})),
        (Line.REVEAL, "a block after the deadline", w.commit(side, rating, tip=COMMIT)),
        (Line.REVEAL, "a second time", w.commit(side, again, mark=1)),
        (Line.FORM, "of 31 bytes", _commit_raw(h, side, b"c" * 31)),
        (Line.PADDED, "of 3000 bytes", _commit_raw(h, side, b"c" * 3000)),
        (Line.REVEAL, "with a mark beside it", h.edit(0, Rating, **{f"{side}_mark": 5})),
        (Line.REVEAL, "with the other's mark beside it", h.edit(0, Rating, **{f"{other(side)}_mark": 1})),
        (Line.FORM, "to nothing", h.edit(0, Rating, **{f"{side}_commitment": b""})),
    ]  # fmt: skip
    yield from against(f"commit by the {side}", h, attacks)
    early = _reveal_copy(w, side, copied)
    yield Case(
        f"commit by the {side}: copied from the other and revealed with his salt", Line.COPIED, early, w.reveal(side)
    )


def _commit_raw(h: Draft, side: Side, commitment: bytes) -> Draft:
    return h.register(0, 8 if side is Side.CLIENT else 9, codec.coll_byte(commitment))


def _commitment(rating: On[Rating], side: Side) -> bytes:
    return commitment_of(rating, side, 4, SALT)


def _reveal_copy(w: World, side: Side, copied: Draft) -> Draft:
    """The other's commitment lies in both registers, and his salt and mark are known by now."""
    box = w.box(Rating.read(copied.unsigned().outputs[0]), copied.outputs[0].value, copied.outputs[0].tokens)
    return w.reveal(side, box, mark=4)


def _reveal(w: World, side: Side) -> Iterator[Case]:
    rating = w.committed(w.rating(), 4, 4)
    h = w.reveal(side, rating, mark=4)
    alone = w.committed(w.rating(), client=4 if side is Side.CLIENT else 0, node=4 if side is Side.NODE else 0)
    known = w.box(Rating.read(h.unsigned().outputs[0]), rating.value, rating.tokens)
    rival = party_of(other(side))
    their = f"{other(side)}_commitment"
    attacks = [
        (Line.REVEAL, "another mark than committed to", w.reveal(side, rating, mark=5)),
        (Line.REVEAL, "another salt", w.reveal(side, rating, mark=4, salt=b"s" * 32)),
        (Line.REVEAL, "no salt", _without_salt(h)),
        (Line.FORM, "a salt of another type", h.with_variables(0, {0: codec.int_constant(1)})),
        (Line.FOOLED, "the salt with another input", _without_salt(h).with_variables(1, {0: codec.coll_byte(SALT)})),
        (Line.REVEAL, "twice", w.reveal(side, known, mark=4)),
        (Line.REVEAL, "changed after the first time", w.reveal(side, known, mark=5)),
        (Line.REVEAL, "by the other side", h.instead(1, w.coin(rival)).by(rival, STRANGER)),
        (Line.UNSIGNED, "by a stranger", h.instead(1, w.coin(STRANGER)).by(STRANGER)),
        (Line.REVEAL, "a block after the deadline", w.reveal(side, rating, tip=REVEAL, mark=4)),
        (Line.REVEAL, "before the other has committed, while he may", w.reveal(side, alone, tip=COMMIT - 1, mark=4)),
        (Line.REVEAL, "and taking the commitment back", h.edit(0, Rating, **{f"{side}_commitment": b""})),
        (Line.REVEAL, "and replacing the commitment", h.edit(0, Rating, **{f"{side}_commitment": OTHER})),
        (Line.REVEAL, "and replacing the other's commitment", h.edit(0, Rating, **{their: OTHER})),
        (Line.REVEAL, "and marking for the other too", h.edit(0, Rating, **{f"{other(side)}_mark": 1})),
        (Line.REVEAL, "in the other's name", h.edit(0, Rating, **{f"{side}_mark": 0, f"{other(side)}_mark": 4})),
    ]  # fmt: skip
    yield from against(f"reveal by the {side}", h, attacks)
    timely = w.reveal(side, alone, tip=COMMIT, mark=4)
    yield Case(
        f"reveal by the {side}: a block before the commit window closes",
        Line.REVEAL,
        w.reveal(side, alone, tip=COMMIT - 1, mark=4),
        timely,
    )


def _without_salt(h: Draft) -> Draft:
    return h.with_variables(0, {})


def _marks(w: World, side: Side) -> Iterator[Case]:
    """Commitments to what is no mark, or made with a salt that leaves two readings."""
    h = w.reveal(side)
    pk = party_of(side).pk
    for mark in (0, 6, 99, -1, 256 + 5):
        box = _bound_to(w, side, hashes.blake2b256(bytes([mark & 0xFF]), SALT, TASK, hashes.prop_bytes(pk)))
        yield Case(f"reveal by the {side}: mark {mark}", Line.REVEAL, w.reveal(side, box, mark=mark), h)
    for salt in (b"", SALT[:31], SALT + b"s"):
        box = _bound_to(w, side, hashes.rating_commitment(4, salt, TASK, pk))
        attack = w.reveal(side, box, mark=4, salt=salt)
        yield Case(f"reveal by the {side}: a salt of {len(salt)} bytes", Line.REVEAL, attack, h)
    for what, task_id, key in (("another task", OTHER, pk), ("the other side", TASK, party_of(other(side)).pk)):
        box = _bound_to(w, side, hashes.rating_commitment(4, SALT, task_id, key))
        yield Case(f"reveal by the {side}: a commitment made for {what}", Line.COPIED, w.reveal(side, box, mark=4), h)


def _bound_to(w: World, side: Side, commitment: bytes) -> On[Rating]:
    return w.rating(**{f"{side}_commitment": commitment, f"{other(side)}_commitment": OTHER})


def _successor(w: World, what: str, h: Draft) -> Iterator[Case]:
    """What a rating may not become by a move of either side."""
    spare = w.coin(STRANGER, tokens=((OTHER, 5),))
    after = Rating.read(h.unsigned().outputs[0])
    marks = (after.commit_deadline, after.reveal_deadline, after.client_mark, after.node_mark)
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.REVEAL, "the client replaced", {"client": NODE.pk}),
        (Line.REVEAL, "the node replaced", {"node": CLIENT.pk}),
        (Line.BY_HAND, "the payment raised", {"payment": 20 * ERG}),
        (Line.HEIGHT, "the commit deadline moved", {"commit_deadline": COMMIT + 1}),
        (Line.HEIGHT, "the reveal deadline moved", {"reveal_deadline": 2**31 - 1}),
    ]
    attacks = [(line, how, h.edit(0, Rating, **change)) for line, how, change in changes]
    attacks += [
        (Line.LEAK, "a nanoERG is taken", h.value(0, -1)),
        (Line.UNITS, "the rating leaves its guard", h.out(0, tree=NODE.tree)),
        (Line.UNITS, "the unit leaves the rating", h.out(0, tokens=()).add(Out(ERG, h.change, ((TASK, 1),)))),
        (Line.PADDED, "a foreign token is put in", h.spend(1, spare).out(0, tokens=((TASK, 1), (OTHER, 5))).by(*h.signers, STRANGER)),
        (Line.FORM, "five marks", h.register(0, 7, codec.coll_int((*marks, 0)))),
        (Line.FORM, "a client of two keys", h.register(0, 4, both_keys())),
        (Line.FOOLED, "the rating is the second input", h.spend(0, w.coin(h.signers[0]))),
        (Line.FOOLED, "the successor is the second output", h.flip(0, 1)),
    ]  # fmt: skip
    yield from against(what, h, attacks)


def _settle(w: World) -> Iterator[Case]:
    h = w.settle()
    rating = w.rating()
    second = w.rating(OTHER)
    both = w.settle(rating, w.bond(TASK, OTHER, active=0, committed=0))
    good, bad = w.rating(client_mark=5, node_mark=5), w.rating(client_mark=1, node_mark=5)
    receipt = Out(ERG, w.deployment.trees[Guard.RECEIPT], (), w.receipt().content.constants())
    counted = w.settle().add(receipt).flip(1, 2).edit(0, Bond, completed=4, open_ids=(TASK,), last_activity=REVEAL + 1)
    attacks = [
        (Line.UNITS, "the unit kept by the settler", h.add(Out(ERG, STRANGER.tree, ((TASK, 1),)))),
        (Line.UNITS, "the unit kept in the bond", h.out(0, tokens=((BOND_TOKEN, 1), (TASK, 1)))),
        (Line.UNITS, "the rating lives on", h.add(Out(ERG, w.deployment.trees[Guard.RATING], ((TASK, 1),), rating.content.constants()))),
        (Line.SETTLED, "two ratings at once", both.spend(2, second.box)),
        (Line.SETTLED, "the rating is not the first input", h.spend(0, w.coin(STRANGER))),
        (Line.SETTLED, "without the bond", h.instead(1, w.coin(STRANGER)).out(0, tree=STRANGER.tree, tokens=())),
        (Line.SETTLED, "beside a wallet box with the bond's registers", _beside_own(w, rating)),
        (Line.BY_HAND, "a release is counted beside a made-up receipt", counted),
        (Line.TWO_BONDS, "two equal bonds, one successor", h.spend(2, w.bond(TASK, active=0, committed=0).box)),
    ]  # fmt: skip
    yield from against("settle", h, attacks)
    for how, attack in (("a bad mark counted as a good one", w.settle(bad).out(0, registers=w.settle(good).outputs[0].registers)),
                        ("a bad mark not counted", w.settle(bad).out(0, registers=w.settle().outputs[0].registers))):  # fmt: skip
        yield Case(f"settle: {how}", Line.BY_HAND, attack, w.settle(bad))


def _beside_own(w: World, rating: On[Rating]) -> Draft:
    bond = w.bond(TASK)
    own = w.place(Out(bond.value, STRANGER.tree, ((OTHER, 1),), bond.content.constants()))
    return w.settle(rating).instead(1, own).out(0, tree=STRANGER.tree, tokens=())


def _final(w: World) -> Iterator[Case]:
    """Before it is final: neither, one, or a mark of nobody."""
    silent = w.rating()
    yield Case(
        "settle: in the last block of the reveal window",
        Line.SETTLED,
        w.settle(silent, tip=REVEAL - 1),
        w.settle(silent, tip=REVEAL),
    )
    both = w.rating(client_mark=2, node_mark=5)
    for who, rating in (("the client", w.rating(client_mark=5)), ("the node", w.rating(node_mark=5))):
        yield Case(
            f"settle: before the other has revealed, by {who}",
            Line.SETTLED,
            w.settle(rating, tip=TIP),
            w.settle(both, tip=TIP),
        )


def _reclaim(w: World) -> Iterator[Case]:
    for what, box in (("receipt", w.receipt()), ("failure receipt", w.failure())):
        h = w.reclaim(box)
        last = box.box.creation_height + RECEIPT_RETENTION
        units = box.tokens[0][1]
        again = Out(box.value, bytes(box.box.ergo_tree), box.tokens, box.content.constants())
        attacks = [
            (Line.TOO_EARLY, "in the last block of its retention", w.reclaim(box, tip=last - 1)),
            (Line.TOO_EARLY, "at once", w.reclaim(box, tip=TIP)),
            (Line.UNSIGNED, "by a stranger", h.instead(1, w.coin(STRANGER)).by(STRANGER, CLIENT, RIVAL)),
            (Line.UNITS, "the token kept", h.add(Out(ERG, NODE.tree, ((TASK, units),)))),
            (Line.UNITS, "a unit kept in the first output", h.out(0, tokens=((TASK, 1),))),
            (Line.SECOND, "a new receipt for the same task", h.add(again)),
        ]
        yield from against(f"reclaim of a {what}", h, attacks)
