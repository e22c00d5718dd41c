"""Addresses as a node reads them, with its words for what is wrong."""

from __future__ import annotations

from typing import Final

from ergo_lib_python.chain import NetworkPrefix

from aihd.devnet.blocks import blake2b
from aihd.protocol.trees import tree_of

CHECKSUM: Final = 4  # bytes
LONGEST: Final = 12_000  # characters: a tree of 4 KB has about 5,600
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_TESTNET: Final = 16  # what the first byte of an address is above, off the main net
_TYPES: Final = (1, 2, 3)  # public key, hash of a script, script


class AddressError(ValueError):
    """A text that is no address of the network; its text is a node's."""


def decoded_tree(address: str, network: NetworkPrefix) -> bytes:
    """The tree of an address; AddressError where it is none of this network."""
    raw, prefix = _base58(address), int(network)
    if prefix == _TESTNET and raw[0] <= _TESTNET:
        raise AddressError("requirement failed: Trying to decode mainnet address in testnet")
    if prefix != _TESTNET and raw[0] >= _TESTNET:
        raise AddressError("requirement failed: Trying to decode testnet address in mainnet")
    if blake2b(raw[:-CHECKSUM])[:CHECKSUM] != raw[-CHECKSUM:]:
        raise AddressError(f"Checksum check fails for {address}")
    if raw[0] - prefix not in _TYPES:
        raise AddressError(f"Unsupported address type: {raw[0] - prefix}")
    try:
        return tree_of(address, network)
    except ValueError as error:
        raise AddressError(f"what address {address[:60]} holds is neither a key nor a script") from error


def content_of(address: str) -> bytes:
    """Returns the bytes that stand in an address between its first byte and its checksum."""
    return _base58(address)[1:-CHECKSUM]


def _base58(address: str) -> bytes:
    number = 0
    for letter in address[: LONGEST + 1]:
        place = _ALPHABET.find(letter)
        if place < 0:
            raise AddressError("Wrong char in Base58 string")
        number = number * len(_ALPHABET) + place
    zeros = len(address) - len(address.lstrip(_ALPHABET[0]))
    raw = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(raw) <= CHECKSUM or len(address) > LONGEST:
        raise AddressError(f"Checksum check fails for {address[:60]}")
    return raw
