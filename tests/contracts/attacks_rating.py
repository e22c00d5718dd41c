"""Attacks on a rating: commits, reveals and settlements, and on receipts, which are reclaimed."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec, hashes
from aihd.protocol.boxes import Bond, On, Rating
from aihd.protocol.constants import FAILED, RECEIPT_RETENTION, SETTLE_GRACE
from aihd.protocol.deployment import Guard
from aihd.protocol.plans import Side, commitment_of

from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out
from .shapes import both_keys
from .world import BOND_TOKEN, ERG, OTHER, SALT, TASK, TIP, World, party_of

COMMIT, REVEAL = TIP + 20, TIP + 50  # the default rating's deadlines


def cases(w: World) -> Iterator[Case]:
    for side in Side:
        yield from _commit(w, side)
        yield from _reveal(w, side)
        yield from _marks(w, side)
        yield from _successor(w, f"commit by the {side}", w.commit(side, w.rating(held=ERG // 2)))
        yield from _successor(w, f"reveal by the {side}", w.reveal(side, w.rated(4, 5, held=ERG // 2)))
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
        (Line.BY_HAND, "the worth raised", {"worth": 20 * ERG}),
        (Line.BY_HAND, "the outcome changed", {"outcome": FAILED}),
        (Line.HELD, "the held share forgotten", {"held": 0}),
        (Line.HELD, "a share invented", {"held": after.held + 1}),
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
    both = w.settle(rating, w.bond(TASK, OTHER))
    attacks = [
        (Line.UNITS, "the unit kept by the settler", h.add(Out(ERG, STRANGER.tree, ((TASK, 1),)))),
        (Line.UNITS, "the unit kept in the bond", h.out(0, tokens=((BOND_TOKEN, 1), (TASK, 1)))),
        (Line.UNITS, "the rating lives on", h.add(Out(ERG, w.deployment.trees[Guard.RATING], ((TASK, 1),), rating.content.constants()))),
        (Line.SETTLED, "two ratings at once", both.spend(2, second.box)),
        (Line.SETTLED, "the rating is not the first input", h.spend(0, w.coin(STRANGER))),
        (Line.SETTLED, "without the bond", h.instead(1, w.coin(STRANGER)).out(0, tree=STRANGER.tree, tokens=())),
        (Line.SETTLED, "beside a wallet box with the bond's registers", _beside_own(w, rating)),
        (Line.TWO_BONDS, "two equal bonds, one successor", h.spend(2, w.bond(TASK).box)),
        (Line.FOOLED, "bond and rating trade places", h.instead(0, h.inputs[1]).instead(1, h.inputs[0])),
    ]  # fmt: skip
    yield from against("settle", h, attacks)
    good, bad = w.rated(5, 5, (5, 5)), w.rated(1, 5, (1, 5))
    settled = w.settle(bad)
    failed = w.settle(w.failed())
    for how, twin, attack in (
        ("a bad mark counted as a good one", settled, settled.out(0, registers=w.settle(good).outputs[0].registers)),
        ("a bad mark not counted", settled, settled.out(0, registers=h.outputs[0].registers)),
        ("a failure counted as completed", failed, failed.edit(0, Bond, completed=4, failed=2)),
        ("a failure counted twice", failed, failed.edit(0, Bond, failed=4)),
        ("a failure not counted", failed, failed.edit(0, Bond, failed=2)),
        ("a release counted as a failure", h, h.edit(0, Bond, completed=3, failed=3)),
        ("a release not counted", h, h.edit(0, Bond, completed=3)),
    ):
        yield Case(f"settle: {how}", Line.BY_HAND, attack, twin)


def _beside_own(w: World, rating: On[Rating]) -> Draft:
    bond = w.bond(TASK)
    own = w.place(Out(bond.value, STRANGER.tree, ((OTHER, 1),), bond.content.constants()))
    return w.settle(rating).instead(1, own).out(0, tree=STRANGER.tree, tokens=())


def _final(w: World) -> Iterator[Case]:
    """Who may settle when: the node once nothing can change any more, or its client stayed silent; all others after the grace."""
    silent, broke = w.rating(), w.rated(4, 5, (0, 5))
    over = REVEAL + SETTLE_GRACE
    both = w.rated(2, 5, (2, 5))
    only_client, only_node = w.rated(5, 5, (5, 0)), w.rated(5, 5, (0, 5))
    by_node: dict[str, tuple[Draft, Draft]] = {
        "by the node, in the last block of the commit window": (
            w.settle(silent, tip=COMMIT - 1, by=NODE),
            w.settle(silent, tip=COMMIT, by=NODE),
        ),
        "by the node, in the last block of the reveal window": (
            w.settle(broke, tip=REVEAL - 1, by=NODE),
            w.settle(broke, tip=REVEAL, by=NODE),
        ),
        "by the node, before it has revealed itself": (
            w.settle(only_client, tip=TIP, by=NODE),
            w.settle(both, by=NODE),
        ),
        "by the node, before the client has revealed": (w.settle(only_node, tip=TIP, by=NODE), w.settle(both, by=NODE)),
        "by the node, at once": (w.settle(silent, tip=TIP, by=NODE), w.settle(both, tip=TIP, by=NODE)),
        "by the node, the client committed and the window just over": (
            w.settle(w.rated(4, 0), tip=COMMIT, by=NODE),
            w.settle(w.rated(4, 0), tip=REVEAL, by=NODE),
        ),
    }
    for how, (attack, twin) in by_node.items():
        yield Case(f"settle: {how}", Line.EARLY, attack, twin)
    early = w.settle(w.failed(), by=NODE, tip=TIP + 1)
    for who, parties in (("a stranger", (STRANGER, RIVAL)), ("the client", (CLIENT, STRANGER))):
        for what, rating, tip in (
            ("of two marks", both, TIP),
            ("of silence, in the last block of the grace", silent, over - 1),
            ("of two marks, in the last block of the grace", both, over - 1),
            ("of a failure, in the last block of the grace", w.failed(), TIP + 16 + SETTLE_GRACE - 1),
        ):
            attack = w.settle(rating, tip=tip).by(*parties)
            twin = w.settle(rating, tip=over).by(*parties)
            yield Case(f"settle: {what}, by {who}", Line.EARLY, attack, twin)
        attack = early.instead(2, w.coin(parties[0])).by(*parties)
        yield Case(f"settle: of a failure in the next block, by {who}", Line.EARLY, attack, early)
    for side in Side:
        marked = w.commit(side, w.failed())
        yield Case(f"commit by the {side}: to the rating of a failure", Line.EARLY, marked, w.commit(side))
        known = w.committed(w.failed())
        yield Case(
            f"reveal by the {side}: of the rating of a failure",
            Line.EARLY,
            w.reveal(side, _bare(w, known)),
            w.reveal(side),
        )


def _bare(w: World, rating: On[Rating]) -> On[Rating]:
    """A failure's rating holds no commitments, whatever its client would like to reveal."""
    return w.failed(reveal_deadline=rating.content.reveal_deadline)


def _reclaim(w: World) -> Iterator[Case]:
    for what, box in (("receipt", w.receipt()), ("failure receipt", w.failure())):
        h = w.reclaim(box)
        last = box.box.creation_height + RECEIPT_RETENTION
        again = Out(box.value, bytes(box.box.ergo_tree), box.tokens, box.content.constants())
        attacks = [
            (Line.TOO_EARLY, "in the last block of its retention", w.reclaim(box, tip=last - 1)),
            (Line.TOO_EARLY, "at once", w.reclaim(box, tip=TIP)),
            (Line.UNSIGNED, "by a stranger", h.instead(1, w.coin(STRANGER)).by(STRANGER, CLIENT, RIVAL)),
            (Line.UNITS, "the token kept", h.add(Out(ERG, NODE.tree, ((TASK, 1),)))),
            (Line.UNITS, "a unit kept in the first output", h.out(0, tokens=((TASK, 1),))),
            (Line.TOO_EARLY, "beside another in its place", h.spend(1, w.receipt(OTHER, height=last).box)),
            (Line.SECOND, "a new receipt for the same task", h.add(again)),
        ]
        yield from against(f"reclaim of a {what}", h, attacks)
