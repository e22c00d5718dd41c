"""Blocks and their headers, in the JSON of a node.

A header's id is the Blake2b-256 of its serialized bytes, in the layout of Autolykos 2, so a changed field changes the
id and breaks the link. Three things are simpler than on a real chain: there is no proof of work (difficulty 1 and a
nonce made from the seed), the state root is a running hash and no AVL+ digest, and the transactions root covers the
transaction ids but not the witnesses, which keeps block ids the same for the same seed and transactions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aihd.devnet.views import TxView
from aihd.protocol.trees import GENERATOR

N_BITS = 0x01010000  # difficulty 1
DIFFICULTY = 1
NO_PARENT = "00" * 32
SECTIONS = {"adProofs": 104, "transactions": 102, "extension": 108}  # the node's modifier type ids

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its header in node JSON and its transactions in order."""

    header: JsonObject
    transactions: tuple[TxView, ...]

    @property
    def block_id(self) -> str:
        """Id of the header, hex."""
        return str(self.header["id"])

    @property
    def height(self) -> int:
        """Height in blocks; the first block has 1."""
        return int(self.header["height"])

    @property
    def size(self) -> int:
        """Bytes of header and transactions."""
        return int(self.header["size"]) + sum(view.size for view in self.transactions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """The parts of a block that are free. `timestamp` in ms; `salt` tells equal blocks apart; `genesis`: id of the first block, hex.

    `distance`: of the solution, as a node shows it for a header that it mined itself; 0 for all others.
    """

    timestamp: int
    salt: bytes
    version: int = 4
    genesis: str = ""
    distance: int = 0


def make_block(parent: Block | None, transactions: Sequence[TxView], making: Making) -> Block:
    """The block after `parent` (None for the first)."""
    height = parent.height + 1 if parent else 1
    ids = [view.tx_id for view in transactions]
    state_root = blake2b(bytes.fromhex(parent.header["stateRoot"] if parent else "") + "".join(ids).encode()).hex()
    header: JsonObject = {
        "version": making.version,
        "parentId": parent.block_id if parent else NO_PARENT,
        "adProofsRoot": blake2b(b"adProofs" + bytes.fromhex(state_root)).hex(),
        "transactionsRoot": merkle_root([bytes.fromhex(tx_id) for tx_id in ids]).hex(),
        "stateRoot": state_root + "00",
        "timestamp": making.timestamp,
        "extensionHash": merkle_root([_leaf(field) for field in extension_fields(making.genesis)]).hex(),
        "nBits": N_BITS,
        "height": height,
        "votes": "000000",
        "unparsedBytes": "",
        "powSolutions": {
            "pk": GENERATOR.hex(),
            "w": GENERATOR.hex(),
            "n": blake2b(making.salt + height.to_bytes(4, "big"))[:8].hex(),
            "d": making.distance,
        },
    }
    return Block(_with_ids(header), tuple(transactions))


def extension_fields(genesis: str) -> list[list[str]]:
    """Key and value (hex) of a block's extension: the one interlink that every block has, to the first block."""
    return [["0100", "01" + genesis]] if genesis else []


def proofs_of(header: JsonObject) -> bytes:
    """Returns what stands for the AD proofs of a block: bytes with the hash that the header names, and nothing in them."""
    return b"adProofs" + bytes.fromhex(header["stateRoot"])[:-1]


def _leaf(field: list[str]) -> bytes:
    key, value = (bytes.fromhex(part) for part in field)
    return bytes([len(key)]) + key + value


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root that a node computes (an odd node is hashed alone); 32 zero bytes for no leaves."""
    level = [blake2b(b"\x00" + leaf) for leaf in leaves]
    while level:
        level = [blake2b(b"\x01" + b"".join(level[i : i + 2])) for i in range(0, len(level), 2)]
        if len(level) == 1:
            return level[0]
    return bytes(32)


def merkle_proof(leaves: Sequence[bytes], index: int) -> list[tuple[bytes, int]]:
    """What a leaf is hashed with on its way to `merkle_root`: hash and side of the sibling (1: the leaf is right of it).

    Where there is no sibling, the hash is empty.
    """
    level, proof = [blake2b(b"\x00" + leaf) for leaf in leaves], []
    while level:
        sibling = level[index ^ 1] if index ^ 1 < len(level) else b""
        proof.append((sibling, index & 1))
        level = [blake2b(b"\x01" + b"".join(level[i : i + 2])) for i in range(0, len(level), 2)]
        index //= 2
        if len(level) == 1:
            break
    return proof


def header_bytes(header: JsonObject) -> bytes:
    """The serialized header."""
    solution = header["powSolutions"]
    return b"".join(
        (
            bytes([header["version"]]),
            bytes.fromhex(header["parentId"] + header["adProofsRoot"] + header["transactionsRoot"]),
            bytes.fromhex(header["stateRoot"]),
            _vlq(header["timestamp"]),
            bytes.fromhex(header["extensionHash"]),
            header["nBits"].to_bytes(4, "big"),
            _vlq(header["height"]),
            bytes.fromhex(header["votes"]),
            b"\x00",  # no unparsed bytes
            bytes.fromhex(solution["pk"] + solution["n"]),
        )
    )


def blake2b(data: bytes) -> bytes:
    """Blake2b-256."""
    return hashlib.blake2b(data, digest_size=32).digest()


def _with_ids(header: JsonObject) -> JsonObject:
    serialized = header_bytes(header)
    block_id = blake2b(serialized)
    roots = {"adProofs": "adProofsRoot", "transactions": "transactionsRoot", "extension": "extensionHash"}
    sections = {
        f"{name}Id": blake2b(bytes([SECTIONS[name]]) + block_id + bytes.fromhex(header[root])).hex()
        for name, root in roots.items()
    }
    return {**header, "id": block_id.hex(), "size": len(serialized), "difficulty": str(DIFFICULTY), **sections}


def _vlq(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])
