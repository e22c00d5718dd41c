"""A daemon at its work while strangers do their worst to it. Bounded in number and time, and on this machine only."""

import sys
from pathlib import Path

# `python -m tests.hostile` finds the helpers as the test runner does: beside this folder.
if (beside := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, beside)
