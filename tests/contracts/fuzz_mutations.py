"""Mutations of a transaction, each named by an operation and three small numbers.

A mutation is total: whatever the numbers, it does something to any draft or leaves it as it is. `mutant` applies a recipe and then repairs
what a chain would refuse before it runs a script (sums of ERG and tokens, heights), paid by the mutator's own purse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ergo_lib_python.chain import Constant, ErgoBox

from aihd.protocol import codec
from aihd.protocol.codec import INT_RANGE, LONG_RANGE
from aihd.protocol.constants import (
    BOND_RESERVE,
    COOLDOWN,
    MAX_MINER_FEE,
    MIN_BOX,
    RATING_VALUE,
    RECEIPT_RETENTION,
    RECEIPT_VALUE,
    SLACK,
)
from aihd.protocol.deployment import Guard

from . import fuzz_tx
from .chain import CLIENT, NODE, RIVAL, STRANGER, TREASURER, Draft, Out
from .fuzz_seeds import FORGED, JUNK, THIRD, Around, Colluders, Seed
from .fuzz_tx import MIN_PER_BYTE, Seen, box_size, numbers, seen, strings
from .world import ASSET, BOND_TOKEN, ERG, OTHER, SALT, TASK

AMOUNTS: Final = (
    1,
    10_000,
    MIN_BOX,
    MAX_MINER_FEE,
    MAX_MINER_FEE + 1,
    RECEIPT_VALUE,
    RATING_VALUE,
    BOND_RESERVE + 1,
    ERG // 20,
    ERG // 10,
    ERG,
)
BLOCKS: Final = (1, 2, 5, 19, 20, SLACK, SLACK + 1, 49, 50, 51, 100, COOLDOWN, RECEIPT_RETENTION)
IDS: Final = (TASK, OTHER, THIRD, FORGED)
PARTIES: Final = (STRANGER, NODE, CLIENT, RIVAL)
_ANYBODY: Final = Constant.from_bytes(b"\x08\xd3")
_EITHER: Final = Constant.from_bytes(b"\x08\x97\x02\xcd" + NODE.pk + b"\xcd" + STRANGER.pk)


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change: an operation of `OPERATIONS` and what it applies to, as numbers that it takes modulo what there is."""

    operation: str
    a: int = 0
    b: int = 0
    c: int = 0

    def __str__(self) -> str:
        return f"{self.operation}({self.a}, {self.b}, {self.c})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A mutant: which honest transaction (modulo their number), whose keys, which mutations in order."""

    seed: int
    colluders: Colluders
    mutations: tuple[Mutation, ...]

    def __str__(self) -> str:
        return f"{self.seed} {self.colluders.name} {' '.join(map(str, self.mutations))}"


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What recipes are made with."""

    seeds: Sequence[Seed]
    around: Around
    trees: Mapping[Guard, bytes]

    def mutant(self, recipe: Recipe) -> tuple[Seed, Draft]:
        """The honest transaction of a recipe, and what becomes of it."""
        seed = self.seeds[recipe.seed % len(self.seeds)]
        draft = seed.draft
        for mutation in recipe.mutations:
            draft = OPERATIONS[mutation.operation](Bench(self, draft), mutation.a, mutation.b, mutation.c)
        return seed, self._lawful(_owned(draft, recipe.colluders, self.around))

    def _lawful(self, draft: Draft) -> Draft:
        draft = _conserved(_in_time(draft), self.around.junk)
        left = sum(seen(box).value for box in draft.inputs) - sum(out.value for out in draft.outputs)
        if left != 0 and left < MIN_BOX:
            draft = draft.spend(len(draft.inputs), self.around.purse)
        return draft


def _owned(draft: Draft, colluders: Colluders, around: Around) -> Draft:
    """Coins and change of those who do not take part become the stranger's."""
    mine = {party.tree for party in colluders.parties}
    inputs = tuple(
        around.purse if _is_coin(box) and seen(box).tree not in mine and box is not around.junk else box
        for box in draft.inputs
    )
    once = {seen(box).id: box for box in inputs}
    change = draft.change if draft.change in mine else STRANGER.tree
    return replace(
        draft,
        inputs=tuple(once.values()),
        change=change,
        variables=_reaching(draft, len(once)),
        signers=colluders.parties,
    )


def _reaching(draft: Draft, inputs: int) -> Mapping[int, Mapping[int, Constant]]:
    return {index: found for index, found in draft.variables.items() if index < inputs and found}


def _is_coin(box: ErgoBox) -> bool:
    return seen(box).tree in {party.tree for party in PARTIES}


def _in_time(draft: Draft) -> Draft:
    """Creation heights between the newest input's and the block's."""
    oldest, newest = max(seen(box).height for box in draft.inputs), draft.tip + 1

    def within(height: int) -> int:
        return min(max(height, oldest), newest)

    outs = tuple(out if out.height is None else replace(out, height=within(out.height)) for out in draft.outputs)
    return replace(draft, outputs=outs, height=within(draft.height))


