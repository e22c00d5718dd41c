"""A process that is to aihd's payment process what nodo is: its own protobuf classes, dictionaries by contract hash, a pool of threads.

Run with a folder that holds `protos` and `src`; takes commands as JSON, one a line, and answers each when it is done:
{"id", "call", "args"} gives {"id", "value"} or {"id", "error"}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

sys.path.insert(0, sys.argv[1])

from protos import celaut_pb2  # type: ignore[import-not-found]
from src.database import sql_connection  # type: ignore[import-not-found]

from aihd.nodo import payment_process as aih

# Answers have the pipe for themselves: what anything else in this process prints goes where errors go.
ANSWERS = os.fdopen(os.dup(sys.stdout.fileno()), "w")
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
ANSWERING = threading.Lock()  # `print` writes a line and its end in two steps
AT_IMPORT = {"threads": threading.active_count(), "own": [m for m in sys.modules if m.startswith("aihd.nodo.pb")]}
AVAILABLE_PAYMENT_PROCESS = {aih.CONTRACT_HASH: aih.process_payment}
PAYMENT_PROCESS_VALIDATORS = {aih.CONTRACT_HASH: aih.payment_process_validator}


def pay(amount: int, token: str, script: str, ledger: str = "ergo") -> dict[str, str]:
    """As nodo calls it: by keyword, with the ledger's tag or its message; then what would go into `Payable`."""
    given: Any = ledger if hasattr(celaut_pb2.Contract, "XattrsEntry") else celaut_pb2.Contract.Ledger(tags=[ledger])
    process = AVAILABLE_PAYMENT_PROCESS[aih.CONTRACT_HASH]
    contract = process(amount=amount, deposit_token=token, ledger=given, script=bytes.fromhex(script))
    return told(celaut_pb2.Payment(deposit_token=token, contract=contract).contract)


def told(contract: Any) -> dict[str, str]:
    """What nodo's gateway reads out of a contract, whichever version it is."""
    if "xattrs" not in contract.DESCRIPTOR.fields_by_name:
        values = {"contract_type": contract.template.formal, "script": contract.script, "token_id": contract.token_id}
    elif hasattr(contract, "XattrsEntry"):
        values = dict(contract.xattrs)
    else:
        values = {item.key: item.value for item in contract.xattrs}
    shown = {key: value.hex() if key == "script" else _text(value) for key, value in values.items()}
    return {**shown, "ledger": contract.ledger.tags[0]}


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def validate(amount: int, token: str, script: str, ledger: str = "ergo") -> bool:
    """As nodo calls it: by position, with the ledger's message."""
    validator = PAYMENT_PROCESS_VALIDATORS[aih.CONTRACT_HASH]
    return validator(amount, token, celaut_pb2.Contract.Ledger(tags=[ledger]), bytes.fromhex(script))


def advertised() -> list[dict[str, str]]:
    aih.init()
    return [told(contract) for contract in sql_connection.SQLConnection().contracts]


def manage() -> None:
    aih.manager()


CALLS: dict[str, Any] = {
    "pay": pay,
    "validate": validate,
    "advertised": advertised,
    "manage": manage,
    "claim": aih.claim_task,
    "receipt": aih.publish_receipt,
    "release": aih.release_payment,
    "balance": aih.check_sender_balance,
    "floors": aih.settlement_floors_mu,
    "ledger": lambda: list(aih.ledger().tags),
    "imports": lambda: AT_IMPORT,
    "threads": lambda: sorted(t.name for t in threading.enumerate() if not t.name.startswith(("nodo", "MainThread"))),
}


def answer(command: dict[str, Any]) -> None:
    try:
        result = {"value": CALLS[command["call"]](*command["args"])}
    except Exception as error:  # noqa: BLE001 - told to the other side
        result = {"error": f"{type(error).__name__}: {error}"}
    with ANSWERING:
        print(json.dumps({"id": command["id"], **result}), file=ANSWERS, flush=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(8, thread_name_prefix="nodo") as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))
