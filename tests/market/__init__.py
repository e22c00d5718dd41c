"""Two hundred tasks, three daemons, a chain that keeps changing its mind; every nanoERG is accounted for."""

import sys
from pathlib import Path

# `python -m tests.market` finds the chaos helpers as the test runner does: beside this folder.
if (beside := str(Path(__file__).parents[1])) not in sys.path:
    sys.path.insert(0, beside)
