"""Where a fuzz run starts: honest transactions of every kind in several variants, and the boxes that lie around them.

The boxes around are those of the same market: other tasks, bonds and ratings of the same parties, coins, and a claimed box that an
attacker made by himself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from ergo_lib_python.chain import ErgoBox

from aihd.protocol import codec
from aihd.protocol.boxes import Bond, On, Rating
from aihd.protocol.constants import COOLDOWN
from aihd.protocol.guards import escrow_value
from aihd.protocol.plans import Side

from .chain import CLIENT, NODE, RIVAL, STRANGER, Draft, Out, Party
from .world import ASSET, ERG, EXPIRY, IN_TOKEN, OTHER, TASK, TIP, World, token

THIRD: Final = token("third")
FORGED: Final = token("forged")
JUNK: Final = token("junk")
PAYMENTS: Final = (5_000_000, 10_000_000, 99_000_000, ERG, 20 * ERG)
_WEALTH: Final = 10**6 * ERG


class Colluders(Enum):
    """Whose keys the maker of a mutant holds. A stranger may always have a bond of his own: RIVAL's."""

    STRANGERS = (STRANGER, RIVAL)
    WITH_NODE = (STRANGER, RIVAL, NODE)
    WITH_CLIENT = (STRANGER, RIVAL, CLIENT)
    WITH_BOTH = (STRANGER, RIVAL, NODE, CLIENT)

    @property
    def parties(self) -> tuple[Party, ...]:
        parties: tuple[Party, ...] = self.value
        return parties


@dataclass(frozen=True, slots=True)
class Around:
    """What a mutant may add: `boxes` to spend or read, and coins of the stranger that pay for changes."""

    boxes: tuple[ErgoBox, ...]
    purse: ErgoBox
    junk: ErgoBox


@dataclass(frozen=True, slots=True)
class Seed:
    """An honest transaction; `able` are the colluders whose keys suffice for it."""

    name: str
    kind: str
    draft: Draft
    able: tuple[Colluders, ...]


