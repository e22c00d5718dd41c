"""The tables of docs/protocol.md say what is counted and measured; `make tables` writes them."""

from __future__ import annotations

import pytest

from aihd.chain.appkit import Appkit

from .tables import DOCUMENT, quick, region, slow
from .world import World


def test_document__when_the_suite_or_a_guard_changes__then_its_counts_follow(world: World) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")

    assert {name: region(document, name) for name in quick(world)} == dict(quick(world))


@pytest.mark.jvm
@pytest.mark.slow
def test_document__when_transactions_are_measured_again__then_it_says_the_same(appkit: Appkit) -> None:
    document, tables = DOCUMENT.read_text(encoding="utf-8"), slow(appkit)

    assert {name: region(document, name) for name in tables} == dict(tables)
