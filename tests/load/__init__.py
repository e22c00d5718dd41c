"""A daemon with its hands full is killed and started again: how soon it is ready, and that nothing is lost."""

import sys
from pathlib import Path

# `python -m tests.load` finds the helpers as the test runner does: beside this folder.
if (beside := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, beside)
