"""Makes the helper modules beside this file (`offchain`, `onchain`) importable from every folder of tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Machines that run tests are shared and slow; what an example may take says nothing about the code.
# In CI the examples are the same in every run: a new one that fails is for a developer to find, not for a release to stumble on.
settings.register_profile("aihd", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("aihd")
