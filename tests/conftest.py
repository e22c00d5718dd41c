"""Makes the helper modules beside this file (`offchain`, `onchain`) importable from every folder of tests."""
