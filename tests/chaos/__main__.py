"""`python -m tests.chaos [--minutes 60] [--sequences N] [--seed N]`: random sequences until the time is up, and what was met.

Ends non-zero when a promise was broken (the smallest sequence is printed; `--replay` plays one again) or a rule or an end was never met.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
import time
import traceback

from .promises import BrokenPromise
from .run import Stage, explore, stage

BATCH = 100  # sequences between two lines of progress
WORKERS = 1 + (os.cpu_count() or 1)  # each of them waits a quarter of its time
ENDLESS = 10**9
APART = 100_000  # between the seeds of two workers


def main() -> int:
    options = _options()
    return _alone(options) if options.replay or options.workers == 1 else _together(options)


def _together(options: argparse.Namespace) -> int:
    """A share for each worker, in processes of their own; the first that fails ends them all."""
    endless = options.sequences >= ENDLESS
    share = ENDLESS if endless else -(-options.sequences // options.workers)
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--workers=1",
        f"--minutes={options.minutes}",
        f"--sequences={share}",
    ]
    seeds = [options.seed + number * APART for number in range(options.workers)]
    running = [subprocess.Popen([*command, f"--seed={seed}"]) for seed in seeds]
    try:
        while any(worker.poll() is None for worker in running) and not any(worker.poll() for worker in running):
            time.sleep(0.5)
    finally:
        for worker in running:
            worker.terminate()
    return max(abs(worker.wait()) for worker in running)


def _alone(options: argparse.Namespace) -> int:
    with stage() as on:
        try:
            if options.replay:
                on.play(ast.literal_eval(options.replay))
            else:
                _explore(on, options.minutes * 60, options.sequences, options.seed)
        except (BrokenPromise, ExceptionGroup) as error:
            _tell(on, error)
            return 1
        _count(on)
        missing = [] if options.replay else on.tally.missing()
        if on.tally.sequences < options.sequences < ENDLESS:
            missing.append(f"{options.sequences - on.tally.sequences} of the sequences: the time was up")
    print(f"never met: {', '.join(missing)}" if missing else "every rule and every end was met")
    return 1 if missing else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--sequences", type=int, default=ENDLESS, help="in all, if the time is not up before")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch; the others count on from it")
    parser.add_argument("--replay", help="a sequence as it was printed")
    return parser.parse_args()


def _explore(on: Stage, seconds: float, sequences: int, seed: int) -> None:
    begin = time.monotonic()
    batch = 0
    while time.monotonic() - begin < seconds and on.tally.sequences < sequences:
        explore(on, min(BATCH, sequences - on.tally.sequences), seed + batch)
        batch += 1
        rate = on.tally.sequences / (time.monotonic() - begin)
        print(f"{on.tally.sequences} sequences, {rate:.1f} a second, ends {dict(on.tally.ends)}", flush=True)


def _count(on: Stage) -> None:
    for name, counts in (("rules", on.tally.rules), ("ends", on.tally.ends), ("met", on.tally.felt)):
        print(f"{name:6}" + "  ".join(f"{what} {count}" for what, count in counts.most_common()))


def _tell(on: Stage, error: BrokenPromise | ExceptionGroup[Exception]) -> None:
    if not isinstance(error, BrokenPromise):
        traceback.print_exception(error)
    print(f"BROKEN: {error}")
    print(f"smallest sequence: {list(on.failed)!r}")
    print("what the daemon said last:", *list(on.heard.lines)[-30:], sep="\n  ")


sys.exit(main())
