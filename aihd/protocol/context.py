"""The context in which a script is evaluated: the next block as a node fabricates it for its mempool.

HEIGHT is the height of the newest header plus one, the timestamp is the newest plus 1 ms, the miner is the generator
point and the votes are empty, so a transaction that passes here passes a node with the same tip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ergo_lib_python.chain import ErgoStateContext, Header, Parameters, PreHeader

from aihd.errors import DependencyError, one_line
from aihd.protocol.trees import GENERATOR

HEADERS = 10  # ergo-lib takes exactly this many; scripts may rely on fewer (see docs/protocol.md on CONTEXT.headers)


def state_context(headers: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> ErgoStateContext:
    """The context of the block after `headers[0]`.

    `headers`: at least 10, in node JSON, newest first (a node's lastHeaders is the other way round; the Explorer's
    string `powSolutions.d` is understood). `parameters`: `/info.parameters` of a node or `/networkState.params`.
    DependencyError where headers are missing, cannot be read, or do not descend one by one.
    """
    newest_first = list(headers[:HEADERS])
    _check_linked(newest_first)
    upcoming = next_header(newest_first[0])
    return ErgoStateContext(
        PreHeader(_parse(upcoming)),
        [_parse(header) for header in newest_first],
        Parameters.from_json(dict(parameters)),
    )


def next_header(tip: Mapping[str, Any]) -> dict[str, Any]:
    """The header a node assumes for the block after `tip`; only the fields that scripts can see are meant."""
    solution = {"pk": GENERATOR.hex(), "w": GENERATOR.hex(), "n": "00" * 8, "d": 0}
    return {
        **tip,
        "parentId": tip["id"],
        "height": tip["height"] + 1,
        "timestamp": tip["timestamp"] + 1,
        "votes": "000000",
        "powSolutions": solution,
    }


def _check_linked(headers: Sequence[Mapping[str, Any]]) -> None:
    if len(headers) < HEADERS:
        raise DependencyError(f"the chain source gave {len(headers)} headers where scripts need the last {HEADERS}")
    for child, parent in pairwise(headers):
        if child["parentId"] != parent["id"] or child["height"] != parent["height"] + 1:
            raise DependencyError(
                f"the headers at heights {child['height']} and {parent['height']} do not follow each other: "
                "they must come newest first, each followed by its parent"
            )


def _parse(header: Mapping[str, Any]) -> Header:
    """A header from JSON. ergo-lib reads `powSolutions.d`, 256 bits in blocks that the node mined itself, from a string only."""
    try:
        solution = header["powSolutions"]
        return Header.from_json({**header, "powSolutions": {**solution, "d": str(int(solution["d"]))}})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DependencyError(
            f"the header at height {str(header.get('height'))[:20]} cannot be read: {one_line(error, 120)}"
        ) from None
