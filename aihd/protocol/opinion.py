"""A node's own opinions of keys and services on the chain: a reputation proof, published and kept up to date.

The contract is that of reputation-systems/reputation-system, byte for byte. A proof is a token of which every unit lies in a box under
this contract: one box for each opinion, whose amount is its weight and whose R8 its sign, and one that points at the proof's owner and
holds the rest. The owner may move units between boxes; no unit and no nanoERG ever leaves the contract again.

What is taken care of here, since the contract does not: two boxes of one proof that are equal in amount and registers can be merged by
anybody, who keeps the nanoERG of one of them. No plan makes two boxes with one (type, subject), and every plan spends all boxes of the
proof but locked ones. A box whose type has no NFT can never be changed again, so a type without one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from ergo_lib_python.chain import Constant, ErgoBox

from aihd.errors import UsageError
from aihd.protocol import codec
from aihd.protocol.box import Box
from aihd.protocol.boxes import On, registers, tokens_of
from aihd.protocol.codec import Registers
from aihd.protocol.coins import total_of
from aihd.protocol.funding import Funds, InsufficientFundsError, Output, Plan, TxKind, balance
from aihd.protocol.trees import script_of

# Compiled by its authors as tree version 1; blake2b-256 3a94621862f67454cbdd613ed3a64482b9dfe3093c6182356ba4f4a14411f795.
REPUTATION_TREE: Final = bytes.fromhex(
    "19ea061c040004000400040004000400040004000402040205000400050004000402040205000500050005000e20ceea52651b6b2063"
    "81ea28a2e59f775367cef567c0c2f089dc7e09356b64ef610400040001010100040204000100d803d601c6a7070ed602e47201d603b5"
    "a5d9010363eded93c27203c2a791b1db630872037300938cb2db63087203730100018cb2db6308a773020001d1ec95aea4d901046393"
    "c272047202d807d604cbc2a7d605b2db6308a7730300d6068c720501d607b5a4d9010763edededededed93cbc27207720491b1db6308"
    "72077304938cb2db6308720773050001720693e4c67207070e7202e6c67207040ee6c67207050ee6c672070801d608b5a5d9010863ed"
    "ededededed93cbc27208720491b1db630872087306938cb2db6308720873070001720693e4c67208070e7202e6c67208040ee6c67208"
    "050ee6c672080801d609dc0c0f720701d9010963d802d60bdb63087209d60cb1720b9591720c7308b4720b7309720c83004d0ed60ae4"
    "c6a7040eededed93b07207730ad9010b41639a8c720b018cb2db63088c720b02730b0002b07208730cd9010b41639a8c720b018cb2db"
    "63088c720b02730d0002edafb0720983000ed9010b3c1a4d0ed802d60d8c720b01d60e8c8c720b020195ae720dd9010f0e93720f720e"
    "720db3720d83010e720ed9010b0e92b0b5dc0c0f720801d9010d63d802d60fdb6308720dd610b1720f95917210730eb4720f730f7210"
    "83004d0ed9010d4d0e938c720d01720b7310d9010d414d0e9a8c720d018c8c720d0202b0b57209d9010d4d0e938c720d01720b7311d9"
    "010d414d0e9a8c720d018c8c720d020292b072087312d9010b41639a8c720b01c18c720b02b072077313d9010b41639a8c720b01c18c"
    "720b02aeadb5db6501fed9010b63ed93cbc2720b73148f8cc7720b01a3d9010b638cb2db6308720b73150001d9010b0e93720b720a95"
    "e4c6a70601ae7208d9010b63edededed928cb2db6308720b731600028c72050293e4c6720b040e720a93e4c6720b050ee4c6a7050ee4"
    "c6720b060193e4c6720b090ee4c6a7090e731773189593b172037319d801d604b27203731a00ededededededed93c67204040ec6a704"
    "0e93c67204050ec6a7050e93c672040601c6a7060193c67204070e720193c672040801c6a7080193c67204090ec6a7090e93db630872"
    "04db6308a792c17204c1a7731b"
)
TYPE_TREE: Final = bytes.fromhex(
    "19b5010804000400040004020400040004000100d801d601b5a5d9010163d801d603db63087201ed91b172037300938cb27203730100018cb2db6308a773"
    "0200019593b172017303d801d602b27201730400d1ededed93c27202c2a793b2db63087202730500b2db6308a7730600ededededed93c67202040ec6a704"
    "0e93c67202050ec6a7050e93c67202060ec6a7060e93c672020701c6a7070193c67202080ec6a7080e93c67202090ec6a7090e92c17202c1a7d17307"
)
"""The guard of type NFTs ("digital public good"): whoever spends the box has to make an equal one. The contract names its hash."""
CELAUT_NODE_TYPE: Final = bytes.fromhex("64060577c3393e0e3cf8938ec8e6a2002ded27ece17750aa5add7d5c3e1227ba")
"""Id of the NFT that nodo's opinions of nodes carry as their type (nodo's CELAUT_NODE_TYPE_NFT_ID)."""

SUPPLY: Final = 10**9
"""Units of a proof's token (nodo's TOTAL_REPUTATION_TOKEN_AMOUNT)."""
OPINION_VALUE: Final = 1_000_000
MAX_CONTENT: Final = 1000
MAX_SUBJECT: Final = 64
MAX_OPINIONS: Final = 10
"""Every contract input looks at all of them: ten take about half a second to evaluate, thirty more than ten times that."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a node thinks of one subject.

    `subject` are raw bytes: a node's 33-byte public key, or a service hash. The sign of `weight` is that of the opinion, its size counts
    in proportion to the others. `type_nft` (32 bytes) says what kind of thing the subject is; `content` is UTF-8 for readers.
    """

    type_nft: bytes
    subject: bytes
    weight: int
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class OpinionBox:
    """A box of a proof. `owner` is the tree whose owner may change it."""

    type_nft: bytes
    subject: bytes
    locked: bool
    owner: bytes
    positive: bool
    content: bytes

    def constants(self) -> tuple[Constant, ...]:
        return (
            codec.coll_byte(self.type_nft),
            codec.coll_byte(self.subject),
            Constant(self.locked),
            codec.coll_byte(self.owner),
            Constant(self.positive),
            codec.coll_byte(self.content),
        )

    @classmethod
    def read(cls, box: ErgoBox | Box) -> Self:
        """Decode a box; BoxError when it is malformed."""
        r = Registers("Opinion", box)
        return cls(
            r.coll_byte("R4", size=32),
            r.coll_byte("R5", most=MAX_SUBJECT),
            r.boolean("R6"),
            r.coll_byte("R7", most=4096),
            r.boolean("R8"),
            r.coll_byte("R9", most=4096),
        )

    @property
    def key(self) -> tuple[bytes, bytes]:
        """What no two boxes of a proof have in common."""
        return self.type_nft, self.subject


Proof = tuple[On[OpinionBox], ...]


def read_proof(token: bytes, owner: bytes, boxes: Sequence[ErgoBox | Box]) -> Proof:
    """The boxes of the proof `token` that `owner` (a tree) may change; anything else that holds the token is left out.

    BoxError when one of ours is malformed: then nothing of the proof may be touched, for what it holds is not known.
    """
    ours = (box for box in boxes if script_of(box) == REPUTATION_TREE and tokens_of(box)[:1])
    proof = (On(box, OpinionBox.read(box)) for box in ours if tokens_of(box)[0][0] == token)
    return tuple(on for on in proof if on.content.owner == owner)


def token_of(plan_or_box: Plan | ErgoBox) -> bytes:
    """The token of a proof, from the plan or any box of it."""
    first = plan_or_box.outputs[0].tokens if isinstance(plan_or_box, Plan) else tokens_of(plan_or_box)
    return first[0][0]


def shares(weights: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` units in proportion to the sizes of `weights`, at least one each; they add up to `total` exactly.

    Largest remainder, ties to the earlier one. UsageError for a weight of 0 or more weights than units.
    """
    if 0 in weights or len(weights) > total:
        raise UsageError(
            f"opinions: {total} units cannot be shared by weights {list(weights)[:8]}, each has to get one"
        )
    if not weights:
        return ()
    size, rest = sum(map(abs, weights)), total - len(weights)
    parts = [divmod(rest * abs(weight), size) for weight in weights]
    left = rest - sum(part for part, _ in parts)
    first = set(sorted(range(len(parts)), key=lambda i: -parts[i][1])[:left])
    return tuple(1 + part + (i in first) for i, (part, _) in enumerate(parts))


