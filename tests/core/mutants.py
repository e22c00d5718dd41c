"""`python tests/core/mutants.py`: would the core's tests notice if a rule of the core were another?

mutmut changes one expression at a time, and the core's own tests have to fail. It works on a copy, so nothing is left in the checkout. The
score is printed, then each survivor with the reason why it behaves as the original does (`EQUIVALENT`). One without a reason ends the run
with 1, and so does a score below `LEAST`. Takes five minutes. Views, explanations and books are left out: they are words and sums for a
reader, decide nothing, and every wording would be a mutant.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
COPIED: Final = ("aihd", "tests", "ergoscript", "config", "pyproject.toml")
LEAST: Final = 0.8
NOTICED: Final = ("killed", "timeout")  # a property test that fails looks long for the smallest example

_IGNORES_LIMITS: Final = "the deadlines that can be asked for here stand on the chain, and no margin is added to them"
# By the line that the mutant puts into the source.
EQUIVALENT: Final[Mapping[str, str]] = {
    "return _exec_deadline(task, None) - limits.release_margin": _IGNORES_LIMITS,
    "if _late(task, height, None):": _IGNORES_LIMITS,
    "return None if _late(task, height, None) else command": _IGNORES_LIMITS,
    "if not _late(task, height, None):": _IGNORES_LIMITS,
    "return Command.TIME_OUT if height > _exec_deadline(task, None) + limits.final_depth else None": _IGNORES_LIMITS,
    "if _late(task, height, None) or not (task.may_reveal or height > _commit_deadline(task, limits)):": _IGNORES_LIMITS,
    "if _late(task, height, limits) or not (task.may_reveal or height > _commit_deadline(task, None)):": _IGNORES_LIMITS,
    'self._tasks.setdefault(task_id, {})[key] = ""': "a dict used as an ordered set: its values are never read",
    "return 1": "`_progress` orders boxes of one kind only, and of a kind that has one state all are equal",
}


@dataclass(frozen=True, slots=True)
class Survivor:
    """A mutant that no test noticed: mutmut's name and verdict, and the lines that it takes out (-) and puts in (+)."""

    name: str
    verdict: str
    change: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        return next((EQUIVALENT[line[1:].strip()] for line in self.change if line[1:].strip() in EQUIVALENT), None)


def mutmut(folder: Path, *arguments: str) -> str:
    """What a command of mutmut prints. The examples of the property tests are the same in every run (CI is set)."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"CI": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def run(folder: Path) -> list[tuple[str, str]]:
    """Mutate a copy of the core; each mutant's name and verdict."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    mutmut(folder, "run")
    lines = mutmut(folder, "results", "--all", "true").splitlines()
    return [(name.strip(), verdict) for name, _, verdict in (line.rpartition(": ") for line in lines) if name]


def survivors(folder: Path, verdicts: list[tuple[str, str]]) -> Iterator[Survivor]:
    for name, verdict in verdicts:
        if verdict not in NOTICED:
            diff = mutmut(folder, "show", name).splitlines()
            change = [line for line in diff if line[:1] in ("-", "+") and line[:3] not in ("---", "+++")]
            yield Survivor(name, verdict, tuple(change))


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        verdicts = run(Path(name))
        alive = list(survivors(Path(name), verdicts))
    for survivor in alive:
        print(f"{survivor.verdict}: {survivor.name}\n  " + "\n  ".join(survivor.change))
        print(f"  {survivor.reason or 'NO REASON'}")
    score = 1 - len(alive) / max(1, len(verdicts))
    unexplained = [survivor for survivor in alive if survivor.reason is None]
    print(f"{len(verdicts)} mutants, {len(alive)} alive, {len(unexplained)} without a reason: score {score:.1%}")
    return 1 if unexplained or score < LEAST or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
