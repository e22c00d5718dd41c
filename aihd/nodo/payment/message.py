"""nodo's own protobuf messages, made without knowing which version of nodo this process is.

They have to be of nodo's classes, which only its process has; what they look like is asked of the classes themselves. aihd's own generated
messages are not touched here: nodo's protobuf may be older than they ask for.
"""

from __future__ import annotations

import importlib
import sqlite3
from pathlib import Path
from typing import Any, Final

MESSAGES: Final = "protos.celaut_pb2"
DATABASE: Final = "src.database.sql_connection"


def contract(
    ledger: Any,
    *,
    contract_type: bytes,
    script: bytes,
    token_id: str,
    address: str = "",
    prose: str = "",
    formal: bytes = b"",
) -> Any:
    """nodo's `Contract` of a payment. `ledger` is its tag (a text), which `prose` and `formal` then describe, or nodo's message of it.

    Versions: `xattrs` as a map (July 2026) or as a list of keys and values (after it); before it, fields of its own and a template.
    """
    kind = importlib.import_module(MESSAGES).Contract
    made = kind()
    described = kind.Ledger(tags=[ledger], prose=prose, formal=formal) if isinstance(ledger, str) else ledger
    made.ledger.CopyFrom(described)
    if "xattrs" not in kind.DESCRIPTOR.fields_by_name:
        made.template.formal = contract_type
        made.script, made.token_id = script, token_id
        return made
    values = {"contract_type": contract_type, "script": script, "token_id": token_id.encode()}
    if address:
        values["address"] = address.encode()
    for key, value in values.items():
        if kind.DESCRIPTOR.fields_by_name["xattrs"].message_type.GetOptions().map_entry:
            made.xattrs[key] = value
        else:
            made.xattrs.add(key=key, value=value)
    return made


def tags_of(ledger: Any) -> tuple[str, ...]:
    """The tags of a ledger that nodo hands over: its tag, or its message."""
    return (ledger,) if isinstance(ledger, str) else tuple(ledger.tags)


def advertise(made: Any) -> None:
    """Have nodo tell its peers of a contract, as its own payment processes do."""
    connection().add_contract(contract=made)


def connection() -> Any:
    """nodo's own connection to its database."""
    return importlib.import_module(DATABASE).SQLConnection()


def database() -> Path:
    """nodo's database file."""
    return Path(str(importlib.import_module(DATABASE).DATABASE_FILE))


def was_communicated(token: str) -> bool:
    """Whether nodo's own record says that the payee was told of the payment for a deposit token, or keeps no such record."""
    try:
        rows = connection()._execute(
            "SELECT status FROM payments WHERE direction = 'out' AND deposit_token = ?", (token,)
        )
        found = rows.fetchone()
    except (sqlite3.Error, ImportError, AttributeError):
        return True
    return found is not None and found[0] == "communicated"
