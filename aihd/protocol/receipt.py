"""The full receipt: the document whose CID the receipt box carries."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Final, Self

from aihd.errors import UsageError
from aihd.protocol.hashes import receipt_cid

_HEX: Final = re.compile("(?:[0-9a-f]{2})*")


@dataclass(frozen=True, slots=True)
class FullReceipt:
    """Hashes, ids, keys and the signature in hex; sizes in bytes, `executed_height` in blocks. It names nothing of the input but its
    commitment. `seed` is the one of the claim's block, unless the task's configuration chose one.
    """

    task_id: str
    service_hash: str
    node: str
    input_commitment: str
    output_hash: str
    output_size: int
    claim_block: str
    seed: str
    exec_params_hash: str
    executed_height: int
    node_sig: str

    def document(self) -> bytes:
        """Canonical JSON: what the CID is of."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @property
    def cid(self) -> bytes:
        return receipt_cid(self.document())

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """The receipt in a document; UsageError when it is not exactly one in its canonical form."""
        try:
            raw = json.loads(document)
            receipt = cls(**raw)
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"receipt: not a receipt document: {str(error)[:120]}") from None
        for field in fields(cls):
            value = getattr(receipt, field.name)
            if type(value).__name__ != field.type:
                raise UsageError(f"receipt: {field.name} is {value!r}, expected {field.type}")
            if isinstance(value, str) and not _HEX.fullmatch(value):
                raise UsageError(f"receipt: {field.name} is {value[:80]!r}, expected hex")
        if receipt.document() != document:
            raise UsageError("receipt: the document is not in its canonical encoding (sorted keys, no spaces)")
        return receipt
