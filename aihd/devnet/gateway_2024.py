"""Clients and instances of the nodo of June 2024, which writes neither into its database: it forgets both when it restarts.

An instance's token is `father##address##container`. What is asked about one that is gone ends in Python's own words.
"""

from __future__ import annotations

from pathlib import Path

from aihd.devnet.gateway_clients import NodeError
from aihd.devnet.gateway_rows import Ended, Started
from aihd.nodo.pb import aihd_celaut_pb2 as pb


class Memory:
    """The face of `Rows`, without a row."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._clients: dict[str, int] = {}
        self._instances: dict[str, Started] = {}

    def clear(self) -> None:
        """No instance runs."""
        self._instances.clear()

    def add_client(self, client: str, credit: int) -> None:
        """A new client, or one that exists as it is."""
        self._clients.setdefault(client, credit)

    def has_client(self, client: str) -> bool:
        """Whether a client id was minted since the start."""
        return client in self._clients

    def balance(self, token: str) -> str | None:
        """What a client, or an instance, has left; None when there is none of this form."""
        if token in self._clients:
            return str(self._clients[token])
        if "##" not in token:
            return None
        if token not in self._instances:
            raise NodeError(repr(token))
        return str(self._instances[token].deposit)

    def spend(self, client: str, amount: int, service_id: str) -> None:
        """Take an amount from a client (give it back, when negative); NodeError, which tells nothing of it, when it has less."""
        if self._clients.get(client, -1) < amount:
            raise NodeError(f"Can't launch this service {service_id}")
        self._clients[client] -= amount

    def remember(self, started: Started) -> None:
        """Note an instance."""
        self._instances[started.token] = started

    def instance(self, token: str) -> pb.Instance | None:
        """An instance that runs here, as its client got it."""
        found = self._instances.get(token)
        return found.instance if found else None

    def remove(self, token: str) -> Ended | None:
        """Strike an instance out; None when there is none with this token."""
        if "##" not in token:
            raise NodeError("Was imposible stop the service. list index out of range")
        gone = self._instances.pop(token, None)
        return Ended(gone.running, gone.father, gone.deposit) if gone else None

    def move(self, token: str, difference: int) -> str | None:
        """This version moves no amounts."""
        raise NodeError("This version has no such method.")

    def forget(self, running: str) -> None:
        """An instance ended by itself."""
        for token in [token for token, started in self._instances.items() if started.running == running]:
            del self._instances[token]
