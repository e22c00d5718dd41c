"""Named points at which a crash test kills the daemon: at every journal boundary, before and after every call to the outside.
Those of the disk can fail, too.

They do nothing unless the environment names a log, which only tests/crash does: then each point that is reached is written there with how
often it was ("submit claim: before#1"), and at the one that FAILPOINT_AT names the process kills itself as a power cut would.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Final

LOG: Final = "FAILPOINT_LOG"
AT: Final = "FAILPOINT_AT"


errors: Final[dict[str, int]] = {}
"""The number of the error by which a point of the disk fails; only tests put some in."""


def fail(name: str) -> None:
    """Raise the OSError that a test wants to see here."""
    if errors and (number := errors.get(name)) is not None:
        raise OSError(number, os.strerror(number))


def _recorder(path: str, at: str) -> Callable[[str], None]:
    reached: Counter[str] = Counter()

    def reach(name: str) -> None:
        reached[name] += 1
        point = f"{name}#{reached[name]}"
        with open(path, "a", encoding="utf-8") as log:  # noqa: PTH123 - as little as can be done before the end
            log.write(f"{point}\n")
        if point == at:
            os.kill(os.getpid(), signal.SIGKILL)

    return reach


def _nothing(name: str) -> None:
    """The point is not watched."""


reach: Final[Callable[[str], None]] = (
    _recorder(os.environ[LOG], os.environ.get(AT, "")) if LOG in os.environ else _nothing
)
