"""Attacks on a task escrow: claims that do not qualify or change the terms, refunds that give less, cancels by others."""

from __future__ import annotations

from collections.abc import Iterator

from aihd.protocol import codec, selection
from aihd.protocol.boxes import ClaimedTask, On
from aihd.protocol.constants import MAX_EXEC, SLACK, TICKETS
from aihd.protocol.guards import escrow_value

from .cases import Case, Line, against
from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out, header_id
from .world import BOND_TOKEN, ERG, EXPIRY, OTHER, TIP, World

NEXT = TIP + 1


def cases(w: World) -> Iterator[Case]:
    yield from _qualify(w)
    yield from _lottery(w)
    yield from _terms(w)
    yield from _windows(w)
    yield from _ended(w)
    yield from _counterfeit(w)
    yield from _refund(w)
    yield from _cancel(w)


def _qualify(w: World) -> Iterator[Case]:
    last = w.task(claim_deadline=NEXT)
    late, timely = w.claim(last, tip=TIP + 1), w.claim(last)
    yield Case("claim: a block after the claim deadline", Line.CLAIM, late, timely)
    asks = w.task(min_reputation=8)
    yield Case("claim: score one under the minimum", Line.CLAIM, w.claim(asks), w.claim(asks, w.bond(score=8)))
    yield Case(
        "claim: not on the allow list",
        Line.CLAIM,
        w.claim(w.task(allowed=(RIVAL.pk, CLIENT.pk))),
        w.claim(w.task(allowed=(RIVAL.pk, NODE.pk))),
    )
    poor = w.bond(amount=ERG, committed=ERG + 1)
    yield Case(
        "claim: a nanoERG over capacity",
        Line.CLAIM,
        w.claim(None, poor),
        w.claim(None, w.bond(amount=ERG, committed=ERG)),
    )
    ids = [b"%032d" % n for n in range(48)]
    yield Case(
        "claim: a 49th open task",
        Line.CLAIM,
        w.claim(None, w.bond(*ids)),
        w.claim(None, w.bond(*ids[:47])),
    )


def _lottery(w: World) -> Iterator[Case]:
    """Ten headers draw; the difficulty is set to where the luckiest of them just wins or just does not."""
    bond = w.bond(score=0)
    # A ticket depends on the box id, and so on the difficulty: look for a task that loses by what it drew.
    tasks = (w.task(selection_window=500, selection_difficulty=2**n) for n in range(1, 60))
    hard = next(task for task in tasks if _best(task.raw_id) * task.content.selection_difficulty >= 2 * TICKETS)
    needed = _best(hard.raw_id) * hard.content.selection_difficulty // TICKETS
    yield Case(
        "claim: no ticket wins",
        Line.CLAIM,
        w.claim(hard, w.bond(score=needed - 1)),
        w.claim(hard, w.bond(score=needed)),
    )
    yield Case(
        "claim: the window of the lottery is not over",
        Line.CLAIM,
        w.claim(w.task(selection_window=NEXT - 950, selection_difficulty=2**62), bond),
        w.claim(w.task(selection_window=NEXT - 951, selection_difficulty=2**62), bond),
    )
    easy = {"selection_window": 500, "selection_difficulty": 1}
    yield Case(
        "claim: the bond was born with the newest header",
        Line.CLAIM,
        w.claim(w.task(**easy), w.bond(born=TIP)),
        w.claim(w.task(**easy), w.bond(born=TIP - 1)),
    )
    yield Case(
        "claim: no header is younger than the task",
        Line.CLAIM,
        w.claim(w.task(None, TIP, **easy)),
        w.claim(w.task(None, TIP - 1, **easy)),
    )


def _best(task_id: bytes) -> int:
    return min(selection.ticket(bytes.fromhex(header_id(h)), task_id, NODE.pk) for h in range(TIP - 9, TIP + 1))