def around(w: World) -> Around:
    """OTHER is claimed and open in the node's bonds, THIRD in the rival's; the receipt of TASK is there while it is rated."""
    bare = Out(5 * ERG, STRANGER.tree, (), (codec.int_constant(0), codec.int_constant(0), codec.coll_long((ERG, ERG))))
    guarded: tuple[On[Any], ...] = (
        w.bond(THIRD, node=RIVAL.pk),
        w.bond(node=RIVAL.pk),
        w.bond(OTHER),
        w.bond(committed=0),
        w.claimed(OTHER),
        w.claimed(OTHER, exec_deadline=TIP - 20),
        w.claimed(THIRD, node=RIVAL.pk),
        w.claimed(FORGED, exec_deadline=TIP - 20),
        w.rating(OTHER),
        w.rating(OTHER, held=ERG // 2, client_mark=4, node_mark=5),
        w.rating(THIRD, node=RIVAL.pk, held=5000, asset=ASSET, client_mark=1, node_mark=5),
        w.failed(OTHER),
        w.claimed(OTHER, **IN_TOKEN, exec_deadline=TIP - 20),
        w.task(**IN_TOKEN),
        w.rating(OTHER, client_mark=5, node_mark=5, reveal_deadline=TIP - 20),
        w.rating(FORGED, client=RIVAL.pk, client_mark=5, node_mark=5),
        w.task(),
        w.task(claim_deadline=TIP - 100),
        w.task(client=RIVAL.pk, payment=20 * ERG),
        w.minter(),
        w.receipt(TASK),
        w.receipt(OTHER, height=1),
        w.failure(OTHER, height=1),
    )
    coins = tuple(w.coin(party, 30 * ERG) for party in (STRANGER, RIVAL, NODE, CLIENT))
    units = w.coin(STRANGER, ERG, ((ASSET, 10**6),))
    boxes = (*coins, *(on.box for on in guarded), w.place(bare), units)
    return Around(boxes, w.coin(STRANGER, _WEALTH), w.coin(STRANGER, ERG, ((JUNK, 10**6),)))


def seeds(w: World) -> Iterator[Seed]:
    """Every kind of transaction, several variants each."""
    node = (Colluders.WITH_NODE, Colluders.WITH_BOTH)
    client = (Colluders.WITH_CLIENT, Colluders.WITH_BOTH)
    parts = (
        ("bond", _births(w), tuple(Colluders)),
        ("manage", _manages(w), node),
        ("withdraw", _withdrawals(w), node),
        ("claim", _claims(w), node),
        ("release", _releases(w), node),
        ("fail", _fails(w), node),
        ("timeout", _timeouts(w), tuple(Colluders)),
        ("refund", _refunds(w), tuple(Colluders)),
        ("cancel", _cancels(w), client),
        ("commit by client", _commits(w, Side.CLIENT), client),
        ("commit by node", _commits(w, Side.NODE), node),
        ("reveal by client", _reveals(w, Side.CLIENT), client),
        ("reveal by node", _reveals(w, Side.NODE), node),
        ("settle", _settlements(w), tuple(Colluders)),
        ("settle by node", _early(w), node),
        ("reclaim", _reclaims(w), node),
    )
    for kind, drafts, able in parts:
        for number, draft in enumerate(drafts):
            yield Seed(f"{kind} {number}", kind, draft, able)


def _births(w: World) -> Iterator[Draft]:
    yield w.open_bond()
    yield w.open_bond(amount=1, endpoint="")
    yield w.open_bond(minter=w.minter(supply=2))
    yield w.open_bond(EXPIRY - 1)


def _manages(w: World) -> Iterator[Draft]:
    yield w.manage(add=ERG)
    yield w.manage(w.bond(TASK), endpoint="http://elsewhere.example")
    yield w.manage(w.bond(TASK, OTHER, THIRD))


def _withdrawals(w: World) -> Iterator[Draft]:
    yield w.withdraw()
    yield w.withdraw(w.bond(score=-40, last_activity=TIP - COOLDOWN - 1), tip=TIP)


def _claims(w: World) -> Iterator[Draft]:
    for payment in PAYMENTS:
        yield w.claim(w.task(payment=payment, holdback_bps=5000))
    yield w.claim(bond=w.bond(TASK, OTHER, THIRD))
    yield w.claim(w.task(min_reputation=7, allowed=(RIVAL.pk, NODE.pk)), w.bond(TASK))
    yield w.claim(w.task(selection_window=500, selection_difficulty=2))
    yield w.claim(w.task(payment=ERG), w.bond(TASK, amount=ERG))  # to the limit of its capacity
    most = escrow_value(ERG, ERG, in_token=False)
    yield w.claim(w.task(exec_window=1, claim_deadline=TIP + 1, value=most + 7))
    yield w.claim(w.task(**IN_TOKEN, holdback_bps=10_000))
    yield w.claim(w.task(**{**IN_TOKEN, "worth": 99_000_000}))
    yield w.claim(w.task(claim_deadline=10**7, height=EXPIRY - 30), tip=EXPIRY - 1)


def _bond(w: World, worth: int, *others: bytes, **changes: int) -> On[Bond]:
    """A bond on which TASK of this worth runs beside others of 1 ERG."""
    return w.bond(TASK, *others, committed=worth + len(others) * ERG, **changes)


def _releases(w: World) -> Iterator[Draft]:
    for payment in PAYMENTS:
        yield w.release(w.claimed(payment=payment))
    for share in (1, 5000, 10_000):
        yield w.release(w.claimed(holdback_bps=share), solo=True)
        yield w.release(w.claimed(**IN_TOKEN, holdback_bps=share))
    yield w.release(w.claimed(**{**IN_TOKEN, "worth": 99_000_000}))
    yield w.release(tip=TIP + 39)
    yield w.release(w.claimed(value=escrow_value(ERG, ERG, in_token=False) + ERG))


def _fails(w: World) -> Iterator[Draft]:
    yield w.fail()
    yield w.fail(w.claimed(holdback_bps=10_000))
    yield w.fail(w.claimed(**IN_TOKEN))
    yield w.fail(w.claimed(payment=5_000_000), tip=TIP + 39)


def _timeouts(w: World) -> Iterator[Draft]:
    for payment in PAYMENTS:
        yield w.timeout(w.claimed(payment=payment), _bond(w, payment))
    yield w.timeout(bond=_bond(w, ERG, OTHER, THIRD))
    yield w.timeout(solo=True)
    yield w.timeout(bond=_bond(w, ERG, amount=ERG // 20, score=-3))  # all of the stake
    yield w.timeout(w.claimed(**IN_TOKEN), _bond(w, ERG, OTHER))


def _refunds(w: World) -> Iterator[Draft]:
    yield w.refund()
    yield w.refund(solo=True)
    yield w.refund(w.task(payment=5_000_000))
    yield w.refund(w.task(**IN_TOKEN))


def _cancels(w: World) -> Iterator[Draft]:
    yield w.cancel()
    yield w.cancel(tip=TIP + 100)
    yield w.cancel(w.task(**IN_TOKEN))


def _commits(w: World, side: Side) -> Iterator[Draft]:
    rating = w.rating(held=ERG // 2)
    theirs = w.committed(rating, **({"client": 0} if side is Side.CLIENT else {"node": 0}))
    yield w.commit(side, rating)
    yield w.commit(side, theirs)
    yield w.commit(side, tip=TIP + 19)


def _reveals(w: World, side: Side) -> Iterator[Draft]:
    both = w.committed(w.rating(held=5000, asset=ASSET))
    yield w.reveal(side, both)
    alone = w.committed(w.rating(), **({"node": 0} if side is Side.CLIENT else {"client": 0}))
    yield w.reveal(side, alone, tip=TIP + 20)
    yield w.reveal(side, _marked(w, both, **({"node_mark": 5} if side is Side.CLIENT else {"client_mark": 4})))


def _marked(w: World, rating: On[Rating], **marks: int) -> On[Rating]:
    return w.box(replace(rating.content, **marks), rating.value, rating.tokens)  # type: ignore[arg-type]


def _settlements(w: World) -> Iterator[Draft]:
    both = w.committed(w.rating())
    bad = w.committed(w.rating(held=ERG // 2), 1, 1)
    token = w.committed(w.rating(held=5000, asset=ASSET), 1, 1)
    yield w.settle()
    yield w.settle(_marked(w, both, client_mark=4, node_mark=5))
    yield w.settle(_marked(w, both, client_mark=4))
    yield w.settle(_marked(w, both, node_mark=5))
    yield w.settle(_marked(w, bad, client_mark=1, node_mark=1), w.bond(OTHER, TASK, THIRD, score=-7))
    yield w.settle(w.rating(worth=20 * ERG, client_mark=5), _bond(w, 20 * ERG))
    yield w.settle(w.failed())
    yield w.settle(w.rating(held=ERG // 2))
    yield w.settle(_marked(w, token, client_mark=1, node_mark=1))
    yield w.settle(_marked(w, token, client_mark=0, node_mark=1), w.bond(OTHER, TASK))


def _early(w: World) -> Iterator[Draft]:
    """By the node, as soon as nothing can change any more, or its client stayed silent."""
    bad = w.committed(w.rating(held=ERG // 2), 1, 1)
    yield w.settle(_marked(w, bad, client_mark=1, node_mark=1), by=NODE)
    yield w.settle(_marked(w, bad, client_mark=5, node_mark=1), by=NODE)
    yield w.settle(w.rating(held=5000, asset=ASSET), by=NODE)
    yield w.settle(w.failed(), by=NODE, tip=TIP + 1)
    yield w.settle(w.failed(), _bond(w, ERG, OTHER), by=NODE, tip=TIP + 1, solo=True)


def _reclaims(w: World) -> Iterator[Draft]:
    yield w.reclaim()
    yield w.reclaim(w.failure())
