"""A process that is to aihd's payment process what nodo is: its own protobuf classes, dictionaries by contract hash, a pool of threads.

Run with a folder that holds `protos` and `src`; takes commands as JSON, one a line, and answers each when it is done:
{"id", "call", "args"} gives {"id", "value"} or {"id", "error"}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

sys.path.insert(0, sys.argv[1])

from protos import celaut_pb2  # type: ignore[import-not-found]
from src.database import sql_connection  # type: ignore[import-not-found]

from aihd.nodo import payment_process as aih
from aihd.nodo.payment import paying

# Answers have the pipe for themselves: what anything else in this process prints goes where errors go.
ANSWERS = os.fdopen(os.dup(sys.stdout.fileno()), "w")
os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
ANSWERING = threading.Lock()  # `print` writes a line and its end in two steps
AT_IMPORT = {"threads": threading.active_count(), "own": [m for m in sys.modules if m.startswith("aihd.nodo.pb")]}
AVAILABLE_PAYMENT_PROCESS = {aih.CONTRACT_HASH: aih.process_payment}
REPORTED: list[str] = []
PAYMENT_PROCESS_VALIDATORS = {aih.CONTRACT_HASH: aih.payment_process_validator}


def pay(amount: int, token: str, script: str, ledger: str = "ergo") -> dict[str, str]:
    """As nodo calls it: by keyword, with the ledger's tag or its message; then what would go into `Payable`."""
    given: Any = ledger if hasattr(celaut_pb2.Contract, "XattrsEntry") else celaut_pb2.Contract.Ledger(tags=[ledger])
    process = AVAILABLE_PAYMENT_PROCESS[aih.CONTRACT_HASH]
    with aih.transaction_id_reporting(REPORTED.append):
        contract = process(amount=amount, deposit_token=token, ledger=given, script=bytes.fromhex(script))
    return told(celaut_pb2.Payment(deposit_token=token, contract=contract).contract)


def report_in_two_steps(amount: int, token: str, script: str) -> list[Any]:
    """What the newest nodo is told of a payment that it has to wait for: (transaction, sent)."""
    steps: list[Any] = []

    def reporter(tx_id: str, sent: bool = True) -> None:
        steps.append((tx_id, sent))

    with aih.transaction_id_reporting(reporter):
        try:
            aih.process_payment(amount=amount, deposit_token=token, ledger="ergo", script=bytes.fromhex(script))
        except TimeoutError:
            return steps
    return steps


def awaited(tx_id: str, script: str) -> dict[str, str]:
    """As the newest nodo resumes a payment that a call has left."""
    return told(aih.await_payment(tx_id=tx_id, script=bytes.fromhex(script)))


def communicated(token: str, status: str = "communicated") -> None:
    """nodo's own record of a payment that it has told the payee of."""
    sql_connection.SQLConnection()._execute(
        "INSERT INTO payments (direction, status, deposit_token, amount_mu) VALUES ('out', ?, ?, '0')", (status, token)
    )


def retell_after(seconds: float) -> None:
    paying.RETELL_AFTER = seconds


def versions() -> dict[str, str]:
    """What this process has loaded: nodo pins these two."""
    import google.protobuf
    import grpc

    return {"protobuf": google.protobuf.__version__, "grpcio": grpc.__version__}


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


CALLS: dict[str, Any] = {
    "pay": pay,
    "validate": validate,
    "advertised": advertised,
    "manage": aih.manager,
    "steps": report_in_two_steps,
    "await": awaited,
    "reported": lambda: REPORTED,
    "communicated": communicated,
    "retell after": retell_after,
    "unavailable": aih.unavailable_reason,
    "rates": lambda: [aih.mu_per_unit(), str(aih.mu_per_base_unit()), str(aih.mu_to_native(3))],
    "purse": aih.get_balance,
    "versions": versions,
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
    since = time.monotonic()
    try:
        result = {"value": CALLS[command["call"]](*command["args"])}
    except Exception as error:  # noqa: BLE001 - told to the other side
        result = {"error": f"{type(error).__name__}: {error}"}
    with ANSWERING:
        print(json.dumps({"id": command["id"], "took": time.monotonic() - since, **result}), file=ANSWERS, flush=True)


if __name__ == "__main__":
    with ThreadPoolExecutor(8, thread_name_prefix="nodo") as pool:
        for line in sys.stdin:
            pool.submit(answer, json.loads(line))
