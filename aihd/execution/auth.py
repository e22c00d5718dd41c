"""Who a request comes from: an Ergo key's signature over what is asked for."""

from __future__ import annotations

from typing import Final

from ergo_lib_python.chain import Address, EcPoint
from ergo_lib_python.sigma_protocol import ProveDlog
from ergo_lib_python.verifier import verify_signature

SIGNATURE_HEADER: Final = "AIH-Signature"
_UPLOAD_PREFIX: Final = b"aih:upload:1"


def upload_message(genesis_id: bytes, task_id: bytes) -> bytes:
    """What a client signs to bring the input of a task on one chain."""
    return _UPLOAD_PREFIX + genesis_id + task_id


def signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the holder of a compressed key (33 bytes) signed; False for anything malformed."""
    try:
        return bool(verify_signature(Address.p2pk(ProveDlog(EcPoint(public_key))), message, signature))
    except ValueError:
        return False
