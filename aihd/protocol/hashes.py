"""The hashes of protocol version 2: what is hashed, in which order, under which prefix."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Final

from aihd.errors import UsageError

INPUT_PREFIX: Final = b"aih:input:1"
RECEIPT_PREFIX: Final = b"aih:receipt:1"
FAILURE_PREFIX: Final = b"aih:failure:1"
SEED_NAME: Final = "AIH_SEED"  # of the configuration, and of the environment that a service sees
_SEED: Final = re.compile("[0-9a-f]{64}")

# CIDv1, raw codec, multihash blake2b-256 (0xb220 as a varint) of 32 bytes.
_CID_PREFIX: Final = bytes.fromhex("0155a0e40220")


def blake2b256(*parts: bytes) -> bytes:
    """Blake2b with a 32-byte digest over the concatenation of `parts`: Ergo's hash."""
    digest = hashlib.blake2b(digest_size=32)
    for part in parts:
        digest.update(part)
    return digest.digest()


def prop_bytes(public_key: bytes) -> bytes:
    """`SigmaProp.propBytes` of a single public key, as guards see it."""
    return b"\x00\x08\xcd" + public_key


def input_commitment(salt: bytes, envelope: Iterable[bytes]) -> bytes:
    """Commitment to an input: salt of 32 bytes first, so that no two inputs share a preimage; the envelope may be a stream."""
    if len(salt) != 32:
        raise ValueError(f"salt has {len(salt)} bytes, expected 32")
    digest = hashlib.blake2b(INPUT_PREFIX + salt, digest_size=32)
    for chunk in envelope:
        digest.update(chunk)
    return digest.digest()


def seed(claim_header_id: bytes, task_id: bytes, commitment: bytes) -> bytes:
    """The chance a service may use: fixed by the block that holds the claim, the same for every re-execution."""
    return blake2b256(claim_header_id, task_id, commitment)


def run_seed(config: Mapping[str, str], claim_header_id: bytes, task_id: bytes, commitment: bytes) -> bytes:
    """The seed of a run: the one that the client chose as AIH_SEED in the task's configuration, so that the same work can be ordered from
    several nodes and compared; else the one of the block that holds the claim. UsageError when the chosen one is none.
    """
    chosen = chosen_seed(config)
    return seed(claim_header_id, task_id, commitment) if chosen is None else chosen


def chosen_seed(config: Mapping[str, str]) -> bytes | None:
    """The seed that a configuration names, None where it names none; UsageError for one that is no seed."""
    text = config.get(SEED_NAME)
    if text is None:
        return None
    if not _SEED.fullmatch(text):
        raise UsageError(f"config: {SEED_NAME} is {text[:80]!r}, expected 64 hexadecimal digits, lower case")
    return bytes.fromhex(text)


def exec_params_hash(service_hash: bytes, seed_bytes: bytes, config: bytes) -> bytes:
    """What was run: service, seed (32 bytes) and the canonical bytes of the configuration."""
    return hashlib.sha3_256(service_hash + seed_bytes + config).digest()


def receipt_message(genesis_id: bytes, task_id: bytes, output_hash: bytes) -> bytes:
    """What a node signs to vouch for an output on one chain."""
    return RECEIPT_PREFIX + genesis_id + task_id + output_hash


def failure_message(genesis_id: bytes, task_id: bytes, evidence: bytes) -> bytes:
    """What a node signs to admit a failure on one chain."""
    return FAILURE_PREFIX + genesis_id + task_id + evidence


def rating_commitment(mark: int, salt: bytes, task_id: bytes, rater: bytes) -> bytes:
    """Commitment to a mark (1 to 5), bound to task and rater (33-byte key) so that the other side cannot copy it."""
    return blake2b256(bytes([mark]), salt, task_id, prop_bytes(rater))


def receipt_cid(document: bytes) -> bytes:
    """Binary CIDv1 (38 bytes) of the full receipt document."""
    return _CID_PREFIX + blake2b256(document)


def cid_text(cid: bytes) -> str:
    """Base32 text form of a binary CIDv1."""
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")
