"""A deployment: the seven guards with their constants filled in, and the check of whether a box is one of ours.

Templates are trees compiled once with marker values in the slots that differ between deployments. Filling the slots needs no compiler.
A guard knows the scripts of those before it in `Guard`, and later ones only by BOND_TOKEN, so there is no cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from ergo_lib_python.chain import Constant, ErgoBox
from ergo_lib_python.ergo_tree import ErgoTree

from aihd.errors import ConfigError
from aihd.protocol.box import Box
from aihd.protocol.boxes import (
    Bond,
    ClaimedTask,
    Content,
    FailureReceipt,
    Minter,
    On,
    Rating,
    Receipt,
    TaskEscrow,
)
from aihd.protocol.codec import BoxError
from aihd.protocol.hashes import blake2b256
from aihd.protocol.trees import script_of


class Guard(StrEnum):
    """The guards, in the order in which a deployment is made."""

    FAILURE = "failure"
    RECEIPT = "receipt"
    RATING = "rating"
    CLAIMED = "claimed"
    BOND = "bond"
    MINTER = "minter"
    TASK = "task"


BOND_TOKEN: Final = "BOND_TOKEN"
TREASURY: Final = "TREASURY"
EXPIRY: Final = "EXPIRY"
# Every name that may stand for a slot; <GUARD>_HASH is blake2b256 of that guard's tree.
SLOT_NAMES: Final = (BOND_TOKEN, TREASURY, EXPIRY, *(f"{guard.upper()}_HASH" for guard in Guard))

CONTENT_OF: Final[Mapping[Guard, type[Content]]] = {
    Guard.FAILURE: FailureReceipt,
    Guard.RECEIPT: Receipt,
    Guard.RATING: Rating,
    Guard.CLAIMED: ClaimedTask,
    Guard.BOND: Bond,
    Guard.MINTER: Minter,
    Guard.TASK: TaskEscrow,
}
GUARD_OF: Final = {content: guard for guard, content in CONTENT_OF.items()}
C = TypeVar("C", bound=Content)


def slot_marker(name: str) -> Constant:
    """Returns the constant that stands in a template for the value of a slot: a Long for EXPIRY, 32 bytes for all others."""
    digest = blake2b256(b"aihd:slot:" + name.encode())
    return Constant.from_i64(int.from_bytes(digest[:7], "big")) if name == EXPIRY else Constant(digest)


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled guard: `tree` holds the markers, `slots` says at which indices of its constants table."""

    guard: Guard
    tree: bytes
    slots: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, guard: Guard, tree: bytes) -> Template:
        """Find the slots of a freshly compiled tree by their markers."""
        constants = [bytes(c) for c in ErgoTree.from_bytes(tree).constants()]
        found = {name: bytes(slot_marker(name)) for name in SLOT_NAMES}
        slots = {name: tuple(i for i, c in enumerate(constants) if c == marker) for name, marker in found.items()}
        return cls(guard, tree, {name: places for name, places in slots.items() if places})

    def fill(self, values: Mapping[str, Constant]) -> bytes:
        """The tree with each slot set to its value."""
        tree = ErgoTree.from_bytes(self.tree)
        for name, places in self.slots.items():
            for index in places:
                tree = tree.with_constant(index, values[name])
        return bytes(tree)


@dataclass(frozen=True, slots=True)
class Deployment:
    """The scripts of one market.

    `network` is mainnet, testnet or devnet; `treasury` is the ErgoTree that receives fees; `expiry` is the last height at which a bond
    may be opened or a task claimed.
    """

    network: str
    bond_token: bytes
    treasury: bytes
    expiry: int
    trees: Mapping[Guard, bytes]
    _guards: Mapping[bytes, Guard] = field(repr=False)

    @classmethod
    def make(
        cls, templates: Mapping[Guard, Template], *, network: str, bond_token: bytes, treasury: bytes, expiry: int
    ) -> Deployment:
        if len(bond_token) != 32:
            raise ConfigError(f"deployment: bond_token is {bond_token.hex()}, expected 32 bytes")
        if expiry <= 0:
            raise ConfigError(f"deployment: expiry is {expiry}, expected a height")
        values = {
            BOND_TOKEN: Constant(bond_token),
            TREASURY: Constant(treasury),
            EXPIRY: Constant.from_i64(expiry),
        }
        trees: dict[Guard, bytes] = {}
        for guard in Guard:
            trees[guard] = templates[guard].fill(values)
            values[f"{guard.upper()}_HASH"] = Constant(blake2b256(trees[guard]))
        return cls(
            network=network,
            bond_token=bond_token,
            treasury=treasury,
            expiry=expiry,
            trees=trees,
            _guards={tree: guard for guard, tree in trees.items()},
        )

    @property
    def id(self) -> str:
        """One hash over all scripts: two deployments with the same id are the same market."""
        return blake2b256(*(blake2b256(self.trees[guard]) for guard in Guard)).hex()

    def guard_of(self, box: ErgoBox | Box) -> Guard | None:
        return self._guards.get(script_of(box))

    def read(self, content: type[C], box: ErgoBox | Box) -> On[C]:
        """`box` as a typed box; BoxError when its script, tokens or registers are not those of a `content` of this deployment."""
        guard = GUARD_OF[content]
        if self.guard_of(box) is not guard:
            raise BoxError(f"box {_id_of(box)} does not stand under the {guard} guard of this deployment")
        found = On(box, content.read(box))
        self._check_tokens(guard, found)
        return found

    def _check_tokens(self, guard: Guard, found: On[Any]) -> None:
        expected: list[tuple[bytes | None, int | None]]
        match found.content:
            case Bond():
                expected = [(self.bond_token, 1)]
            case Minter():
                expected = [(self.bond_token, None)]
            case TaskEscrow(asset=asset, payment=payment):
                expected = [(asset, payment)] if asset else []
            case ClaimedTask(asset=asset, payment=payment):
                expected = [(None, 2), *([(asset, payment)] if asset else [])]
            case Rating(asset=asset, held=held_share):
                expected = [(None, 1), *([(asset, held_share)] if asset else [])]
            case Receipt(task_id=task_id):
                expected = [(task_id, 1)]
            case FailureReceipt(task_id=task_id):
                expected = [(task_id, 1)]
        held = found.tokens
        if len(held) != len(expected) or any(
            (want_id is not None and have_id != want_id) or (want is not None and have != want)
            for (have_id, have), (want_id, want) in zip(held, expected, strict=True)
        ):
            shown = ", ".join(f"{i.hex()[:16]}…x{n}" for i, n in held) or "no tokens"
            raise BoxError(f"{guard} box {found.id}: it holds {shown}, which a box of this kind does not")


def _id_of(box: ErgoBox | Box) -> str:
    return box.id if isinstance(box, Box) else str(box.box_id)
