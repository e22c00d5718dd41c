"""`python -m tests.contracts.tables`: writes the tables of docs/protocol.md, between their marks, from what is counted and measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from aihd.chain.appkit import Appkit
from aihd.chain.contracts import source_of, templates
from aihd.protocol.deployment import Guard

from . import costs
from .cases import Line
from .equivalent import EQUIVALENT
from .fuzz_seeds import seeds
from .mutate import mutants
from .states import KINDS, SOON, Graph
from .suite import all_cases, honest_drafts
from .world import EXPIRY, World

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "protocol.md"
_REGION: Final = "<!-- {name}: written by make tables -->\n{body}\n<!-- end of {name} -->"


def quick(world: World) -> Mapping[str, str]:
    """The tables that take seconds, by name."""
    return {"attacks": "\n".join(_attacks(world)), "guards": "\n".join(_guards(world))}


def slow(appkit: Appkit) -> Mapping[str, str]:
    """The tables that ask the reference interpreter, or walk through every state.

    In a market of their own: what a lottery costs depends on ids, and they on all boxes that were placed before.
    """
    return {"costs": "\n".join(costs.table(World.of(templates()), appkit)), "states": "\n".join(_states())}


def _attacks(world: World) -> Iterator[str]:
    found = Counter(case.line for case in all_cases(world))
    yield "| line of attack | attacks |\n|---|---|"
    yield from (f"| {line} | {found[line]} |" for line in Line if found[line])
    yield f"| **all** | **{found.total()}** |"
    yield ""
    yield f"Honest transactions beside their twins: {sum(1 for _ in honest_drafts(world))}."
    yield f"Honest transactions that the fuzzer starts from: {sum(1 for _ in seeds(world))}."


def _guards(world: World) -> Iterator[str]:
    yield "| guard | bytes | conditions | argued survivors |\n|---|---|---|---|"
    totals = [0, 0]
    for guard in Guard:
        conditions = sum(1 for _ in mutants(guard, source_of(guard)))
        argued = sum(1 for mine, _ in EQUIVALENT if mine is guard)
        totals = [totals[0] + conditions, totals[1] + argued]
        yield f"| {guard} | {len(world.deployment.trees[guard]):,} | {conditions} | {argued} |"
    yield f"| **all** | | **{totals[0]}** | **{totals[1]}** |"


def _states() -> Iterator[str]:
    yield "| payment, and how it ends | the market ends meanwhile | states |\n|---|---|---|"
    every = 0
    for name, kind in KINDS.items():
        count = len(Graph.explore(World.of(templates(), SOON if kind.ends else EXPIRY), kind).states)
        every += count
        yield f"| {name} | {'yes' if kind.ends else 'no'} | {count} |"
    yield f"| **all** | | **{every}** |"


def region(document: str, name: str) -> str:
    """What stands between the marks of a table; AssertionError where there are none."""
    found = re.search(re.escape(_REGION.format(name=name, body="@")).replace("@", "(.*?)"), document, re.DOTALL)
    assert found, f"{DOCUMENT.name} has no marks for the table {name}"
    return found[1]


def replaced(document: str, name: str, body: str) -> str:
    """The document with another table between these marks."""
    old = region(document, name)
    return document.replace(_REGION.format(name=name, body=old), _REGION.format(name=name, body=body))


def main() -> None:
    world, document = World.of(templates()), DOCUMENT.read_text(encoding="utf-8")
    with Appkit() as appkit:
        tables = {**quick(world), **slow(appkit)}
    for name, body in tables.items():
        document = replaced(document, name, body)
    DOCUMENT.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
