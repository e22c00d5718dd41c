"""How the embedded gateway meets its clients: nodo's gate, its limit on calls, and the work for client ids."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass

from aihd.nodo.pb import aihd_celaut_pb2 as pb

GATE = "This RPC requires a client_id minted by GenerateClient first. Wrong or missing client_id: {client_id!r}"


class NodeError(Exception):
    """What nodo raises in a handler, with its text."""


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `calls` in `window` seconds; who makes more is shut out for `quarantine` seconds."""

    calls: int = 120
    window: float = 60.0
    quarantine: float = 300.0


class CallLimit:
    """Counts the calls of each client."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)
        self._shut_until: dict[str, float] = {}

    def count(self, client_id: str) -> None:
        """One more call; NodeError when it is one too many, or comes in quarantine."""
        now, calls = time.monotonic(), self._calls[client_id]
        while calls and calls[0] < now - self._limits.window:
            calls.popleft()
        if now >= self._shut_until.get(client_id, 0.0) and len(calls) < self._limits.calls:
            calls.append(now)
            return
        if now >= self._shut_until.get(client_id, 0.0):
            calls.clear()
            self._shut_until[client_id] = now + self._limits.quarantine
        raise NodeError(too_fast(client_id))


def too_fast(client_id: str) -> str:
    """What nodo says to a client in quarantine."""
    return f"Client {client_id} is calling too fast and is temporarily quarantined."


class Work:
    """Challenges for client ids, remembered by nobody: a challenge carries its own proof that we made it."""

    def __init__(self, difficulty: int) -> None:
        """`difficulty`: hex zeros that a client id costs; 0 for none."""
        self.difficulty = difficulty
        self._secret = secrets.token_bytes(32)

    def demand(self, client: pb.Client) -> pb.PoWRequired | None:
        """What the client still has to do; None when nothing."""
        if not self.difficulty or self._solved(client):
            return None
        challenge = self._challenge(client.client_id, secrets.token_hex(8))
        return pb.PoWRequired(challenge=challenge, difficulty=self.difficulty)

    def _challenge(self, client_id: str, nonce: str) -> str:
        text = f"{client_id}:{nonce}:{self.difficulty}"
        return f"{text}:{hmac.digest(self._secret, text.encode(), 'sha256').hex()}"

    def _solved(self, client: pb.Client) -> bool:
        parts = client.challenge.split(":")
        if len(parts) != 4 or client.challenge != self._challenge(client.client_id, parts[1]):
            return False
        work = hashlib.blake2b((client.challenge + client.pow_solution).encode()).hexdigest()
        return work.endswith("0" * self.difficulty)


def is_client_id(text: str) -> bool:
    """Whether a text has the form of the client ids that a gated nodo takes."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
