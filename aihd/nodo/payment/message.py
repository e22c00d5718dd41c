"""nodo's own protobuf messages, made without knowing which version of nodo this process is.

They have to be of nodo's classes, which only its process has; what they look like is asked of the classes themselves. aihd's own generated
messages are not touched here: nodo's protobuf may be older than they ask for.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

MESSAGES: Final = "protos.celaut_pb2"
DATABASE: Final = "src.database.sql_connection"


def contract(ledger: Any, *, contract_type: bytes, script: bytes, token_id: str, address: str = "") -> Any:
    """nodo's `Contract` of a payment. `ledger` is its tag (a text), or nodo's message of it.

    Versions: `xattrs` as a map (July 2026) or as a list of keys and values (after it); before it, fields of its own and a template.
    """
    kind = importlib.import_module(MESSAGES).Contract
    made = kind()
    made.ledger.CopyFrom(kind.Ledger(tags=[ledger]) if isinstance(ledger, str) else ledger)
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
    importlib.import_module(DATABASE).SQLConnection().add_contract(contract=made)