def _conserved(draft: Draft, junk: ErgoBox) -> Draft:
    """No output holds a unit that no input brought, but for those that the transaction may mint; no value is dust."""
    if any(token == JUNK for out in draft.outputs for token, _ in out.tokens) and not _spends(draft, junk):
        draft = draft.spend(len(draft.inputs), junk)
    have: Counter[bytes] = Counter()
    for box in draft.inputs:
        for token, amount in seen(box).tokens:
            have[token] += amount
    mintable = seen(draft.inputs[0]).id
    outs = []
    for out in draft.outputs:
        kept = []
        for token, wanted in out.tokens:
            amount = wanted if token == mintable else min(wanted, have[token])
            have[token] -= amount
            kept += [(token, amount)] if amount > 0 else []
        bare = replace(out, tokens=tuple(kept), value=0)
        least = MIN_PER_BYTE * (box_size(Seen.made(bare, draft.height)) + 9)
        outs.append(replace(bare, value=max(out.value, least)))
    return replace(draft, outputs=tuple(outs))


def _spends(draft: Draft, box: ErgoBox) -> bool:
    return any(seen(spent).id == seen(box).id for spent in draft.inputs)


@dataclass(frozen=True, slots=True)
class Bench:
    """A draft under mutation, with what an operation may reach for."""

    kitchen: Kitchen
    draft: Draft

    def index(self, number: int) -> int:
        return number % len(self.draft.outputs)

    def out(self, number: int) -> Out:
        return self.draft.outputs[self.index(number)]

    def put(self, number: int, out: Out) -> Draft:
        at = self.index(number)
        return replace(self.draft, outputs=(*self.draft.outputs[:at], out, *self.draft.outputs[at + 1 :]))

    def box(self, number: int) -> ErgoBox:
        boxes = self.kitchen.around.boxes
        return boxes[number % len(boxes)]

    def tree(self, number: int) -> bytes:
        trees = (*(party.tree for party in (*PARTIES, TREASURER)), *self.kitchen.trees.values())
        return trees[number % len(trees)]


Operation = Callable[[Bench, int, int, int], Draft]


# Values


