"""Kill the daemon at every journal boundary and around every call to the outside, start it again, and compare the ends."""

import sys
from pathlib import Path

# `python -m tests.crash` finds the helpers as the test runner does: beside this folder.
if (beside := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, beside)
