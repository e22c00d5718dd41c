"""`python -m tests.contracts.costs`: what each transaction of the protocol weighs, as a table in Markdown.

The bond holds 0, 16 or 48 open ids: after a claim, before every other transaction (one that ends a task has at least its id). What else
can be long is as long as it may be: endpoint, locator, allow list; and the payment is in a token, of which a release holds half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import templates
from aihd.protocol.boxes import Bond, On
from aihd.protocol.constants import MAX_ALLOWED, MAX_ENDPOINT, MAX_LOCATOR
from aihd.protocol.plans import Side

from .chain import NODE, PARAMETERS, Draft
from .judge import Judge
from .world import ASSET, ERG, IN_TOKEN, TASK, World

SIZES: Final = (0, 16, 48)
MAX_TX: Final = 98_304  # bytes
# What nodes take into their mempools by their configuration, in units of cost.
MAX_COSTS: Final = {"mainnet": 4_900_000, "a node's default": 1_000_000, "testnet": 800_000}
MAX_BOX: Final = 4096  # bytes
HEAD: Final = (
    "| transaction | open ids | bytes | JVM cost | largest box, bytes | smallest values of boxes under guards, nanoERG |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True)
class Row:
    """`size` and `largest_box` in bytes; `least` is, per output under a guard, what the chain asks for a box of its size."""

    name: str
    open_ids: str
    size: int
    cost: int
    largest_box: int
    least: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        least = ", ".join(f"{guard} {value:,}" for guard, value in self.least) or "none"
        return f"| {self.name} | {self.open_ids} | {self.size:,} | {self.cost:,} | {self.largest_box:,} | {least} |"


def rows(world: World, judge: Judge) -> Iterator[Row]:
    """One row for each transaction, and for each number of open ids where the bond takes part."""
    for name, draft_of in _WITH_BOND.items():
        for count in SIZES:
            yield _row(judge, name, str(count), draft_of(world, count))
    for name, draft in _without_bond(world).items():
        yield _row(judge, name, "", draft)


def _row(judge: Judge, name: str, open_ids: str, draft: Draft) -> Row:
    verdict = judge(draft)
    assert verdict.accepted, f"{name} with {open_ids} open ids is refused by {verdict.guards}"
    assert not verdict.rules, f"{name} with {open_ids} open ids breaks {verdict.rules}"
    boxes = draft.unsigned().outputs
    guarded = [(judge.deployment.guard_of(box), len(bytes(box))) for box in boxes]
    least = tuple((str(guard), size * PARAMETERS["minValuePerByte"]) for guard, size in guarded if guard)
    return Row(name, open_ids, verdict.size, verdict.cost, max(len(bytes(box)) for box in boxes), least)


def _bond(w: World, count: int, *ids: bytes) -> On[Bond]:
    others = tuple(b"%032d" % n for n in range(count - len(ids)))
    return w.bond(*others, *ids, endpoint="x" * MAX_ENDPOINT)


_LONG: Final[Mapping[str, Any]] = {**IN_TOKEN, "locator": "x" * MAX_LOCATOR}
_ALLOWED: Final = (*(b"\x02" + b"%032d" % n for n in range(MAX_ALLOWED - 1)), NODE.pk)
_LONG_TASK: Final[Mapping[str, Any]] = {
    **_LONG,
    "allowed": _ALLOWED,
    "selection_window": 500,
    "selection_difficulty": 1,
}


def _claim(w: World, count: int) -> Draft:
    return w.claim(w.task(**_LONG_TASK), _bond(w, max(count - 1, 0)))


_WITH_BOND: Final[dict[str, Callable[[World, int], Draft]]] = {
    "manage": lambda w, n: w.manage(_bond(w, n), add=ERG),
    "claim": _claim,
    "timeout": lambda w, n: w.timeout(w.claimed(**_LONG), _bond(w, max(n, 1), TASK)),
    "settle": lambda w, n: w.settle(w.rated(1, 4, (1, 4), held=5000, asset=ASSET), _bond(w, max(n, 1), TASK)),
}


def _without_bond(w: World) -> dict[str, Draft]:
    return {
        "release": w.release(w.claimed(**_LONG, holdback_bps=5000), solo=True),
        "fail": w.fail(w.claimed(**_LONG)),
        "bond": w.open_bond(endpoint="x" * MAX_ENDPOINT),
        "withdraw": w.withdraw(_bond(w, 0)),
        "refund": w.refund(w.task(**_LONG_TASK)),
        "cancel": w.cancel(w.task(**_LONG_TASK)),
        "commit": w.commit(Side.CLIENT, w.committed(w.rating(held=5000, asset=ASSET), client=0)),
        "reveal": w.reveal(Side.CLIENT, w.rated(4, 5, held=5000, asset=ASSET)),
        "reclaim": w.reclaim(),
    }


def table(world: World, appkit: Appkit) -> Iterator[str]:
    """The rows in Markdown."""
    yield from HEAD
    yield from map(str, rows(world, Judge(world.deployment, appkit)))


def main() -> None:
    with Appkit() as appkit:
        print(*table(World.of(templates()), appkit), sep="\n")


if __name__ == "__main__":
    main()
