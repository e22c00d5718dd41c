"""The embedded gateway's rows in nodo's database, in whichever version's tables it has. A connection per use."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aihd.devnet.gateway_clients import NodeError
from aihd.nodo.database import columns
from aihd.nodo.pb import aihd_celaut_pb2 as pb


@dataclass(frozen=True, slots=True)
class Started:
    """An instance as it is written down. `running`: its token with the executor, another one when it is delegated."""

    token: str
    running: str
    father: str
    deposit: int
    service_id: str
    host: str
    resources: pb.Sysresources
    environment: Mapping[str, str]
    instance: pb.Instance

    @property
    def delegated(self) -> bool:
        """Whether it runs on a peer."""
        return self.token != self.running


@dataclass(frozen=True, slots=True)
class Ended:
    """What a removed row said."""

    running: str
    father: str
    balance: int


@dataclass(frozen=True, slots=True)
class _Table:
    """A table of instances. `token`, `running`, `father`: its columns for what `Started` calls so."""

    name: str
    token: str
    running: str
    father: str


_LOCAL = _Table("local_instances", "id", "id", "father_id")
_DELEGATED = _Table("delegated_instances", "token_delegation", "id", "father_id")
_TABLES = (_LOCAL, _DELEGATED)


class Rows:
    """Clients and instances; balances are in the node's unit."""

    def __init__(self, database: Path) -> None:
        self._database = database

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """As nodo's other writers open it."""
        with closing(sqlite3.connect(self._database, timeout=5, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # a commit that waits for the disk stops the whole loop
            yield connection

    def clear(self) -> None:
        """No instance runs."""
        with self.opened() as rows:
            for table in _TABLES:
                rows.execute(f"DELETE FROM {table.name}")  # noqa: S608 - names from here

    def add_client(self, client: str, credit: int) -> None:
        """A new client, or one that exists as it is."""
        with self.opened() as rows:
            sql = f"INSERT OR IGNORE INTO clients (id, {_balance(rows, 'clients')}) VALUES (?, ?)"  # noqa: S608
            rows.execute(sql, (client, str(credit)))

    def has_client(self, client: str) -> bool:
        """Whether a client id was minted here."""
        with self.opened() as rows:
            return rows.execute("SELECT 1 FROM clients WHERE id = ?", (client,)).fetchone() is not None

    def balance(self, token: str) -> str | None:
        """What a client, or an instance here, has left; None when there is none."""
        with self.opened() as rows:
            for table in ("clients", _LOCAL.name):
                sql = f"SELECT {_balance(rows, table)} FROM {table} WHERE id = ?"  # noqa: S608 - names from here
                if (row := rows.execute(sql, (token,)).fetchone()) is not None:
                    return str(row[0])
        return None

    def spend(self, client: str, amount: int, service_id: str) -> None:
        """Take an amount from a client (give it back, when negative); NodeError when it has less."""
        with self.opened() as rows:
            name = _balance(rows, "clients")
            # Python's integers: gas has more digits than SQLite's.
            row = rows.execute(f"SELECT {name} FROM clients WHERE id = ?", (client,)).fetchone()  # noqa: S608
            if row is None or int(row[0]) < amount:
                text = f"local: Launch service error spending gas for {client}"
                raise NodeError(f"Unable to launch service {service_id}. Attempt details: {text}")
            rows.execute(f"UPDATE clients SET {name} = ? WHERE id = ?", (str(int(row[0]) - amount), client))  # noqa: S608

    def remember(self, started: Started) -> None:
        """Write an instance down."""
        resources = started.resources
        values = {
            "name": started.token[:12], "ip": started.host, "peer_id": "0" * 64, "service_id": started.service_id,
            "serialized_instance": started.instance.SerializeToString(), "mem_limit": resources.mem_limit,
            "disk_space": resources.disk_space, "virtualizer": "process", "arch": "python3",
            "envs": json.dumps(dict(started.environment)), "balance_mu": str(started.deposit), "gas": str(started.deposit),
        }  # fmt: skip
        with self.opened() as rows:
            table = _TABLES[started.delegated]
            values |= {table.running: started.running, table.token: started.token, table.father: started.father}
            known = columns(rows, table.name)
            row = {name: value for name, value in values.items() if name in known}
            launched = (", launched_at", ", CURRENT_TIMESTAMP") if "launched_at" in known else ("", "")
            names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
            sql = f"INSERT INTO {table.name} ({names}{launched[0]}) VALUES ({marks}{launched[1]})"  # noqa: S608
            rows.execute(sql, row)

    def instance(self, token: str) -> pb.Instance | None:
        """An instance that runs here, as its client got it."""
        with self.opened() as rows:
            row = rows.execute("SELECT serialized_instance FROM local_instances WHERE id = ?", (token,)).fetchone()
        return pb.Instance.FromString(row[0]) if row else None

    def remove(self, token: str) -> Ended | None:
        """Strike an instance out; None when there is none with this token."""
        with self.opened() as rows:
            for table in _TABLES:
                said = f"{table.running}, {table.father}, {_balance(rows, table.name) or '0'}"
                sql = f"DELETE FROM {table.name} WHERE {table.token} = ? RETURNING {said}"  # noqa: S608
                if gone := rows.execute(sql, (token,)).fetchall():
                    return Ended(gone[0][0], gone[0][1], int(gone[0][2] or 0))
        return None

    def move(self, token: str, difference: int) -> str | None:
        """Move an amount from an instance's father to the instance (back, when negative); why not, when it cannot be."""
        with self.opened() as rows:
            local = _LOCAL.name
            name, client = _balance(rows, local), _balance(rows, "clients")
            sql = f"SELECT father_id, {name} FROM {local} WHERE id = ?"  # noqa: S608
            row = rows.execute(sql, (token,)).fetchone()
            if row is None or int(row[1]) + difference < 0:
                return "There is no such instance." if row is None else "The instance has less."
            father = rows.execute(f"SELECT {client} FROM clients WHERE id = ?", (row[0],)).fetchone()  # noqa: S608
            if father is None or int(father[0]) < difference:
                return "The client has less."
            both = (
                (name, local, row[1], difference, token),
                (client, "clients", father[0], -difference, row[0]),
            )
            for column, table, has, more, key in both:
                rows.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (str(int(has) + more), key))  # noqa: S608
        return None

    def forget(self, running: str) -> None:
        """An instance ended by itself: nodo counts it as lost and gives nothing back."""
        with self.opened() as rows:
            for table in _TABLES:
                rows.execute(f"DELETE FROM {table.name} WHERE {table.running} = ?", (running,))  # noqa: S608


def _balance(rows: sqlite3.Connection, table: str) -> str:
    """The column of a table that holds a balance; it was called gas once. Empty when the table has none."""
    return next((name for name in ("balance_mu", "gas") if name in columns(rows, table)), "")
