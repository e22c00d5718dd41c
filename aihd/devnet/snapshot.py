"""A chain in a file, to start from again.

Facts about boxes stand beside their bytes, so that nothing has to be parsed or validated when it is read: a snapshot is
trusted like the program that wrote it, and only the hashes of its headers are checked.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ergo_lib_python.chain import NetworkPrefix

from aihd.devnet.blocks import Block, blake2b, header_bytes
from aihd.devnet.chain import Chain, Saved
from aihd.devnet.views import BoxView, TxView
from aihd.errors import UsageError, one_line

FORMAT: Final = "aihd devnet 1"


def write_snapshot(saved: Saved, path: Path) -> None:
    """Writes a chain; a file of this name is replaced once the new one is whole. OSError where that fails."""
    trees = _Trees()
    document = {
        "format": FORMAT,
        "seed": saved.seed.hex(),
        "network": int(saved.network),
        "parameters": dict(saved.parameters),
        "forks": saved.forks,
        "genesis": [_box_row(view, trees) for view in saved.genesis],
        "blocks": [_block_row(block, trees) for block in saved.blocks],
        "side": [_block_row(block, trees) for block in saved.side],
        "waiting": [_tx_row(view, trees) for view in saved.waiting],
        "trees": list(trees),
    }
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(document, separators=(",", ":")))
    part.replace(path)


def restore_snapshot(chain: Chain, path: Path) -> None:
    """Makes a chain that of a file; UsageError where it is none, not whole, or of another network."""
    with _no_collection():
        chain.restore(read_snapshot(path))


def read_snapshot(path: Path) -> Saved:
    """The chain of a file; UsageError where it is none, or not whole."""
    try:
        return _read(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(f"snapshot {os.fspath(path)}: not a snapshot of this version: {one_line(error)}") from error


class _Trees(dict[str, int]):
    """Numbers trees as they come: many boxes stand under one."""

    def __missing__(self, tree: str) -> int:
        number = self[tree] = len(self)
        return number


@contextmanager
def _no_collection() -> Iterator[None]:
    """The collector would walk through hundred thousands of new objects again and again, and find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _box_row(view: BoxView, trees: _Trees) -> list[Any]:
    fixed = [view.raw.hex(), view.box_id, trees[view.tree], view.value, view.creation_height]
    return [*fixed, view.tokens, view.registers] if view.tokens or view.registers else fixed


def _tx_row(view: TxView, trees: _Trees) -> list[Any]:
    outputs = [_box_row(box, trees) for box in view.outputs]
    return [view.raw.hex(), view.tx_id, view.inputs, view.data_inputs, view.fee, outputs]


def _block_row(block: Block, trees: _Trees) -> list[Any]:
    return [block.header, [_tx_row(view, trees) for view in block.transactions]]


def _read(document: dict[str, Any]) -> Saved:
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r} and not {FORMAT!r}")
    trees = document["trees"]
    return Saved(
        seed=bytes.fromhex(document["seed"]),
        network=NetworkPrefix.Mainnet if document["network"] == int(NetworkPrefix.Mainnet) else NetworkPrefix.Testnet,
        parameters=document["parameters"],
        forks=document["forks"],
        genesis=tuple(_box(row, "00" * 32, index, trees) for index, row in enumerate(document["genesis"])),
        blocks=tuple(_block(row, trees) for row in document["blocks"]),
        side=tuple(_block(row, trees) for row in document["side"]),
        waiting=tuple(_transaction(row, trees) for row in document["waiting"]),
    )


def _block(row: list[Any], trees: list[str]) -> Block:
    header, transactions = row
    if blake2b(header_bytes(header)).hex() != header["id"]:
        raise ValueError(f"the header of height {header['height']} has another hash than its id")
    return Block(header, tuple(_transaction(each, trees) for each in transactions))


def _transaction(row: list[Any], trees: list[str]) -> TxView:
    raw, tx_id, inputs, data_inputs, fee, outputs = row
    boxes = tuple(_box(each, tx_id, index, trees) for index, each in enumerate(outputs))
    return TxView(bytes.fromhex(raw), tx_id, tuple(inputs), tuple(data_inputs), boxes, fee)


def _box(row: list[Any], tx_id: str, index: int, trees: list[str]) -> BoxView:
    raw, box_id, tree, value, creation_height, *content = row
    tokens, registers = content or ((), ())
    held = tuple((token_id, amount) for token_id, amount in tokens)
    return BoxView(
        bytes.fromhex(raw), box_id, tx_id, index, trees[tree], value, creation_height, held, tuple(registers)
    )