def publish(height: int, pointer: Opinion, opinions: Sequence[Opinion], types: Sequence[ErgoBox], funds: Funds) -> Plan:
    """Mint a proof (its token's id is that of the first wallet box) and state the opinions; `pointer` names the owner himself.

    `height` is the HEIGHT of the next block, `types` are the boxes of the type NFTs. UsageError when they do not fit together.
    """
    if not funds.boxes:
        raise InsufficientFundsError("the wallet is empty: a proof is minted from one of its boxes")
    first = funds.boxes[0]
    token = bytes(first.box_id)
    named = _outputs(token, funds.change, pointer, opinions, total=SUPPLY)
    needed = {opinion.type_nft for opinion in (pointer, *opinions)}
    return _plan((first,), named, needed, types, funds, height)


def update(
    height: int, proof: Proof, pointer: Opinion, opinions: Sequence[Opinion], types: Sequence[ErgoBox], funds: Funds
) -> Plan:
    """Replace all opinions of a proof by these; what is no longer stated goes back to the owner's box. Errors as `publish`.

    Locked boxes stay as they are, and an opinion on their subject is refused: it could be merged with them, or contradict them.
    """
    free = [on for on in proof if not on.content.locked]
    if not free:
        raise UsageError("opinions: no box of the proof can be changed")
    fixed = {on.content.key for on in proof if on.content.locked}
    for opinion in (pointer, *opinions):
        if (opinion.type_nft, opinion.subject) in fixed:
            raise UsageError(f"opinions: what is said of {opinion.subject.hex()} is locked")
    token, total = free[0].tokens[0][0], sum(on.tokens[0][1] for on in free)
    extra = total_of(on.tokens[1:] for on in free)
    first, *others = _outputs(token, funds.change, pointer, opinions, total)
    # Whatever the boxes held may only move between them: nanoERG and other tokens end in the owner's box.
    surplus = sum(on.value for on in free) - sum(output.value for output in others)
    first = replace(first, value=max(first.value, surplus), tokens=(*first.tokens, *extra.items()))
    needed = {on.content.type_nft for on in free} | {opinion.type_nft for opinion in (pointer, *opinions)}
    return _plan(tuple(on.box for on in free), (first, *others), needed, types, funds, height)


