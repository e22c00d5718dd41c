"""Registers that an attacker writes: propositions that are no single key, and the name of the box that an output is paid for."""

from __future__ import annotations

from ergo_lib_python.chain import Constant

from aihd.protocol import codec

from .chain import CLIENT, NODE

TRUE, FALSE = b"\xd3", b"\xd2"
AND, OR, THRESHOLD = b"\x96", b"\x97", b"\x98"


def proposition(raw: bytes) -> Constant:
    """A SigmaProp register of any proposition."""
    return Constant.from_bytes(b"\x08" + raw)


def both_keys() -> Constant:
    """Asks for two signatures: longer than one key."""
    return proposition(AND + b"\x02\xcd" + NODE.pk + b"\xcd" + CLIENT.pk)


def not_a_key() -> dict[str, Constant]:
    """Propositions as long as a single key (36 bytes with the head of their tree), that nobody or anybody signs for."""
    return {
        "all of 32 that hold": proposition(AND + b"\x20" + TRUE * 32),
        "one of 32 that do not hold": proposition(OR + b"\x20" + FALSE * 32),
        "one of 31 that hold": proposition(THRESHOLD + b"\x01\x1f" + TRUE * 31),
        "the point at infinity, whose logarithm everybody knows": proposition(b"\xcd" + bytes(33)),
    }


def named_for(box_id: bytes) -> Constant:
    """R4 of a payout."""
    return codec.coll_byte(box_id)
