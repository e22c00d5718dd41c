"""The story of a task as its boxes tell it: one line for each transaction, read from the chain by anybody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from aihd.core.life import Sighting
from aihd.protocol.boxes import ClaimedTask, Rating, Receipt
from aihd.protocol.codec import BoxError
from aihd.protocol.deployment import CONTENT_OF, Deployment
from aihd.protocol.units import format_units


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of the story."""

    name: str
    height: int
    tx_id: str
    detail: str


class Coin(NamedTuple):
    """What a demo pays in: ERG, or a token of the devnet."""

    token: bytes | None
    name: str
    decimals: int

    def show(self, amount: int) -> str:
        return f"{format_units(amount, self.decimals)} {self.name}"

    def signed(self, amount: int) -> str:
        """An amount for a balance sheet."""
        return f"{'+' if amount > 0 else ''}{self.show(amount)}"


ERG: Final = Coin(None, "ERG", 9)


def steps(deployment: Deployment, sightings: Iterable[Sighting]) -> list[Step]:
    """The steps from the claim on, oldest first."""
    found: list[tuple[int, int, Step]] = []
    for sighting in sightings:
        guard = deployment.guard_of(sighting.box)
        if guard is None or sighting.height is None:
            continue
        try:
            content = deployment.read(CONTENT_OF[guard], sighting.box).content
        except BoxError:
            continue
        told = _told(content)
        if told is not None:
            order, name, detail = told
            step = Step(name, sighting.height, str(sighting.box.transaction_id), detail)
            found.append((sighting.height, order, step))
    return [step for _, _, step in sorted(found, key=lambda item: item[:2])]


def _told(content: object) -> tuple[int, str, str] | None:
    """(order within a block, name, detail) of the transaction that made a box; None for what the release tells already."""
    match content:
        case ClaimedTask():
            return 0, "claim", f"node {content.node.hex()[:12]}… promises to deliver by height {content.exec_deadline}"
        case Receipt():
            return 1, "RELEASED", f"receipt published, output {content.output_hash.hex()[:16]}…"
        case Rating():
            return _rating(content)
    return None


def _rating(rating: Rating) -> tuple[int, str, str] | None:
    committed = [name for name, half in _halves(rating) if half]
    marks = [
        f"{name} gives {mark}" for name, mark in (("client", rating.client_mark), ("node", rating.node_mark)) if mark
    ]
    if marks:
        return 3 + len(marks), "reveal", ", ".join(marks)
    if committed:
        return 1 + len(committed), "commit", f"{' and '.join(committed)} committed to a mark"
    return None


def _halves(rating: Rating) -> tuple[tuple[str, bytes], ...]:
    return (("client", rating.client_commitment), ("node", rating.node_commitment))
