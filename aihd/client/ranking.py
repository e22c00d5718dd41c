"""What a client's own data folder knows of the market's history, and whom it would let have a task by that."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from ergo_lib_python.chain import Address

from aihd.chain.history import HistoryReader, name_of
from aihd.client.client import Order
from aihd.client.party import Party
from aihd.core.holdback import default_holdback
from aihd.errors import UsageError
from aihd.protocol.boxes import Bond
from aihd.protocol.constants import BOND_MULTIPLIER, MAX_ALLOWED, MAX_OPEN
from aihd.reputation.engine import Engine
from aihd.reputation.fixed import ONE
from aihd.store.journal import Journal

READ_UPTO: Final = "history"  # meta key: the height up to which the history was read


async def refresh(who: Party) -> int:
    """Bring the history in a party's journal up to the tip; the height of that."""
    view, journal = who.view, who.journal
    reader = HistoryReader(view, journal.history)
    tip = await view.tip()
    await reader.take_back()
    await reader.extend({bond.id for bond in await view.bonds()})
    await reader.fund()
    journal.remember(READ_UPTO, str(tip.height))
    return tip.height


def known(journal: Journal, final_depth: int, public: Collection[bytes] = ()) -> Engine:
    """The scores by the history in a journal, as of the height up to which it was read."""
    scores = Engine(final_depth)
    scores.fold(journal.history.records(public=public))
    scores.advance(int(journal.meta().get(READ_UPTO, "0")))
    return scores


def best(bonds: Collection[Bond], scores: Engine, count: int, *, worth: int, least: int) -> tuple[bytes, ...]:
    """Keys of the nodes to allow: the `count` best by standing, at most MAX_ALLOWED, that could take a task now.

    `worth` is nanoERG that a bond must still cover, `least` the score of the bond that the task asks for. A node with more complaints
    than praise is never among them; of equals the one with more stake comes first.
    """
    able = [
        bond for bond in bonds if bond.score >= least and _covers(bond, worth) and scores.score(bond.node).value >= 0
    ]
    able.sort(key=lambda bond: (-scores.score(bond.node).standing, -bond.amount, bond.node))
    return tuple(dict.fromkeys(bond.node for bond in able))[: min(count, MAX_ALLOWED)]


def for_the_best(order: Order, bonds: Collection[Bond], scores: Engine, count: int, *, holdback: int | None) -> Order:
    """Returns the order for the `count` best nodes alone; UsageError when no bond could take it.

    `holdback` (basis points) is what the client said; None for the default, which trusts a list only as far as the least node on it: in a
    young market the best are strangers too.
    """
    allowed = best(bonds, scores, count, worth=order.worth, least=order.min_reputation)
    if not allowed:
        raise UsageError(f"--allow-best {count}: none of the market's {len(bonds)} bonds could take this task")
    least = min(scores.score(node).standing for node in allowed) / ONE
    return replace(order, allowed=allowed, holdback_bps=default_holdback(True, least) if holdback is None else holdback)


def _covers(bond: Bond, worth: int) -> bool:
    return bond.committed + worth <= bond.amount * BOND_MULTIPLIER and len(bond.open_ids) < MAX_OPEN


def funders(addresses: Collection[str]) -> frozenset[bytes]:
    """Addresses as the history names sources of money."""
    return frozenset(name_of(bytes(Address(address).ergo_tree())) for address in addresses)
