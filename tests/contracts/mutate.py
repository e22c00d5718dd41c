"""`python -m tests.contracts.mutate [guard...]`: would the suite notice if a guard lost one of its conditions?

Each operand of each `&&` in a guard's source is replaced by `true`, at every depth; the guard is compiled and a whole market made of it.
A mutant is killed when both interpreters accept an attack, or sigma-rust refuses a twin. Survivors are printed with the reason why the
condition adds nothing (`EQUIVALENT`); one without a reason, or a reason without one, ends the run with 1. Takes minutes.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aihd.chain import contracts
from aihd.chain.appkit import Appkit, ScriptError
from aihd.protocol.deployment import Guard, Template

from . import fuzz_judge
from .chain import Draft
from .equivalent import EQUIVALENT
from .judge import Judge
from .suite import MODULES, all_cases, honest_drafts
from .world import World

_OPEN, _CLOSE = "([{", ")]}"
_ENDS = ("&&", "||", "\n", ",", " else ")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard whose source lost `operand` (in one line of text, with a number where it is not the first of its kind)."""

    guard: Guard
    operand: str
    line: int
    source: str

    @property
    def name(self) -> str:
        return f"{self.guard}:{self.line}: {self.operand}"


def mutants(guard: Guard, source: str, by: str = "true") -> Iterator[Mutant]:
    """One mutant for each operand of each `&&`, in the order of the source."""
    code = re.sub("//.*", "//", source)  # a line emptied of its comment would end the expression
    seen: Counter[str] = Counter()
    for start, end in sorted(_operands(code)):
        operand = " ".join(code[start:end].split())
        seen[operand] += 1
        numbered = operand if seen[operand] == 1 else f"{operand} #{seen[operand]}"
        yield Mutant(guard, numbered, code.count("\n", 0, start) + 1, code[:start] + by + code[end:])


def _operands(code: str) -> set[tuple[int, int]]:
    spots = [i for i in range(len(code)) if code.startswith("&&", i)]
    return {span for spot in spots for span in (_before(code, spot), _after(code, spot + 2))}


def _after(code: str, start: int) -> tuple[int, int]:
    """The operand that begins at or after `start`."""
    while code[start].isspace() or code.startswith("//", start) or code.startswith("//", start - 1):
        start += 1
    depth, end = 0, start
    while depth or not (code[end] in _CLOSE or code.startswith(_ENDS, end)):
        depth += (code[end] in _OPEN) - (code[end] in _CLOSE)
        end += 1
    return start, start + len(code[start:end].rstrip())


def _before(code: str, end: int) -> tuple[int, int]:
    """The operand that ends at or before `end`."""
    while code[end - 1].isspace():
        end -= 1
    depth, start = 0, end
    while depth or not _begins(code, start):
        start -= 1
        depth += (code[start] in _CLOSE) - (code[start] in _OPEN)
    start += len(code[start:end]) - len(code[start:end].lstrip())
    if code.startswith("else ", start):
        start += len("else ")
    if code.startswith("if (", start):  # `if (c) a && b else d`: the operand is a
        start = _after_group(code, start + 3)
    return start, end


def _begins(code: str, at: int) -> bool:
    """Whether an expression may begin at `at`: after an opening bracket, a line end, an operator or an assignment."""
    assigned = code.startswith((" = ", " => "), at - 3) or code.startswith(" = ", at - 2)
    return code[at - 1] in _OPEN or code.startswith(("&&", "||"), at - 2) or code[at - 1] in "\n," or assigned


def _after_group(code: str, at: int) -> int:
    depth = 0
    while True:
        depth += (code[at] in _OPEN) - (code[at] in _CLOSE)
        at += 1
        if not depth:
            return at + len(code[at:]) - len(code[at:].lstrip())


def compile_mutant(appkit: Appkit, mutant: Mutant) -> Template:
    return Template.of(mutant.guard, appkit.compile(mutant.source, contracts._environment()))


@dataclass(frozen=True, slots=True)
class Bench:
    """For each guard and module of the suite, the names of the attacks that nobody but this guard refuses: only these can tell a mutant."""

    appkit: Appkit
    telling: Mapping[Guard, Mapping[Any, set[str]]]

    @classmethod
    def of(cls, appkit: Appkit) -> Bench:
        world = World.of(contracts.templates())
        judge = Judge(world.deployment, appkit)
        telling: dict[Guard, dict[Any, set[str]]] = {guard: {} for guard in Guard}
        for module in MODULES:
            for case in all_cases(world, [module]):
                refusing = set(judge(case.attack).guards)
                if len(refusing) == 1 and (guard := next(iter(refusing))) in set(Guard):
                    telling[Guard(guard)].setdefault(module, set()).add(case.name)
        return cls(appkit, telling)

    def kills(self, mutant: Mutant) -> str | None:
        """What notices the mutant; None when nothing does."""
        world = World.of({**contracts.templates(), mutant.guard: compile_mutant(self.appkit, mutant)})
        both = Judge(world.deployment, self.appkit)

        def passes(draft: Draft) -> bool:
            """Whether sigma-rust accepts, asked once for each script."""
            return bool(fuzz_judge.Mutant(world.deployment, draft).passes_rust()[0])

        telling = self.telling[mutant.guard]
        for module in sorted(telling, key=lambda module: -len(telling[module])):
            for case in all_cases(world, [module]):
                if case.name in telling[module] and passes(case.attack):
                    agreed = both(case.attack, case.twin).accepted
                    return case.name if agreed else f"{case.name} (the interpreters disagree)"
        return next((f"honest {name}" for name, draft in honest_drafts(world) if not passes(draft)), None)


def main(names: list[str]) -> int:
    guards = [Guard(name) for name in names] or list(Guard)
    wrong = total = 0
    with Appkit() as appkit:
        bench = Bench.of(appkit)
        for guard in guards:
            for mutant in _compiling(appkit, guard):
                total += 1
                killer = bench.kills(mutant)
                reason = EQUIVALENT.get((guard, mutant.operand))
                wrong += (killer is None) == (reason is None)
                print(
                    f"{'killed  ' if killer else 'SURVIVES'} {mutant.name[:110]} | {_why(killer, reason)}", flush=True
                )
    print(f"{total} mutants, of {wrong} the table of reasons says something else")
    return 1 if wrong else 0


def _why(killer: str | None, reason: str | None) -> str:
    if killer and reason:
        return f"{killer}, and yet there is a reason why nothing should notice"
    return killer or reason or "no reason"


def _compiling(appkit: Appkit, guard: Guard) -> Iterator[Mutant]:
    """The mutants, `true` written as a SigmaProp where the compiler asks for one."""
    source = contracts.source_of(guard)
    for plain, sigma in zip(mutants(guard, source), mutants(guard, source, "sigmaProp(true)"), strict=True):
        try:
            compile_mutant(appkit, plain)
        except ScriptError:
            yield replace(sigma, operand=plain.operand)
        else:
            yield plain


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
