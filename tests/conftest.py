"""Makes the helper modules beside this file (`offchain`, `onchain`) importable from every folder of tests."""

from __future__ import annotations

from hypothesis import settings

# Machines that run tests are shared and slow; what an example may take says nothing about the code.
settings.register_profile("aihd", deadline=None)
settings.load_profile("aihd")
