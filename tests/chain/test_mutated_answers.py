"""Every parser of a node's and an explorer's JSON, given answers changed at random: read, or refused by the edge's own errors."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from aihd.chain import explorer, node_json
from aihd.chain.finder import issued_of
from aihd.chain.http import Server, SourceError
from aihd.protocol.blocks import transactions_of_json
from aihd.protocol.box import ForgedError, box_of_json
from aihd.protocol.headers import WorkError, head_of_json
from aihd.protocol.shapes import ShapeError

RECORDED: Final = Path(__file__).parents[1] / "devnet" / "recorded" / "node_answers.json"
SERVER: Final = Server("http://node")
ODD: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 2**31, 2**64, 10**300, 1.5, "", "zz", "00", "ff" * 32, "é", "\ud800", "\x1b[31m", "9" * 5000),
    *([], {}, [[]], [None], {"": None}, [{"boxId": 1}], "0x10", " 1", "1e5", "-0"),
)


def samples() -> Iterator[tuple[str, Any, Callable[[Any], object]]]:
    answers = json.loads(RECORDED.read_text())["answers"]

    def first(part: str) -> Any:
        return next(a["body"] for a in answers if part in a["path"] and a["status"] == 200)

    block, box = first("/blocks/37437"), first("/blockchain/box/byId/")
    head = head_of_json(block["header"])
    trees = {
        o["ergoTree"]: bytes.fromhex(o["ergoTree"])
        for tx in block["blockTransactions"]["transactions"]
        for o in tx["outputs"]
    }
    shown = {**box, "settlementHeight": 7, "blockId": "ab" * 32, "mainChain": True}
    page = {"items": [shown], "total": 1}
    yield "info", first("/info"), node_json.info_of
    yield "header", block["header"], head_of_json
    yield "block", block["blockTransactions"], lambda raw: transactions_of_json(raw, head, trees)
    yield "box", box, lambda raw: node_json.sighting_of(_object(raw), node_json.box_in(SERVER, box["boxId"], raw, ()))
    yield "any box", box, box_of_json
    yield "list", first("box/unspent/byErgoTree"), lambda raw: [box_of_json(item) for item in node_json.items_of(raw)]
    yield "one of many", first("box/byErgoTree"), node_json.one_of_many
    yield "placed", first("/blockchain/transaction/byId/"), node_json.placed_of
    yield "token", first("/blockchain/token/byId/"), issued_of
    yield "explorer's state", {"height": 9, "lastBlockId": "cd" * 32}, explorer._state
    yield "explorer's page", page, lambda raw: [explorer._sighting(item, ()) for item in explorer._page(raw)[0]]
    yield "explorer's box", shown, lambda raw: explorer._whole(SERVER, _object(raw), ())


def _object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ShapeError("no object")
    return raw


SAMPLES: Final = {name: (sample, parse) for name, sample, parse in samples()}


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside of a JSON value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def mutated(chance: random.Random, sample: Any) -> Any:
    """The sample with one to three of its values exchanged, left out, doubled or cut."""
    if chance.random() < 0.02:
        return chance.choice(ODD)
    value = copy.deepcopy(sample)
    for _ in range(chance.randint(1, 3)):
        inside = places(value)
        if not inside:
            break
        container, key = chance.choice(inside)
        match chance.randrange(5):
            case 0 if isinstance(container, dict):
                del container[key]
            case 1 if isinstance(container, list):
                container.append(copy.deepcopy(container[key]))
            case 2 if isinstance(container[key], str):
                container[key] = container[key][: chance.randrange(len(container[key]) + 1)]
            case 3 if isinstance(container[key], int):
                container[key] += chance.choice((-1, 1, 2**32))
            case _:
                container[key] = copy.deepcopy(chance.choice(ODD))
    return value


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_parse__when__an_answer_is_mutated__then__read_or_the_edge_s_own_error(name: str, count: int) -> None:
    sample, parse = SAMPLES[name]
    parse(sample)
    chance, refused = random.Random(f"{name} {count}"), 0
    for _ in range(count):
        value = mutated(chance, sample)
        try:
            parse(value)
        except (ShapeError, ForgedError, WorkError, SourceError) as error:
            refused += 1
            assert len(str(error)) < 500
    assert refused, "the mutations must spoil something"
