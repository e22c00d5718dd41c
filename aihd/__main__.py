"""`python -m aihd` is the `aihd` command."""

from aihd.cli import main

main()