def changed(proof: Proof, pointer: Opinion, opinions: Sequence[Opinion]) -> int:
    """How many opinions an update would change: new, gone, of another sign or content, or off by more than a tenth in weight."""
    free = {on.content.key: on for on in proof if not on.content.locked}
    total = sum(on.tokens[0][1] for on in free.values()) or SUPPLY
    aims = dict(zip(map(_key, opinions), zip(opinions, _amounts(opinions, total), strict=True), strict=True))
    before = set(free) - {_key(pointer)}
    return len(before ^ set(aims)) + sum(_differs(free[key], *aims[key]) for key in before & set(aims))


def price(proof: Proof, plan: Plan) -> int:
    """nanoERG that a plan takes out of the wallet: the fee, and what it adds to the boxes of the proof."""
    inside = sum(output.value for output in plan.outputs[: plan.named])
    spent = {str(box.box_id) for box in plan.inputs}
    return plan.fee + inside - sum(on.value for on in proof if on.id in spent)


def _differs(on: On[OpinionBox], opinion: Opinion, amount: int) -> bool:
    held = on.tokens[0][1]
    same = on.content.positive == (opinion.weight > 0) and on.content.content == opinion.content
    return not same or abs(held - amount) * 10 > held


def _outputs(token: bytes, owner: bytes, pointer: Opinion, opinions: Sequence[Opinion], total: int) -> list[Output]:
    """The owner's box first, then one for each opinion."""
    _check(pointer, opinions)
    amounts = _amounts(opinions, total)
    every = [(pointer, total - sum(amounts)), *zip(opinions, amounts, strict=True)]
    return [
        Output(OPINION_VALUE, REPUTATION_TREE, ((token, amount),), registers(_box(opinion, owner)))
        for opinion, amount in every
    ]


def _amounts(opinions: Sequence[Opinion], total: int) -> tuple[int, ...]:
    # One unit stays with the owner's box, which is what shows whose proof it is (as nodo does it).
    return shares([opinion.weight for opinion in opinions], total - 1)


def _box(opinion: Opinion, owner: bytes) -> OpinionBox:
    return OpinionBox(opinion.type_nft, opinion.subject, False, owner, opinion.weight >= 0, opinion.content)


def _key(opinion: Opinion) -> tuple[bytes, bytes]:
    return opinion.type_nft, opinion.subject


def _check(pointer: Opinion, opinions: Sequence[Opinion]) -> None:
    if len(opinions) > MAX_OPINIONS:
        raise UsageError(f"opinions: {len(opinions)} do not fit one transaction, at most {MAX_OPINIONS} do")
    repeated = [key for key, count in Counter(map(_key, (pointer, *opinions))).items() if count > 1]
    if repeated:
        raise UsageError(f"opinions: {repeated[0][1].hex()} is named twice; equal boxes could be merged by anybody")
    for opinion in (pointer, *opinions):
        if not 0 < len(opinion.subject) <= MAX_SUBJECT:
            raise UsageError(f"opinions: subject {opinion.subject.hex()[:80]} has to have 1 to {MAX_SUBJECT} bytes")
        if len(opinion.content) > MAX_CONTENT:
            raise UsageError(f"opinions: content of {len(opinion.content)} bytes, at most {MAX_CONTENT} fit a box")


def _plan(
    inputs: tuple[ErgoBox, ...],
    named: Sequence[Output],
    needed: set[bytes],
    types: Sequence[ErgoBox],
    funds: Funds,
    height: int,
) -> Plan:
    """`needed` are the types of all boxes that are spent or made; each takes one data input."""
    shown: dict[bytes, ErgoBox] = {}
    for box in types:
        # The contract reads only NFTs under their own guard, and only from a block before.
        if script_of(box) == TYPE_TREE and box.creation_height < height:
            shown[token_of(box)] = box
    missing = needed - set(shown)
    if missing:
        raise UsageError(
            f"opinions: no box shows type {min(missing).hex()}; what has no type NFT could never be changed again"
        )
    plan = balance(TxKind.OPINION, inputs, named, funds, height, signer=funds.change[3:])
    return replace(plan, data_inputs=tuple(shown[token] for token in sorted(needed)))
