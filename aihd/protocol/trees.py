"""Trees: the bytes of a guard, its template, and the address that stands for it.

Everything works on the serialized ErgoTree. A template is what follows the header, the size and the constants, so two
boxes of one contract share it whatever their constants are. Explorer and node index it under different hashes.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from ergo_lib_python.chain import Address, ErgoBox, NetworkPrefix
from ergo_lib_python.ergo_tree import ErgoTree

from aihd.protocol.box import Box
from aihd.protocol.panics import contained

VERSION_MASK = 0x07
SIZE_BIT = 0x08
SEGREGATION_BIT = 0x10

GENERATOR = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")

# What miners take after 720 blocks (the reward script of the protocol), and the guard of every fee output, which lets
# only the miner of the block move the fee, and only to such a reward box.
_REWARD_HEAD, _REWARD_TAIL = bytes.fromhex("100204a00b08cd"), bytes.fromhex("ea02d192a39a8cc7a70173007301")
FEE_TREE = bytes.fromhex(
    "1005040004000e36"
    + (_REWARD_HEAD + GENERATOR + _REWARD_TAIL).hex()
    + "1001020402d19683030193a38cc7b2a57300000193c2b2a57301007473027303830108cdeeac93b1a57304"
)


_REMEMBERED = 1 << 15
_trees: dict[str, bytes] = {}  # by box id
_same: dict[bytes, bytes] = {}  # one object for all boxes under a script


def script_of(box: ErgoBox | Box) -> bytes:
    """The serialized script of a box. ergo-lib makes it anew for 0.1 to 0.6 ms at every question; a box id never stands for another."""
    if isinstance(box, Box):
        return box.tree
    key = str(box.box_id)
    found = _trees.get(key)
    if found is None:
        if len(_trees) >= _REMEMBERED:
            _trees.clear()
            _same.clear()
        tree = bytes(box.ergo_tree)
        found = _trees[key] = _same.setdefault(tree, tree)
    return found


def prefix_of(network: str) -> NetworkPrefix:
    """Which addresses a network of the configuration has; a devnet has those of the main chain."""
    return NetworkPrefix.Testnet if network == "testnet" else NetworkPrefix.Mainnet


def p2pk_tree(public_key: bytes) -> bytes:
    """The tree that asks for one signature of a compressed public key (33 bytes); ValueError for another length."""
    if len(public_key) != 33:
        raise ValueError(f"a public key has 33 bytes, this one {len(public_key)}")
    return b"\x00\x08\xcd" + public_key


def reward_tree(public_key: bytes) -> bytes:
    """The tree under which a block's miner (33-byte key) receives its fees: spendable 720 blocks later."""
    return _REWARD_HEAD + public_key + _REWARD_TAIL


def tree_version(tree: bytes) -> int:
    """The version in the header byte (0 to 7); ValueError for an empty tree."""
    if not tree:
        raise ValueError("a tree has at least its header byte")
    return tree[0] & VERSION_MASK


def lacks_size_bit(tree: bytes) -> bool:
    """Whether the tree breaks rule 1012: from version 1 on, a tree states its size."""
    return tree_version(tree) > 0 and not tree[0] & SIZE_BIT


@lru_cache(maxsize=8192)
def template_of(tree: bytes) -> bytes:
    """The tree without header, size and segregated constants.

    ValueError where the bytes are no tree that ergo-lib 0.28 can read (version 3 with new methods, for instance).
    """
    tree_version(tree)
    position = 1
    if tree[0] & SIZE_BIT:
        _, position = _vlq(tree, position)
    if not tree[0] & SEGREGATION_BIT:
        return tree[position:]
    count, position = _vlq(tree, position)
    for constant in _constants(tree, count):
        if tree[position : position + len(constant)] != constant:
            raise ValueError(f"constant at byte {position} of tree {tree.hex()[:32]} is not in canonical form")
        position += len(constant)
    return tree[position:]


def explorer_template_hash(tree: bytes) -> str:
    """SHA-256 of the template, in hex: the key of the Explorer's template routes."""
    return hashlib.sha256(template_of(tree)).hexdigest()


def node_template_hash(tree: bytes) -> str:
    """Blake2b-256 of the template, in hex: the key of the node's `/blockchain/*/byTemplateHash`."""
    return hashlib.blake2b(template_of(tree), digest_size=32).hexdigest()


def address_of(tree: bytes, network: NetworkPrefix = NetworkPrefix.Mainnet) -> str:
    """The address of a tree: P2PK where it is a lone public key, else pay-to-script."""
    return Address.recreate_from_ergo_tree(parse_tree(tree)).to_str(network)


def tree_of(address: str, network: NetworkPrefix = NetworkPrefix.Mainnet) -> bytes:
    """The tree of an address of this network; ValueError for a wrong checksum, network or form."""
    return bytes(Address(address, network).ergo_tree())


def parse_tree(tree: bytes) -> ErgoTree:
    """The tree as ergo-lib's value; ValueError where it does not stand for exactly these bytes."""
    try:
        parsed = contained(lambda: ErgoTree.from_bytes(tree))
    except Exception as error:
        raise ValueError(f"not an ErgoTree: {tree.hex()[:32]}: {error}") from error
    if bytes(parsed) != tree:  # ergo-lib drops bytes after the end in silence
        raise ValueError(f"not an ErgoTree: {tree.hex()[:32]} has bytes after its end")
    return parsed


def _constants(tree: bytes, count: int) -> list[bytes]:
    constants = [bytes(constant) for constant in contained(parse_tree(tree).constants)]
    if len(constants) != count:
        raise ValueError(f"tree {tree.hex()[:32]} announces {count} constants and holds {len(constants)}")
    return constants


def _vlq(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    raise ValueError(f"a number of the tree {data.hex()[:32]} runs past its end")