def shift(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An amount moves from one output to another: ERG stays balanced."""
    giver, taker, amount = bench.index(a), bench.index(b), AMOUNTS[c % len(AMOUNTS)]
    return bench.draft.value(giver, -amount).value(taker, amount)


def take(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output is worth less; the rest is the mutator's change."""
    return bench.draft.value(bench.index(a), -AMOUNTS[b % len(AMOUNTS)])


def give(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output is worth more than it need be."""
    return bench.draft.value(bench.index(a), AMOUNTS[b % len(AMOUNTS)])


def skim(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output keeps the least it may hold."""
    return bench.draft.out(bench.index(a), value=MIN_BOX)


# Registers


def tweak(bench: Bench, a: int, b: int, c: int) -> Draft:
    """A register keeps its type, and one thing in it changes."""
    out = bench.out(a)
    if not out.registers:
        return bench.draft
    place, inside = b % len(out.registers), b // len(out.registers)
    return _set(bench, a, place, tweaked(out.registers[place], inside, c))


def retype(bench: Bench, a: int, b: int, c: int) -> Draft:
    """A register becomes a value of another kind, or another key."""
    out = bench.out(a)
    return _set(bench, a, b % len(out.registers), FOREIGN[c % len(FOREIGN)]) if out.registers else bench.draft


def copy_register(bench: Bench, a: int, b: int, c: int) -> Draft:
    """A register of one output is copied from another output, or from a box around."""
    out, other = bench.out(a), bench.out(c).registers
    if not out.registers or not other:
        return bench.draft
    place = b % len(out.registers)
    return _set(bench, a, place, other[b % len(other)])


def cut_registers(bench: Bench, a: int, b: int, c: int) -> Draft:
    """Registers are missing from one on."""
    out = bench.out(a)
    return bench.put(a, replace(out, registers=out.registers[: b % (len(out.registers) + 1)]))


def add_register(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output has one more register, where there is room."""
    out = bench.out(a)
    return bench.put(a, replace(out, registers=(*out.registers, FOREIGN[b % len(FOREIGN)])[:6]))


def swap_registers(bench: Bench, a: int, b: int, c: int) -> Draft:
    """Two registers of an output change places."""
    registers = list(bench.out(a).registers)
    if registers:
        i, j = b % len(registers), c % len(registers)
        registers[i], registers[j] = registers[j], registers[i]
    return bench.put(a, replace(bench.out(a), registers=tuple(registers)))


def _set(bench: Bench, a: int, place: int, constant: Constant) -> Draft:
    return bench.draft.register(bench.index(a), place + 4, constant)


def tweaked(constant: Constant, inside: int, how: int) -> Constant:
    """The constant with one of its numbers, bytes or items changed."""
    raw = bytes(constant)
    match raw[0]:
        case fuzz_tx.INT | fuzz_tx.LONG:
            low, high = INT_RANGE if raw[0] == fuzz_tx.INT else LONG_RANGE
            (value,) = numbers(b"\x01" + raw[1:])
            make = codec.int_constant if raw[0] == fuzz_tx.INT else codec.long_constant
            return make(_moved(value, how, low, high))
        case fuzz_tx.COLL_INT:
            return codec.coll_int(_moved_list(numbers(raw[1:]), inside, how, INT_RANGE))
        case fuzz_tx.COLL_LONG:
            return codec.coll_long(_moved_list(numbers(raw[1:]), inside, how, LONG_RANGE))
        case fuzz_tx.COLL_BYTE:
            return codec.coll_byte(_moved_bytes(raw_bytes(raw), how))
        case fuzz_tx.COLL_COLL_BYTE:
            return codec.coll_coll_byte(_moved_items(strings(raw[1:]), inside, how))
        case _:
            return codec.sigma_prop(PARTIES[how % len(PARTIES)].pk)


def raw_bytes(raw: bytes) -> bytes:
    """The bytes of a serialized Coll[Byte]."""
    return strings(b"\x01" + raw[1:])[0]


def _moved(value: int, how: int, low: int, high: int) -> int:
    steps = [sign * step for step in (1, 2, 10, *BLOCKS, *AMOUNTS) for sign in (1, -1)]
    choices = (*(value + step for step in steps), 0, -value, low, high, value * 2, value // 2)
    return min(max(choices[how % len(choices)], low), high)


def _moved_list(values: Sequence[int], inside: int, how: int, bounds: tuple[int, int]) -> list[int]:
    listed = list(values)
    if not listed or how % 16 == 15:
        return listed[:-1] if listed and inside % 2 else [*listed, how]
    place = inside % len(listed)
    listed[place] = _moved(listed[place], how, *bounds)
    return listed


def _moved_bytes(value: bytes, how: int) -> bytes:
    flipped = bytes([value[0] ^ 1]) + value[1:] if value else b"\x00"
    choices = (
        flipped,
        value[:-1],
        value + b"x",
        b"",
        value + b"x" * 40,
        value + b"\xff",
        value[::-1],
        b"y" * 3000,
        *IDS,
    )
    return choices[how % len(choices)]


def _moved_items(items: Sequence[bytes], inside: int, how: int) -> list[bytes]:
    listed, place = list(items), inside % (len(items) or 1)
    gone = listed[:place] + listed[place + 1 :]
    choices: tuple[list[bytes], ...] = (
        gone,
        [*listed, IDS[inside % len(IDS)]],
        listed[::-1],
        listed * 2,
        [],
        [_moved_bytes(i, inside) for i in listed],
    )
    return choices[how % len(choices)]


# Tokens


def move_token(bench: Bench, a: int, b: int, c: int) -> Draft:
    """Units of a token move from one output to another."""
    giver, taker = bench.out(a), bench.out(b)
    if not giver.tokens or bench.index(a) == bench.index(b):
        return bench.draft
    token, amount = giver.tokens[c % len(giver.tokens)]
    moved = 1 if c % 2 else amount
    left = tuple((t, n - moved if t == token else n) for t, n in giver.tokens if t != token or n > moved)
    draft = bench.put(a, replace(giver, tokens=left))
    return replace(bench, draft=draft).put(b, replace(taker, tokens=_plus(taker, token, moved).tokens))


def mint(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output gets units of a token: of the one that this transaction may mint, of ours, or of junk; sums are repaired later."""
    some = (seen(bench.draft.inputs[0]).id, JUNK, BOND_TOKEN, TASK, OTHER, ASSET)
    return bench.put(a, _plus(bench.out(a), some[b % len(some)], c % 3 + 1))


def burn(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output holds fewer units, or no token at all."""
    out = bench.out(a)
    less = tuple((token, amount - 1) for token, amount in out.tokens) if b % 2 else ()
    return bench.put(a, replace(out, tokens=less))


def front_token(bench: Bench, a: int, b: int, c: int) -> Draft:
    """Another token stands before those of an output."""
    out = bench.out(a)
    return bench.put(a, replace(out, tokens=((JUNK, 1), *(held for held in out.tokens if held[0] != JUNK))))


def _plus(out: Out, token: bytes, amount: int) -> Out:
    held = dict(out.tokens)
    held[token] = held.get(token, 0) + amount
    return replace(out, tokens=tuple(held.items()))


# Outputs


def flip(bench: Bench, a: int, b: int, c: int) -> Draft:
    return bench.draft.flip(bench.index(a), bench.index(b))


def double(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output is there twice."""
    return bench.draft.insert(b % (len(bench.draft.outputs) + 1), bench.out(a))


def drop(bench: Bench, a: int, b: int, c: int) -> Draft:
    return bench.draft.without(bench.index(a)) if len(bench.draft.outputs) > 1 else bench.draft


def divide(bench: Bench, a: int, b: int, c: int) -> Draft:
    """The value of an output is shared with a second one of the same kind."""
    out = bench.out(a)
    half = replace(out, value=out.value // 2)
    return replace(bench, draft=bench.put(a, half)).draft.add(replace(half, tokens=()))


def retree(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output lies under another script."""
    return bench.draft.out(bench.index(a), tree=bench.tree(b))


def pay(bench: Bench, a: int, b: int, c: int) -> Draft:
    """One more output, under any script, to any of the places."""
    at = (len(bench.draft.outputs), bench.index(c))[b % 2]
    return bench.draft.insert(at, Out(AMOUNTS[b % len(AMOUNTS)], bench.tree(a)))


def imitate(bench: Bench, a: int, b: int, c: int) -> Draft:
    """One more output that is a copy of an output, without its tokens, at the end."""
    return bench.draft.add(replace(bench.out(a), tokens=()))


# Inputs and context


def spend(bench: Bench, a: int, b: int, c: int) -> Draft:
    """One more input from the boxes around."""
    places = (len(bench.draft.inputs), *range(len(bench.draft.inputs)))
    return bench.draft.spend(places[b % len(places)], bench.box(a))


def replace_input(bench: Bench, a: int, b: int, c: int) -> Draft:
    return bench.draft.instead(b % len(bench.draft.inputs), bench.box(a))


def drop_input(bench: Bench, a: int, b: int, c: int) -> Draft:
    at, inputs = a % len(bench.draft.inputs), bench.draft.inputs
    return replace(bench.draft, inputs=inputs[:at] + inputs[at + 1 :]) if len(inputs) > 1 else bench.draft


def flip_inputs(bench: Bench, a: int, b: int, c: int) -> Draft:
    inputs = list(bench.draft.inputs)
    i, j = a % len(inputs), b % len(inputs)
    inputs[i], inputs[j] = inputs[j], inputs[i]
    return replace(bench.draft, inputs=tuple(inputs))


def read(bench: Bench, a: int, b: int, c: int) -> Draft:
    """Data inputs, which prove nothing to any guard."""
    return bench.draft.read(*{seen(box).id: box for box in (bench.box(a), bench.box(b))}.values())


def variable(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An input gets a context variable, or loses those it has."""
    at = a % len(bench.draft.inputs)
    some: tuple[Constant, ...] = (codec.coll_byte(SALT), *FOREIGN)
    return bench.draft.with_variables(at, {c % 3: some[b % len(some)]} if b % 8 else {})


def creation(bench: Bench, a: int, b: int, c: int) -> Draft:
    """An output declares another creation height."""
    tip = bench.draft.tip
    heights = (tip + 1, tip - SLACK, tip + 1 - SLACK, tip + 2 - SLACK, 0)
    return bench.draft.out(bench.index(a), height=heights[b % len(heights)])


def later(bench: Bench, a: int, b: int, c: int) -> Draft:
    """The transaction is mined in a later block."""
    return bench.draft.at(bench.draft.tip + BLOCKS[a % len(BLOCKS)])


def earlier(bench: Bench, a: int, b: int, c: int) -> Draft:
    """The transaction is mined in an earlier block, but after the boxes it spends."""
    return bench.draft.at(max(bench.draft.tip - BLOCKS[a % len(BLOCKS)], 955))


FOREIGN: Final = (
    codec.int_constant(0),
    codec.long_constant(0),
    codec.coll_byte(b""),
    codec.coll_byte(TASK),
    codec.coll_long(()),
    codec.coll_long((ERG, 0, 1)),
    codec.coll_long((ERG, 0, 2)),
    codec.coll_long((ERG, ERG, 10**6, 1000, 0)),
    codec.coll_int((0, 0, 5, 5)),
    codec.coll_coll_byte(()),
    codec.coll_coll_byte((TASK, OTHER)),
    codec.coll_byte(b"z" * 3500),
    _ANYBODY,
    _EITHER,
    *(codec.sigma_prop(party.pk) for party in PARTIES),
)
OPERATIONS: Final[Mapping[str, Operation]] = {
    operation.__name__: operation
    for operation in (
        give, take, shift, skim, tweak, retype, copy_register, cut_registers, add_register, swap_registers,
        move_token, mint, burn, front_token, flip, double, drop, divide, retree, pay, imitate,
        spend, replace_input, drop_input, flip_inputs, read, variable, creation, later, earlier,
    )
}  # fmt: skip