def _terms(w: World) -> Iterator[Case]:
    h = w.claim()
    changes: list[tuple[Line, str, dict[str, object]]] = [
        (Line.TERMS, "another client", {"client": NODE.pk}),
        (Line.TERMS, "another service", {"service_hash": OTHER}),
        (Line.TERMS, "another input", {"input_commitment": OTHER}),
        (Line.TERMS, "another locator", {"locator": "data:,other"}),
        (Line.TERMS, "a deadline a block later", {"exec_deadline": NEXT + 51}),
        (Line.TERMS, "a smaller payment, to owe no fee", {"payment": 1, "worth": 1}),
        (Line.TERMS, "a smaller worth", {"worth": 1}),
        (Line.TERMS, "a smaller payment", {"payment": 1}),
        (Line.HELD, "another holdback", {"holdback_bps": 1}),
        (Line.HELD, "a holdback below nothing", {"holdback_bps": -1}),
        (Line.STALE, "half of its time", {"exec_deadline": NEXT + 25}),
        (Line.STALE, "a deadline that is over", {"exec_deadline": TIP}),
        (Line.STALE, "a deadline at 0", {"exec_deadline": 0}),
        (Line.TERMS, "another node", {"node": RIVAL.pk}),
        (Line.LONG, "a deadline near 2^63", {"exec_deadline": 2**63 - 1}),
        (Line.LONG, "a negative payment", {"payment": -1}),
        (Line.HEIGHT, "claimed in the future", {"claim_height": NEXT + 1}),
        (Line.HEIGHT, "claimed long ago", {"claim_height": NEXT - SLACK - 1}),
    ]
    yield from against("claim", h, [(line, how, h.edit(1, ClaimedTask, **change)) for line, how, change in changes])
    four = codec.coll_long((ERG, ERG, NEXT + 50, NEXT))
    six = codec.coll_long((ERG, ERG, NEXT + 50, NEXT, 0, 0))
    tip_left = w.claim(w.task(escrow_value(ERG, ERG, in_token=False) + ERG))
    two = w.claim()
    attacks = [
        (Line.FORM, "four terms", h.register(1, 6, four)),
        (Line.FORM, "six terms", h.register(1, 6, six)),
        (Line.FORM, "the client as bytes", h.register(1, 7, codec.coll_byte(CLIENT.pk))),
        (Line.FORM, "no locator register", h.out(1, registers=h.outputs[1].registers[:5])),
        (Line.LEAK, "what the task holds beyond the payment goes to change", tip_left.value(1, -ERG)),
        (Line.SHARED, "two tasks, one claimed box", two.spend(2, w.task().box)),
        (Line.FOOLED, "the task is eaten by a claim of the attacker's own box", _beside_own_box(w)),
    ]
    yield from against("claim", h, attacks)


def _windows(w: World) -> Iterator[Case]:
    """Execution windows that bind a bond for too long, or to a deadline that is over when the claim is mined."""
    short = w.claim(w.task(exec_window=20))
    yield Case("claim: mined when half of its time is over", Line.STALE, short.at(TIP + 10), short.at(TIP + 9))
    longest, longer = (w.claim(w.task(exec_window=MAX_EXEC + more)) for more in (0, 1))
    yield Case("claim: a deadline further off than the market lives on", Line.RENT, longer, longest)
    h = w.claim()
    for window in (0, -1, -(2**63), 2**63 - 1):
        task = w.task(exec_window=window)
        attack = h.instead(0, task.box).out(1, tokens=((task.raw_id, 2),))
        yield Case(f"claim: an execution window of {window} blocks", Line.LONG, attack, h)


def _ended(w: World) -> Iterator[Case]:
    """A bond token that storage rent gave away, under a script of one's own; and claims of any bond once such may exist."""
    late = w.task(claim_deadline=10**7, height=EXPIRY - 50)
    last = w.claim(late, None, EXPIRY - 1)
    yield Case("claim: a block after the end of the market", Line.RENT, w.claim(late, None, EXPIRY), last)
    h = w.claim()
    bond = w.bond()
    for tree, who in (
        (STRANGER.tree, "a thief"),
        (NODE.tree, "a node"),
        (bytes(w.minter().box.ergo_tree), "the minter's guard"),
    ):
        own = w.place(Out(bond.value, tree, ((BOND_TOKEN, 1),), bond.content.constants()))
        loose = h.instead(1, own).out(0, tree=tree).by(NODE, STRANGER)
        yield Case(f"claim: a box of {who} with one bond token for a bond", Line.RENT, loose, h)
        paid = loose.out(1, tree=STRANGER.tree, tokens=())
        yield Case(f"claim: a box of {who} with one bond token, the payment to himself", Line.RENT, paid, h)
    own = w.place(Out(bond.value, STRANGER.tree, ((BOND_TOKEN, 1),), bond.content.constants()))
    over = last.at(EXPIRY + 60_000).instead(1, own).out(0, tree=STRANGER.tree).by(NODE, STRANGER)
    yield Case("claim: a box with one bond token for a bond, when the market is over", Line.RENT, over, last)


