"""Random histories of a daemon on a chain that reorganises, sources that fail and lie, rivals, crashes and full disks; promises kept."""

import sys
from pathlib import Path

# `python -m tests.chaos` finds the helpers as the test runner does: beside this folder.
if (beside := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, beside)
