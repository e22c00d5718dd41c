"""An Ergo chain in one process, with the APIs that a bot, a wallet or a daemon talks to; for tests and for trying things out."""

from aihd.devnet.account import Account
from aihd.devnet.chain import Chain, RejectedError
from aihd.devnet.server import Devnet

__all__ = ["Account", "Chain", "Devnet", "RejectedError"]