def _beside_own_box(w: World) -> Draft:
    """The bond claims a wallet box that carries the terms of a task; the task itself comes third."""
    task = w.task()
    own = w.place(Out(ERG, NODE.tree, (), task.content.constants()))
    return w.claim(On(own, task.content)).value(1, task.value - own.value).spend(2, task.box)


def _counterfeit(w: World) -> Iterator[Case]:
    """Boxes under the bond's guard that no minter made."""
    h = w.claim()
    bond = w.bond()
    tree, constants = bytes(bond.box.ergo_tree), bond.content.constants()
    for how, tokens in (("no token", ()), ("a token of its own", ((OTHER, 1),))):
        fake = w.place(Out(bond.value, tree, tokens, constants))
        attack = h.instead(1, fake).out(0, tokens=tokens)
        yield Case(f"claim: a bond with {how}", Line.NO_MINTER, attack, h)
    own = w.place(Out(bond.value, NODE.tree, ((OTHER, 1),), constants))
    yield Case(
        "claim: a bond that is a wallet box",
        Line.NO_MINTER,
        h.instead(1, own).out(0, tree=NODE.tree, tokens=((OTHER, 1),)),
        h,
    )
    shown = h.instead(1, w.coin(NODE)).out(0, tokens=()).read(bond.box)
    yield Case("claim: a bond shown as a data input only", Line.FOOLED, shown, h)


def _refund(w: World) -> Iterator[Case]:
    task, other = w.task(), w.task()
    h = w.refund(task)
    early = w.refund(w.task(claim_deadline=TIP), tip=TIP - 1)
    attacks = [
        (Line.DUST, "dust to the client", h.out(0, value=40_000)),
        (Line.DUST, "a nanoERG less than all but the largest fee", h.out(0, value=task.value - 2_000_001)),
        (Line.LEAK, "to the attacker", h.out(0, tree=STRANGER.tree)),
        (Line.TOO_EARLY, "in the last block of the claim window", early),
        (Line.FORM, "output without the task's id", h.out(0, registers=())),
        (Line.FORM, "output with another task's id", h.register(0, 4, codec.coll_byte(other.raw_id))),
        (Line.FORM, "output with the id in another type", h.register(0, 4, codec.int_constant(1))),
        (Line.SHARED, "two tasks, one output", h.spend(1, other.box)),
        (Line.SHARED, "the task is the second input", h.spend(0, w.coin(STRANGER))),
        (Line.FOOLED, "the client's output is the second", h.flip(0, 1)),
        (Line.UNITS, "the task's token minted into the client's output", h.out(0, tokens=((task.raw_id, 2),))),
        (Line.UNITS, "the task's token minted into the change", h.out(1, tokens=((task.raw_id, 1),))),
        (
            Line.FOOLED,
            "the bond token beside it asks for a claim",
            h.spend(1, w.coin(STRANGER, tokens=((BOND_TOKEN, 1),))),
        ),
    ]
    yield from against("refund", h, attacks)


def _shaped_as_claim(w: World) -> Draft:
    """Cancel is only closed while the node spends its bond on the same task."""
    h = w.claim()
    return h.out(1, tree=CLIENT.tree, tokens=(), registers=()).by(CLIENT, NODE)


def _cancel(w: World) -> Iterator[Case]:
    task = w.task()
    h = w.cancel(task)
    own = h.out(0, tree=STRANGER.tree).by(STRANGER, NODE)
    attacks = [
        (Line.UNSIGNED, "by a stranger", own),
        (Line.UNSIGNED, "by a stranger, to the client", w.cancel(coin=w.coin(STRANGER)).by(STRANGER, NODE)),
        (Line.FOOLED, "by the client in the shape of a claim", _shaped_as_claim(w)),
        (Line.UNITS, "by the client, who mints the task's token", h.out(0, tokens=((task.raw_id, 2),))),
        (Line.UNITS, "by the client, one unit of the task's token", h.out(0, tokens=((task.raw_id, 1),))),
    ]
    yield from against("cancel", h, attacks)
