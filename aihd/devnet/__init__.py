"""An Ergo chain in one process, with the APIs that a daemon talks to; for tests and for trying things out."""

from aihd.devnet.server import Devnet

__all__ = ["Devnet"]
