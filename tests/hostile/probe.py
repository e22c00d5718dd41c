"""Asks a page for its health, in a process of its own: `python -m tests.hostile.probe URL SECONDS`; how long answers took, as JSON."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request

PATIENCE = 3.0


def probe(url: str, seconds: float) -> list[float]:
    """Seconds that each answer took; one that did not come took PATIENCE."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                answer.read()
        except urllib.error.HTTPError:
            pass  # it answers that it is not well, and that is an answer
        except OSError:
            took.append(PATIENCE)
            continue
        took.append(time.monotonic() - begun)
        time.sleep(0.25)
    return took


if __name__ == "__main__":
    print(json.dumps(probe(sys.argv[1], float(sys.argv[2]))))
